-- What rows that a user may not see leave behind: nothing by which he could tell what they say.
SET client_min_messages = notice;
CREATE ROLE regress_leann_owner;
CREATE ROLE regress_leann_patient;
GRANT CREATE ON SCHEMA public TO regress_leann_owner;
CREATE TABLE patients (id int, name text, body text);
ALTER TABLE patients OWNER TO regress_leann_owner;
INSERT INTO patients VALUES (1, 'regress_leann_patient', 'my own diagnosis is a cold'), (2, 'alice', 'alice has diabetes'),
    (3, 'bob', 'bob has the flu'), (4, 'carol', 'carol has the flu'), (5, 'dora', 'carol has the flu');
CREATE INDEX patients_embedding ON patients USING leann (embedding_of(body));

-- A guess is right if embedding it finds something in the session's cache, after a search that met all rows.
CREATE FUNCTION hits() RETURNS bigint LANGUAGE sql AS $$ SELECT hits FROM leann.cache WHERE scope = 'session' $$;
CREATE FUNCTION lookups() RETURNS bigint LANGUAGE sql AS $$ SELECT lookups FROM leann.cache WHERE scope = 'session' $$;
CREATE FUNCTION in_cache(guess text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE before bigint := hits();
BEGIN
    PERFORM leann.embed(guess);
    RETURN hits() > before;
END $$;
-- Look-ups that the distance of a guess takes: fewer if a scan that still runs has made it known.
CREATE FUNCTION effort(guess text, query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE before bigint := lookups();
BEGIN
    PERFORM embedding_of(guess) <-> query;
    RETURN lookups() - before;
END $$;
SET enable_seqscan = off;
SET enable_sort = off;
SET leann.iterative_scan = relaxed_order;

-- The owner may read all of it, so his searches keep what they embed.
SET ROLE regress_leann_owner;
SELECT leann.clear_cache();
SELECT id FROM patients ORDER BY embedding_of(body) <-> 'alice has diabetes' LIMIT 10;
SELECT recomputes, cache_hits FROM leann.last_scan();
SELECT in_cache('alice has diabetes'), in_cache('alice has cancer');
SELECT count(*) FROM (SELECT id FROM patients ORDER BY embedding_of(body) <-> 'alice has diabetes' LIMIT 10) AS found;
SELECT recomputes, cache_hits FROM leann.last_scan();

-- Another role finds nothing of that.
RESET ROLE;
SELECT in_cache('alice has diabetes');
SELECT leann.clear_cache();

-- Row security. The row that is returned is embedded once. The conditions call an expensive function:
-- others are evaluated before rows are embedded, so that hidden rows never are (filters.sql).
CREATE FUNCTION visible(name text) RETURNS boolean STABLE COST 10000 LANGUAGE plpgsql AS
    $$ BEGIN RETURN name = 'regress_leann_patient'; END $$;
ALTER TABLE patients ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON patients FOR SELECT TO regress_leann_patient USING (visible(name));
GRANT SELECT ON patients TO regress_leann_patient;
SET ROLE regress_leann_patient;
SELECT leann.embed('bob has the flu') IS NOT NULL AS embedded;
SELECT id FROM patients ORDER BY embedding_of(body) <-> 'alice has diabetes' LIMIT 10;
SELECT recomputes, cache_hits FROM leann.last_scan();
SELECT in_cache('alice has diabetes'), in_cache('carol has the flu'), in_cache('my own diagnosis is a cold');
-- What the user embeds by himself is his to find again, but no scan does.
SELECT leann.embed('alice has diabetes') IS NOT NULL AS embedded;
SELECT id FROM patients ORDER BY embedding_of(body) <-> 'alice has diabetes' LIMIT 10;
SELECT recomputes, cache_hits FROM leann.last_scan();

-- A cursor that is left open: the row that it returned last is known, nothing else.
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM patients ORDER BY embedding_of(body) <-> 'bob has the flu';
FETCH c;
SELECT effort('bob has the flu', 'bob has the flu'), effort('carol has the flu', 'bob has the flu'), effort('nobody has it', 'bob has the flu');
SELECT effort('my own diagnosis is a cold', 'bob has the flu') < effort('nobody has it', 'bob has the flu') AS known;
FETCH c;
SELECT effort('my own diagnosis is a cold', 'bob has the flu') < effort('nobody has it', 'bob has the flu') AS known;
SELECT effort('bob has the flu', 'bob has the flu') = effort('nobody has it', 'bob has the flu') AS alike;
COMMIT;

-- A statement that fails while it looks at a hidden row.
RESET ROLE;
CREATE POLICY fails ON patients AS RESTRICTIVE FOR SELECT TO regress_leann_patient USING (id / (id - 2) IS NOT NULL);
SET ROLE regress_leann_patient;
DO $$
BEGIN
    PERFORM id FROM patients ORDER BY embedding_of(body) <-> 'alice has diabetes';
EXCEPTION WHEN division_by_zero THEN
    RAISE NOTICE 'failed; known: %', effort('alice has diabetes', 'alice has diabetes') < effort('nobody has it', 'alice has diabetes');
END $$;
RESET ROLE;
DROP POLICY fails ON patients;
SELECT leann.clear_cache();

-- A view with a security barrier, for a role without any right to the table.
REVOKE SELECT ON patients FROM regress_leann_patient;
ALTER TABLE patients DISABLE ROW LEVEL SECURITY;
SET ROLE regress_leann_owner;
CREATE VIEW own_record WITH (security_barrier) AS SELECT id, body FROM patients WHERE visible(name);
GRANT SELECT ON own_record TO regress_leann_patient;
SET ROLE regress_leann_patient;
SELECT id FROM own_record ORDER BY embedding_of(body) <-> 'alice has diabetes' LIMIT 10;
SELECT recomputes, cache_hits FROM leann.last_scan();
SELECT in_cache('alice has diabetes'), in_cache('carol has the flu');

-- A SECURITY DEFINER function that filters. Inside it the current user may read all, but he who learns may not.
SET ROLE regress_leann_owner;
CREATE FUNCTION search(query text) RETURNS SETOF int LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    RETURN QUERY SELECT id FROM patients WHERE visible(name) ORDER BY embedding_of(body) <-> query LIMIT 10;
END $$;
CREATE FUNCTION probe(guess text) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$ SELECT in_cache(guess) $$;
SET ROLE regress_leann_patient;
SELECT leann.clear_cache();
SELECT * FROM search('alice has diabetes');
SELECT recomputes, cache_hits FROM leann.last_scan();
SELECT in_cache('alice has diabetes'), in_cache('carol has the flu');
SELECT probe('bob has the flu'), probe('carol has the flu');
SELECT * FROM search('alice has diabetes');
SELECT recomputes, cache_hits FROM leann.last_scan();
-- For one who may read the table anyway there is no difference.
RESET ROLE;
SELECT leann.clear_cache();
SELECT * FROM search('alice has diabetes');
SELECT * FROM search('alice has diabetes');
SELECT recomputes, cache_hits FROM leann.last_scan();

-- Privileges on columns, and on a partitioned table.
GRANT SELECT (id, body) ON patients TO regress_leann_patient;
SET ROLE regress_leann_patient;
SELECT id FROM patients ORDER BY embedding_of(body) <-> 'alice has diabetes' LIMIT 1;
SELECT recomputes > 0 AS embedded, cache_hits FROM leann.last_scan();
SELECT id FROM patients ORDER BY embedding_of(body) <-> 'alice has diabetes' LIMIT 1;
SELECT recomputes > 0 AS embedded, cache_hits FROM leann.last_scan();
RESET ROLE;
CREATE TABLE parts (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (10);
CREATE INDEX ON parts USING leann (embedding_of(body));
INSERT INTO parts VALUES (1, 'one text'), (2, 'another text');
GRANT SELECT ON parts TO regress_leann_patient;
SET ROLE regress_leann_patient;
SELECT id FROM parts ORDER BY embedding_of(body) <-> 'one text' LIMIT 2;
SELECT id FROM parts ORDER BY embedding_of(body) <-> 'one text' LIMIT 2;
SELECT recomputes, cache_hits FROM leann.last_scan();
RESET ROLE;

-- An index that stores embeddings makes known only what it returned last.
ALTER TABLE patients ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON patients TO regress_leann_patient;
DROP INDEX patients_embedding;
CREATE INDEX patients_stored ON patients USING leann (embedding_of(body)) WITH (store = float16);
SET ROLE regress_leann_patient;
SELECT leann.clear_cache();
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM patients ORDER BY embedding_of(body) <-> 'my own cold';
FETCH c;
SELECT effort('alice has diabetes', 'my own cold') = effort('nobody has it', 'my own cold') AS alike,
       effort('my own diagnosis is a cold', 'my own cold') < effort('nobody has it', 'my own cold') AS known;
FETCH c;
SELECT effort('alice has diabetes', 'my own cold') = effort('nobody has it', 'my own cold') AS alike,
       effort('bob has the flu', 'my own cold') = effort('nobody has it', 'my own cold') AS alike;
COMMIT;
SELECT recomputes, cache_hits FROM leann.last_scan();
RESET ROLE;

-- DISCARD ALL forgets.
SELECT id FROM patients ORDER BY embedding_of(body) <-> 'carol has the flu' LIMIT 1;
SELECT pages > 0 AS searched FROM leann.last_scan();
SELECT leann.embed('a text to be forgotten') IS NOT NULL AS embedded;
SELECT in_cache('a text to be forgotten');
DISCARD PLANS;
SELECT in_cache('a text to be forgotten'), (SELECT pages > 0 FROM leann.last_scan()) AS searched;
DISCARD ALL;
SELECT * FROM leann.last_scan();
SELECT bytes, lookups, hits FROM leann.cache WHERE scope = 'session';
SELECT in_cache('a text to be forgotten');
-- Errors of other utility statements look as they always do.
CREATE TABLE wrong (a int, b nosuchtype);
DO $$ BEGIN EXECUTE 'ALTER TABLE nosuchtable ADD c int'; END $$;

DROP FUNCTION search, probe, in_cache, effort, hits, lookups;
DROP VIEW own_record;
DROP TABLE patients, parts;
DROP FUNCTION visible(text);
REVOKE CREATE ON SCHEMA public FROM regress_leann_owner;
DROP ROLE regress_leann_owner, regress_leann_patient;
