-- Searches inside larger queries: LATERAL, joins, partitions, set operations, subqueries, aggregates.
SET enable_seqscan = off;
SET leann.rerank_z = 8; -- the tables are tiny: be exact, and leave no row out
SET leann.iterative_scan = relaxed_order;
CREATE TABLE docs (id int PRIMARY KEY, grp int, body text);
INSERT INTO docs SELECT n, n % 3, 'passage number ' || n || ' about subject ' || n % 11 FROM generate_series(1, 300) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
CREATE TABLE questions (n int PRIMARY KEY, question text);
INSERT INTO questions SELECT n, 'passage number ' || n * 10 || ' about subject ' || n * 10 % 11 FROM generate_series(1, 10) n;
ANALYZE docs, questions;

-- One search per outer row: the scan is restarted each time, with a NULL among the queries.
EXPLAIN (COSTS OFF) SELECT n, near.id FROM questions, LATERAL (
    SELECT id FROM docs ORDER BY embedding_of(body) <-> question LIMIT 1) AS near ORDER BY n;
SELECT n, near.id FROM questions, LATERAL (
    SELECT id FROM docs ORDER BY embedding_of(body) <-> question LIMIT 1) AS near ORDER BY n;
UPDATE questions SET question = NULL WHERE n = 5;
SELECT count(*) FROM questions, LATERAL (SELECT id FROM docs ORDER BY embedding_of(body) <-> question LIMIT 2) AS near;
-- The same rows as an exact search finds, for a thousand restarts.
SELECT count(*), bool_and(near.id = d.id) AS found FROM docs d, generate_series(1, 4) AS again, LATERAL (
    SELECT id FROM docs ORDER BY embedding_of(body) <-> d.body LIMIT 1) AS near WHERE d.id <= 250;
-- A rescan in the middle of a scan (the inner side is left after three rows each time).
SELECT q.n, (SELECT string_agg(distance, ' ') FROM (
        SELECT (embedding_of(body) <-> q.question)::numeric(4,2)::text AS distance
        FROM docs ORDER BY embedding_of(body) <-> q.question LIMIT 3) AS near) =
    (SELECT string_agg(distance::numeric(4,2)::text, ' ') FROM (
        SELECT embedding_of(body) <-> q.question AS distance FROM docs ORDER BY 1 LIMIT 3) AS exact) AS equal
FROM questions q WHERE question IS NOT NULL ORDER BY n;

-- Index against exact search, whole order.
CREATE FUNCTION distances(question text, wanted int, filter int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    SELECT string_agg(distance, ' ') INTO result FROM (
        SELECT (embedding_of(body) <-> question)::numeric(5,3)::text AS distance FROM docs
        WHERE grp = filter ORDER BY embedding_of(body) <-> question LIMIT wanted) AS near;
    RETURN result;
END $$;
CREATE TEMP TABLE through_index AS SELECT n, distances(question, 40, 1) AS found FROM questions WHERE question IS NOT NULL;
SET enable_indexscan = off;
SET enable_seqscan = on;
SELECT bool_and(found = distances(question, 40, 1)) AS equal FROM through_index JOIN questions USING (n);
RESET enable_indexscan;
SET enable_seqscan = off;
DROP FUNCTION distances;

-- Partitions: one index each, merged in order.
CREATE TABLE parts (id int, region text, body text) PARTITION BY LIST (region);
CREATE TABLE parts_north PARTITION OF parts FOR VALUES IN ('north');
CREATE TABLE parts_south PARTITION OF parts FOR VALUES IN ('south');
CREATE INDEX parts_embedding ON parts USING leann (embedding_of(body));
INSERT INTO parts SELECT n, CASE n % 2 WHEN 0 THEN 'north' ELSE 'south' END, 'passage number ' || n FROM generate_series(1, 100) n;
ANALYZE parts;
EXPLAIN (COSTS OFF) SELECT id FROM parts ORDER BY embedding_of(body) <-> 'passage number 33' LIMIT 3;
SELECT id FROM parts ORDER BY embedding_of(body) <-> 'passage number 33' LIMIT 1;
SELECT id FROM parts ORDER BY embedding_of(body) <-> 'passage number 34' LIMIT 1;
EXPLAIN (COSTS OFF) SELECT id FROM parts WHERE region = 'south' ORDER BY embedding_of(body) <-> 'passage number 33' LIMIT 3;
UPDATE parts SET region = 'south' WHERE id = 34;
SELECT id, region FROM parts ORDER BY embedding_of(body) <-> 'passage number 34' LIMIT 1;
CREATE TABLE parts_east PARTITION OF parts FOR VALUES IN ('east');
INSERT INTO parts VALUES (500, 'east', 'a passage from the east');
SELECT id FROM parts ORDER BY embedding_of(body) <-> 'a passage from the east' LIMIT 1;
ALTER TABLE parts DETACH PARTITION parts_south;
SELECT count(*) FROM (SELECT id FROM parts ORDER BY embedding_of(body) <-> 'passage' LIMIT 1000) AS near;
DROP TABLE parts, parts_south;

-- Inheritance, views, CTEs, UNION ALL, DISTINCT and GROUP BY over embeddings, window functions.
CREATE VIEW first_group AS SELECT * FROM docs WHERE grp = 0;
SELECT id FROM first_group ORDER BY embedding_of(body) <-> 'passage number 30 about subject 8' LIMIT 1;
WITH near AS MATERIALIZED (SELECT id, grp FROM docs ORDER BY embedding_of(body) <-> 'passage number 30 about subject 8' LIMIT 20)
SELECT count(*), count(DISTINCT grp) > 0 AS groups FROM near;
(SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 30 about subject 8' LIMIT 1)
UNION ALL
(SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 31 about subject 9' LIMIT 1);
SELECT count(*) FROM (SELECT DISTINCT embedding_of(body) FROM docs) AS different;
SELECT count(*) FROM (SELECT embedding_of('subject ' || id % 11) AS e FROM docs GROUP BY e) AS grouped;
SELECT count(*) FROM (SELECT embedding_of('a') UNION SELECT embedding_of('a') UNION SELECT embedding_of('b')) AS united;
SELECT count(*) FROM docs a JOIN docs b ON embedding_of(a.body) = embedding_of(b.body);
SELECT id, row_number() OVER (ORDER BY embedding_of(body) <-> 'passage number 30 about subject 8') AS place
FROM docs ORDER BY embedding_of(body) <-> 'passage number 30 about subject 8' LIMIT 1;
SELECT min(embedding_of(body) <-> 'passage number 30 about subject 8')::numeric(4,3) AS nearest FROM docs;
SELECT id FROM docs WHERE embedding_of(body) <-> 'passage number 30 about subject 8' < 0.001;

-- OFFSET, LIMIT 0, LIMIT beyond the end, a filter that leaves nothing.
SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage' LIMIT 0) AS near;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage' LIMIT 10000) AS near;
SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage' LIMIT 10 OFFSET 295) AS near;
SELECT count(*) FROM (SELECT id FROM docs WHERE grp = 5 ORDER BY embedding_of(body) <-> 'passage' LIMIT 10) AS near;
SELECT count(*) FROM (SELECT id FROM docs WHERE id % 100 = 1 ORDER BY embedding_of(body) <-> 'passage' LIMIT 10) AS near;
DROP VIEW first_group;
DROP TABLE docs, questions, through_index;
