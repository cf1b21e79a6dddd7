-- leann.last_scan(): what the latest statement that searched did, all its scans together, and all that it embedded.
\c
CREATE TABLE parts (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (300);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (300) TO (600);
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (600) TO (900);
INSERT INTO parts SELECT n, 'passage number ' || n || ' about subject ' || n % 11 FROM generate_series(0, 899) n;
CREATE INDEX ON parts USING leann (embedding_of(body));
ANALYZE parts;
SET enable_seqscan = off;

-- Before the first search; a build is none.
SELECT scans, pages, nodes, candidates, recomputes, late, embedded, model_ms FROM leann.last_scan();

SELECT leann.clear_cache();
-- All partitions. What is embedded is the recomputes and the query; the rows' distances are at hand.
SELECT count(d) FROM (SELECT embedding_of(body) <-> 'subject 7' AS d FROM parts ORDER BY d LIMIT 10) AS near;
SELECT scans, nodes > 600 AS nodes, recomputes >= 10 AS recomputes, embedded - recomputes AS others FROM leann.last_scan();
-- The same again: nothing to embed.
SELECT count(d) FROM (SELECT embedding_of(body) <-> 'subject 7' AS d FROM parts ORDER BY d LIMIT 10) AS near;
SELECT scans, recomputes, cache_hits >= 10 AS cache_hits, embedded FROM leann.last_scan();

SELECT leann.clear_cache();
-- One scan for each row of the other side.
SELECT count(*) FROM (VALUES ('subject 1'), ('subject 2'), ('subject 3'), ('subject 4')) AS q (question),
    LATERAL (SELECT id FROM parts_1 ORDER BY embedding_of(body) <-> question LIMIT 3) AS near;
SELECT scans, embedded - recomputes AS others FROM leann.last_scan();

-- Texts embedded beside the search count too, whatever part of the statement they belong to.
SELECT leann.clear_cache();
SELECT count(leann.embed('text ' || n)) FROM generate_series(1, 20) AS n, LATERAL (
    SELECT id FROM parts_1 WHERE n = 1 ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 1) AS near;
SELECT leann.clear_cache();
WITH beside AS MATERIALIZED (SELECT count(leann.embed('text ' || n)) AS texts FROM generate_series(1, 20) AS n)
SELECT texts, (SELECT count(*) FROM (SELECT id FROM parts_1 ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 1) AS near) AS rows FROM beside;
SELECT scans, embedded - recomputes AS others FROM leann.last_scan();
-- And distances that no index answers.
SELECT leann.clear_cache();
SELECT count(*) FROM parts_2 WHERE id < 310 AND embedding_of(body) <-> 'subject 7' > (
    SELECT embedding_of(body) <-> 'subject 7' AS d FROM parts_1 ORDER BY d LIMIT 1);
SELECT scans, embedded - recomputes AS others FROM leann.last_scan();

-- A statement that does not search changes nothing.
SELECT leann.clear_cache();
SELECT count(leann.embed('other text ' || n)) FROM generate_series(1, 20) AS n;
SELECT scans, embedded - recomputes AS others FROM leann.last_scan();

-- Of a cursor, each FETCH is a statement; of a function, all that runs inside it is one.
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM parts_1 ORDER BY embedding_of(body) <-> 'subject 7';
FETCH 1 FROM c;
SELECT scans, candidates > 0 AS candidates FROM leann.last_scan();
MOVE 40 IN c;
SELECT scans, candidates > 20 AS candidates FROM leann.last_scan();
COMMIT;
DO $$ BEGIN
    FOR n IN 1..5 LOOP PERFORM id FROM parts_1 ORDER BY embedding_of(body) <-> ('subject ' || n) LIMIT 1; END LOOP;
END $$;
SELECT scans FROM leann.last_scan();
DROP TABLE parts;
