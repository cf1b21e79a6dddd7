-- A WHERE costs no recomputes: rows that do not pass are dropped before. LIMIT is known too.
\c
CREATE TABLE docs (id int PRIMARY KEY, kind int, owner text, body text);
INSERT INTO docs SELECT n, n % 50, CASE WHEN n % 10 = 0 THEN 'regress_leann_reader' ELSE 'other' END,
    'text of item ' || n || ' in group ' || n % 13 FROM generate_series(1, 3000) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
VACUUM ANALYZE docs;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
-- Recomputes of a statement whose rows are all right, with the caches empty.
CREATE FUNCTION recomputes(query text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
    PERFORM leann.clear_cache();
    EXECUTE 'CREATE TEMP TABLE found AS ' || query;
    DROP TABLE found;
    RETURN (SELECT scan.recomputes FROM leann.last_scan() AS scan);
END $$;

SELECT recomputes($$SELECT id FROM docs WHERE kind = 7 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$) < 40 AS kind;
SELECT checked > 100 AS checked, late FROM leann.last_scan();
SELECT recomputes($$SELECT id FROM docs WHERE id % 500 = 3 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$) AS six;
SELECT recomputes($$SELECT id FROM docs WHERE kind = -5 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$) AS none;
SELECT checked FROM leann.last_scan();
SELECT recomputes($$SELECT id FROM docs WHERE kind = 7 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 1$$) < 20 AS first;
SELECT recomputes($$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7' LIMIT 1$$)
    < recomputes($$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$) AS fewer;

-- All rows that pass are returned, each once, in order.
-- (Late rows are left out below a window function, which relies on the order.)
SELECT count(*) > 45 AS nearly_all, count(*) = count(DISTINCT id) AS once, bool_and(kind = 7) AS passing, bool_and(d >= last) AS ordered FROM (
    SELECT id, kind, d, lag(d, 1, 0) OVER () AS last FROM (
        SELECT id, kind, embedding_of(body) <-> 'item 7' AS d FROM docs WHERE kind = 7 ORDER BY d) AS found) AS rows;
SELECT count(*) FROM (SELECT FROM docs WHERE kind = 7 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 1000) AS rows;
-- EXPLAIN counts the rows that were removed, wherever that was.
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ DECLARE line text; BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ' || query LOOP
        CONTINUE WHEN line ~ 'Index Searches|Planning|Memory|Storage|Group Size|Recomputes|Cache Hits|Node Pages|Rows Checked';
        RETURN NEXT regexp_replace(regexp_replace(line, 'actual rows=(\d+)(\.00)?', 'actual rows=\1'), 'actual rows=\d+ loops=0', 'never');
    END LOOP;
END $$;
SELECT plan($$SELECT id FROM docs WHERE id % 500 = 3 ORDER BY embedding_of(body) <-> 'item 7'$$);

-- Subqueries, parameters, generic plans, and system columns.
SELECT recomputes($$SELECT id FROM docs WHERE kind IN (SELECT 7 WHERE id > 0) ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$) < 40 AS correlated;
SELECT recomputes($$SELECT id FROM docs WHERE kind NOT IN (SELECT n FROM generate_series(0, 48) n) ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$) < 40 AS hashed;
SELECT recomputes($$SELECT id FROM docs WHERE kind = (SELECT max(kind) FROM docs) ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$) < 40 AS initplan;
SELECT recomputes($$SELECT id FROM docs WHERE tableoid = 'docs'::regclass AND ctid > '(3,0)' AND docs IS NOT NULL ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10$$) < 40 AS system;
SELECT recomputes($$SELECT near.id FROM generate_series(0, 4) AS k, LATERAL (SELECT id FROM docs WHERE kind = k ORDER BY embedding_of(body) <-> 'item 7' LIMIT 3) AS near$$) < 100 AS lateral;
SET plan_cache_mode = force_generic_plan;
PREPARE by_kind(int, text, int) AS SELECT id FROM docs WHERE kind = $1 ORDER BY embedding_of(body) <-> $2 LIMIT $3;
SELECT recomputes('EXECUTE by_kind(7, ''item 7'', 3)') < 20 AS generic;
SET leann.rerank_z = 3;
EXECUTE by_kind(7, 'text of item 57 in group 5', 1);
EXECUTE by_kind(8, 'text of item 58 in group 6', 1);
EXECUTE by_kind(8, 'text of item 58 in group 6', 0);
SELECT count(*) FROM (SELECT FROM docs WHERE kind = 7 ORDER BY embedding_of(body) <-> 'item 7' LIMIT NULL) AS rows;
RESET plan_cache_mode;
-- A cursor; and rows that are locked.
BEGIN;
DECLARE c CURSOR FOR SELECT kind FROM docs WHERE kind = 7 ORDER BY embedding_of(body) <-> 'text of item 57 in group 5';
FETCH 2 FROM c;
MOVE 55 IN c;
FETCH 5 FROM c;
COMMIT;
BEGIN;
SELECT id FROM docs WHERE kind = 7 ORDER BY embedding_of(body) <-> 'text of item 57 in group 5' LIMIT 1 FOR UPDATE SKIP LOCKED;
ROLLBACK;
UPDATE docs SET kind = -1 WHERE id IN (SELECT id FROM docs WHERE kind = 7 ORDER BY embedding_of(body) <-> 'text of item 57 in group 5' LIMIT 1) RETURNING id;
-- Ties, and pages.
SELECT count(*) FROM (SELECT FROM docs WHERE kind = 8 ORDER BY embedding_of(body) <-> 'item 7' FETCH FIRST 5 ROWS WITH TIES) AS rows;
SELECT count(DISTINCT id) > 50 AS nearly_all FROM (
    (SELECT id FROM docs WHERE kind = 8 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 20)
    UNION ALL (SELECT id FROM docs WHERE kind = 8 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 20 OFFSET 20)
    UNION ALL (SELECT id FROM docs WHERE kind = 8 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 20 OFFSET 40)) AS pages;
-- A qual that fails is an error like any other, and leaves the session usable.
SELECT id FROM docs WHERE 1 / (kind - 7) < 0 ORDER BY embedding_of(body) <-> 'text of item 57 in group 5' LIMIT 3;
SELECT id FROM docs WHERE kind = 8 ORDER BY embedding_of(body) <-> 'text of item 58 in group 6' LIMIT 1;

-- A volatile qual, and one on the distance, are the executor's.
CREATE SEQUENCE calls;
SELECT count(*) FROM (SELECT FROM docs WHERE nextval('calls') > 0 ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10) AS rows;
SELECT last_value FROM calls;
-- So is a subquery with something volatile in it.
SELECT count(*) FROM (SELECT FROM docs WHERE (SELECT nextval('calls') + 0 * id > 0) ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10) AS rows;
SELECT last_value FROM calls;
SELECT count(*) FROM (SELECT FROM docs WHERE kind NOT IN (SELECT n FROM generate_series(1, 60) n WHERE nextval('calls') > 0 AND n > 50)
    ORDER BY embedding_of(body) <-> 'item 7' LIMIT 2) AS rows;
SELECT last_value FROM calls;
SELECT id FROM docs WHERE embedding_of(body) <-> 'text of item 57 in group 5' < 0.1 ORDER BY embedding_of(body) <-> 'text of item 57 in group 5' LIMIT 3;

-- A bound on the distance ends the scan: what the sketches exclude is not embedded. All ways to write one.
SET leann.rerank_z = 3;
CREATE FUNCTION near(bound text) RETURNS TABLE (rows bigint, furthest int, few boolean) LANGUAGE plpgsql AS $$ BEGIN
    PERFORM leann.clear_cache();
    EXECUTE format('SELECT count(*), (100 * max(d))::int FROM (SELECT embedding_of(body) <-> %1$L AS d FROM docs'
        ' WHERE %2$s ORDER BY embedding_of(body) <-> %1$L) AS near',
        'text of item 57 in group 5', replace(bound, '@', '(embedding_of(body) <-> ''text of item 57 in group 5'')'))
        INTO rows, furthest;
    few := (SELECT recomputes < 300 FROM leann.last_scan());
    RETURN NEXT;
END $$;
SELECT * FROM near('@ < 0.3');
SELECT * FROM near('0.3 > @');
SELECT * FROM near('1 - @ >= 0.7');
SELECT * FROM near('-2 * @ + 3 > 2.4');
SELECT * FROM near('@ / -2 BETWEEN -0.15 AND 1');
SELECT * FROM near('NOT @ >= 0.3::float4');
SELECT * FROM near('@ < sqrt(0.09)');
SELECT * FROM near('(embedding_of(body) <=> ''text of item 57 in group 5'') < 0.045');
SELECT * FROM near('(embedding_of(body) <#> ''text of item 57 in group 5'') < -0.955');
SELECT * FROM near('(@, id) < (0.3, 0)');
SELECT * FROM near('@ < 0.3 AND kind = 7');
SELECT * FROM near('@ BETWEEN 0.1 AND 0.3');
SELECT * FROM near('@ < -1');
SELECT * FROM near('@ < 0');
SELECT * FROM near('@ <= 0.001');
SELECT * FROM near('@ < NULL');
-- None of these is one.
SELECT rows FROM near('@ < ''NaN'' AND kind = 7');
SELECT rows FROM near('@ < ''Infinity'' AND kind = 7');
SELECT rows FROM near('@ * 0 < 1 AND kind = 7');
SELECT rows FROM near('(@ < 0.3 OR kind = 7) AND kind IN (7, 8)');
SELECT rows FROM near('@ < id AND kind = 7');
-- Nor are these, because of rounding.
SELECT rows FROM near('@ + 1e17 <= 1e17 AND kind = 7');
SELECT rows FROM near('1e16 - @ >= 1e16 AND kind = 7');
SELECT rows FROM near('@ * 1e-300 <= 2e-300 AND kind = 7');
-- Parameters, also in generic plans and of an outer row.
SET plan_cache_mode = force_generic_plan;
PREPARE within(float8) AS SELECT count(*) FROM (
    SELECT id FROM docs WHERE embedding_of(body) <-> 'item 7' < $1 ORDER BY embedding_of(body) <-> 'item 7') AS near;
EXECUTE within(0);
EXECUTE within(NULL);
RESET plan_cache_mode;
SELECT bound, count(id) FROM (VALUES (-0.1::float8), (0.1), (0.3)) AS b (bound) LEFT JOIN LATERAL (SELECT id FROM docs
    WHERE embedding_of(body) <-> 'text of item 57 in group 5' < bound
    ORDER BY embedding_of(body) <-> 'text of item 57 in group 5' OFFSET 0) AS near ON true GROUP BY bound ORDER BY bound;
-- The next page: not the rows before the bookmark again.
CREATE TABLE pages (page int, id int, d float8);
INSERT INTO pages SELECT 1, id, d FROM (
    SELECT id, embedding_of(body) <-> 'item 7' AS d FROM docs ORDER BY d LIMIT 30) AS near;
SELECT leann.clear_cache();
INSERT INTO pages SELECT 2, near.id, near.d FROM (SELECT max(d) AS last FROM pages) AS bookmark, LATERAL (
    SELECT id, embedding_of(body) <-> 'item 7' AS d FROM docs
    WHERE embedding_of(body) <-> 'item 7' > last ORDER BY d LIMIT 30) AS near;
SELECT count(*), count(DISTINCT id), min(d) FILTER (WHERE page = 2) > max(d) FILTER (WHERE page = 1) AS after FROM pages;


-- Without ORDER BY too. Not where rows are changed: all must be found.
SET enable_seqscan = on;
EXPLAIN (COSTS OFF) SELECT id FROM docs WHERE embedding_of(body) <-> 'text of item 57 in group 5' < 0.3;
SELECT count(*) FROM docs WHERE embedding_of(body) <-> 'text of item 57 in group 5' < 0.3;
SELECT recomputes < 300 AS few FROM leann.last_scan();
EXPLAIN (COSTS OFF) SELECT id FROM docs WHERE 1 - (embedding_of(body) <=> 'item 7') > 0.9 AND kind = 7 ORDER BY id;
EXPLAIN (COSTS OFF) SELECT id FROM docs WHERE embedding_of(body) <-> 'item 7' > 0.9;
EXPLAIN (COSTS OFF) DELETE FROM docs WHERE embedding_of(body) <-> 'item 7' < 0.1;
EXPLAIN (COSTS OFF) UPDATE docs SET kind = kind WHERE id IN (SELECT id FROM docs WHERE embedding_of(body) <-> 'item 7' < 0.1);
EXPLAIN (COSTS OFF) SELECT id FROM docs WHERE embedding_of(body) <-> 'item 7' < 0.1 FOR UPDATE;
EXPLAIN (COSTS OFF) SELECT id FROM docs WHERE embedding_of(body) <-> body < 0.3;
EXPLAIN (COSTS OFF) SELECT a.id FROM docs a JOIN docs b ON b.id = a.kind WHERE embedding_of(a.body) <-> 'item 7' < 0.3;
-- A tie-breaker: the index gives the first key.
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7', id LIMIT 10;
SELECT id FROM docs ORDER BY embedding_of(body) <-> 'text of item 57 in group 5', id LIMIT 1;
SELECT recomputes($$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7', id LIMIT 10$$) < 100 AS few;
EXPLAIN (COSTS OFF) SELECT id, embedding_of(body) <-> 'item 7' AS d FROM docs WHERE kind = 7 ORDER BY d, kind DESC, id LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY embedding_of(body) <-> 'item 7' DESC, id LIMIT 10;
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY id, embedding_of(body) <-> 'item 7' LIMIT 10;
SET enable_seqscan = off;
RESET leann.rerank_z;
-- Row security: a user's own function, however cheap it claims to be, sees no row that a policy hides; neither
-- behind a volatile policy, which is evaluated late.
CREATE ROLE regress_leann_reader;
GRANT SELECT ON docs TO regress_leann_reader;
GRANT CREATE ON SCHEMA public TO regress_leann_reader;
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON docs USING (owner = current_user);
SET ROLE regress_leann_reader;
CREATE FUNCTION peek(body text, owner text) RETURNS boolean COST 0.0001 LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF owner <> 'regress_leann_reader' THEN RAISE WARNING 'seen: %', body; END IF; RETURN true;
END $$;
SELECT count(*), bool_and(owner = current_user) AS own FROM (
    SELECT owner FROM docs WHERE peek(body, owner) ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10) AS rows;
SELECT recomputes < 40 AS recomputes, checked > 50 AS checked FROM leann.last_scan();
-- A bound does not tell whether a hidden row is within it.
SELECT count(*) FROM docs WHERE embedding_of(body) <-> 'text of item 57 in group 5' < 0.2;
SELECT checked >= 256 AS many FROM leann.last_scan();
SELECT count(*) FROM docs WHERE embedding_of(body) <-> 'nothing of the kind' < 0.2;
SELECT checked >= 256 AS many FROM leann.last_scan();
RESET ROLE;
CREATE POLICY random ON docs AS RESTRICTIVE USING (random() >= 0);
SET ROLE regress_leann_reader;
SELECT count(*), bool_and(owner = current_user) AS own FROM (
    SELECT owner FROM docs WHERE peek(body, owner) ORDER BY embedding_of(body) <-> 'item 7' LIMIT 10) AS rows;
RESET ROLE;
DROP POLICY random ON docs;
DROP POLICY own ON docs;
CREATE TABLE members (kind int);
INSERT INTO members VALUES (8), (9);
GRANT SELECT ON members TO regress_leann_reader;
CREATE POLICY members ON docs USING (kind IN (SELECT kind FROM members));
SET ROLE regress_leann_reader;
SELECT count(*), array_agg(DISTINCT kind) AS kinds FROM (
    SELECT kind FROM docs WHERE peek(body, owner) OR true ORDER BY embedding_of(body) <-> 'item 7' LIMIT 20) AS rows;
SELECT recomputes < 50 AS recomputes, checked > 50 AS checked FROM leann.last_scan();
RESET ROLE;
DROP FUNCTION peek(text, text);
DROP TABLE docs, members, pages;
DROP FUNCTION recomputes(text), plan(text), near(text);
DROP SEQUENCE calls;
REVOKE CREATE ON SCHEMA public FROM regress_leann_reader;
DROP ROLE regress_leann_reader;
