-- What can be indexed, and how: expressions, column types, several indexes, two models, partial indexes, rebuilding.
SET enable_seqscan = off;
SET leann.rerank_z = 8; -- these tables are tiny: be exact
CREATE TABLE articles (id int PRIMARY KEY, gone int, title varchar(80), body text, published boolean, kind char(10));
ALTER TABLE articles DROP COLUMN gone;
INSERT INTO articles
SELECT n, 'title number ' || n, 'body about topic ' || n % 7 || ' item ' || n, n % 2 = 0, 'k' || n % 3 FROM generate_series(1, 60) n;

-- Expressions over text and varchar.
CREATE INDEX articles_both ON articles USING leann (embedding_of(title || ' ' || body));
CREATE INDEX articles_title ON articles USING leann (embedding_of(title));
CREATE INDEX articles_kind ON articles USING leann (embedding_of(kind));
CREATE INDEX articles_lower ON articles USING leann (embedding_of(lower(body)));
EXPLAIN (COSTS OFF) SELECT id FROM articles ORDER BY embedding_of(title || ' ' || body) <-> 'topic 3' LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM articles ORDER BY embedding_of(title) <-> 'title number 3' LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM articles ORDER BY embedding_of(kind) <-> 'k1' LIMIT 3;
SELECT id FROM articles ORDER BY embedding_of(title || ' ' || body) <-> 'title number 17 body about topic 3 item 17' LIMIT 1;
SELECT id FROM articles ORDER BY embedding_of(title) <-> 'title number 17' LIMIT 1;
SELECT id FROM articles ORDER BY embedding_of(lower(body)) <-> 'body about topic 3 item 17' LIMIT 1;

-- Partial: used only where its predicate is implied; a row that leaves it is not found through it.
CREATE INDEX articles_published ON articles USING leann (embedding_of(body)) WHERE published;
EXPLAIN (COSTS OFF) SELECT id FROM articles WHERE published ORDER BY embedding_of(body) <-> 'topic' LIMIT 3;
SELECT nodes FROM leann.index_info('articles_published');
SELECT id FROM articles WHERE published ORDER BY embedding_of(body) <-> 'body about topic 4 item 18' LIMIT 1;
UPDATE articles SET published = false WHERE id = 18;
SELECT id = 18 AS found FROM articles WHERE published ORDER BY embedding_of(body) <-> 'body about topic 4 item 18' LIMIT 1;
SELECT count(*), bool_and(published) AS published FROM (
    SELECT published FROM articles WHERE published ORDER BY embedding_of(body) <-> 'topic' LIMIT 100) AS near;

-- Filters on top of an index do not cost the query its rows.
SELECT count(*), bool_and(id % 20 = 0) AS filtered FROM (
    SELECT id FROM articles WHERE id % 20 = 0 ORDER BY embedding_of(title) <-> 'title' LIMIT 3) AS near;

-- Two models: each query its own index.
CREATE INDEX articles_plain ON articles USING leann (embedding_of(body));
CREATE INDEX articles_named ON articles USING leann (embedding_of(body, 'tiny-hash-b'));
EXPLAIN (COSTS OFF) SELECT id FROM articles ORDER BY embedding_of(body) <-> 'topic' LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM articles ORDER BY embedding_of(body, 'tiny-hash-b') <-> 'topic' LIMIT 3;
SELECT id FROM articles ORDER BY embedding_of(body, 'tiny-hash-b') <-> 'body about topic 3 item 17' LIMIT 1;

-- A column of type embedding can be indexed itself, with ready-made vectors in it.
CREATE TABLE ready (id int PRIMARY KEY, value leann.embedding);
INSERT INTO ready SELECT id, leann.embed(body) FROM articles;
CREATE INDEX ready_value ON ready USING leann (value);
SELECT id FROM ready ORDER BY value <-> 'body about topic 3 item 17' LIMIT 1;

-- Options, reindexing, concurrent building, renaming, moving.
CREATE INDEX articles_options ON articles USING leann (embedding_of(body)) WITH (sketch_bytes = 24, fillfactor = 70);
SELECT reloptions FROM pg_class WHERE relname = 'articles_options';
ALTER INDEX articles_options SET (fillfactor = 90);
ALTER INDEX articles_options RESET (sketch_bytes);
DROP INDEX articles_plain, articles_published, articles_lower, articles_options;
CREATE INDEX CONCURRENTLY articles_body ON articles USING leann (embedding_of(body));
REINDEX INDEX articles_body;
REINDEX INDEX CONCURRENTLY articles_body;
REINDEX TABLE articles;
SELECT id FROM articles ORDER BY embedding_of(body) <-> 'body about topic 3 item 17' LIMIT 1;
VACUUM FULL articles;
SELECT id FROM articles ORDER BY embedding_of(body) <-> 'body about topic 3 item 17' LIMIT 1;
CLUSTER articles USING articles_pkey;
ALTER INDEX articles_body RENAME TO articles_renamed;
SELECT id FROM articles ORDER BY embedding_of(body) <-> 'body about topic 3 item 17' LIMIT 1;
SELECT relname, fault.* FROM pg_class, leann.check(oid) AS fault WHERE relam = (SELECT oid FROM pg_am WHERE amname = 'leann');

-- The statistics right after a build and after VACUUM.
SELECT reltuples, relpages = pg_relation_size(oid) / 8192 AS relpages FROM pg_class WHERE relname = 'articles_renamed';
DELETE FROM articles WHERE id > 30;
VACUUM articles;
SELECT reltuples, relpages = pg_relation_size(oid) / 8192 AS relpages FROM pg_class WHERE relname = 'articles_renamed';

-- Rows that lie far apart: pages are laid out anew as block numbers and line numbers outgrow the bits that they have.
CREATE TABLE apart (id int, body text, pad text) WITH (fillfactor = 10);
CREATE INDEX apart_body ON apart USING leann (embedding_of(body));
INSERT INTO apart SELECT n, 'row ' || n, repeat('x', 900) FROM generate_series(1, 4400) AS n;
ALTER TABLE apart RESET (fillfactor);
INSERT INTO apart SELECT n, 'row ' || n FROM generate_series(4401, 4800) AS n;
SELECT max((ctid::text::point)[0]) > 4095 AS far, max((ctid::text::point)[1]) > 100 AS deep FROM apart;
SELECT * FROM leann.check('apart_body');
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM apart ORDER BY embedding_of(body) <-> NULL::text LIMIT 10000) AS all_rows;
SELECT id FROM apart ORDER BY embedding_of(body) <-> 'row 4390' LIMIT 1;
DROP TABLE apart;

-- A table rewritten or altered under its index.
ALTER TABLE articles ALTER title TYPE text;
ALTER TABLE articles ADD COLUMN note text DEFAULT 'none';
SELECT id FROM articles ORDER BY embedding_of(title) <-> 'title number 17' LIMIT 1;

-- What the definition looks like, for pg_dump.
SELECT pg_get_indexdef('articles_both'::regclass), pg_get_indexdef('articles_named'::regclass);
DROP TABLE articles, ready;
