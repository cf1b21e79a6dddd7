-- The right operand of a distance: words, whatever they look like; vectors of every type; another row's embedding.
SET client_min_messages = notice;
CREATE TABLE docs (id int PRIMARY KEY, body text);
INSERT INTO docs SELECT n, 'passage number ' || n || ' about subject ' || n % 11 FROM generate_series(1, 1000) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
ANALYZE docs;
\set SHOW_CONTEXT never

-- A text is words, in the query role, with the index and without it.
SELECT asked, abs((embedding_of('a') <-> asked) - (embedding_of('a') <-> leann.embed(asked, NULL, 'query'))) < 1e-6 AS words,
       (SELECT count(*) FROM (SELECT id FROM docs ORDER BY embedding_of(body) <-> asked LIMIT 3) AS near) AS found
FROM unnest(ARRAY['[2024]', '[1, 2, 3]', '[]', '{}', '()', '{1,2}', '1,2', '1 2 3', '[nan]', '[1e999]', '0', '', ' ', '[', 'see [1]',
                  'leann:{"text":"x","model":"tiny-hash-b"}', 'leann:{"text":"x","role":"passage"}', 'leann:']) AS asked;
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY embedding_of(body) <-> 'leann:{"text":"x","model":"tiny-hash-b"}' LIMIT 3;

-- But a list of exactly as many numbers as the model has dimensions is a vector, in whatever brackets a driver writes it.
CREATE TEMP TABLE given AS SELECT leann.embed('passage number 42 about subject 9') AS v;
CREATE TEMP TABLE forms AS SELECT form, string FROM given, LATERAL (SELECT array_to_string(v, ',') AS list) AS l, LATERAL (VALUES
    ('array', v::text), ('brackets', '[' || list || ']'), ('round', '(' || list || ')'), ('bare', list),
    ('spaced', E' [ ' || replace(list, ',', ' , ') || E' ]\n'), ('blanks', '[' || replace(list, ',', E'\n ') || ']'),
    ('quoted', '{"' || replace(list, ',', '","') || '"}')) AS f (form, string);
SELECT form, (embedding_of('a') <-> string) = (embedding_of('a') <-> v) AS same,
       (SELECT id FROM docs ORDER BY embedding_of(body) <-> string LIMIT 1) AS found FROM forms, given;
-- One number fewer or more, and it is words again.
SELECT form, (embedding_of('a') <-> shorter) = (embedding_of('a') <-> leann.embed(shorter, NULL, 'query')) AS shorter,
       (embedding_of('a') <-> longer) = (embedding_of('a') <-> leann.embed(longer, NULL, 'query')) AS longer
FROM forms, LATERAL (SELECT regexp_replace(string, '[-0-9.e]+ ?, ?', '') AS shorter, regexp_replace(string, ',', ',1,') AS longer) AS other
WHERE form NOT IN ('quoted', 'blanks');
-- Nothing but numbers, yet no vector: words.
SELECT id FROM docs ORDER BY embedding_of(body) <-> array_fill(0, ARRAY[64])::text LIMIT 1; \echo :SQLSTATE

-- Arrays of any numbers use the index, and so does a type that has a cast to real[] of its own, as pgvector's vector.
SET client_min_messages = warning; -- of types that are shells at first
CREATE TYPE vec;
CREATE FUNCTION vec_in(cstring) RETURNS vec IMMUTABLE STRICT LANGUAGE internal AS 'textin';
CREATE FUNCTION vec_out(vec) RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS 'textout';
CREATE TYPE vec (INPUT = vec_in, OUTPUT = vec_out, LIKE = text);
CREATE FUNCTION vec_to_reals(v vec) RETURNS real[] IMMUTABLE STRICT LANGUAGE plpgsql AS $$ BEGIN RETURN v::text::real[]; END $$;
CREATE CAST (vec AS real[]) WITH FUNCTION vec_to_reals AS IMPLICIT;
SET client_min_messages = notice;
CREATE DOMAIN numbers AS double precision[];
CREATE DOMAIN words AS varchar(100);
CREATE FUNCTION nearest(operand text) RETURNS TABLE (type text, nearest_id int, plan text) LANGUAGE plpgsql AS $$
DECLARE
    query text := 'SELECT id FROM docs ORDER BY embedding_of(body) <-> (' || operand || ') LIMIT 1';
    line text;
