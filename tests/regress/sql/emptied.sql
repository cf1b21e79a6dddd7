-- A temporary table that is emptied at commit keeps its index's model, and needs none for it.
CREATE TEMP TABLE scratch (body text) ON COMMIT DELETE ROWS;
CREATE INDEX scratch_embedding ON scratch USING leann (embedding_of(body));
BEGIN;
INSERT INTO scratch VALUES ('one'), ('two'), ('three');
SELECT count(*) FROM (SELECT body FROM scratch ORDER BY embedding_of(body) <-> 'two' LIMIT 5) AS near;
SET LOCAL leann.default_model = 'no-such-model';
COMMIT;
SET leann.default_model = 'no-such-model';
SELECT model <> 'no-such-model' AS kept, nodes FROM leann.index_info('scratch_embedding');
BEGIN;
SELECT 1 AS nothing;
COMMIT;
RESET leann.default_model;
BEGIN;
INSERT INTO scratch VALUES ('one'), ('two'), ('three');
SELECT body FROM scratch ORDER BY embedding_of(body) <-> 'two' LIMIT 1;
SELECT * FROM leann.check('scratch_embedding');
SAVEPOINT a;
INSERT INTO scratch VALUES ('four');
ROLLBACK TO a;
COMMIT;
SELECT nodes FROM leann.index_info('scratch_embedding');
-- Built anew it is an index like any other: it takes the model that is the default then.
SET leann.default_model = 'no-such-model';
REINDEX INDEX scratch_embedding;
RESET leann.default_model;
DROP TABLE scratch;
