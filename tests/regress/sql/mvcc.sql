-- What a search sees is what its snapshot sees: uncommitted, rolled back, updated, deleted; cursors over all of it.
SET enable_seqscan = off;
SET leann.rerank_z = 8; -- the tables are tiny: be exact, and leave no row out
SET leann.iterative_scan = relaxed_order;
CREATE TABLE docs (id int PRIMARY KEY, body text, note int DEFAULT 0);
INSERT INTO docs SELECT n, 'passage number ' || n FROM generate_series(1, 200) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));

-- Rolled back, a row is not found; before that, it is.
BEGIN;
INSERT INTO docs VALUES (1000, 'a row for a while');
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'a row for a while' LIMIT 1;
ROLLBACK;
SELECT id = 1000 AS found FROM docs ORDER BY embedding_of(body) <-> 'a row for a while' LIMIT 1;

-- Savepoints.
BEGIN;
INSERT INTO docs VALUES (1001, 'kept by the outer transaction');
SAVEPOINT a;
INSERT INTO docs VALUES (1002, 'undone with the savepoint');
DELETE FROM docs WHERE id = 7;
SELECT id = 1002 AS found FROM docs ORDER BY embedding_of(body) <-> 'undone with the savepoint' LIMIT 1;
ROLLBACK TO a;
SELECT id = 1002 AS found FROM docs ORDER BY embedding_of(body) <-> 'undone with the savepoint' LIMIT 1;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 7' LIMIT 1;
COMMIT;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'kept by the outer transaction' LIMIT 1;

-- An update moves a row in meaning; the old text no longer finds it.
UPDATE docs SET body = 'rewritten from scratch' WHERE id = 50;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'rewritten from scratch' LIMIT 1;
SELECT id = 50 AS found FROM docs ORDER BY embedding_of(body) <-> 'passage number 50' LIMIT 1;
-- A HOT update (no indexed column) and a chain of them: found once.
UPDATE docs SET note = note + 1 WHERE id = 60;
UPDATE docs SET note = note + 1 WHERE id = 60;
UPDATE docs SET note = note + 1 WHERE id = 60;
SELECT id, note FROM docs ORDER BY embedding_of(body) <-> 'passage number 60' LIMIT 1;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage' LIMIT 1000) AS near;
-- The same text again and again: one visible version.
UPDATE docs SET body = body WHERE id <= 100;
UPDATE docs SET body = body WHERE id <= 100;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage' LIMIT 1000) AS near;
VACUUM docs;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage' LIMIT 1000) AS near;
SELECT * FROM leann.check('docs_embedding');

-- A cursor sees its snapshot, whatever happens to the rows meanwhile.
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 120' LIMIT 1000;
FETCH 1 FROM c;
DELETE FROM docs WHERE id BETWEEN 110 AND 130;
INSERT INTO docs VALUES (2000, 'passage number 120');
UPDATE docs SET body = 'passage number 120 changed' WHERE id = 140;
CREATE TEMP TABLE fetched (id int);
DO $$
DECLARE
    c refcursor := 'c';
    row_id int;
BEGIN
    LOOP
        FETCH c INTO row_id;
        EXIT WHEN NOT FOUND;
        INSERT INTO fetched VALUES (row_id);
    END LOOP;
END $$;
SELECT count(*) AS rest, count(DISTINCT id) AS different, bool_or(id = 2000) AS new_row, bool_or(id = 140) AS updated_row,
       count(*) FILTER (WHERE id BETWEEN 110 AND 130) AS deleted_rows FROM fetched;
CLOSE c;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 120' LIMIT 1;
ROLLBACK;

-- Scrolling back is the cursor's business (it keeps the rows), WITH HOLD too.
BEGIN;
DECLARE s SCROLL CURSOR FOR SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 5' LIMIT 3;
MOVE 3 FROM s;
FETCH BACKWARD 1 FROM s;
FETCH ABSOLUTE 1 FROM s;
DECLARE h CURSOR WITH HOLD FOR SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 5' LIMIT 3;
COMMIT;
FETCH 1 FROM h;
CLOSE h;

-- DELETE and UPDATE of what a search finds.
DELETE FROM docs WHERE id IN (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 33' LIMIT 1) RETURNING id;
UPDATE docs SET note = 99 WHERE id = (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 34' LIMIT 1) RETURNING id, note;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 35' LIMIT 1 FOR UPDATE;

-- Everything deleted, vacuumed, and filled again: the space is used again.
SELECT pg_relation_size('docs_embedding') AS size \gset
DELETE FROM docs;
VACUUM docs;
SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage' LIMIT 10) AS near;
SELECT nodes FROM leann.index_info('docs_embedding');
VACUUM docs;
INSERT INTO docs SELECT n, 'passage number ' || n FROM generate_series(1, 200) n;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 120' LIMIT 1;
SELECT pg_relation_size('docs_embedding') <= 2 * :size AS reused;
SELECT * FROM leann.check('docs_embedding');
DROP TABLE docs;
