-- Orders that an index cannot give, and indexes that cannot serve: the rows are right all the same, and other indexes are used.
CREATE TABLE words (id int PRIMARY KEY, body text);
INSERT INTO words SELECT n, 'word' || n % 7 || ' tail' || n FROM generate_series(1, 700) n;
CREATE INDEX words_embedding ON words USING leann (embedding_of(body));
ANALYZE words;
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line !~ '^ *Disabled: ' THEN RETURN NEXT line; END IF;
    END LOOP;
END $$;

-- Two distances: the second decides among equals, which no index knows.
SELECT plan($$SELECT id FROM words ORDER BY embedding_of(body) <=> 'a', embedding_of(body) <-> 'b' LIMIT 3$$) ~ 'Index Scan' AS by_index;
-- With a NULL for the first, all are equal to it. The same rows as without the index.
SET plan_cache_mode = force_generic_plan;
PREPARE two(text, text) AS SELECT id FROM words ORDER BY embedding_of(body) <-> $1, embedding_of(body) <-> $2 LIMIT 4;
SET enable_seqscan = off;
CREATE TEMP TABLE got AS EXECUTE two(NULL, 'word5 tail33');
CREATE TEMP TABLE got_other AS EXECUTE two('word5 tail33', NULL);
SET enable_seqscan = on; SET enable_indexscan = off;
CREATE TEMP TABLE wanted AS EXECUTE two(NULL, 'word5 tail33');
CREATE TEMP TABLE wanted_other AS EXECUTE two('word5 tail33', NULL);
RESET ALL;
SELECT (SELECT array_agg(id) FROM got) = (SELECT array_agg(id) FROM wanted) AS null_first,
       (SELECT array_agg(id) FROM got_other) = (SELECT array_agg(id) FROM wanted_other) AS null_second,
       (SELECT count(*) FROM got) AS rows;

-- One distance, then a plain column: sorted as the server sorts it.
SET enable_seqscan = off;
SELECT count(*) FROM (SELECT id FROM words ORDER BY embedding_of(body) <-> 'word3', id LIMIT 5) AS rows;
RESET enable_seqscan;

-- Partitions, one of whose indexes is of another model: its rows are sorted, the others come from their indexes.
CREATE TABLE parts (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1000) TO (2000);
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (2000) TO (2100);
INSERT INTO parts SELECT n, 'text of ' || n FROM generate_series(0, 2099) n;
CREATE INDEX ON parts_1 USING leann (embedding_of(body));
CREATE INDEX ON parts_2 USING leann (embedding_of(body));
SET leann.default_model = 'tiny-hash-b';
CREATE INDEX ON parts_3 USING leann (embedding_of(body));
RESET leann.default_model;
ANALYZE parts;
SELECT plan($$SELECT id FROM parts ORDER BY embedding_of(body) <-> 'text of 7' LIMIT 5$$);
SELECT count(*) = 5 AS five FROM (SELECT id FROM parts ORDER BY embedding_of(body) <-> 'text of 7' LIMIT 5) AS rows;

-- Statistics count the scans of an index.
SELECT pg_stat_force_next_flush();
SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'parts_1_embedding_of_idx' \gset before_
SELECT count(*) FROM (SELECT id FROM parts_1 ORDER BY embedding_of(body) <-> 'text of 7' LIMIT 5) AS rows;
SELECT count(*) FROM generate_series(1, 3) n CROSS JOIN LATERAL
    (SELECT id FROM parts_1 ORDER BY embedding_of(body) <-> n::text LIMIT 5) AS near;
SELECT pg_stat_force_next_flush();
SELECT idx_scan - :before_idx_scan AS scans, idx_tup_read > 0 AS rows_read
FROM pg_stat_user_indexes WHERE indexrelname = 'parts_1_embedding_of_idx';

-- Only heaps can have an index.
CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE elsewhere (body text) USING other_heap;
CREATE INDEX elsewhere_embedding ON elsewhere USING leann (embedding_of(body));
DROP TABLE elsewhere;
DROP ACCESS METHOD other_heap;
DROP TABLE words, parts;
DROP FUNCTION plan(text);
