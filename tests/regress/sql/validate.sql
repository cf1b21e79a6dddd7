-- The operator class is valid, and one that is not is called so.
SET client_min_messages = notice;
SELECT opcname, amvalidate(o.oid) FROM pg_opclass o JOIN pg_am a ON a.oid = opcmethod
WHERE amname IN ('leann', 'hash') AND opcintype IN ('leann.embedding'::regtype) ORDER BY opcname;
SELECT amname, pg_indexam_has_property(oid, 'can_order') AS can_order, pg_indexam_has_property(oid, 'can_unique') AS can_unique,
       pg_indexam_has_property(oid, 'can_multi_col') AS can_multi_col, pg_indexam_has_property(oid, 'can_exclude') AS can_exclude,
       pg_indexam_has_property(oid, 'can_include') AS can_include FROM pg_am WHERE amname = 'leann';
CREATE TABLE docs (id int, body text);
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
SELECT pg_index_column_has_property('docs_embedding', 1, 'orderable') AS orderable,
       pg_index_column_has_property('docs_embedding', 1, 'returnable') AS returnable,
       pg_index_has_property('docs_embedding', 'clusterable') AS clusterable,
       pg_index_has_property('docs_embedding', 'index_scan') AS index_scan,
       pg_index_has_property('docs_embedding', 'bitmap_scan') AS bitmap_scan,
       pg_index_has_property('docs_embedding', 'backward_scan') AS backward_scan;

-- Operators for the wrong purpose, of the wrong type, of an unknown strategy, missing.
\set VERBOSITY terse
CREATE OPERATOR FAMILY broken USING leann;
CREATE OPERATOR CLASS broken_search FOR TYPE leann.embedding USING leann FAMILY broken AS OPERATOR 1 = (leann.embedding, leann.embedding) FOR SEARCH;
CREATE OPERATOR CLASS broken_strategy FOR TYPE leann.embedding USING leann AS
    OPERATOR 9 <-> (leann.embedding, text) FOR ORDER BY float_ops;
CREATE OPERATOR CLASS broken_missing FOR TYPE leann.embedding USING leann AS
    OPERATOR 1 <-> (leann.embedding, leann.query) FOR ORDER BY float_ops;
CREATE OPERATOR CLASS broken_text FOR TYPE text USING leann AS OPERATOR 1 = (text, text) FOR SEARCH;
SELECT opcname, amvalidate(o.oid) FROM pg_opclass o JOIN pg_am a ON a.oid = opcmethod
WHERE amname = 'leann' AND opcname LIKE 'broken%' ORDER BY opcname;
\set VERBOSITY default
DROP OPERATOR CLASS IF EXISTS broken_search USING leann CASCADE;
DROP OPERATOR CLASS IF EXISTS broken_strategy USING leann CASCADE;
DROP OPERATOR CLASS IF EXISTS broken_missing USING leann CASCADE;
DROP OPERATOR CLASS IF EXISTS broken_text USING leann CASCADE;
DROP OPERATOR FAMILY IF EXISTS broken USING leann CASCADE;
DROP OPERATOR FAMILY IF EXISTS broken_strategy USING leann CASCADE;
DROP OPERATOR FAMILY IF EXISTS broken_missing USING leann CASCADE;
DROP OPERATOR FAMILY IF EXISTS broken_text USING leann CASCADE;

-- Everything the extension made belongs to it; nothing of it is callable with the rights of its owner.
SELECT count(*) FROM pg_proc p WHERE pronamespace = 'leann'::regnamespace AND prosecdef;
SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'leann'::regnamespace
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e');
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = prolang
WHERE pronamespace = 'leann'::regnamespace AND lanname IN ('sql', 'plpgsql') AND prosqlbody IS NULL AND proconfig IS NULL;
DROP TABLE docs;
