-- A row's recompute is charged once, so the index is taken for most of the table too, and left only for all of it.
CREATE TABLE docs (id int PRIMARY KEY, kind int, body text);
INSERT INTO docs SELECT n, n % 50, 'text of item ' || n || ' in group ' || n % 13 FROM generate_series(1, 2000) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
ANALYZE docs;
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7' LIMIT 1000;
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7' LIMIT 1700;
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7';
EXPLAIN (COSTS OFF) SELECT id FROM docs WHERE kind < 25 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 400;
-- Rows that a filter rejects are only read. Where most of those that pass are wanted, they are sorted.
EXPLAIN (COSTS OFF) SELECT id FROM docs WHERE kind = 7 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 30;
-- Another price for a recompute is another price for the first rows, not for the distances.
SET leann.recompute_cost = 0;
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10;
DROP TABLE docs;
