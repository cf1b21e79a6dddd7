-- When the planner takes the index, with default settings, and when it must not.
CREATE TABLE items (id int PRIMARY KEY, kind int, body text);
INSERT INTO items SELECT n, n % 50, 'text of item ' || n || ' in group ' || n % 13 FROM generate_series(1, 2000) n;
CREATE INDEX items_embedding ON items USING leann (embedding_of(body));
CREATE INDEX items_kind ON items (kind);
CREATE TABLE others AS SELECT id FROM items;
ALTER TABLE others ADD PRIMARY KEY (id);
ANALYZE items, others;
-- A plan without what the server's versions write differently: the parameter of an InitPlan, and whether a node is
-- switched off.
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line !~ '^ *Disabled: ' THEN
            RETURN NEXT regexp_replace(replace(line, '(InitPlan 1).col1', '$0'), ' \(returns .*\)$', '');
        END IF;
    END LOOP;
END $$;

-- ORDER BY a distance with a LIMIT: the index.
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <=> 'item 7' LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <#> 'item 7' LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id, embedding_of(body) <-> 'item 7' AS distance FROM items ORDER BY distance LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7'::text LIMIT 10;
SELECT plan($$SELECT id FROM items ORDER BY embedding_of(body) <-> (SELECT 'item 7'::text) LIMIT 10$$);
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <-> ARRAY[1,2]::real[] LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7' ASC NULLS LAST LIMIT 10 OFFSET 5;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7' FETCH FIRST 10 ROWS ONLY;

-- A filter: with half of the rows left the index is taken, with 1 % or one row the b-tree.
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE kind < 25 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE kind = 7 AND id < 1000 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE id = 7 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10;

-- No index: no ORDER BY, the wrong direction, NULLS FIRST, another expression, another model, all rows wanted.
EXPLAIN (COSTS OFF) SELECT id FROM items LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE embedding_of(body) = embedding_of('x') LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7' DESC LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7' NULLS FIRST LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body || '!') <-> 'item 7' LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body, 'tiny-hash-b') <-> 'item 7' LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7', id;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7';
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE embedding_of(body) <-> 'item 7' < 0.5;
EXPLAIN (COSTS OFF) SELECT count(*) FROM items;
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY id LIMIT 10;

-- Even when other ways are switched off, a query without a distance cannot use it.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_indexonlyscan = off;
SELECT plan('SELECT body FROM items LIMIT 10');
SELECT plan($$SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7' DESC LIMIT 10$$);
RESET enable_seqscan;
RESET enable_bitmapscan;
RESET enable_indexonlyscan;

-- A join is driven from the index.
EXPLAIN (COSTS OFF) SELECT a.id FROM items a JOIN others b USING (id) ORDER BY embedding_of(a.body) <-> 'item 7' LIMIT 5;

-- Backwards through a cursor is materialised, not asked of the index.
EXPLAIN (COSTS OFF) DECLARE c SCROLL CURSOR FOR SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10;

-- A default model that the index is not made for prices it out.
SET leann.default_model = 'tiny-hash-b';
EXPLAIN (COSTS OFF) SELECT id FROM items ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10;
RESET leann.default_model;
DROP FUNCTION plan;
DROP TABLE items, others;
