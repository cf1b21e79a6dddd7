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
-- Where recomputes cost nothing, a small table is cheaper read than searched.
SET leann.recompute_cost = 0;
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10;
DROP TABLE docs;
-- What a distance costs is leann.recompute_cost too, wherever it is computed.
RESET leann.recompute_cost;
CREATE TABLE texts (id int, body text);
INSERT INTO texts SELECT n, 'text ' || n FROM generate_series(1, 100) n;
ANALYZE texts;
CREATE FUNCTION cost_of(query text) RETURNS double precision LANGUAGE plpgsql AS $$ DECLARE plan json; BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
    RETURN (plan -> 0 -> 'Plan' ->> 'Total Cost')::float8;
END $$;
SELECT round(cost_of($$SELECT embedding_of(body) <-> 'item 7' FROM texts$$) / 1000) AS thousands;
SELECT round(cost_of($$SELECT leann.distance(body, 'item 7'), leann.embed(body) FROM texts$$) / 1000) AS thousands;
SET leann.recompute_cost = 10;
SELECT round(cost_of($$SELECT embedding_of(body) <-> 'item 7' FROM texts$$) / 1000) AS thousands;
SET leann.recompute_cost = 1000;
SELECT round(cost_of($$SELECT embedding_of(body) <=> 'item 7' FROM texts$$) / 1000) AS thousands;
RESET leann.recompute_cost;
-- And a setting that fits the machine.
SELECT single_ms > 0 AS single, batch_ms > 0 AS batch, recompute_cost >= 0 AS cost FROM leann.measure_cost();
SELECT single_ms > 0 AS single, batch_ms > 0 AS batch FROM leann.measure_cost(ARRAY(SELECT body FROM texts), 'tiny-hash');
SELECT leann.measure_cost('{}');
SELECT leann.measure_cost(ARRAY[NULL]);
SELECT leann.measure_cost(model => 'no-such-model');
DROP TABLE texts;
DROP FUNCTION cost_of;