BEGIN
    EXECUTE 'SELECT pg_typeof(' || operand || ') FROM given' INTO type;
    EXECUTE query INTO nearest_id;
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        plan := concat_ws(' ', plan, substring(line FROM '(Index Scan|Seq Scan|Sort)'));
    END LOOP;
    RETURN NEXT;
END $$;
SELECT nearest.* FROM unnest(ARRAY['real[]', 'float8[]', 'numeric[]', 'vec', 'numbers', 'real[]::leann.embedding']) AS type,
    nearest('(SELECT v::text::' || type || ' FROM given)');
SELECT nearest.type, plan FROM unnest(ARRAY['smallint[]', 'integer[]', 'bigint[]']) AS type,
    nearest('array_fill(3, ARRAY[64])::' || type);
SELECT nearest.* FROM unnest(ARRAY['text', 'varchar', 'char(40)', 'name', 'words']) AS type,
    nearest('''passage number 42 about subject 9''::' || type);
SELECT * FROM nearest('''{"q": "passage number 42 about subject 9"}''::json ->> ''q''');

-- What is neither words nor numbers.
SELECT embedding_of('a') <-> ARRAY['words', 'here']; \echo :SQLSTATE

SELECT embedding_of('a') <-> 42; \echo :SQLSTATE
SELECT embedding_of('a') <-> ARRAY[1e39::float8]; \echo :SQLSTATE
SELECT embedding_of('a') <-> ARRAY[1e39]; \echo :SQLSTATE

-- Nobody typed the parameter: it is text.
PREPARE untyped AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
PREPARE floats(float8[]) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
PREPARE numerics(numeric[]) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
PREPARE ours(leann.embedding) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
SELECT name, parameter_types FROM pg_prepared_statements ORDER BY name;
SELECT v FROM given \gset
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE floats(NULL);
EXPLAIN (COSTS OFF) EXECUTE numerics(NULL);
EXPLAIN (COSTS OFF) EXECUTE ours(NULL);
EXECUTE untyped(:'v');
EXECUTE floats(:'v');
EXECUTE numerics(:'v');
SET plan_cache_mode = force_custom_plan;
EXECUTE untyped(:'v');
EXECUTE floats(:'v');
EXECUTE numerics(:'v');
EXPLAIN (COSTS OFF) EXECUTE floats('{1,2}');
RESET plan_cache_mode;

-- The embedding of another row, and one that names a model.
SELECT id FROM docs ORDER BY embedding_of(body) <-> (SELECT embedding_of(body) FROM docs WHERE id = 7) LIMIT 1;
SELECT a.id, near.id FROM docs a, LATERAL (SELECT id FROM docs b WHERE b.id <> a.id ORDER BY embedding_of(b.body) <-> embedding_of(a.body) LIMIT 1) AS near
WHERE a.id < 4;
EXPLAIN (COSTS OFF) SELECT a.id, near.id FROM docs a, LATERAL (SELECT id FROM docs b ORDER BY embedding_of(b.body) <-> embedding_of(a.body) LIMIT 1) AS near
WHERE a.id < 4;
SELECT a.id FROM docs a JOIN docs b ON b.id = 7 WHERE a.id IN (7, 8, 18) ORDER BY embedding_of(a.body, 'tiny-hash-b') <-> embedding_of(b.body);
SELECT embedding_of('a', 'tiny-hash') <-> embedding_of('a', 'tiny-hash-b'); \echo :SQLSTATE
SELECT id FROM docs ORDER BY embedding_of(body) <-> embedding_of('a', 'tiny-hash-b') LIMIT 1; \echo :SQLSTATE
SET enable_indexscan = off;
SELECT id FROM docs ORDER BY embedding_of(body) <-> embedding_of('a', 'tiny-hash-b') LIMIT 1; \echo :SQLSTATE
RESET enable_indexscan;

-- An untyped list is one text to leann.embed; many texts go to leann.embed_all.
SELECT leann.embed('{hi,ho}') = leann.embed('{hi,ho}'::text) AS one_text, count(*) AS texts FROM leann.embed_all('{hi,ho}');

-- leann.distance is the operator, and uses the index, inlined; also with a model named.
CREATE INDEX docs_named ON docs USING leann (embedding_of(body, 'tiny-hash-b'));
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY leann.distance(body, 'subject 7') LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id, leann.distance(body, 'subject 7') AS d FROM docs WHERE id > 5 ORDER BY d LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY leann.distance(body, 'subject 7', 'tiny-hash-b') LIMIT 3;
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY leann.distance(query => 'subject 7', body => body) LIMIT 3;
PREPARE by_function AS SELECT id FROM docs ORDER BY leann.distance(body, $1) LIMIT 1;
PREPARE by_function_named(text) AS SELECT id FROM docs ORDER BY leann.distance(body, $1, 'tiny-hash-b') LIMIT 1;
SELECT name, parameter_types FROM pg_prepared_statements WHERE name LIKE 'by%' ORDER BY name;
EXECUTE by_function('passage number 42 about subject 9');
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE by_function('passage number 42 about subject 9');
EXPLAIN (COSTS OFF) EXECUTE by_function_named('passage number 42 about subject 9');
EXECUTE by_function('passage number 42 about subject 9');
EXECUTE by_function_named('passage number 42 about subject 9');
RESET plan_cache_mode;
SELECT leann.distance('a', 'b') = (embedding_of('a') <-> 'b') AS same, leann.distance(NULL, 'b') IS NULL AND leann.distance('a', NULL) IS NULL AS nulls;

-- Distances are immutable: min() goes to the index. And no worker runs a model.
SELECT min(embedding_of(body) <-> 'passage number 42 about subject 9') < 1 AS near FROM docs;
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
SET enable_indexscan = off;
EXPLAIN (COSTS OFF) SELECT id, 1 - (embedding_of(body) <=> 'subject 7') AS similarity FROM docs ORDER BY similarity DESC LIMIT 3;
RESET enable_indexscan; RESET parallel_setup_cost; RESET parallel_tuple_cost; RESET min_parallel_table_scan_size;
SET max_parallel_workers_per_gather = 0;

-- ANALYZE makes no statistics of embeddings, and keeps no text.
CREATE TABLE kept (id int, value leann.embedding);
INSERT INTO kept SELECT n, embedding_of('text ' || n % 3) FROM generate_series(1, 100) n;
ANALYZE docs, kept;
SELECT tablename, attname FROM pg_stats WHERE tablename IN ('docs', 'docs_embedding', 'docs_named', 'kept') ORDER BY 1, 2;

-- What the rest of the database writes means what it did before.
SELECT ARRAY[1.5]::float8[] = ARRAY[1.5]::float8[] AS float8s, ARRAY[1.5]::real[] = '{1.5}' AS reals,
       ARRAY[1.5] <> '{2}' AS numerics, ARRAY[1] = '{1}' AS integers, 'a' = 'a'::text AS texts, 'a' || 'b' AS joined, ARRAY[1] || '{2}' AS arrays,
       array_append('{1.5}', 2::real) AS appended, 'a'::varchar = 'a' AS varchars, ARRAY['a'] = '{a}' AS text_arrays, '{1}' <> ARRAY[1]::real[] AS other;
SELECT '(1,2)'::point <-> '(4,6)' AS points, '(1,1),(0,0)'::box <-> '(3,1),(2,0)' AS boxes, 'fat'::tsquery <-> 'cat' AS phrase;
DEALLOCATE ALL;
DROP TABLE docs, kept;
DROP FUNCTION nearest;
DROP TYPE vec CASCADE;
DROP DOMAIN numbers, words;
