-- leann.recall without queries: it draws them from the rows that the index holds and the caller sees, and cuts them short.
CREATE TABLE docs (id int PRIMARY KEY, body text);
INSERT INTO docs SELECT n, 'passage number ' || n || ' about subject ' || n % 37 FROM generate_series(1, 120) n;
INSERT INTO docs VALUES (121, NULL), (122, ''), (123, E' \n\t ');
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
\set SHOW_CONTEXT never

-- The defaults: twenty different queries, ten rows each.
SELECT count(*), count(DISTINCT query) AS different, bool_and(recall BETWEEN 0 AND 1) AS shares, avg(recall) > 0.5 AS found,
       bool_and(recomputes > 0 AND pages > 0) AS figures FROM leann.recall('docs_embedding');
SELECT count(*), bool_and(query IN (SELECT body FROM docs WHERE id <= 120)) AS of_rows FROM leann.recall('docs_embedding', k => 3, samples => 5);
-- More than there are: each row once, and neither NULL nor blanks.
SELECT count(*), count(DISTINCT query) AS different, bool_and(query LIKE 'passage number %') AS of_rows
FROM leann.recall('docs_embedding', k => 1, samples => 10000);

-- Queries that are given are asked as they are; no queries have no rows, and nor has any other NULL.
SELECT query FROM leann.recall('docs_embedding', '{subject 8,NULL,subject 9}');
SELECT count(*) FROM leann.recall('docs_embedding', '{}');
SELECT count(*) FROM leann.recall('docs_embedding', '{}', 3, 5);
SELECT count(*) FROM leann.recall('docs_embedding', NULL, 3, 5);
SELECT count(*) FROM leann.recall(NULL);
SELECT count(*) FROM leann.recall('docs_embedding', k => NULL);
SELECT count(*) FROM leann.recall('docs_embedding', samples => NULL);

-- Numbers out of range.
SELECT * FROM leann.recall('docs_embedding', samples => 0); \echo :SQLSTATE
SELECT * FROM leann.recall('docs_embedding', samples => 10001); \echo :SQLSTATE
SELECT * FROM leann.recall('docs_embedding', '{subject 8}', samples => -1); \echo :SQLSTATE
SELECT * FROM leann.recall('docs_embedding', k => 0); \echo :SQLSTATE

-- Rows that are alike make one query; no rows make none.
CREATE TABLE few AS SELECT 'a text ' || n % 3 AS body FROM generate_series(1, 30) n;
CREATE INDEX few_embedding ON few USING leann (embedding_of(body));
SELECT query FROM leann.recall('few_embedding') ORDER BY query;
CREATE TABLE blank (body text);
CREATE INDEX blank_embedding ON blank USING leann (embedding_of(body));
SELECT count(*) FROM leann.recall('blank_embedding');
INSERT INTO blank VALUES (NULL), (''), ('  ');
SELECT count(*) FROM leann.recall('blank_embedding');

-- Every row is as likely as another, the first and the last too: here about a hundred times of 400. (Chance makes it differ by more than
-- 50 in less than one of ten million runs.)
CREATE TABLE even AS SELECT 'row ' || n AS body FROM generate_series(1, 4) n;
CREATE INDEX even_embedding ON even USING leann (embedding_of(body));
SELECT query, count(*) BETWEEN 50 AND 150 AS evenly FROM generate_series(1, 400) n, leann.recall('even_embedding', k => n, samples => 1)
GROUP BY query ORDER BY query;

-- What is made of a text: its first sentence, its first twelve words, or, without spaces, its first forty characters.
CREATE TABLE shapes (body text);
INSERT INTO shapes VALUES ('Short words only'), ('The first sentence is taken. The second is not.'), ('He said "no more." Then he left.'),
    ('one two three four five six seven eight nine ten eleven twelve thirteen fourteen'),
    (E'  blanks\n\nand\tlines  become single blanks '), ('Dr. Miller asks whether version 1.5 works! Nobody knows.'),
    (repeat('x', 60) || ' more'), (repeat('猫', 50)), ('今日は晴れ。明日は雨。'), ('東京　大阪'), (repeat('😀', 50));
CREATE INDEX shapes_embedding ON shapes USING leann (embedding_of(body));
\pset format unaligned
SELECT query FROM leann.recall('shapes_embedding', samples => 100) ORDER BY query COLLATE "C";
\pset format aligned

-- A row that holds a vector is asked for by its vector.
CREATE TABLE vectors (id int, value leann.embedding);
INSERT INTO vectors SELECT n, leann.embed('the vector of row ' || n) FROM generate_series(1, 50) n;
INSERT INTO vectors VALUES (0, NULL);
CREATE INDEX vectors_value ON vectors USING leann (value);
SELECT count(*), bool_and(query IN (SELECT value::text FROM vectors WHERE id > 0)) AS of_rows, avg(recall) > 0.5 AS found
FROM leann.recall('vectors_value', k => 3, samples => 10);
SELECT bool_and((SELECT id FROM vectors ORDER BY (value <-> query) + 0, id LIMIT 1) = (SELECT id FROM vectors WHERE value::text = query)) AS itself
FROM leann.recall('vectors_value', k => 1, samples => 50);

-- A partial index: only rows that it holds.
CREATE INDEX docs_part ON docs USING leann (embedding_of(body)) WHERE id % 10 = 0;
SELECT count(*), bool_and(query IN (SELECT body FROM docs WHERE id % 10 = 0)) AS held FROM leann.recall('docs_part', samples => 100);

-- Row security: only rows that the caller sees, in the sample as in the truth.
CREATE ROLE regress_leann_sampler;
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY first_rows ON docs FOR SELECT TO regress_leann_sampler USING (id <= 7 OR id > 120);
GRANT SELECT ON docs TO regress_leann_sampler;
SET ROLE regress_leann_sampler;
SELECT query FROM leann.recall('docs_embedding', k => 3, samples => 100) ORDER BY query;
RESET ROLE;
SELECT count(*) FROM leann.recall('docs_embedding', k => 3, samples => 200);
REVOKE SELECT ON docs FROM regress_leann_sampler;
SET ROLE regress_leann_sampler;
SELECT * FROM leann.recall('docs_embedding'); \echo :SQLSTATE
RESET ROLE;
-- A right to the column only: what reads the table reads more than that.
GRANT SELECT (body) ON docs TO regress_leann_sampler;
SET ROLE regress_leann_sampler;
SELECT * FROM leann.recall('docs_embedding'); \echo :SQLSTATE
RESET ROLE;

DROP TABLE docs, few, blank, even, shapes, vectors;
DROP ROLE regress_leann_sampler;
