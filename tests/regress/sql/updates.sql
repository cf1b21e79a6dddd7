-- A row's new version gets the sketch of the old one if its text stayed the same: no text is embedded.
\c
CREATE TABLE docs (id int PRIMARY KEY, views int DEFAULT 0, body text) WITH (fillfactor = 100);
INSERT INTO docs SELECT n, 0, 'text of item ' || n || ' in group ' || n % 13 FROM generate_series(1, 3000) n;
CREATE INDEX docs_views ON docs (views);
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
VACUUM ANALYZE docs;
-- Texts that a statement makes the model embed, with the caches empty, and rows that it changes.
CREATE FUNCTION embedded(statement text, OUT texts bigint, OUT rows bigint) LANGUAGE plpgsql AS $$ DECLARE before bigint; BEGIN
    PERFORM leann.clear_cache();
    SELECT lookups - hits INTO before FROM leann.cache WHERE scope = 'session';
    EXECUTE statement;
    GET DIAGNOSTICS rows = ROW_COUNT;
    SELECT lookups - hits - before INTO texts FROM leann.cache WHERE scope = 'session';
END $$;
-- Whether the index has a sound entry for every visible row.
CREATE FUNCTION state() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(', ', (SELECT count(*) FROM leann.check('docs_embedding')) || ' faults',
        (SELECT count(DISTINCT id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> NULL::text OFFSET 0) AS rows) || ' rows') $$;
SET enable_seqscan = off;
SET leann.rerank_z = 5; -- the texts differ in little more than a number

SELECT * FROM embedded('UPDATE docs SET views = views + 1 WHERE id = 7');
SELECT * FROM embedded('UPDATE docs SET views = views + 1');
SELECT state();
-- All columns, as an ORM does.
SELECT * FROM embedded($$UPDATE docs SET id = 7, views = 3, body = 'text of item 7 in group 7' WHERE id = 7$$);
-- With another text.
SELECT * FROM embedded($$UPDATE docs SET body = 'about whales' WHERE id = 7$$);
SELECT * FROM embedded($$UPDATE docs SET body = CASE WHEN id <= 1003 THEN body || '!' ELSE body END, views = 0 WHERE id BETWEEN 1001 AND 1010$$);
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'about whales' LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text of item 1008 in group 7' LIMIT 1;
-- From NULL, to NULL.
SELECT * FROM embedded('UPDATE docs SET body = NULL WHERE id = 8');
SELECT * FROM embedded($$UPDATE docs SET body = 'text of item 8 in group 8' WHERE id = 8$$);
SELECT * FROM embedded('UPDATE docs SET views = 9 WHERE id = 8');
-- HOT or not.
DROP INDEX docs_views;
VACUUM docs;
SELECT * FROM embedded('UPDATE docs SET views = 1 WHERE id % 3 = 0');
SELECT * FROM embedded('UPDATE docs SET views = 2');
CREATE INDEX docs_views ON docs (views);
SELECT * FROM embedded('UPDATE docs SET views = 3');
SELECT state();
-- Rolled back, also in part.
BEGIN;
SAVEPOINT a;
SELECT * FROM embedded('UPDATE docs SET views = 4 WHERE id < 500');
ROLLBACK TO a;
SELECT * FROM embedded('UPDATE docs SET views = 5 WHERE id < 400');
SELECT * FROM embedded('UPDATE docs SET views = 6 WHERE id < 300');
ROLLBACK;
SELECT * FROM embedded('UPDATE docs SET views = 7 WHERE id < 600');
SELECT state();
VACUUM docs;
SELECT state();
SELECT * FROM embedded('UPDATE docs SET views = 8');
-- INSERT ... ON CONFLICT, MERGE, CTEs, UPDATE ... FROM, a cursor.
SELECT * FROM embedded($$INSERT INTO docs SELECT id, 9, body FROM docs WHERE id % 2 = 0 ON CONFLICT (id) DO UPDATE SET views = excluded.views, body = excluded.body$$);
SELECT * FROM embedded($$INSERT INTO docs VALUES (11, 10, 'of another kind'), (3001, 10, 'new') ON CONFLICT (id) DO UPDATE SET views = excluded.views$$);
SELECT * FROM embedded($$MERGE INTO docs USING (SELECT id FROM docs WHERE id % 5 = 0) AS chosen ON chosen.id = docs.id WHEN MATCHED THEN UPDATE SET views = 11$$);
SELECT * FROM embedded($$WITH changed AS (UPDATE docs SET views = 12 WHERE id % 7 = 0 RETURNING id) SELECT FROM changed LIMIT 0$$);
SELECT * FROM embedded($$UPDATE docs SET views = other.views + 1 FROM docs AS other WHERE other.id = docs.id + 1$$);
BEGIN;
DECLARE c CURSOR FOR SELECT FROM docs ORDER BY embedding_of(body) <-> 'text of item 57 in group 5' LIMIT 1;
FETCH c;
SELECT * FROM embedded('UPDATE docs SET views = 13 WHERE CURRENT OF c');
COMMIT;
SELECT state();
-- Triggers: one that changes another column, and one that updates in turn.
CREATE FUNCTION changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.views := 14; RETURN new; END $$;
CREATE FUNCTION followed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE docs SET views = views + 1 WHERE id = new.id + 1000 AND new.id < 1000; RETURN NULL;
END $$;
CREATE TRIGGER before BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION changed();
CREATE TRIGGER after AFTER UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION followed();
SELECT * FROM embedded('UPDATE docs SET views = 15 WHERE id < 50');
SELECT state();
DROP TRIGGER before ON docs;
DROP TRIGGER after ON docs;
-- Where it costs more to find the old node than to embed, nothing is searched.
SET leann.recompute_cost = 0;
SELECT * FROM embedded('UPDATE docs SET views = 16 WHERE id < 5');
RESET leann.recompute_cost;
-- With little memory the index is read in several passes.
SET work_mem = 64;
SELECT * FROM embedded('UPDATE docs SET views = 17');
RESET work_mem;
SELECT state();

