-- Tables whose rows are all alike, or nearly: each builds, is rebuilt, and gives all its rows.
CREATE TABLE alike (id serial PRIMARY KEY, body text);
-- Builds, rebuilds and searches a table of 300 equal rows and some others.
CREATE FUNCTION builds(others int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    n int; found int; seen text := '';
BEGIN
    TRUNCATE alike;
    INSERT INTO alike (body) SELECT 'N/A' FROM generate_series(1, 300);
    INSERT INTO alike (body) SELECT 'something else, number ' || i FROM generate_series(1, others) i;
    CREATE INDEX alike_embedding ON alike USING leann (embedding_of(body));
    FOR n IN 1..2 LOOP
        SELECT count(*) INTO found FROM (SELECT id FROM alike ORDER BY embedding_of(body) <-> 'anything' LIMIT 1000) AS near;
        seen := seen || found || ' rows, ' || (SELECT count(*) FROM leann.check('alike_embedding')) || ' faults; ';
        REINDEX INDEX alike_embedding;
    END LOOP;
    seen := seen || (SELECT trained FROM leann.index_info('alike_embedding'));
    DROP INDEX alike_embedding;
    RETURN seen;
END $$;
SET enable_seqscan = off;
SET leann.iterative_scan = relaxed_order;
SELECT others, builds(others) FROM generate_series(0, 8) others;
-- One row, two texts, no text, and a table rewritten.
CREATE INDEX alike_embedding ON alike USING leann (embedding_of(body));
TRUNCATE alike;
INSERT INTO alike (body) VALUES ('alone');
REINDEX INDEX alike_embedding;
SELECT body FROM alike ORDER BY embedding_of(body) <-> 'alone' LIMIT 1;
INSERT INTO alike (body) SELECT CASE n % 2 WHEN 0 THEN 'even' ELSE 'odd' END FROM generate_series(1, 1000) n;
VACUUM FULL alike;
SELECT count(*) FROM (SELECT id FROM alike ORDER BY embedding_of(body) <-> 'even' LIMIT 2000) AS near;
SELECT body, count(*) FROM (SELECT body FROM alike ORDER BY embedding_of(body) <-> 'even' LIMIT 500) AS near GROUP BY body;
UPDATE alike SET body = '';
VACUUM FULL alike;
SELECT count(*) FROM (SELECT id FROM alike ORDER BY embedding_of(body) <-> 'even' LIMIT 2000) AS near;
UPDATE alike SET body = NULL;
REINDEX INDEX alike_embedding;
SELECT nodes, trained FROM leann.index_info('alike_embedding');
-- Vectors that are all one, and vectors that differ in next to nothing.
SELECT dimensions FROM leann.index_info('alike_embedding') \gset
CREATE TABLE vectors (id int, v real[]);
INSERT INTO vectors SELECT n, array_agg(CASE WHEN i = 1 THEN 1 WHEN i = 2 THEN n * 1e-7 ELSE 1e-7 END ORDER BY i)
FROM generate_series(1, 600) n, generate_series(1, :dimensions) i GROUP BY n;
CREATE INDEX vectors_embedding ON vectors USING leann ((v::leann.embedding));
SELECT count(*) FROM (SELECT id FROM vectors ORDER BY v::leann.embedding <-> 'anything' LIMIT 1000) AS near;
UPDATE vectors SET v = (SELECT v FROM vectors WHERE id = 1);
REINDEX INDEX vectors_embedding;
SELECT count(*) FROM (SELECT id FROM vectors ORDER BY v::leann.embedding <-> 'anything' LIMIT 1000) AS near;
SELECT * FROM leann.check('vectors_embedding');
DROP TABLE alike, vectors;
DROP FUNCTION builds;
