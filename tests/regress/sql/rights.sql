-- With whose rights the functions in an index's definition run, what must be a function of leann's to be taken for one, and
-- who may call what.
SET client_min_messages = notice;
CREATE ROLE regress_leann_owner;
CREATE ROLE regress_leann_reader;
CREATE SCHEMA o AUTHORIZATION regress_leann_owner;
CREATE SCHEMA evil AUTHORIZATION regress_leann_reader;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
SET enable_seqscan = off;

SET ROLE regress_leann_owner;
SET search_path = o, public;
GRANT USAGE ON SCHEMA o TO regress_leann_reader;
CREATE FUNCTION o.clean(t text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT lower(t) $$;
CREATE FUNCTION o.text_of(t text, b text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN o.clean(t) || ' ' || b; END $$;
CREATE FUNCTION o.inlined(t text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT o.clean(t) $$;
CREATE FUNCTION o.wanted(t text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN o.clean(t) <> 'x'; END $$;
CREATE FUNCTION o.qualified(t text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT o.clean(t) $$;
CREATE TABLE o.pages (id int, title text, body text);
INSERT INTO o.pages SELECT n, 'Title ' || n, 'body ' || n % 7 FROM generate_series(1, 40) n;
CREATE TABLE o.secret (s text);
CREATE INDEX pages_text ON o.pages USING leann (embedding_of(o.text_of(title, body))) WHERE o.wanted(title);
CREATE INDEX pages_inlined ON o.pages USING leann (embedding_of(o.inlined(title)));
CREATE INDEX pages_qualified ON o.pages USING leann (embedding_of(o.qualified(title)));
-- (Only now, because from 17 on CREATE INDEX itself refuses such functions.)
CREATE OR REPLACE FUNCTION o.text_of(t text, b text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN clean(t) || ' ' || b; END $$;
CREATE OR REPLACE FUNCTION o.inlined(t text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT clean(t) $$;
CREATE OR REPLACE FUNCTION o.wanted(t text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN clean(t) <> 'x'; END $$;
GRANT SELECT ON o.pages TO regress_leann_reader;
RESET ROLE;

-- A reader's function stands where the owner's is meant. In scans and everywhere it runs as the reader.
\c -
SET client_min_messages = notice;
SET enable_seqscan = off;
SET ROLE regress_leann_reader;
CREATE FUNCTION evil.clean(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF t = 'Title 30' THEN
        RAISE NOTICE '% as %, may read the secret: %', t, current_user, has_table_privilege('o.secret', 'SELECT');
    END IF;
    RETURN lower(t);
END $$;
SET search_path = evil, public;
SELECT id FROM o.pages WHERE o.wanted(title) ORDER BY embedding_of(o.text_of(title, body)) <-> 'title 30 body 2' LIMIT 1;
SELECT id FROM o.pages ORDER BY embedding_of(o.inlined(title)) <-> 'title 30' LIMIT 1;

-- Where row security hides rows from the reader, no function of his is handed one of them. An index whose functions depend on his
-- session does not serve him; one whose functions have a path of their own does.
RESET ROLE;
ALTER FUNCTION o.qualified(text) SET search_path = pg_catalog, pg_temp;
ALTER TABLE o.pages ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON o.pages FOR SELECT TO regress_leann_reader USING (id <= 20);
\c -
SET client_min_messages = notice;
SET enable_seqscan = off;
SET ROLE regress_leann_reader;
SET search_path = evil, public;
SELECT id FROM o.pages WHERE o.wanted(title) ORDER BY embedding_of(o.text_of(title, body)) <-> 'title 30 body 2' LIMIT 1;
SELECT id FROM o.pages ORDER BY embedding_of(o.inlined(title)) <-> 'title 30' LIMIT 1;
SELECT id <= 20 AS visible FROM o.pages ORDER BY embedding_of(o.qualified(title)) <-> 'title 30' LIMIT 1;
SHOW search_path;

-- What a user may do with an index: who may read the table may see its figures, who owns it may check it.
SELECT nodes FROM leann.index_info('o.pages_qualified');
SELECT * FROM leann.check('o.pages_qualified');
SELECT count(*), min(recall) FROM leann.recall('o.pages_qualified', ARRAY['title 30', 'title 3'], 3);
SELECT leann.recall('o.pages', ARRAY['title 30'], 3);
SET ROLE regress_leann_owner;
SELECT * FROM leann.check('o.pages_qualified');
SELECT count(*), min(recall) FROM leann.recall('o.pages_qualified', ARRAY['title 30', 'title 3'], 3);
REVOKE SELECT ON o.pages FROM regress_leann_reader;
SET ROLE regress_leann_reader;
SELECT nodes FROM leann.index_info('o.pages_qualified');
SELECT * FROM leann.recall('o.pages_qualified', ARRAY['title 30'], 3);
-- Without the right nothing is locked.
BEGIN;
SAVEPOINT before;
\set VERBOSITY sqlstate
SELECT * FROM leann.check('o.pages_qualified');
\set VERBOSITY default
ROLLBACK TO before;
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN ('o.pages'::regclass, 'o.pages_qualified'::regclass);
COMMIT;
RESET ROLE;
SELECT * FROM leann.check('o.pages_qualified');

-- A superuser who measures an index runs its functions as the table's owner.
CREATE FUNCTION o.who(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF t = 'Title 1' AND current_user <> 'regress_leann_owner' THEN RAISE NOTICE 'as somebody else'; END IF;
    RETURN t;
END $$;
SET ROLE regress_leann_owner;
CREATE TABLE o.few AS SELECT * FROM o.pages;
CREATE INDEX few_who ON o.few USING leann (embedding_of(o.who(title)));
RESET ROLE;
SELECT recall FROM leann.recall('o.few_who', ARRAY['Title 1'], 3);

-- Functions that are merely called like ours are taken for what they are.
SET ROLE regress_leann_reader;
SET search_path = evil, public;
CREATE FUNCTION evil.embedding_of(t text, n bigint) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN left(t, n::int); END $$;
CREATE FUNCTION evil.embedding_of(t text, n int) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT left(t, n) $$;
CREATE FUNCTION evil.embedding_of(t text, flags text[]) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN t || flags[1]; END $$;
CREATE FUNCTION evil.own(t text, model text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN t || model; END $$;
ALTER FUNCTION evil.own(text, text) RENAME TO embedding_of;
CREATE TABLE evil.docs (id int, body text);
INSERT INTO evil.docs SELECT n, 'a text of some length, number ' || n FROM generate_series(1, 20) n;
CREATE INDEX by_bigint ON evil.docs USING leann (public.embedding_of(evil.embedding_of(body, 100::bigint)));
CREATE INDEX by_int ON evil.docs USING leann (public.embedding_of(evil.embedding_of(body, 100)));
CREATE INDEX by_array ON evil.docs USING leann (public.embedding_of(evil.embedding_of(body, '{x}'::text[])));
CREATE INDEX by_text ON evil.docs USING leann (public.embedding_of(evil.embedding_of(body, 'no model of ours')));
CREATE INDEX by_null ON evil.docs USING leann (public.embedding_of(evil.embedding_of(body, NULL::text)));
CREATE INDEX by_model ON evil.docs USING leann (public.embedding_of(evil.embedding_of(body, 100), 'tiny-hash-b'));
SELECT relname, model, nodes FROM pg_class, leann.index_info(oid) WHERE relname LIKE 'by\_%' ORDER BY relname;
SELECT id FROM evil.docs ORDER BY public.embedding_of(evil.embedding_of(body, 100::bigint)) <-> 'a text of some length, number 7' LIMIT 1;
SELECT id FROM evil.docs ORDER BY public.embedding_of(evil.embedding_of(body, 100)) <-> 'a text of some length, number 7' LIMIT 1;
-- An error inside an expression says whose.
CREATE OR REPLACE FUNCTION evil.embedding_of(t text, n bigint) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more of it'; END $$;
SELECT id FROM evil.docs ORDER BY public.embedding_of(evil.embedding_of(body, 100::bigint)) <-> 'a text' LIMIT 1;
-- An access method that is not ours may have any name, and ours too.
CREATE INDEX by_id ON evil.docs (id);
SELECT * FROM leann.index_info('evil.by_id');
SELECT * FROM leann.check('evil.by_id');
RESET ROLE;
BEGIN;
SET LOCAL allow_system_table_mods = on;
UPDATE pg_am SET amname = 'renamed' WHERE amname = 'leann';
SELECT nodes FROM leann.index_info('evil.by_int');
SELECT id FROM evil.docs ORDER BY public.embedding_of(evil.embedding_of(body, 100)) <-> 'a text of some length, number 7' LIMIT 1;
SELECT amvalidate(oid) FROM pg_opclass WHERE opcmethod = (SELECT oid FROM pg_am WHERE amname = 'renamed') ORDER BY opcname;
CREATE ACCESS METHOD leann TYPE INDEX HANDLER hashhandler;
CREATE OPERATOR CLASS evil.int_ops FOR TYPE int USING leann AS OPERATOR 1 =, FUNCTION 1 hashint4(int);
CREATE INDEX by_other ON evil.docs USING leann (id evil.int_ops);
SELECT * FROM leann.index_info('evil.by_other');
ROLLBACK;
SELECT amvalidate(oid) FROM pg_opclass WHERE opcmethod = (SELECT oid FROM pg_am WHERE amname = 'leann') ORDER BY opcname;

-- Threads have a maximum that only a superuser sets.
SET leann.max_threads = 1;
SET leann.threads = 64;
SELECT array_length(leann.embed('a text'), 1);
SET ROLE regress_leann_reader;
SET leann.max_threads = 2;
RESET leann.max_threads;
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA o, evil CASCADE;
DROP ROLE regress_leann_owner, regress_leann_reader;