-- Expressions: of a document, and of a function, whose error names its cause.
CREATE TABLE papers (id int PRIMARY KEY, n int, data jsonb);
INSERT INTO papers SELECT n, 0, jsonb_build_object('title', 'paper ' || n, 'views', 0) FROM generate_series(1, 300) n;
CREATE INDEX papers_n ON papers (n);
CREATE INDEX papers_title ON papers USING leann (embedding_of(data ->> 'title'));
SELECT * FROM embedded($$UPDATE papers SET data = data || '{"views": 1}'$$);
SELECT * FROM embedded($$UPDATE papers SET data = data || '{"title": "another"}' WHERE id = 1$$);
DROP INDEX papers_title;
CREATE FUNCTION abstract(papers) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1.data ->> 'title'; END $$;
CREATE INDEX papers_abstract ON papers USING leann (embedding_of(abstract(papers)));
SELECT * FROM embedded('UPDATE papers SET n = n + 1');
SELECT * FROM embedded($$UPDATE papers SET data = '{"title": "whole"}' WHERE id = 1$$);
CREATE OR REPLACE FUNCTION abstract(papers) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF $1.n = 1 THEN RAISE 'no such paper'; END IF; RETURN $1.data ->> 'title';
END $$;
UPDATE papers SET n = n + 1 WHERE id = 5;
SET leann.recompute_cost = 0;
UPDATE papers SET n = n + 1 WHERE id = 5;
RESET leann.recompute_cost;
DROP TABLE papers CASCADE;
-- Long texts, stored out of line.
CREATE TABLE books (id int PRIMARY KEY, n int, body text);
ALTER TABLE books ALTER body SET STORAGE EXTERNAL;
INSERT INTO books SELECT n, 0, repeat('word' || n || ' ', 1000) FROM generate_series(1, 200) n;
CREATE INDEX books_n ON books (n);
CREATE INDEX books_body ON books USING leann (embedding_of(body));
SELECT * FROM embedded('UPDATE books SET n = n + 1');
SELECT * FROM embedded('UPDATE books SET n = n + 1, body = body || $$$$');
SELECT truncated_rows FROM leann.index_info('books_body');
DROP TABLE books;
-- Partitions: within one, and to another, whose index has a sketch of its own.
CREATE TABLE events (id int, day int, body text) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
CREATE UNIQUE INDEX events_id ON events (id, day);
CREATE INDEX events_embedding ON events USING leann (embedding_of(body));
INSERT INTO events SELECT n, n % 20, 'event ' || n FROM generate_series(1, 400) n;
SELECT * FROM embedded('UPDATE events SET id = id + 1000');
SELECT * FROM embedded('UPDATE events SET day = day + 10 WHERE day = 3');
SELECT * FROM embedded('INSERT INTO events SELECT * FROM events ON CONFLICT (id, day) DO UPDATE SET id = events.id + 1000');
SELECT * FROM embedded('MERGE INTO events USING (SELECT 1 AS one) AS chosen ON true WHEN MATCHED THEN UPDATE SET id = id + 10000');
SELECT count(*) FROM leann.check('events_1_embedding_of_idx');
DROP TABLE events;
-- What was not in a partial index has no node, and its expression is not evaluated.
CREATE TABLE mixed (id int PRIMARY KEY, kind text, body text, n int);
CREATE INDEX mixed_n ON mixed (n);
CREATE INDEX mixed_title ON mixed USING leann (embedding_of(body::jsonb ->> 'title')) WHERE kind = 'json';
INSERT INTO mixed VALUES (1, 'plain', 'this is plain text', 0), (2, 'json', '{"title": "a title"}', 0), (3, 'plain', '{"title": "a title"}', 0);
SELECT * FROM embedded($$UPDATE mixed SET kind = 'json', body = '{"title": "good text"}' WHERE id = 1$$);
SELECT * FROM embedded($$UPDATE mixed SET kind = 'json' WHERE id = 3$$);
SELECT * FROM embedded('UPDATE mixed SET n = n + 1');
SELECT * FROM embedded($$UPDATE mixed SET kind = 'plain', body = 'SECRET words' WHERE id = 2$$);
SELECT * FROM embedded($$INSERT INTO mixed VALUES (2, 'json', '{"title": "new"}') ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, body = excluded.body$$);
UPDATE mixed SET kind = 'plain', body = 'SECRET words' WHERE id = 2;
SELECT * FROM embedded($$MERGE INTO mixed USING (VALUES (2), (4)) AS s (i) ON s.i = mixed.id
    WHEN MATCHED THEN UPDATE SET kind = 'plain2' WHEN NOT MATCHED THEN INSERT VALUES (s.i, 'json', '{"title": "new"}')$$);
