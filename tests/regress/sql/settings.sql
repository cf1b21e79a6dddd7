-- Settings and index options: names, defaults, bounds, who may change them.
LOAD 'leann';
SELECT name, boot_val, unit, vartype, context, min_val, max_val, enumvals FROM pg_settings WHERE name LIKE 'leann.%' ORDER BY name;
SELECT name FROM pg_settings WHERE name LIKE 'leann.%' AND (short_desc = '' OR short_desc !~ '\.$');

\set SHOW_CONTEXT never
SET leann.ef_search = 0; \echo :SQLSTATE
SET leann.ef_search = 10001; \echo :SQLSTATE
SET leann.patience = -1; \echo :SQLSTATE
SET leann.rerank_z = -4.5; \echo :SQLSTATE
SET leann.rerank_z = 'high'; \echo :SQLSTATE
SET leann.max_recompute = -1; \echo :SQLSTATE
SET leann.recompute_batch = 0; \echo :SQLSTATE
SET leann.iterative_scan = 'sometimes'; \echo :SQLSTATE
\set VERBOSITY sqlstate
SET leann.cache_size = 1;
\set VERBOSITY default
SET leann.threads = -1; \echo :SQLSTATE
SET leann.threads = 1025; \echo :SQLSTATE
SET leann.recompute_cost = -1; \echo :SQLSTATE
SET leann.default_model = ''; \echo :SQLSTATE
SET leann.default_model = '../elsewhere'; \echo :SQLSTATE
SET leann.default_model = 'a/b'; \echo :SQLSTATE
SET leann.default_model = '.hidden'; \echo :SQLSTATE
SET leann.model_dir = 'relative/path'; \echo :SQLSTATE
SET leann.onnxruntime_library = 'libonnxruntime.so'; \echo :SQLSTATE
SET leann.execution_provider = 'abacus'; \echo :SQLSTATE
-- The prefix is reserved.
SET leann.ef_serach = 10; \echo :SQLSTATE

SET leann.ef_search = 10000;
SET leann.rerank_z = -1.5;
SET leann.cache_size = '1MB';
SHOW leann.cache_size;
SET leann.default_model = 'not-there-yet';
RESET ALL;

-- Paths, and where models run, are a superuser's.
CREATE ROLE regress_leann_user;
SET ROLE regress_leann_user;
\set VERBOSITY sqlstate
SET leann.model_dir = '/tmp';
SET leann.onnxruntime_library = '/tmp/lib.so';
SET leann.execution_provider = 'cpu';
SHOW leann.model_dir;
\set VERBOSITY default
SET leann.ef_search = 100;
SELECT name, ready FROM leann.models WHERE name = 'tiny-hash';
SELECT cardinality(leann.embed('a text'));
RESET ROLE;
DROP ROLE regress_leann_user;
RESET leann.ef_search;

-- Options of an index.
CREATE TABLE docs (id int, body text);
CREATE INDEX ON docs USING leann (embedding_of(body)) WITH (sketch_bytes = 7); \echo :SQLSTATE
CREATE INDEX ON docs USING leann (embedding_of(body)) WITH (sketch_bytes = 513); \echo :SQLSTATE
CREATE INDEX ON docs USING leann (embedding_of(body)) WITH (sketch_bytes = 'many'); \echo :SQLSTATE
CREATE INDEX ON docs USING leann (embedding_of(body)) WITH (fillfactor = 29); \echo :SQLSTATE
CREATE INDEX ON docs USING leann (embedding_of(body)) WITH (fillfactor = 101); \echo :SQLSTATE
CREATE INDEX ON docs USING leann (embedding_of(body)) WITH (ef_construction = 64); \echo :SQLSTATE
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body)) WITH (sketch_bytes = 16, fillfactor = 80);
ALTER INDEX docs_embedding SET (sketch_bytes = 1); \echo :SQLSTATE
-- Changed options leave what is built alone.
INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(1, 400) n;
ALTER INDEX docs_embedding SET (sketch_bytes = 100, fillfactor = 100);
INSERT INTO docs SELECT n, 'text ' || n FROM generate_series(401, 500) n;
SET enable_seqscan = off;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text 450' LIMIT 1;
SELECT * FROM leann.check('docs_embedding');
REINDEX INDEX docs_embedding;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text 450' LIMIT 1;
SELECT * FROM leann.check('docs_embedding');

-- What the settings do. With relaxed order all rows come, whatever the estimates; no more recomputes than max_recompute.
SET leann.iterative_scan = relaxed_order;
SET leann.max_recompute = 20;
SELECT leann.clear_cache();
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text' LIMIT 1000) AS near;
SELECT recomputes <= 20 AS capped FROM leann.last_scan();
-- A hard limit on texts: the distance of a row beyond it is its estimate in relaxed order, and NULL in strict order.
SELECT leann.clear_cache();
SELECT count(*), count(distance) AS known, bool_and(distance >= earlier) AS ordered FROM (
    SELECT distance, lag(distance, 1, 0) OVER () AS earlier FROM (
        SELECT embedding_of(body) <-> 'text' AS distance FROM docs ORDER BY distance OFFSET 20) AS near) AS pairs;
SELECT embedded <= 21 AS capped, recomputes FROM leann.last_scan();
SET leann.iterative_scan = strict_order;
SELECT leann.clear_cache();
SELECT count(*), count(distance) <= 20 AS few_known, max(n) FILTER (WHERE distance IS NOT NULL) < min(n) FILTER (WHERE distance IS NULL) AS known_first FROM (
    SELECT embedding_of(body) <=> 'text' AS distance, row_number() OVER () AS n FROM docs
    ORDER BY embedding_of(body) <=> 'text' LIMIT 100) AS near;
SELECT embedded <= 21 AS capped FROM leann.last_scan();
SELECT count(*) FROM docs WHERE id IN (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text' LIMIT 100);
SET leann.iterative_scan = relaxed_order;
RESET leann.max_recompute;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text' LIMIT 1000) AS near;
SET leann.ef_search = 1;
SET leann.patience = 1;
SET leann.recompute_batch = 1;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text' LIMIT 1000) AS near;
-- Strict order, over the same rows: never a distance below the one before, never a row twice.
SET leann.iterative_scan = strict_order;
SELECT count(*) > 400 AS most, count(*) = count(DISTINCT id) AS different, bool_and(distance >= earlier) AS ordered FROM (
    SELECT id, distance, lag(distance, 1, 0) OVER () AS earlier FROM (
        SELECT id, embedding_of(body) <-> 'text' AS distance FROM docs ORDER BY embedding_of(body) <-> 'text' LIMIT 1000) AS near) AS pairs;
SET leann.cache_size = 64;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text 450' LIMIT 1;
RESET ALL;
DROP TABLE docs;
