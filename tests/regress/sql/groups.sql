-- Partitions, inheritance and UNION ALL: the scans below one MergeAppend run as one search.
\c
CREATE TABLE docs (id int, kind int, body text) PARTITION BY RANGE (id);
SELECT format('CREATE TABLE docs_%s PARTITION OF docs FOR VALUES FROM (%s) TO (%s)', n, n * 100, n * 100 + 100) FROM generate_series(0, 19) n \gexec
INSERT INTO docs SELECT n, n % 10, 'text of item ' || n || ' in group ' || n % 13 FROM generate_series(0, 1999) n;
CREATE INDEX ON docs USING leann (embedding_of(body));
VACUUM ANALYZE docs;
CREATE TABLE whole AS SELECT * FROM docs;
CREATE INDEX ON whole USING leann (embedding_of(body));
VACUUM ANALYZE whole;
SET enable_seqscan = off;
CREATE FUNCTION recomputes(query text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
    PERFORM leann.clear_cache();
    EXECUTE 'CREATE TEMP TABLE found AS ' || query;
    DROP TABLE found;
    RETURN (SELECT scan.recomputes FROM leann.last_scan() AS scan);
END $$;
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ DECLARE line text; BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP RETURN NEXT line; END LOOP;
END $$;
SELECT count(*) FILTER (WHERE plan ~ 'Index Scan') AS scans, count(*) FILTER (WHERE plan ~ 'Merge Append') AS appends
FROM plan($$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$);
-- Twenty partitions cost little more than one table.
SELECT recomputes($$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$)
    < 3 * recomputes($$SELECT id FROM whole ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$) + 20 AS few;
SELECT recomputes($$SELECT id FROM docs WHERE kind = 3 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$)
    < 3 * recomputes($$SELECT id FROM whole WHERE kind = 3 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$) + 20 AS few;
-- Texts that differ in little more than a number: look closely.
SET leann.rerank_z = 5;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text of item 1234 in group 12' LIMIT 1;
SELECT tableoid::regclass, id FROM docs WHERE kind = 4 ORDER BY embedding_of(body) <-> 'text of item 1234 in group 12' LIMIT 1;
-- All rows, each once, in order; and as the table without partitions gives them.
SELECT count(*), count(DISTINCT id), bool_and(d >= last) AS ordered FROM (
    SELECT id, d, lag(d, 1, 0) OVER () AS last FROM (
        SELECT id, embedding_of(body) <-> 'item 7' AS d FROM docs WHERE kind = 3 ORDER BY d LIMIT 50) AS found) AS rows;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM docs WHERE kind = 3 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 1000) AS rows;
SELECT (SELECT sum(d) FROM (SELECT embedding_of(body) <-> 'item 7' AS d FROM docs ORDER BY d LIMIT 10) AS a)
    < 1.05 * (SELECT sum(d) FROM (SELECT embedding_of(body) <-> 'item 7' AS d FROM whole ORDER BY d LIMIT 10) AS b) AS as_near;
-- A threshold; a NULL query; a query that differs from row to row; a cursor; locks; an expression of the row.
SELECT count(*) FROM (SELECT id FROM docs WHERE embedding_of(body) <-> 'text of item 1234 in group 12' < 0.05
    ORDER BY embedding_of(body) <-> 'text of item 1234 in group 12') AS near;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> NULL::text LIMIT 1000) AS rows;
SELECT q, id FROM (VALUES (7), (1907), (432)) AS v (q), LATERAL (
    SELECT id FROM docs ORDER BY embedding_of(body) <-> ('text of item ' || q || ' in group ' || q % 13) LIMIT 1) AS near ORDER BY q;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text of item 1234 in group 12';
FETCH 1 FROM c;
MOVE 30 IN c;
SAVEPOINT s;
SELECT 1 / 0;
ROLLBACK TO s;
SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'another' LIMIT 3) AS inner_search;
FETCH 1 FROM c \g (format=unaligned tuples_only) /dev/null
CLOSE c;
COMMIT;
BEGIN;
SELECT id FROM docs WHERE kind = 4 ORDER BY embedding_of(body) <-> 'text of item 1234 in group 12' LIMIT 1 FOR UPDATE;
ROLLBACK;
SET plan_cache_mode = force_generic_plan;
PREPARE near(text, int) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT $2;
EXECUTE near('text of item 77 in group 12', 1);
EXECUTE near('text of item 1999 in group 10', 1);
EXECUTE near(NULL, 0);
-- Pruned when the statement starts, and for each row of a join: what is left is searched together.
PREPARE pruned(text, int) AS SELECT id FROM docs WHERE id < $2 ORDER BY embedding_of(body) <-> $1 LIMIT 1;
EXECUTE pruned('text of item 77 in group 12', 200);
EXECUTE pruned('text of item 1999 in group 10', 2000);
EXECUTE pruned('text of item 77 in group 12', -5);
SELECT recomputes($$EXECUTE pruned('item 7', 1500)$$)
    < 3 * recomputes($$SELECT id FROM whole WHERE id < 1500 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 1$$) + 20 AS few;
