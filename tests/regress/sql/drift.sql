-- Rows unlike those that the sketch was trained on: each is kept in the form that fits it, the index says how
-- many there are and when a rebuild is worth it, and a rebuild is the cure.
CREATE TABLE notes (id serial PRIMARY KEY, body text);
-- Texts of some of the words of a subject, which has words of its own.
CREATE FUNCTION note(subject int, n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(left(md5(subject || ' ' || (n * 7 + w * w * 3) % 12), 5), ' ') FROM generate_series(1, 7) w
$$;
INSERT INTO notes (body) SELECT note(1, n) || ' ' || n FROM generate_series(1, 800) n;
CREATE INDEX notes_embedding ON notes USING leann (embedding_of(body)) WITH (sketch_bytes = 12);
SELECT trained, nodes, untrained_rows < 80 AS few, untrained_rows = untrained_rows_at_build AS as_built,
       sketch_fit BETWEEN 0.5 AND 1 AS fits, abs(sketch_fit - sketch_fit_at_build) < 0.001 AS as_at_build, advice
FROM leann.index_info('notes_embedding');

-- Other words.
INSERT INTO notes (body) SELECT note(2 + n % 3, n) || ' ' || n FROM generate_series(1, 800) n;
SELECT trained, nodes, untrained_rows > 400 AS many, untrained_rows_at_build < 80 AS few_at_build,
       sketch_fit < sketch_fit_at_build AS worse, advice
FROM leann.index_info('notes_embedding');
SELECT * FROM leann.check('notes_embedding');

-- Rows of both kinds are found, or as near ones (many differ by a number only), and a scan gives each once.
SET enable_seqscan = off;
CREATE FUNCTION found(asked text) RETURNS numeric LANGUAGE sql AS $$
    SELECT (count(*) FILTER (WHERE near.distance <= exact.farthest + 0.02))::numeric / 10 FROM (
        SELECT embedding_of(body) <-> asked AS distance FROM notes ORDER BY embedding_of(body) <-> asked LIMIT 10) AS near,
        (SELECT max(distance) AS farthest FROM (
            SELECT (embedding_of(body) <-> asked) + 0 AS distance FROM notes ORDER BY 1 LIMIT 10) AS ten) AS exact
$$;
SELECT subject, avg(found(note(subject, n))) >= 0.9 AS found FROM generate_series(1, 4) subject, generate_series(3, 60, 4) n
GROUP BY subject ORDER BY subject;
SET leann.iterative_scan = relaxed_order;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM notes ORDER BY embedding_of(body) <-> 'anything' LIMIT 5000) AS near;
RESET leann.iterative_scan;

-- VACUUM keeps the counts; a rebuild fits all rows.
DELETE FROM notes WHERE id % 2 = 0;
VACUUM notes;
SELECT nodes, untrained_rows BETWEEN 200 AND 440 AS half, advice FROM leann.index_info('notes_embedding');
REINDEX INDEX notes_embedding;
SELECT trained, nodes, untrained_rows < 80 AS few, untrained_rows = untrained_rows_at_build AS as_built, advice
FROM leann.index_info('notes_embedding');

-- Made empty, an index is untrained, and so are all of its rows.
TRUNCATE notes;
SELECT trained, nodes, untrained_rows, untrained_rows_at_build, sketch_fit, sketch_fit_at_build, advice FROM leann.index_info('notes_embedding');
INSERT INTO notes (body) SELECT note(1, n) || ' ' || n FROM generate_series(1, 1200) n;
SELECT trained, nodes, untrained_rows, untrained_rows_at_build, sketch_fit BETWEEN 0.5 AND 1 AS fits, advice FROM leann.index_info('notes_embedding');
-- With enough of them VACUUM trains it, without a model. Rows that are there stay in the untrained form, later ones
-- need not. A rebuild fits all.
INSERT INTO notes (body) SELECT note(1 + n % 4, n) || ' ' || n FROM generate_series(1, 3000) n;
VACUUM notes;
SELECT trained, rows_trained BETWEEN 300 AND 4200 AS of_rows, nodes, untrained_rows, advice FROM leann.index_info('notes_embedding');
INSERT INTO notes (body) SELECT note(1 + n % 4, n) || ' ' || n FROM generate_series(5001, 6000) n;
SELECT trained, nodes, untrained_rows BETWEEN 4200 AND 4700 AS old_ones, sketch_fit BETWEEN 0.5 AND 1 AS fits, params_pages > 0 AS params, advice
FROM leann.index_info('notes_embedding');
SELECT * FROM leann.check('notes_embedding');
SELECT avg(found(note(1 + n % 4, n))) >= 0.9 AS found FROM generate_series(3, 200, 4) n;
SET leann.iterative_scan = relaxed_order;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM notes ORDER BY embedding_of(body) <-> 'anything' LIMIT 9000) AS near;
RESET leann.iterative_scan;
DELETE FROM notes WHERE id % 3 = 0;
VACUUM notes;
SELECT trained, advice FROM leann.index_info('notes_embedding');
SELECT * FROM leann.check('notes_embedding');
REINDEX INDEX notes_embedding;
SELECT trained, untrained_rows = untrained_rows_at_build AS as_built, advice FROM leann.index_info('notes_embedding');
DROP INDEX notes_embedding;

-- Trained on what is different: real rows among many copies of one text, and kinds that alternate.
TRUNCATE notes;
INSERT INTO notes (body) SELECT CASE WHEN n % 10 = 0 THEN note(1 + n % 4, n) || ' ' || n ELSE 'N/A' END FROM generate_series(1, 4000) n;
CREATE INDEX notes_embedding ON notes USING leann (embedding_of(body)) WITH (sketch_bytes = 12);
SELECT trained, rows_trained BETWEEN 300 AND 401 AS different, nodes, advice FROM leann.index_info('notes_embedding');
SELECT avg(found(note(1 + n % 4, n))) >= 0.9 AS found FROM generate_series(10, 400, 10) n;
DROP TABLE notes;
DROP FUNCTION note, found;
