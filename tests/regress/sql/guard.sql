-- leann.max_embedded_rows: a statement that embeds a whole table row by row is stopped, and nothing else is.
CREATE TABLE docs (id int PRIMARY KEY, views int DEFAULT 0, body text);
INSERT INTO docs (id, body) SELECT n, 'passage number ' || n || ' about subject ' || n % 97 FROM generate_series(1, 600) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
ANALYZE docs;
\set SHOW_CONTEXT never
SHOW leann.max_embedded_rows;
SET leann.max_embedded_rows = 100;
SET leann.cache_size = '64kB'; -- so that nothing is remembered from one statement to the next

-- No index answers these.
SELECT id, 1 - (embedding_of(body) <=> 'subject 8') AS similarity FROM docs ORDER BY similarity DESC LIMIT 3; \echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 8' DESC LIMIT 3;
SELECT id FROM docs ORDER BY round((embedding_of(body) <-> 'subject 8')::numeric, 2) LIMIT 3;
SELECT count(*) FROM docs WHERE embedding_of(body) <-> 'subject 8' > 1.99;
SELECT count(*) FROM docs WHERE leann.distance(body, 'subject 8') > 1.99;
SELECT b.id FROM docs a, docs b WHERE a.id = 7 ORDER BY embedding_of(b.body) <-> a.body LIMIT 3;
SELECT views, min(embedding_of(body) <-> 'subject 8') FROM docs GROUP BY views;
UPDATE docs SET views = 1 WHERE embedding_of(body) <-> 'subject 8' < 0.5;
CREATE TABLE copied AS SELECT id, embedding_of(body) <-> 'subject 8' AS distance FROM docs;
-- A setting of the session, and what a function sets for itself.
BEGIN;
SET LOCAL leann.max_embedded_rows = 1000;
SELECT count(*) FROM docs WHERE embedding_of(body) <-> 'subject 8' > 1.99;
ROLLBACK;
SELECT count(*) FROM docs WHERE embedding_of(body) <-> 'subject 8' > 1.99;
SET leann.max_embedded_rows = 0;
SELECT count(*) FROM docs WHERE embedding_of(body) <-> 'subject 8' > 1.99;
SET leann.max_embedded_rows = 100;

-- The index answers: as many rows as are wanted.
SELECT count(*) FROM docs WHERE embedding_of(body) <-> 'subject 8' < 0.01;
SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 8' LIMIT 20) AS near;
SELECT count(*) > 200 AS many FROM (SELECT a.id, near.id FROM docs a, LATERAL (
    SELECT id FROM docs b ORDER BY embedding_of(b.body) <-> embedding_of(a.body) LIMIT 3) AS near WHERE a.id <= 70) AS pairs;

-- Meant to embed: indexes, inserts, ANALYZE, leann.embed, leann.recall.
CREATE INDEX docs_again ON docs USING leann (embedding_of(body)) WITH (sketch_bytes = 32);
CREATE INDEX docs_distance ON docs ((embedding_of(body) <-> 'subject 8'));
ANALYZE docs;
REINDEX TABLE docs;
CREATE MATERIALIZED VIEW distances AS SELECT id, embedding_of(body) <-> 'subject 9' AS distance FROM docs WITH NO DATA;
REFRESH MATERIALIZED VIEW distances;
DROP MATERIALIZED VIEW distances;
DROP INDEX docs_distance, docs_again;
INSERT INTO docs (id, body) SELECT n, 'late passage ' || n FROM generate_series(601, 900) n;
SELECT count(leann.embed(body)) FROM docs;
SELECT count(*) FROM (SELECT leann.embed_all(array_agg(body)) FROM docs) AS vectors;
SELECT recall > 0 AS recall FROM leann.recall('docs_embedding', ARRAY['subject 8'], 5);

-- The cast to real[] embeds row by row too.
\set VERBOSITY default
SELECT count(embedding_of(body)::real[]) FROM docs; \echo :SQLSTATE

-- A statement is what the client sent: functions and loops inside it count with it.
CREATE FUNCTION nearest_of(first int, last int) RETURNS float8 LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT min(embedding_of(body) <-> 'subject 8') FROM docs WHERE id BETWEEN first AND last);
END $$;
\set VERBOSITY sqlstate
SELECT nearest_of(1, 60) < 2 AS first;
SELECT nearest_of(61, 120) < 2 AS second;
SELECT leann.clear_cache();
SELECT nearest_of(1, 60) < 2 AS first, nearest_of(61, 120) < 2 AS second;
DO $$ BEGIN FOR n IN 1..10 LOOP PERFORM nearest_of(n * 50 + 1, n * 50 + 50); END LOOP; END $$;
SELECT leann.clear_cache();
-- Caught, it comes again with the next row.
DO $$ DECLARE stopped int := 0; BEGIN
    FOR n IN 1..4 LOOP
        BEGIN
            PERFORM nearest_of(n * 60 + 1, n * 60 + 60);
        EXCEPTION WHEN program_limit_exceeded THEN stopped := stopped + 1;
        END;
    END LOOP;
    IF stopped <> 3 THEN RAISE EXCEPTION '%', stopped; END IF;
END $$;

-- A cursor that is to outlive its transaction is read to its end, whatever the client asked for.
\set VERBOSITY default
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7';
FETCH 1 FROM held;
COMMIT; \echo :SQLSTATE
BEGIN;
-- Which row is the twelfth depends on the build now and then: a late row is left out.
DECLARE held CURSOR WITH HOLD FOR SELECT id > 0 AS found FROM docs ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 20;
FETCH 1 FROM held;
COMMIT;
MOVE 10 IN held;
FETCH 1 FROM held;
CLOSE held;
BEGIN;
DECLARE plain CURSOR FOR SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7';
MOVE 200 IN plain;
COMMIT;
SET enable_seqscan = off;
DO $$
DECLARE
    r record;
    n int := 0;
BEGIN
    FOR r IN SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 9' LOOP
        n := n + 1;
        UPDATE docs SET views = 1 WHERE id = r.id;
        COMMIT;
        EXIT WHEN n >= 3;
    END LOOP;
END $$;
DO $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 9' LIMIT 3 LOOP
        UPDATE docs SET views = 1 WHERE id = r.id;
        COMMIT;
    END LOOP;
END $$;
SELECT count(*) FROM docs WHERE views = 1;
-- The session is in order.
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 33 about subject 33' LIMIT 1;
SELECT * FROM leann.check('docs_embedding');
DROP TABLE docs;
DROP FUNCTION nearest_of;
