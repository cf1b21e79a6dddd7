-- The ways rows get in: COPY, INSERT ... SELECT, ON CONFLICT, MERGE, triggers, RETURNING, row security.
SET enable_seqscan = off;
CREATE TABLE docs (id int PRIMARY KEY, body text);
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
COPY docs FROM STDIN;
1	copied in first
2	copied in second
3	\N
4	with a tab\tand a newline\nin it
5	
\.
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'copied in second' LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> E'with a tab\tand a newline\nin it' LIMIT 1;
INSERT INTO docs SELECT n, 'generated passage ' || n FROM generate_series(10, 600) n;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'generated passage 345' LIMIT 1;

INSERT INTO docs VALUES (1, 'a conflict') ON CONFLICT DO NOTHING;
SELECT id = 1 AS found FROM docs ORDER BY embedding_of(body) <-> 'a conflict' LIMIT 1;
INSERT INTO docs VALUES (1, 'resolved by update'), (1000, 'no conflict at all')
ON CONFLICT (id) DO UPDATE SET body = excluded.body RETURNING id;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'resolved by update' LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'no conflict at all' LIMIT 1;
MERGE INTO docs USING (VALUES (2, 'merged into two'), (1001, 'merged as new'), (10, NULL)) AS news(id, body) ON docs.id = news.id
WHEN MATCHED AND news.body IS NULL THEN DELETE
WHEN MATCHED THEN UPDATE SET body = news.body
WHEN NOT MATCHED THEN INSERT VALUES (news.id, news.body);
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'merged into two' LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'merged as new' LIMIT 1;
SELECT id = 10 AS found FROM docs ORDER BY embedding_of(body) <-> 'generated passage 10' LIMIT 1;

-- A duplicate key: the row whose insert failed is not found.
\set VERBOSITY sqlstate
INSERT INTO docs VALUES (2000, 'fails with the next'), (1, 'a duplicate');
\set VERBOSITY default
SELECT id = 2000 AS found FROM docs ORDER BY embedding_of(body) <-> 'fails with the next' LIMIT 1;

-- A trigger changes the text on its way in: what is stored is what is indexed.
CREATE FUNCTION prefix_body() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.body := 'changed ' || NEW.body; RETURN NEW; END $$;
CREATE TRIGGER prefix BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION prefix_body();
INSERT INTO docs VALUES (3000, 'by a trigger');
SELECT id, (embedding_of(body) <-> 'changed by a trigger')::numeric(4,3) AS distance
FROM docs ORDER BY embedding_of(body) <-> 'changed by a trigger' LIMIT 1;

-- A generated column.
CREATE TABLE generated (id int, title text, body text, both_texts text GENERATED ALWAYS AS (title || ' ' || body) STORED);
CREATE INDEX generated_embedding ON generated USING leann (embedding_of(both_texts));
INSERT INTO generated VALUES (1, 'a title', 'a body'), (2, 'some title', 'some body');
SELECT id FROM generated ORDER BY embedding_of(both_texts) <-> 'some title some body' LIMIT 1;

-- Row security and column privileges hold for what a search returns.
CREATE ROLE regress_leann_reader;
GRANT SELECT ON docs TO regress_leann_reader;
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON docs FOR SELECT TO regress_leann_reader USING (id BETWEEN 100 AND 110);
SET ROLE regress_leann_reader;
SELECT count(*), min(id), max(id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'generated passage 500' LIMIT 100) AS near;
RESET ROLE;
ALTER TABLE docs DISABLE ROW LEVEL SECURITY;
REVOKE SELECT ON docs FROM regress_leann_reader;
GRANT SELECT (id) ON docs TO regress_leann_reader;
SET ROLE regress_leann_reader;
\set VERBOSITY sqlstate
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'generated passage 500' LIMIT 1;
\set VERBOSITY default
RESET ROLE;
DROP POLICY few ON docs;
REVOKE ALL ON docs FROM regress_leann_reader;
DROP ROLE regress_leann_reader;
SELECT * FROM leann.check('docs_embedding');
SELECT * FROM leann.check('generated_embedding');
DROP TABLE docs, generated;
DROP FUNCTION prefix_body;

-- An update that leaves the text alone, but must insert into all indexes again, embeds nothing. One that touches no indexed
-- column does not reach the index at all.
CREATE TABLE updated (id int, rating int, seen int, body text);
CREATE INDEX ON updated (rating);
CREATE INDEX updated_embedding ON updated USING leann (embedding_of(body));
INSERT INTO updated VALUES (1, 0, 0, 'a text that stays as it is');
CREATE FUNCTION embedded() RETURNS bigint LANGUAGE sql AS $$ SELECT lookups - hits FROM leann.cache WHERE scope = 'session' $$;
SELECT embedded() AS before \gset
UPDATE updated SET rating = rating + 1;
SELECT embedded() - :before AS embedded, (SELECT nodes FROM leann.index_info('updated_embedding')) AS nodes;
SELECT leann.clear_cache();
UPDATE updated SET rating = rating + 1;
SELECT embedded() - :before AS embedded, (SELECT nodes FROM leann.index_info('updated_embedding')) AS nodes;
SELECT leann.clear_cache();
UPDATE updated SET seen = seen + 1;
SELECT embedded() - :before AS embedded, (SELECT nodes FROM leann.index_info('updated_embedding')) AS nodes;
DROP TABLE updated;
DROP FUNCTION embedded;
