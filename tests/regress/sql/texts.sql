-- Texts of every kind; queries that are NULL or odd; indexes without rows.
SET enable_seqscan = off;
SET leann.rerank_z = 8; -- the tables are tiny: be exact, and leave no row out
SET leann.iterative_scan = relaxed_order;
CREATE TABLE texts (id int PRIMARY KEY, kind text, body text);
CREATE INDEX texts_embedding ON texts USING leann (embedding_of(body));

-- The empty index.
SELECT id FROM texts ORDER BY embedding_of(body) <-> 'anything' LIMIT 5;
SELECT id FROM texts ORDER BY embedding_of(body) <-> NULL::text LIMIT 5;
SELECT nodes FROM leann.index_info('texts_embedding');
SELECT * FROM leann.check('texts_embedding');

INSERT INTO texts VALUES
    (1, 'plain', 'the quick brown fox jumps over the lazy dog'),
    (2, 'null', NULL),
    (3, 'empty', ''),
    (4, 'blank', E' \t\n  '),
    (5, 'one letter', 'x'),
    (6, 'emoji', '🦀🦀 🎻 👩‍👩‍👧‍👦 🏳️‍🌈'),
    (7, 'mixed script', 'кот 猫 قطة แมว γάτα cat ねこ'),
    (8, 'right to left', 'السلام عليكم ورحمة الله'),
    (9, 'combining', E'e\u0301 a\u0300 \u200b\ufeff'),
    (10, 'control', E'a\x01b\x1fc\x7f'),
    (11, 'brackets', '[1,2,3]'),
    (12, 'literal', 'leann:{"text":"x"}'),
    (13, 'megabyte', repeat('word after word ', 65536)),
    (14, 'megabyte, one word', repeat('a', 1048576)),
    (15, 'megabyte, emoji', repeat('🦀', 262144));

-- Everything but the NULL is found by its own text, at distance 0 or nearly (a very long text by its beginning).
SELECT t.id, t.kind, near.found FROM texts t, LATERAL (
    SELECT bool_or(n.id = t.id AND n.distance < 1e-3) AS found FROM (
        SELECT id, embedding_of(body) <-> embedding_of(t.body) AS distance
        FROM texts ORDER BY embedding_of(body) <-> embedding_of(t.body) LIMIT 4) AS n) AS near
WHERE t.body IS NOT NULL ORDER BY t.id;
SELECT nodes FROM leann.index_info('texts_embedding');
SELECT count(*) FROM (SELECT id FROM texts ORDER BY embedding_of(body) <-> '' LIMIT 100) AS all_rows;
SELECT count(*) FROM (SELECT id FROM texts ORDER BY embedding_of(body) <-> repeat('long query ', 100000) LIMIT 100) AS all_rows;
SELECT * FROM leann.check('texts_embedding');

-- A NULL query: rows in any order, and no model.
SELECT leann.clear_cache();
SET leann.model_dir = '/nowhere';
SELECT count(*), count(DISTINCT id), bool_or(id = 2) AS null_row
FROM (SELECT id FROM texts ORDER BY embedding_of(body) <-> NULL::text LIMIT 100) AS all_rows;
SELECT count(*) FROM (SELECT id FROM texts ORDER BY embedding_of(body) <-> NULL::leann.embedding LIMIT 3) AS three;
SELECT count(*) FROM (SELECT id FROM texts ORDER BY embedding_of(body) <-> NULL::real[] LIMIT 3) AS three;
RESET leann.model_dir;

-- The NULL row gets a text, another loses its own.
UPDATE texts SET body = 'no longer null' WHERE id = 2;
UPDATE texts SET body = NULL WHERE id = 1;
SELECT id FROM texts ORDER BY embedding_of(body) <-> 'no longer null' LIMIT 1;
SELECT count(*), bool_or(id = 1) AS null_row FROM (SELECT id FROM texts ORDER BY embedding_of(body) <-> 'fox' LIMIT 100) AS near;

-- TRUNCATE empties the index; rolled back, it does not.
BEGIN;
TRUNCATE texts;
SELECT id FROM texts ORDER BY embedding_of(body) <-> 'fox' LIMIT 1;
ROLLBACK;
SELECT count(*) FROM (SELECT id FROM texts ORDER BY embedding_of(body) <-> 'fox' LIMIT 100) AS near;
TRUNCATE texts;
SELECT id FROM texts ORDER BY embedding_of(body) <-> 'fox' LIMIT 1;
SELECT nodes FROM leann.index_info('texts_embedding');
INSERT INTO texts VALUES (1, 'plain', 'after the truncate');
SELECT id FROM texts ORDER BY embedding_of(body) <-> 'after the truncate' LIMIT 1;
SELECT * FROM leann.check('texts_embedding');

-- Many equal texts: each row once.
INSERT INTO texts SELECT n, 'copy', 'the same words' FROM generate_series(100, 1099) n;
SELECT count(*), count(DISTINCT id), max(distance) < 1e-3 AS all_near FROM (
    SELECT id, embedding_of(body) <-> 'the same words' AS distance
    FROM texts ORDER BY embedding_of(body) <-> 'the same words' LIMIT 1000) AS near;
SELECT * FROM leann.check('texts_embedding');
DROP TABLE texts;
