-- Texts that are longer than the model reads: a build says how many, and the index counts them, those inserted later too.
SET client_min_messages = notice;
CREATE TABLE long (id int PRIMARY KEY, body text);
INSERT INTO long SELECT n, repeat('filler word ', 200) || 'needle' || n FROM generate_series(1, 20) n;
INSERT INTO long SELECT n, 'a short one, number ' || n FROM generate_series(21, 300) n;
-- The same long text twice, and one that is not in the index.
INSERT INTO long SELECT 301, body FROM long WHERE id = 1;
INSERT INTO long SELECT 302, repeat('filler ', 1000);
CREATE INDEX long_embedding ON long USING leann (embedding_of(body)) WHERE id <> 302;
SELECT nodes, truncated_rows FROM leann.index_info('long_embedding');
INSERT INTO long VALUES (400, 'short'), (401, repeat('something else ', 300)), (402, repeat('something else ', 300)), (403, NULL);
SELECT nodes, truncated_rows FROM leann.index_info('long_embedding');
-- What a search has embedded, and so is in the session's cache, counts all the same.
SELECT embedding_of(repeat('seen before ', 300)) <-> embedding_of('seen') < 2 AS compared;
INSERT INTO long VALUES (404, repeat('seen before ', 300));
SELECT nodes, truncated_rows FROM leann.index_info('long_embedding');
VACUUM long;
SELECT nodes, truncated_rows FROM leann.index_info('long_embedding');
DELETE FROM long WHERE id < 10;
REINDEX INDEX long_embedding;
SELECT nodes, truncated_rows FROM leann.index_info('long_embedding');
TRUNCATE long;
SELECT nodes, truncated_rows FROM leann.index_info('long_embedding');
SELECT * FROM leann.check('long_embedding');
DROP TABLE long;