RESET plan_cache_mode;
SELECT count(*) FILTER (WHERE plan ~ 'Index Scan') AS scans, count(*) FILTER (WHERE plan ~ 'Merge Append') AS appends
FROM plan($$SELECT id FROM (VALUES (1950), (0), (150), (-1)) AS b (least), LATERAL (
    SELECT id FROM docs WHERE id >= least ORDER BY embedding_of(body) <-> 'item 7' LIMIT 3) AS near$$);
SELECT least, count(id), min(id) >= least AS within FROM (VALUES (1950), (0), (150), (2000), (1000)) AS b (least), LATERAL (
    SELECT id FROM docs WHERE id >= least ORDER BY embedding_of(body) <-> 'item 7' LIMIT 3) AS near GROUP BY least ORDER BY least;
SELECT id FROM (VALUES (1234), (1999), (0), (101)) AS b (item), LATERAL (
    SELECT id FROM docs WHERE id >= item ORDER BY embedding_of(body) <-> ('text of item ' || item || ' in group ' || item % 13) LIMIT 1) AS near;
-- Two branches of one table, a branch of its own query, and one without an index.
SELECT id FROM (SELECT id, embedding_of(body) <-> 'text of item 5 in group 5' AS d FROM whole
    UNION ALL SELECT -id, embedding_of(body) <-> 'text of item 5 in group 5' FROM whole) AS branches ORDER BY d LIMIT 2;
SELECT id FROM (SELECT id, embedding_of(body) <-> 'text of item 5 in group 5' AS d FROM whole
    UNION ALL SELECT -id, embedding_of(body) <-> 'text of item 6 in group 6' FROM whole) AS branches ORDER BY d, id LIMIT 2;
CREATE TABLE base (id int, body text);
CREATE TABLE child (extra int) INHERITS (base);
CREATE TABLE bare () INHERITS (base);
INSERT INTO base SELECT id, body FROM docs WHERE id < 300;
INSERT INTO child SELECT id, body, 1 FROM docs WHERE id BETWEEN 300 AND 600;
INSERT INTO bare SELECT id, body FROM docs WHERE id BETWEEN 601 AND 700;
CREATE INDEX ON base USING leann (embedding_of(body));
CREATE INDEX ON child USING leann (embedding_of(body));
SELECT tableoid::regclass, id FROM base ORDER BY embedding_of(body) <-> 'text of item 345 in group 7' LIMIT 1;
SELECT tableoid::regclass, id FROM base ORDER BY embedding_of(body) <-> 'text of item 645 in group 8' LIMIT 1;
DROP TABLE bare;
SELECT tableoid::regclass, id, base FROM base ORDER BY embedding_of(body) <-> 'text of item 345 in group 7' LIMIT 1;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM base WHERE id % 3 = 0 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 1000) AS rows;
DROP TABLE base, child;
-- Other columns in a partition, and rows that move.
CREATE TABLE odd (junk int, body text, kind int, id int);
ALTER TABLE odd DROP COLUMN junk;
INSERT INTO odd SELECT 'text of item ' || n || ' in group ' || n % 13, n % 10, n FROM generate_series(2000, 2099) n;
ALTER TABLE docs ATTACH PARTITION odd FOR VALUES FROM (2000) TO (2100);
SELECT id, kind, body FROM docs ORDER BY embedding_of(body) <-> 'text of item 2042 in group 1' LIMIT 1;
UPDATE docs SET id = 5 WHERE id = 2042;
SELECT tableoid::regclass, id, kind FROM docs ORDER BY embedding_of(body) <-> 'text of item 2042 in group 1' LIMIT 1;
-- What one is told of hidden rows of a partition: nothing.
CREATE ROLE regress_leann_reader;
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY threes ON docs USING (kind = 3);
GRANT SELECT ON docs TO regress_leann_reader;
SET ROLE regress_leann_reader;
RESET leann.rerank_z;
SELECT count(*), bool_and(kind = 3) AS own FROM (SELECT kind FROM docs ORDER BY embedding_of(body) <-> 'item 7' LIMIT 20) AS rows;
SELECT recomputes <= 200 AS only_own FROM leann.last_scan();
RESET ROLE;
DROP TABLE docs, whole;
DROP FUNCTION recomputes(text), plan(text);
DROP ROLE regress_leann_reader;
