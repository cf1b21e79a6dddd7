-- Indexes that store embeddings, WITH (store = float16): the same answers, and no recompute.
SET enable_seqscan = off;
SET leann.iterative_scan = relaxed_order;
CREATE TABLE articles (id int PRIMARY KEY, body text);
INSERT INTO articles SELECT n, 'article ' || n || ' about topic ' || n % 37 || ' and ' || n % 11 FROM generate_series(1, 600) n;
CREATE INDEX articles_stored ON articles USING leann (embedding_of(body)) WITH (store = float16);
SELECT store, trained, sketch_bytes = 2 * dimensions AS whole, params_pages, nodes, advice
FROM leann.index_info('articles_stored');
SELECT * FROM leann.check('articles_stored');
EXPLAIN (COSTS OFF) SELECT id FROM articles ORDER BY embedding_of(body) <-> 'topic 12' LIMIT 5;

-- Exactly the rows of an exact search, at their distances, give or take the rounding.
CREATE FUNCTION differences(asked text) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM (
        SELECT row_number() OVER () AS place, distance FROM (
            SELECT embedding_of(body) <-> asked AS distance FROM articles ORDER BY embedding_of(body) <-> asked LIMIT 20) AS near) AS found
    FULL JOIN (
        SELECT row_number() OVER (ORDER BY distance) AS place, distance FROM (
            SELECT embedding_of(body) <-> asked AS distance FROM articles OFFSET 0) AS every ORDER BY distance LIMIT 20) AS exact
    USING (place) WHERE abs(found.distance - exact.distance) < 1e-3 IS NOT TRUE
$$;
SELECT asked, differences(asked) FROM unnest(ARRAY['article 77 about topic 3 and 0', 'topic 12', 'no such words']) AS asked;
SELECT id, (embedding_of(body) <-> 'article 77 about topic 3 and 0')::numeric(4,3) AS distance
FROM articles ORDER BY embedding_of(body) <-> 'article 77 about topic 3 and 0' LIMIT 1;
SELECT bool_and(distance >= earlier) AS ordered FROM (
    SELECT distance, lag(distance, 1, 0) OVER () AS earlier FROM (
        SELECT embedding_of(body) <=> 'topic 12' AS distance FROM articles ORDER BY embedding_of(body) <=> 'topic 12' LIMIT 300) AS near) AS pairs;

-- The model embeds the query and nothing else, neither for the scan nor for the distances that are asked for.
SELECT leann.clear_cache();
SELECT lookups - hits AS misses FROM leann.cache WHERE scope = 'session' \gset
SELECT count(distance) FROM (
    SELECT embedding_of(body) <-> 'about topic 20' AS distance FROM articles ORDER BY embedding_of(body) <-> 'about topic 20' LIMIT 50) AS near;
SELECT recomputes, cache_hits, batches, candidates >= 50 AS candidates, late, walk_ms > 0 AS walk_ms FROM leann.last_scan();
SELECT lookups - hits - :misses AS embedded FROM leann.cache WHERE scope = 'session';
-- Also where two scans take turns, and in a cursor.
SELECT count(distance) FROM (
    (SELECT embedding_of(body) <-> 'about topic 20' AS distance FROM articles ORDER BY 1 LIMIT 30) UNION ALL
    (SELECT embedding_of(body) <#> 'about topic 20' AS distance FROM articles ORDER BY 1 LIMIT 30)) AS near;
BEGIN;
DECLARE near CURSOR FOR SELECT embedding_of(body) <-> 'about topic 20' < 2 AS near FROM articles ORDER BY embedding_of(body) <-> 'about topic 20';
FETCH 2 FROM near;
MOVE 100 IN near;
FETCH 1 FROM near;
COMMIT;
SELECT lookups - hits - :misses AS embedded FROM leann.cache WHERE scope = 'session';
-- When the scan has ended, a distance is computed by the model, exact to the bit.
SELECT embedding_of(body) <-> embedding_of(body) AS distance FROM articles WHERE id = 20;

-- Rows come and go.
INSERT INTO articles SELECT n, 'late article ' || n || ' about matter ' || n % 41 FROM generate_series(601, 1200) n;
UPDATE articles SET body = 'rewritten ' || id WHERE id % 10 = 0;
DELETE FROM articles WHERE id % 7 = 0;
VACUUM articles;
SELECT * FROM leann.check('articles_stored');
SELECT nodes = (SELECT count(*) FROM articles) AS nodes FROM leann.index_info('articles_stored');
SELECT id FROM articles ORDER BY embedding_of(body) <-> 'late article 907 about matter 5' LIMIT 1;
SELECT id FROM articles ORDER BY embedding_of(body) <-> 'rewritten 610' LIMIT 1;
SELECT asked, differences(asked) FROM unnest(ARRAY['late article 907 about matter 5', 'rewritten 610']) AS asked;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM articles ORDER BY embedding_of(body) <-> 'topic' LIMIT 5000) AS near;

-- The option takes effect when the index is built. An index made before its rows stores them as well.
ALTER INDEX articles_stored RESET (store);
INSERT INTO articles VALUES (2000, 'stored all the same');
SELECT store FROM leann.index_info('articles_stored');
REINDEX INDEX articles_stored;
SELECT store FROM leann.index_info('articles_stored');
ALTER INDEX articles_stored SET (store = float16);
TRUNCATE articles;
SELECT store FROM leann.index_info('articles_stored');
INSERT INTO articles SELECT n, 'grown article ' || n FROM generate_series(1, 300) n;
SELECT nodes, node_pages > 5 AS split FROM leann.index_info('articles_stored');
SELECT * FROM leann.check('articles_stored');
SELECT id FROM articles ORDER BY embedding_of(body) <-> 'grown article 217' LIMIT 1;
CREATE UNLOGGED TABLE unlogged (body text);
CREATE INDEX unlogged_stored ON unlogged USING leann (embedding_of(body)) WITH (store = float16);
INSERT INTO unlogged SELECT body FROM articles;
SELECT store, nodes FROM leann.index_info('unlogged_stored');

-- Ready-made vectors are exact to the bit.
CREATE TABLE ready (id int PRIMARY KEY, value leann.embedding);
INSERT INTO ready SELECT id, leann.embed(body) FROM articles;
CREATE INDEX ready_value ON ready USING leann (value) WITH (store = float16);
SELECT id, value <-> (SELECT value FROM ready WHERE id = 99) AS distance FROM ready ORDER BY value <-> (SELECT value FROM ready WHERE id = 99) LIMIT 1;

-- Two indexes over the same rows: the planner takes the one that recomputes nothing.
CREATE INDEX articles_none ON articles USING leann (embedding_of(body)) WITH (store = none);
EXPLAIN (COSTS OFF) SELECT id FROM articles ORDER BY embedding_of(body) <-> 'grown' LIMIT 5;

\set VERBOSITY default
CREATE INDEX ON articles USING leann (embedding_of(body)) WITH (store = float32); \echo :SQLSTATE
ALTER INDEX articles_none SET (store = 1); \echo :SQLSTATE
