-- The type leann.embedding: literals, casts, equality. Nothing here but the casts to real[] needs a model.
SET leann.model_dir = '/nowhere';
SELECT 'how do vaccines work'::leann.embedding;
SELECT '[3, 4]'::leann.embedding, ' [ 3e0,4 ] '::leann.embedding, '[0.6,0.8]'::leann.embedding;
SELECT embedding_of('a row'), embedding_of('a row', 'some-model'), ''::leann.embedding, embedding_of('');
SELECT embedding_of(E'quotes " \' and \\ back\nslash, tab\t, é, 🦀');

-- What is written reads back as the same value.
SELECT bool_and(value::text::leann.embedding = value) AS round_trip FROM unnest(ARRAY[
    'text'::leann.embedding, '[3,4]'::leann.embedding, embedding_of('row'), embedding_of('row', 'model'), embedding_of('[1,2]'),
    'leann:{"text":"[1,2]"}'::leann.embedding, embedding_of('leann:{"text":"x"}'), ''::leann.embedding, embedding_of(E'\n"\\🦀'),
    '[1e-30,1,-2.5]'::leann.embedding]) AS value;

-- A list of numbers is a vector; anything near it is text.
SELECT literal, literal::leann.embedding::text = literal AS as_it_is FROM unnest(ARRAY[
    '[1,2', '1,2]', '[one]', '[1,,2]', '[1] [2]', '{1,2}', '[1;2]', 'see [1]']) AS literal;

-- Equality is of the value, not of the meaning.
SELECT 'a'::leann.embedding = 'a'::leann.embedding AS same, 'a'::leann.embedding = 'b'::leann.embedding AS other_text,
       'a'::leann.embedding = embedding_of('a') AS other_role, embedding_of('a') = embedding_of('a', 'm') AS other_model,
       '[1,0]'::leann.embedding = '[2,0]'::leann.embedding AS same_direction, '[1,0]'::leann.embedding <> '[0,1]'::leann.embedding AS different;
SELECT count(*) AS groups FROM (
    SELECT value FROM unnest(ARRAY['a', 'a', 'b', '[1,0]', '[2,0]', '[0,1]']::leann.embedding[]) AS value GROUP BY value) AS grouped;
SELECT count(DISTINCT value::text) FROM unnest(ARRAY['a', 'a', 'b']::leann.embedding[]) AS value;
SELECT count(*) FROM (SELECT 'a'::leann.embedding UNION SELECT 'a'::leann.embedding UNION SELECT 'b'::leann.embedding) AS united;
SELECT count(*) FROM (SELECT DISTINCT value FROM unnest(ARRAY['a', 'a', 'b']::leann.embedding[]) AS value) AS different;
SELECT count(*) FROM unnest(ARRAY['a', 'b']::leann.embedding[]) AS x JOIN unnest(ARRAY['b', 'c']::leann.embedding[]) AS y ON x = y;

-- Casts between vectors need no model.
SELECT '[3,4]'::leann.embedding::real[], ARRAY[3,4]::real[]::leann.embedding, '[3,4]'::text::leann.embedding;
SELECT ARRAY[3,4]::float8[]::leann.embedding, ARRAY[0.3,0.4]::leann.embedding AS numerics, ARRAY[3,4]::leann.embedding AS integers;
SELECT ('[3,4]'::leann.embedding <-> '[3,4]'::leann.embedding)::numeric(6,4) AS same, ('[1,0]'::leann.embedding <-> '[0,1]'::leann.embedding)::numeric(6,4) AS l2,
       ('[1,0]'::leann.embedding <=> '[0,1]')::numeric(6,4) AS cosine, ('[1,0]'::leann.embedding <#> ARRAY[3,4]::real[])::numeric(6,4) AS inner_product;
CREATE TABLE vectors (value leann.embedding);
INSERT INTO vectors VALUES ('[1,0]'), ('[0,1]'), ('text'), (NULL), (ARRAY[3,4]::real[]);
COPY vectors TO STDOUT;
COPY vectors FROM STDIN;
[3,4]
plain text
leann:{"text":"row","role":"passage"}
\N
\.
SELECT count(*), count(value), count(DISTINCT value::text) FROM vectors;

-- Binary form, out and in again.
SELECT bool_and(embedding_send = expected) FROM (
    SELECT leann.embedding_send(value) AS embedding_send, leann.embedding_send(value::text::leann.embedding) AS expected FROM vectors) AS sent;

-- What is no embedding.
\set SHOW_CONTEXT never
SELECT '[]'::leann.embedding; \echo :SQLSTATE
SELECT '[0,0]'::leann.embedding; \echo :SQLSTATE
SELECT '[1,nan]'::leann.embedding; \echo :SQLSTATE
SELECT '[1e39]'::leann.embedding; \echo :SQLSTATE
SELECT ARRAY[[1,2],[3,4]]::real[]::leann.embedding; \echo :SQLSTATE
SELECT ARRAY[1,NULL]::real[]::leann.embedding; \echo :SQLSTATE
SELECT '[1,0]'::leann.embedding <-> '[1,0,0]'::leann.embedding; \echo :SQLSTATE
SELECT embedding_of('a', '../etc'); \echo :SQLSTATE
SELECT embedding_of('a', ''); \echo :SQLSTATE
SELECT value FROM vectors ORDER BY value; \echo :SQLSTATE

-- A deferred value needs the model only when its vector is wanted.
SELECT embedding_of(NULL), embedding_of('a', NULL), leann.embed(NULL::text);
\set VERBOSITY sqlstate
SELECT 'text'::leann.embedding::real[];
\set VERBOSITY default
RESET leann.model_dir;
SELECT cardinality('text'::leann.embedding::real[]), cardinality(embedding_of('text')::real[]), cardinality(embedding_of('text', 'tiny-hash')::real[]);
SELECT count(*), count(vector), min(cardinality(vector)) FROM leann.embed_all(ARRAY['one', NULL, '', 'one two']) AS vector;
SELECT leann.embed('one two') = vector AS same_alone
FROM (SELECT row_number() OVER () AS n, vector FROM leann.embed_all(ARRAY['a', 'one two', 'three words here']) AS vector) AS batch WHERE n = 2;
SELECT count(*) FROM leann.embed_all(ARRAY[]::text[]);
DROP TABLE vectors;
