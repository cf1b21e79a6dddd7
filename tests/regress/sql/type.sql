-- The type embedding: literals, casts, equality. Nothing here but the casts to real[] needs a model.
SET leann.model_dir = '/nowhere';
SELECT 'how do vaccines work'::embedding;
SELECT '[3, 4]'::embedding, ' [ 3e0,4 ] '::embedding, '[0.6,0.8]'::embedding;
SELECT embedding_of('a row'), embedding_of('a row', 'some-model'), ''::embedding, embedding_of('');
SELECT embedding_of(E'quotes " \' and \\ back\nslash, tab\t, é, 🦀');

-- What is written reads back as the same value.
SELECT bool_and(value::text::embedding = value) AS round_trip FROM unnest(ARRAY[
    'text'::embedding, '[3,4]'::embedding, embedding_of('row'), embedding_of('row', 'model'), embedding_of('[1,2]'),
    'leann:{"text":"[1,2]"}'::embedding, embedding_of('leann:{"text":"x"}'), ''::embedding, embedding_of(E'\n"\\🦀'),
    '[1e-30,1,-2.5]'::embedding]) AS value;

-- A list of numbers is a vector; anything near it is text.
SELECT literal, literal::embedding::text = literal AS as_it_is FROM unnest(ARRAY[
    '[1,2', '1,2]', '[one]', '[1,,2]', '[1] [2]', '{1,2}', '[1;2]', 'see [1]']) AS literal;

-- Equality is of the value, not of the meaning.
SELECT 'a'::embedding = 'a'::embedding AS same, 'a'::embedding = 'b'::embedding AS other_text,
       'a'::embedding = embedding_of('a') AS other_role, embedding_of('a') = embedding_of('a', 'm') AS other_model,
       '[1,0]'::embedding = '[2,0]'::embedding AS same_direction, '[1,0]'::embedding <> '[0,1]'::embedding AS different;
SELECT count(*) AS groups FROM (
    SELECT value FROM unnest(ARRAY['a', 'a', 'b', '[1,0]', '[2,0]', '[0,1]']::embedding[]) AS value GROUP BY value) AS grouped;
SELECT count(DISTINCT value::text) FROM unnest(ARRAY['a', 'a', 'b']::embedding[]) AS value;
SELECT count(*) FROM (SELECT 'a'::embedding UNION SELECT 'a'::embedding UNION SELECT 'b'::embedding) AS united;
SELECT count(*) FROM (SELECT DISTINCT value FROM unnest(ARRAY['a', 'a', 'b']::embedding[]) AS value) AS different;
SELECT count(*) FROM unnest(ARRAY['a', 'b']::embedding[]) AS x JOIN unnest(ARRAY['b', 'c']::embedding[]) AS y ON x = y;

-- Casts between vectors need no model.
SELECT '[3,4]'::embedding::real[], ARRAY[3,4]::real[]::embedding, '[3,4]'::text::embedding;
SELECT ('[3,4]'::embedding <-> '[3,4]'::embedding)::numeric(6,4) AS same, ('[1,0]'::embedding <-> '[0,1]'::embedding)::numeric(6,4) AS l2,
       ('[1,0]'::embedding <=> '[0,1]')::numeric(6,4) AS cosine, ('[1,0]'::embedding <#> ARRAY[3,4]::real[])::numeric(6,4) AS inner_product;
CREATE TABLE vectors (value embedding);
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
    SELECT leann.embedding_send(value) AS embedding_send, leann.embedding_send(value::text::embedding) AS expected FROM vectors) AS sent;

-- What is no embedding.
\set SHOW_CONTEXT never
SELECT '[]'::embedding; \echo :SQLSTATE
SELECT '[0,0]'::embedding; \echo :SQLSTATE
SELECT '[1,nan]'::embedding; \echo :SQLSTATE
SELECT '[1e39]'::embedding; \echo :SQLSTATE
SELECT ARRAY[[1,2],[3,4]]::real[]::embedding; \echo :SQLSTATE
SELECT ARRAY[1,NULL]::real[]::embedding; \echo :SQLSTATE
SELECT '[1,0]'::embedding <-> '[1,0,0]'::embedding; \echo :SQLSTATE
SELECT embedding_of('a', '../etc'); \echo :SQLSTATE
SELECT embedding_of('a', ''); \echo :SQLSTATE
SELECT value FROM vectors ORDER BY value; \echo :SQLSTATE

-- A deferred value needs the model only when its vector is wanted.
SELECT embedding_of(NULL), embedding_of('a', NULL), leann.embed(NULL::text);
\set VERBOSITY sqlstate
SELECT 'text'::embedding::real[];
\set VERBOSITY default
RESET leann.model_dir;
SELECT cardinality('text'::embedding::real[]), cardinality(embedding_of('text')::real[]), cardinality(embedding_of('text', 'tiny-hash')::real[]);
SELECT count(*), count(vector), min(cardinality(vector)) FROM leann.embed(ARRAY['one', NULL, '', 'one two']) AS vector;
SELECT leann.embed('one two') = vector AS same_alone
FROM (SELECT row_number() OVER () AS n, vector FROM leann.embed(ARRAY['a', 'one two', 'three words here']) AS vector) AS batch WHERE n = 2;
SELECT count(*) FROM leann.embed(ARRAY[]::text[]);
DROP TABLE vectors;
