-- The first steps: table, index, search, and what a search tells about itself.
CREATE TABLE docs (id int PRIMARY KEY, body text);
INSERT INTO docs VALUES
    (1, 'the cat sat on the mat'),
    (2, 'a dog barked at the postman'),
    (3, 'bread is baked from flour water and yeast'),
    (4, 'the orchestra played a symphony by mahler'),
    (5, 'vaccines train the immune system'),
    (6, 'the cat chased a mouse around the mat'),
    (7, 'rain fell on the hills all night'),
    (8, 'the goalkeeper saved a penalty in the final minute');
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));

-- A text finds itself at distance 0, and then what shares its words.
SET enable_seqscan = off;
SET leann.rerank_z = 8; -- the tables are tiny: be exact, and leave no row out
SET leann.iterative_scan = relaxed_order;
SELECT id, (embedding_of(body) <-> 'vaccines train the immune system')::numeric(4,3) AS distance
FROM docs ORDER BY embedding_of(body) <-> 'vaccines train the immune system' LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'the cat sat on a mat' LIMIT 2;

-- All three operators, all three kinds of right operand.
SELECT id FROM docs ORDER BY embedding_of(body) <=> 'rain fell on the hills all night' LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <#> 'rain fell on the hills all night' LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'rain fell on the hills all night'::text LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'rain fell on the hills all night'::varchar LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'rain fell on the hills all night'::leann.embedding LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> (SELECT leann.embed('rain fell on the hills all night', NULL, 'query')) LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> (SELECT leann.embed('rain fell on the hills all night')::leann.embedding::text) LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> embedding_of('rain fell on the hills all night') LIMIT 1;

-- The distances are those of unit vectors: L2 squared = 2 cosine = 2 + 2 negative inner product.
SELECT bool_and(abs(l2 ^ 2 - 2 * cosine) < 1e-6 AND abs(cosine - (1 + inner_product)) < 1e-6) AS consistent
FROM docs, LATERAL (SELECT embedding_of(body) <-> 'the cat' AS l2, embedding_of(body) <=> 'the cat' AS cosine,
                           embedding_of(body) <#> 'the cat' AS inner_product) AS distances;
SELECT bool_and(abs(norm - 1) < 1e-5) AS unit_length, min(dimensions) AS dimensions
FROM docs, LATERAL (SELECT sum(x ^ 2) AS norm, count(*) AS dimensions FROM unnest(leann.embed(body)) AS x) AS vector;

-- A whole ordered scan gives every row once; in strict order (the default) none before a nearer one.
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'the mat' LIMIT 100) AS near;
SET leann.iterative_scan = strict_order;
SELECT count(*) = count(DISTINCT id) AS once, bool_and(distance >= earlier) AS ordered FROM (
    SELECT id, distance, lag(distance, 1, 0) OVER () AS earlier FROM (
        SELECT id, embedding_of(body) <-> 'the mat' AS distance
        FROM docs ORDER BY embedding_of(body) <-> 'the mat' LIMIT 100) AS near) AS pairs;
SET leann.iterative_scan = relaxed_order;

-- The counters of the latest scan. No row is recomputed twice, though the distance is asked for three times over.
SELECT leann.clear_cache();
SELECT count(*) FROM (
    SELECT embedding_of(body) <-> 'bread' AS distance FROM docs ORDER BY embedding_of(body) <-> 'bread' LIMIT 3) AS near;
SELECT pages, nodes, candidates BETWEEN 3 AND 8 AS candidates, recomputes BETWEEN 3 AND 8 AS recomputes,
       batches > 0 AS batches, late, model_ms > 0 AS model_ms FROM leann.last_scan();
-- The same again costs nothing.
SELECT count(*) FROM (
    SELECT embedding_of(body) <-> 'bread' AS distance FROM docs ORDER BY embedding_of(body) <-> 'bread' LIMIT 3) AS near;
SELECT recomputes, cache_hits > 0 AS cache_hits FROM leann.last_scan();

-- The index about itself.
SELECT nodes, node_pages, hub_pages, bytes = pg_relation_size('docs_embedding') AS bytes FROM leann.index_info('docs_embedding');
SELECT * FROM leann.check('docs_embedding');

-- Rows come and go.
INSERT INTO docs VALUES (9, 'a violin concerto in d major');
UPDATE docs SET body = 'the dog slept' WHERE id = 2;
DELETE FROM docs WHERE id = 7;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'a violin concerto in d major' LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'the dog slept' LIMIT 1;
SELECT count(*), count(*) FILTER (WHERE id = 7) AS deleted
FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'rain fell on the hills all night' LIMIT 100) AS near;
VACUUM docs;
SELECT * FROM leann.check('docs_embedding');
SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'rain' LIMIT 100) AS near;
SELECT nodes FROM leann.index_info('docs_embedding');
DROP TABLE docs;
