-- What a search did, for whoever runs the server: leann.last_scan(), leann.stat_indexes, and EXPLAIN from Postgres 18 on.
\c
CREATE TABLE docs (id int PRIMARY KEY, kind int, body text);
INSERT INTO docs SELECT n, n % 5, 'text of item ' || n FROM generate_series(1, 1000) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
ANALYZE docs;
SET enable_seqscan = off;

-- The size of a group is LIMIT, or leann.expected_rows; a bound is shown as an L2 distance.
SELECT count(*) FROM (SELECT FROM docs ORDER BY embedding_of(body) <-> 'item 7' LIMIT 3) AS rows;
SELECT group_size, bound, recomputes + cache_hits >= 3 AS read FROM leann.last_scan();
SELECT count(*) FROM (SELECT FROM docs WHERE embedding_of(body) <-> 'item 7' < -1 ORDER BY embedding_of(body) <-> 'item 7') AS rows;
SELECT group_size, bound, recomputes FROM leann.last_scan();
SELECT count(*) <= 5 AS few FROM (SELECT FROM docs WHERE embedding_of(body) <=> 'text of item 7' <= 0.02 ORDER BY embedding_of(body) <-> 'text of item 7' LIMIT 5) AS rows;
SELECT group_size, bound FROM leann.last_scan();

-- Index by index, since the statistics were reset. (Without preloading, of this session.)
SELECT schemaname, relname, indexrelname, searches, pages > 3 AS pages, nodes > 1000 AS nodes, checked, recomputes + cache_hits > 3 AS rows, late >= 0 AS late, model_ms > 0 AS model, walk_ms > 0 AS walk,
    since BETWEEN now() - interval '1 hour' AND now() AS since FROM leann.stat_indexes WHERE relid = 'docs'::regclass;
SELECT count(*) FROM (SELECT FROM docs WHERE kind = 3 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 3) AS rows;
SELECT searches, checked > 0 AS checked FROM leann.stat_indexes WHERE relid = 'docs'::regclass;
-- One that fails is not counted; NULL is no search.
SELECT count(*) FROM (SELECT FROM docs WHERE 1 / (kind - 3) > 5 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 3) AS rows;
SELECT count(*) FROM (SELECT FROM docs ORDER BY embedding_of(body) <-> NULL::text LIMIT 3) AS rows;
SELECT searches FROM leann.stat_indexes WHERE relid = 'docs'::regclass;
-- Each rescan is one.
SELECT count(*) FROM generate_series(1, 4) AS n, LATERAL (SELECT FROM docs ORDER BY embedding_of(body) <-> ('item ' || n) LIMIT 2) AS near;
SELECT searches FROM leann.stat_indexes WHERE relid = 'docs'::regclass;
-- Partitions count each their share.
CREATE TABLE events (id int, day int, body text) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
INSERT INTO events SELECT n, n % 20, 'event ' || n FROM generate_series(1, 400) n;
CREATE INDEX events_embedding ON events USING leann (embedding_of(body));
SELECT count(*) FROM (SELECT FROM events ORDER BY embedding_of(body) <-> 'event 7' LIMIT 3) AS rows;
SELECT indexrelname, searches FROM leann.stat_indexes WHERE relname ~ '^events' ORDER BY 1;
SELECT sum(pages) > 1 AS pages, sum(recomputes + cache_hits) >= 3 AS rows FROM leann.stat_indexes WHERE relname ~ '^events';
-- So does each search over those that pruning leaves, row by row of a join.
SELECT count(*) FROM generate_series(1, 3) AS n, LATERAL (SELECT FROM events WHERE day <= n * 9 ORDER BY embedding_of(body) <-> ('event ' || n) LIMIT 2) AS near;
SELECT indexrelname, searches FROM leann.stat_indexes WHERE relname ~ '^events' ORDER BY 1;
-- Temporary indexes are not counted.
CREATE TEMP TABLE passing AS SELECT * FROM docs LIMIT 100;
CREATE INDEX ON passing USING leann (embedding_of(body));
SELECT count(*) FROM (SELECT FROM passing ORDER BY embedding_of(body) <-> 'item 7' LIMIT 3) AS rows;
SELECT count(*) FROM leann.stat_indexes WHERE relname = 'passing';
DROP TABLE passing;
-- Only to those who may read the table.
CREATE ROLE regress_leann_reader;
SET ROLE regress_leann_reader;
SELECT count(*) FROM leann.stat_indexes;
RESET ROLE;
GRANT SELECT ON events TO regress_leann_reader;
SET ROLE regress_leann_reader;
SELECT indexrelname FROM leann.stat_indexes ORDER BY 1;
SET leann.log_min_duration = 0;
RESET ROLE;
REVOKE SELECT ON events FROM regress_leann_reader;
DROP ROLE regress_leann_reader;
DISCARD ALL;
SELECT count(*) FROM leann.stat_indexes;
DROP TABLE docs, events;
