-- Errors: SQLSTATE, message and hint, and a session that works again once the cause is gone.
\set SHOW_CONTEXT never
SET enable_seqscan = off;
CREATE TABLE docs (id int PRIMARY KEY, body text, year int);
INSERT INTO docs SELECT n, 'passage number ' || n, 2000 + n FROM generate_series(1, 50) n;

-- A column that is no embedding.
CREATE INDEX ON docs USING leann (body); \echo :SQLSTATE
CREATE INDEX ON docs USING leann (year); \echo :SQLSTATE
CREATE INDEX ON docs USING leann (embedding_of(body), embedding_of(body)); \echo :SQLSTATE
CREATE UNIQUE INDEX ON docs USING leann (embedding_of(body)); \echo :SQLSTATE
CREATE INDEX ON docs USING leann (embedding_of(body) DESC); \echo :SQLSTATE
CREATE INDEX ON docs USING leann (embedding_of(body)) INCLUDE (id); \echo :SQLSTATE
-- The server's own message, which is not the same in all its versions.
\set VERBOSITY sqlstate
ALTER TABLE docs ADD EXCLUDE USING leann (embedding_of(body) WITH =);
\set VERBOSITY default

-- No such model, when the index is made and when it is searched.
CREATE INDEX ON docs USING leann (embedding_of(body, 'no-such-model')); \echo :SQLSTATE
SET leann.default_model = 'no-such-model';
CREATE INDEX ON docs USING leann (embedding_of(body)); \echo :SQLSTATE
SELECT leann.embed('text'); \echo :SQLSTATE
SELECT embedding_of('a') <-> 'b'; \echo :SQLSTATE
RESET leann.default_model;
SELECT leann.embed('text', 'no-such-model'); \echo :SQLSTATE
SELECT leann.embed('text', '../tiny-hash'); \echo :SQLSTATE
SELECT leann.embed('text', 'tiny-hash', 'judge'); \echo :SQLSTATE
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));

-- A failed load does not poison the session: missing folder, then the right one.
SELECT leann.clear_cache();
SET leann.model_dir = '/nowhere';
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'a new question' LIMIT 1; \echo :SQLSTATE
INSERT INTO docs VALUES (51, 'not to be embedded', 0); \echo :SQLSTATE
SELECT * FROM leann.models; \echo :SQLSTATE
RESET leann.model_dir;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 7' LIMIT 1;
SELECT count(*) FROM docs WHERE id = 51;

-- A vector of the wrong dimension.
SELECT id FROM docs ORDER BY embedding_of(body) <-> '[1,2,3]'::leann.embedding LIMIT 1; \echo :SQLSTATE
SELECT id FROM docs ORDER BY embedding_of(body) <-> ARRAY[1,2,3]::real[] LIMIT 1; \echo :SQLSTATE
SELECT id FROM docs ORDER BY embedding_of(body) <-> ARRAY[1,2,3] LIMIT 1; \echo :SQLSTATE
SELECT id FROM docs ORDER BY embedding_of(body) <-> ARRAY[]::real[] LIMIT 1; \echo :SQLSTATE
CREATE TABLE ready (id int, value leann.embedding);
INSERT INTO ready VALUES (1, '[1,2,3]');
CREATE INDEX ON ready USING leann (value);
TRUNCATE ready;
CREATE INDEX ON ready USING leann (value);
INSERT INTO ready VALUES (1, '[1,2,3]');
INSERT INTO ready VALUES (1, embedding_of('text', 'tiny-hash-b')); \echo :SQLSTATE

-- A query of another model; a default model that changed after the index was made.
SELECT id FROM docs ORDER BY embedding_of(body) <-> embedding_of('text', 'tiny-hash-b') LIMIT 1; \echo :SQLSTATE
PREPARE search_embedding(leann.embedding) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
PREPARE search(text) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
SET plan_cache_mode = force_generic_plan;
EXECUTE search('passage number 9');
EXECUTE search_embedding(embedding_of('passage number 9', 'tiny-hash-b')); \echo :SQLSTATE
EXECUTE search_embedding(embedding_of('passage number 9', 'tiny-hash'));
SET leann.default_model = 'tiny-hash-b';
EXECUTE search('passage number 9');
INSERT INTO docs VALUES (52, 'which model', 0);
RESET leann.default_model;
EXECUTE search('passage number 9');
RESET plan_cache_mode;
DEALLOCATE ALL;

-- The library is not there: only a session that has not loaded it can notice.
\c
SET leann.onnxruntime_library = '/nowhere/libonnxruntime.so';
\set SHOW_CONTEXT never
SELECT leann.embed('text'); \echo :SQLSTATE
RESET leann.onnxruntime_library;
SELECT cardinality(leann.embed('text'));

-- Introspection of what is no leann index.
SELECT * FROM leann.index_info('docs_pkey'); \echo :SQLSTATE
SELECT * FROM leann.index_info('docs'); \echo :SQLSTATE
SELECT * FROM leann.check('docs_pkey'); \echo :SQLSTATE
SELECT * FROM leann.check('docs'); \echo :SQLSTATE

-- An error inside a subtransaction leaves the outer one, its rows and its cursor in order.
BEGIN;
INSERT INTO docs VALUES (60, 'inserted before the error', 0);
DECLARE c CURSOR FOR SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 3' LIMIT 5;
FETCH 1 FROM c;
SAVEPOINT s;
SELECT id FROM docs ORDER BY embedding_of(body) <-> ARRAY[1,2,3] LIMIT 1; \echo :SQLSTATE
ROLLBACK TO s;
SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'inserted before the error' LIMIT 2) AS near;
FETCH 1 FROM c;
COMMIT;
SET enable_seqscan = off;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'inserted before the error' LIMIT 1;
SELECT * FROM leann.check('docs_embedding');
DROP TABLE docs, ready;
