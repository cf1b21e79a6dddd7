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

-- COPY embeds its rows in batches, beside the cache, and inserts each in its turn.
CREATE TABLE loaded (id int PRIMARY KEY, n int DEFAULT 0, body text, upper text GENERATED ALWAYS AS (upper(body)) STORED);
CREATE INDEX loaded_embedding ON loaded USING leann (embedding_of(body));
CREATE INDEX loaded_upper ON loaded USING leann (embedding_of(upper));
SELECT embedded() AS before \gset
COPY loaded (id, body) FROM PROGRAM $$awk 'BEGIN { for (n = 1; n <= 700; n++) printf "%d\t%s\n", n, n % 50 == 0 ? "\\N" : "loaded text " n % 400 }'$$;
SELECT embedded() - :before <= 2 AS batches;
SELECT nodes FROM leann.index_info('loaded_embedding') UNION ALL SELECT nodes FROM leann.index_info('loaded_upper');
SELECT * FROM leann.check('loaded_embedding') UNION ALL SELECT * FROM leann.check('loaded_upper');
SET enable_seqscan = off;
SELECT id FROM loaded WHERE embedding_of(body) <-> 'loaded text 399' < 0.001 ORDER BY embedding_of(body) <-> 'loaded text 399', id;
SELECT id FROM loaded WHERE embedding_of(upper) <-> 'LOADED TEXT 7' < 0.001 ORDER BY embedding_of(upper) <-> 'LOADED TEXT 7', id;
RESET enable_seqscan;
-- Fails at the second row that has a key: nothing of it stays, and the table goes on.
COPY loaded (id, body) FROM PROGRAM $$awk 'BEGIN { for (n = 701; n <= 800; n++) printf "%d\tloaded text %d\n", n == 790 ? 5 : n, n }'$$;
BEGIN;
SAVEPOINT a;
COPY loaded (id, body) FROM PROGRAM $$awk 'BEGIN { for (n = 701; n <= 800; n++) printf "%d\tother text %d\n", n, n }'$$;
ROLLBACK TO a;
COPY loaded (id, body) FROM PROGRAM $$awk 'BEGIN { for (n = 701; n <= 800; n++) printf "%d\tloaded text %d\n", n, n }'$$;
COMMIT;
VACUUM loaded;
SELECT count(body), (SELECT nodes FROM leann.index_info('loaded_embedding')) AS nodes, (SELECT count(*) FROM leann.check('loaded_embedding')) AS faults FROM loaded;
-- With a trigger, into space that was freed, into partitions, and into a partial index.
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.body := new.body || ' again'; RETURN new; END $$;
CREATE TRIGGER again BEFORE INSERT ON loaded FOR EACH ROW EXECUTE FUNCTION again();
COPY loaded (id, body) FROM PROGRAM $$awk 'BEGIN { for (n = 801; n <= 850; n++) printf "%d\tloaded text %d\n", n, n }'$$;
DROP TRIGGER again ON loaded;
DELETE FROM loaded WHERE id % 3 = 0;
VACUUM loaded;
COPY loaded (id, body) FROM PROGRAM $$awk 'BEGIN { for (n = 900; n <= 1100; n++) printf "%d\tloaded text %d\n", n, n }'$$;
SELECT count(body) = (SELECT nodes FROM leann.index_info('loaded_embedding')) AS all_rows, (SELECT count(*) FROM leann.check('loaded_embedding')) AS faults FROM loaded;
-- Each row has the sketch of its own text: it is found by it, if a search looks closely.
SET leann.rerank_z = 5;
SET leann.patience = 1000;
SELECT count(*) AS not_found FROM loaded WHERE id % 7 = 0 AND body IS NOT NULL AND NOT EXISTS (
    SELECT FROM (SELECT near.body FROM loaded AS near WHERE embedding_of(near.body) <-> loaded.body < 0.001 ORDER BY embedding_of(near.body) <-> loaded.body LIMIT 1) AS nearest
    WHERE nearest.body = loaded.body);
RESET leann.rerank_z;
RESET leann.patience;
CREATE TABLE loads (id int, body text) PARTITION BY HASH (id);
CREATE TABLE loads_1 PARTITION OF loads FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE loads_2 PARTITION OF loads FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE INDEX loads_embedding ON loads USING leann (embedding_of(body));
CREATE INDEX loads_1_partial ON loads_1 USING leann (embedding_of(body)) WHERE id % 3 = 0;
SELECT embedded() AS before \gset
COPY loads FROM PROGRAM $$awk 'BEGIN { for (n = 1; n <= 200; n++) printf "%d\tload %d\n", n, n }'$$;
SELECT embedded() - :before < 40 AS batches;
SELECT sum(nodes) FROM (SELECT (leann.index_info(indexrelid)).nodes FROM pg_index WHERE indrelid::regclass::text ~ '^loads_.$' AND indpred IS NULL) AS parts;
SELECT (SELECT nodes FROM leann.index_info('loads_1_partial')) = count(*) AS partial FROM loads_1 WHERE id % 3 = 0;
-- An expression that reads the whole row of some rows only.
CREATE FUNCTION loaded_text(loaded) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1.body || ' whole' $$;
CREATE FUNCTION loaded_words(loaded) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN $1.id || ' words'; END $$;
TRUNCATE loaded;
CREATE INDEX loaded_case ON loaded USING leann (embedding_of(CASE WHEN n % 2 = 1 THEN loaded_text(loaded) WHEN n % 4 = 2 THEN loaded_words(loaded) ELSE body END));
CREATE INDEX loaded_part ON loaded USING leann (embedding_of(body)) WHERE n % 2 = 0 OR loaded_words(loaded) <> '';
COPY loaded (id, n, body) FROM PROGRAM $$awk 'BEGIN { for (n = 1; n <= 300; n++) printf "%d\t%d\tloaded text %d\n", n, n - 1, n }'$$;
COPY loaded (id, n, body) FROM PROGRAM $$awk 'BEGIN { for (n = 301; n <= 600; n++) printf "%d\t%d\tloaded text %d\n", n, n - 1, n }'$$;
SELECT (SELECT nodes FROM leann.index_info('loaded_case')) AS "case", (SELECT nodes FROM leann.index_info('loaded_part')) AS part;
DROP INDEX loaded_case, loaded_part;
-- An expression that fails names the row, which may come after the one that COPY is at.
CREATE INDEX loaded_fails ON loaded USING leann (embedding_of(left(body, 100 / (id - 725))));
COPY loaded (id, body) FROM PROGRAM $$awk 'BEGIN { for (n = 701; n <= 800; n++) printf "%d\tloaded text %d\n", n, n }'$$;
-- Vectors between texts.
CREATE TABLE halves (id int, v leann.embedding, body text);
CREATE INDEX halves_embedding ON halves USING leann (coalesce(v, embedding_of(body, 'tiny-hash')));
COPY (SELECT n, CASE WHEN n % 2 = 0 THEN leann.embed('vector ' || n)::leann.embedding END, 'text ' || n FROM generate_series(1, 200) n) TO '/tmp/leann_regress_halves';
SELECT lookups - hits AS before FROM leann.cache WHERE scope = 'session' \gset
COPY halves FROM '/tmp/leann_regress_halves';
SELECT nodes, (SELECT lookups - hits - :before FROM leann.cache WHERE scope = 'session') <= 10 AS batches FROM leann.index_info('halves_embedding');
COPY (SELECT) TO PROGRAM 'rm /tmp/leann_regress_halves';
DROP TABLE loaded, loads, halves CASCADE;
DROP FUNCTION again;
DROP FUNCTION embedded;