-- A user who may not read a row learns nothing of its old version, not even from a function that fails; a statement that
-- leaves the text alone needs no function.
CREATE FUNCTION title(body text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN body::jsonb ->> 'title'; END $$;
CREATE INDEX mixed_function ON mixed USING leann (embedding_of(title(body))) WHERE kind = 'json';
CREATE OR REPLACE FUNCTION title(body text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE NOTICE 'title of %', body; RETURN 'ready'; END $$;
CREATE ROLE regress_leann_writer;
GRANT UPDATE, SELECT (id) ON mixed TO regress_leann_writer;
SET client_min_messages = notice;
SET ROLE regress_leann_writer;
UPDATE mixed SET body = '{"title": "own text"}' WHERE id = 1;
UPDATE mixed SET n = 7 WHERE id = 1;
RESET ROLE;
UPDATE mixed SET body = '{"title": "another text"}' WHERE id = 1;
RESET client_min_messages;
DROP TABLE mixed;
DROP ROLE regress_leann_writer;
DROP FUNCTION title;
-- Vectors that are stored need no model.
CREATE TABLE vectors (id int PRIMARY KEY, n int, v leann.embedding);
INSERT INTO vectors SELECT n, 0, (SELECT array_agg(sin(n * i)) FROM generate_series(1, 64) i)::real[] FROM generate_series(1, 300) n;
CREATE INDEX vectors_n ON vectors (n);
CREATE INDEX vectors_v ON vectors USING leann (v);
SELECT * FROM embedded('UPDATE vectors SET n = n + 1');
SELECT count(*) FROM leann.check('vectors_v');
DROP TABLE vectors;
-- A user who may not read the text. No model is needed.
CREATE ROLE regress_leann_writer;
GRANT UPDATE (views), SELECT (id) ON docs TO regress_leann_writer;
SELECT current_setting('leann.model_dir') AS model_dir \gset
SET leann.model_dir = '/nowhere';
SET ROLE regress_leann_writer;
UPDATE docs SET views = 18 WHERE id < 99;
RESET ROLE;
SELECT set_config('leann.model_dir', :'model_dir', false) <> '' AS reset;
DROP TABLE docs;
DROP ROLE regress_leann_writer;
DROP FUNCTION embedded(text), state(), changed(), followed();
