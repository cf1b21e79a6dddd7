-- All objects that CREATE EXTENSION leann creates, apart from the access method (leann_am.sql).
--
-- What users write in queries, embedding_of and the operators, is in the schema that CREATE EXTENSION chose
-- (SCHEMA x, otherwise the first of the search_path). Everything else is in the schema leann, which this
-- script creates: above all the type, because any user may call a table embedding. The C functions are in
-- src/sql/.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) 'leann') THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_schema', MESSAGE = 'schema "leann" exists already',
            DETAIL = 'The extension makes a schema of that name, for its type and its functions, and shares it with nobody.',
            HINT = 'Give the other schema another name, with ALTER SCHEMA leann RENAME TO another_name, or drop it.';
    END IF;
END
$$;
CREATE SCHEMA leann;
COMMENT ON SCHEMA leann IS 'searches text by meaning without storing embeddings';
GRANT USAGE ON SCHEMA leann TO PUBLIC;

--------------------------------------------------------------------------------------------------------------
-- The type leann.embedding
--------------------------------------------------------------------------------------------------------------

CREATE TYPE leann.embedding;

CREATE FUNCTION leann.embedding_in(cstring) RETURNS leann.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_in_wrapper';
CREATE FUNCTION leann.embedding_out(leann.embedding) RETURNS cstring
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_out_wrapper';
CREATE FUNCTION leann.embedding_recv(internal) RETURNS leann.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_recv_wrapper';
CREATE FUNCTION leann.embedding_send(leann.embedding) RETURNS bytea
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_send_wrapper';

-- What the planner charges for a function that may run a model: leann.recompute_cost.
CREATE FUNCTION leann.recompute_support(internal) RETURNS internal
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'recompute_support_wrapper';

-- ANALYZE skips such columns and expressions: statistics on them would serve no plan, and would copy whole
-- texts.
CREATE FUNCTION leann.embedding_typanalyze(internal) RETURNS boolean
    VOLATILE STRICT PARALLEL RESTRICTED LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_typanalyze_wrapper';

CREATE TYPE leann.embedding (
    INPUT = leann.embedding_in,
    OUTPUT = leann.embedding_out,
    RECEIVE = leann.embedding_recv,
    SEND = leann.embedding_send,
    ANALYZE = leann.embedding_typanalyze,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = int4,
    STORAGE = extended
);
COMMENT ON TYPE leann.embedding IS
    'the embedding of a text: a vector of unit length, or the text and whose model is to embed it';

-- The right operand of a distance that is itself an embedding. It has a separate type because an operator
-- with the same type on both sides would take every untyped literal and parameter for that type, but users
-- search for text.
CREATE DOMAIN leann.query AS leann.embedding;
COMMENT ON DOMAIN leann.query IS 'an embedding as the right operand of a distance operator';

-- Casts. The one to real[] may need a model; the others only read what is written. None is implicit: such a
-- cast would make other operators ambiguous, for instance float8[] = float8[].
CREATE FUNCTION leann.embedding_to_reals(leann.embedding) RETURNS real[]
    STABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_to_reals_wrapper';
CREATE FUNCTION leann.embedding_from_numbers(real[]) RETURNS leann.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_from_numbers_wrapper';
CREATE FUNCTION leann.embedding_from_numbers(double precision[]) RETURNS leann.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_from_numbers_wrapper';
CREATE FUNCTION leann.embedding_from_numbers(numeric[]) RETURNS leann.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_from_numbers_wrapper';
CREATE FUNCTION leann.embedding_from_numbers(integer[]) RETURNS leann.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_from_numbers_wrapper';
CREATE FUNCTION leann.embedding_from_text(text) RETURNS leann.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_from_text_wrapper';

CREATE CAST (leann.embedding AS real[]) WITH FUNCTION leann.embedding_to_reals AS ASSIGNMENT;
CREATE CAST (real[] AS leann.embedding) WITH FUNCTION leann.embedding_from_numbers(real[]) AS ASSIGNMENT;
CREATE CAST (double precision[] AS leann.embedding) WITH FUNCTION leann.embedding_from_numbers(double precision[]) AS ASSIGNMENT;
CREATE CAST (numeric[] AS leann.embedding) WITH FUNCTION leann.embedding_from_numbers(numeric[]) AS ASSIGNMENT;
CREATE CAST (integer[] AS leann.embedding) WITH FUNCTION leann.embedding_from_numbers(integer[]) AS ASSIGNMENT;
CREATE CAST (text AS leann.embedding) WITH FUNCTION leann.embedding_from_text;
CREATE CAST (varchar AS leann.embedding) WITH FUNCTION leann.embedding_from_text;

-- Equality and hashes are those of the stored bytes, so the functions of bytea serve unchanged.
CREATE FUNCTION leann.embedding_eq(leann.embedding, leann.embedding) RETURNS boolean
    IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE LANGUAGE internal AS 'byteaeq';
CREATE FUNCTION leann.embedding_ne(leann.embedding, leann.embedding) RETURNS boolean
    IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE LANGUAGE internal AS 'byteane';
CREATE FUNCTION leann.embedding_hash(leann.embedding) RETURNS integer
    IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE LANGUAGE internal AS 'hashvarlena';
CREATE FUNCTION leann.embedding_hash_extended(leann.embedding, bigint) RETURNS bigint
    IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE LANGUAGE internal AS 'hashvarlenaextended';

CREATE OPERATOR @extschema@.= (
    LEFTARG = leann.embedding, RIGHTARG = leann.embedding, FUNCTION = leann.embedding_eq,
    COMMUTATOR = OPERATOR(@extschema@.=), NEGATOR = OPERATOR(@extschema@.<>),
    RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
CREATE OPERATOR @extschema@.<> (
    LEFTARG = leann.embedding, RIGHTARG = leann.embedding, FUNCTION = leann.embedding_ne,
    COMMUTATOR = OPERATOR(@extschema@.<>), NEGATOR = OPERATOR(@extschema@.=),
    RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR CLASS leann.embedding_hash_ops DEFAULT FOR TYPE leann.embedding USING hash AS
    OPERATOR 1 @extschema@.= (leann.embedding, leann.embedding),
    FUNCTION 1 leann.embedding_hash(leann.embedding),
    FUNCTION 2 leann.embedding_hash_extended(leann.embedding, bigint);

--------------------------------------------------------------------------------------------------------------
-- From text to embeddings
--------------------------------------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.embedding_of(body text) RETURNS leann.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_of_wrapper';
COMMENT ON FUNCTION @extschema@.embedding_of(text) IS 'the embedding of a row''s text by the default model';
CREATE FUNCTION @extschema@.embedding_of(body text, model text) RETURNS leann.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_of_model_wrapper';
COMMENT ON FUNCTION @extschema@.embedding_of(text, text) IS 'the embedding of a row''s text by a model';

CREATE FUNCTION leann.embed(body text, model text DEFAULT NULL, role text DEFAULT 'passage') RETURNS real[]
    STABLE PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'leann_embed_text_wrapper';
COMMENT ON FUNCTION leann.embed(text, text, text) IS 'the vector of a text';
-- It has a separate name: an untyped array literal, as drivers send it, would be taken for one text.
CREATE FUNCTION leann.embed_all(texts text[], model text DEFAULT NULL, role text DEFAULT 'passage') RETURNS SETOF real[]
    STABLE PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'leann_embed_all_wrapper';
COMMENT ON FUNCTION leann.embed_all(text[], text, text) IS 'the vectors of texts, in their order';

--------------------------------------------------------------------------------------------------------------
-- Distances
--
-- Right operands: a text, in words; an embedding; or numbers, in an array of any numeric type. (Each array
-- type has its own operator, because several others would fit a type without one equally well. pgvector's
-- vector becomes real[] by its own cast.) An untyped literal or parameter is text.
--
-- IMMUTABLE: a model gives the same vector for the same text at any time, an index knows its model by a
-- fingerprint, and functions that are not immutable are neither shipped to foreign servers nor found by
-- min(). Therefore a distance of two constants is computed when its statement is planned, with the
-- leann.default_model of that moment.
--
-- PARALLEL RESTRICTED, like everything that may run a model: each worker would load a model and start its own
-- threads, and a model already uses all cores.
--
-- The planner charges leann.recompute_cost for each call, so that a plan which recomputes every row of a table
-- is priced as such. The COST of 100000 is its default, for whoever looks at the functions.
--------------------------------------------------------------------------------------------------------------

CREATE FUNCTION leann.embedding_l2(leann.embedding, text) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_text_wrapper';
CREATE FUNCTION leann.embedding_l2(leann.embedding, leann.query) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_wrapper';
CREATE FUNCTION leann.embedding_l2(leann.embedding, real[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_numbers_wrapper';
CREATE FUNCTION leann.embedding_l2(leann.embedding, double precision[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_numbers_wrapper';
CREATE FUNCTION leann.embedding_l2(leann.embedding, numeric[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_numbers_wrapper';
CREATE FUNCTION leann.embedding_l2(leann.embedding, smallint[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_numbers_wrapper';
CREATE FUNCTION leann.embedding_l2(leann.embedding, integer[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_numbers_wrapper';
CREATE FUNCTION leann.embedding_l2(leann.embedding, bigint[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_numbers_wrapper';

CREATE FUNCTION leann.embedding_cosine(leann.embedding, text) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_text_wrapper';
CREATE FUNCTION leann.embedding_cosine(leann.embedding, leann.query) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_wrapper';
CREATE FUNCTION leann.embedding_cosine(leann.embedding, real[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_numbers_wrapper';
CREATE FUNCTION leann.embedding_cosine(leann.embedding, double precision[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_numbers_wrapper';
CREATE FUNCTION leann.embedding_cosine(leann.embedding, numeric[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_numbers_wrapper';
CREATE FUNCTION leann.embedding_cosine(leann.embedding, smallint[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_numbers_wrapper';
CREATE FUNCTION leann.embedding_cosine(leann.embedding, integer[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_numbers_wrapper';
CREATE FUNCTION leann.embedding_cosine(leann.embedding, bigint[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_numbers_wrapper';

CREATE FUNCTION leann.embedding_negative_inner_product(leann.embedding, text) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_text_wrapper';
CREATE FUNCTION leann.embedding_negative_inner_product(leann.embedding, leann.query) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_wrapper';
CREATE FUNCTION leann.embedding_negative_inner_product(leann.embedding, real[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_numbers_wrapper';
CREATE FUNCTION leann.embedding_negative_inner_product(leann.embedding, double precision[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_numbers_wrapper';
CREATE FUNCTION leann.embedding_negative_inner_product(leann.embedding, numeric[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_numbers_wrapper';
CREATE FUNCTION leann.embedding_negative_inner_product(leann.embedding, smallint[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_numbers_wrapper';
CREATE FUNCTION leann.embedding_negative_inner_product(leann.embedding, integer[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_numbers_wrapper';
CREATE FUNCTION leann.embedding_negative_inner_product(leann.embedding, bigint[]) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 SUPPORT leann.recompute_support LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_numbers_wrapper';

CREATE OPERATOR @extschema@.<-> (LEFTARG = leann.embedding, RIGHTARG = text, FUNCTION = leann.embedding_l2);
CREATE OPERATOR @extschema@.<-> (LEFTARG = leann.embedding, RIGHTARG = leann.query, FUNCTION = leann.embedding_l2);
CREATE OPERATOR @extschema@.<-> (LEFTARG = leann.embedding, RIGHTARG = real[], FUNCTION = leann.embedding_l2);
CREATE OPERATOR @extschema@.<-> (LEFTARG = leann.embedding, RIGHTARG = double precision[], FUNCTION = leann.embedding_l2);
CREATE OPERATOR @extschema@.<-> (LEFTARG = leann.embedding, RIGHTARG = numeric[], FUNCTION = leann.embedding_l2);
CREATE OPERATOR @extschema@.<-> (LEFTARG = leann.embedding, RIGHTARG = smallint[], FUNCTION = leann.embedding_l2);
CREATE OPERATOR @extschema@.<-> (LEFTARG = leann.embedding, RIGHTARG = integer[], FUNCTION = leann.embedding_l2);
CREATE OPERATOR @extschema@.<-> (LEFTARG = leann.embedding, RIGHTARG = bigint[], FUNCTION = leann.embedding_l2);
COMMENT ON OPERATOR @extschema@.<-> (leann.embedding, text) IS 'L2 distance';
COMMENT ON OPERATOR @extschema@.<-> (leann.embedding, leann.query) IS 'L2 distance';
COMMENT ON OPERATOR @extschema@.<-> (leann.embedding, real[]) IS 'L2 distance';
COMMENT ON OPERATOR @extschema@.<-> (leann.embedding, double precision[]) IS 'L2 distance';
COMMENT ON OPERATOR @extschema@.<-> (leann.embedding, numeric[]) IS 'L2 distance';
COMMENT ON OPERATOR @extschema@.<-> (leann.embedding, smallint[]) IS 'L2 distance';
COMMENT ON OPERATOR @extschema@.<-> (leann.embedding, integer[]) IS 'L2 distance';
COMMENT ON OPERATOR @extschema@.<-> (leann.embedding, bigint[]) IS 'L2 distance';

CREATE OPERATOR @extschema@.<=> (LEFTARG = leann.embedding, RIGHTARG = text, FUNCTION = leann.embedding_cosine);
CREATE OPERATOR @extschema@.<=> (LEFTARG = leann.embedding, RIGHTARG = leann.query, FUNCTION = leann.embedding_cosine);
CREATE OPERATOR @extschema@.<=> (LEFTARG = leann.embedding, RIGHTARG = real[], FUNCTION = leann.embedding_cosine);
CREATE OPERATOR @extschema@.<=> (LEFTARG = leann.embedding, RIGHTARG = double precision[], FUNCTION = leann.embedding_cosine);
CREATE OPERATOR @extschema@.<=> (LEFTARG = leann.embedding, RIGHTARG = numeric[], FUNCTION = leann.embedding_cosine);
CREATE OPERATOR @extschema@.<=> (LEFTARG = leann.embedding, RIGHTARG = smallint[], FUNCTION = leann.embedding_cosine);
CREATE OPERATOR @extschema@.<=> (LEFTARG = leann.embedding, RIGHTARG = integer[], FUNCTION = leann.embedding_cosine);
CREATE OPERATOR @extschema@.<=> (LEFTARG = leann.embedding, RIGHTARG = bigint[], FUNCTION = leann.embedding_cosine);
COMMENT ON OPERATOR @extschema@.<=> (leann.embedding, text) IS 'cosine distance';
COMMENT ON OPERATOR @extschema@.<=> (leann.embedding, leann.query) IS 'cosine distance';
COMMENT ON OPERATOR @extschema@.<=> (leann.embedding, real[]) IS 'cosine distance';
COMMENT ON OPERATOR @extschema@.<=> (leann.embedding, double precision[]) IS 'cosine distance';
COMMENT ON OPERATOR @extschema@.<=> (leann.embedding, numeric[]) IS 'cosine distance';
COMMENT ON OPERATOR @extschema@.<=> (leann.embedding, smallint[]) IS 'cosine distance';
COMMENT ON OPERATOR @extschema@.<=> (leann.embedding, integer[]) IS 'cosine distance';
COMMENT ON OPERATOR @extschema@.<=> (leann.embedding, bigint[]) IS 'cosine distance';

CREATE OPERATOR @extschema@.<#> (LEFTARG = leann.embedding, RIGHTARG = text, FUNCTION = leann.embedding_negative_inner_product);
CREATE OPERATOR @extschema@.<#> (LEFTARG = leann.embedding, RIGHTARG = leann.query, FUNCTION = leann.embedding_negative_inner_product);
CREATE OPERATOR @extschema@.<#> (LEFTARG = leann.embedding, RIGHTARG = real[], FUNCTION = leann.embedding_negative_inner_product);
CREATE OPERATOR @extschema@.<#> (LEFTARG = leann.embedding, RIGHTARG = double precision[], FUNCTION = leann.embedding_negative_inner_product);
CREATE OPERATOR @extschema@.<#> (LEFTARG = leann.embedding, RIGHTARG = numeric[], FUNCTION = leann.embedding_negative_inner_product);
CREATE OPERATOR @extschema@.<#> (LEFTARG = leann.embedding, RIGHTARG = smallint[], FUNCTION = leann.embedding_negative_inner_product);
CREATE OPERATOR @extschema@.<#> (LEFTARG = leann.embedding, RIGHTARG = integer[], FUNCTION = leann.embedding_negative_inner_product);
CREATE OPERATOR @extschema@.<#> (LEFTARG = leann.embedding, RIGHTARG = bigint[], FUNCTION = leann.embedding_negative_inner_product);
COMMENT ON OPERATOR @extschema@.<#> (leann.embedding, text) IS 'negative inner product';
COMMENT ON OPERATOR @extschema@.<#> (leann.embedding, leann.query) IS 'negative inner product';
COMMENT ON OPERATOR @extschema@.<#> (leann.embedding, real[]) IS 'negative inner product';
COMMENT ON OPERATOR @extschema@.<#> (leann.embedding, double precision[]) IS 'negative inner product';
COMMENT ON OPERATOR @extschema@.<#> (leann.embedding, numeric[]) IS 'negative inner product';
COMMENT ON OPERATOR @extschema@.<#> (leann.embedding, smallint[]) IS 'negative inner product';
COMMENT ON OPERATOR @extschema@.<#> (leann.embedding, integer[]) IS 'negative inner product';
COMMENT ON OPERATOR @extschema@.<#> (leann.embedding, bigint[]) IS 'negative inner product';

-- For clients that cannot write operators. The planner inlines the function, so that ORDER BY
-- leann.distance(body, $1) uses an index on embedding_of(body).
CREATE FUNCTION leann.distance(body text, query text) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 LANGUAGE sql
    RETURN @extschema@.embedding_of(body) OPERATOR(@extschema@.<->) query;
COMMENT ON FUNCTION leann.distance(text, text) IS 'embedding_of(body) <-> query, with the index that it uses';
CREATE FUNCTION leann.distance(body text, query text, model text) RETURNS double precision
    IMMUTABLE STRICT PARALLEL RESTRICTED COST 100000 LANGUAGE sql
    RETURN @extschema@.embedding_of(body, model) OPERATOR(@extschema@.<->) query;
COMMENT ON FUNCTION leann.distance(text, text, text) IS 'embedding_of(body, model) <-> query, with the index that it uses';

--------------------------------------------------------------------------------------------------------------
-- Models
--------------------------------------------------------------------------------------------------------------

CREATE FUNCTION leann.list_models() RETURNS TABLE (
    name text, dimensions integer, max_tokens integer, pooling text, normalized boolean, query_prompt text,
    passage_prompt text, fingerprint text, error text
)
    VOLATILE STRICT PARALLEL SAFE COST 10000 ROWS 10
    LANGUAGE c AS 'MODULE_PATHNAME', 'leann_list_models_wrapper';

CREATE VIEW leann.models AS
    SELECT name, dimensions, max_tokens, pooling, normalized, query_prompt, passage_prompt, fingerprint,
           error IS NULL AS ready, error
    FROM leann.list_models();
COMMENT ON VIEW leann.models IS 'the models in leann.model_dir';
GRANT SELECT ON leann.models TO PUBLIC;

CREATE FUNCTION leann.caches() RETURNS TABLE (
    scope text, limit_bytes bigint, bytes bigint, lookups bigint, hits bigint
)
    VOLATILE PARALLEL RESTRICTED ROWS 2 LANGUAGE c AS 'MODULE_PATHNAME', 'leann_caches_wrapper';
CREATE VIEW leann.cache AS SELECT scope, limit_bytes, bytes, lookups, hits FROM leann.caches();
COMMENT ON VIEW leann.cache IS
    'embeddings kept: by this session, and by the server where the library is preloaded (counted since its start)';
GRANT SELECT ON leann.cache TO PUBLIC;

CREATE FUNCTION leann.clear_cache() RETURNS void
    VOLATILE PARALLEL RESTRICTED LANGUAGE c AS 'MODULE_PATHNAME', 'leann_clear_cache_wrapper';
COMMENT ON FUNCTION leann.clear_cache() IS 'forgets the embeddings that this session has kept';

-- Not strict: without queries, it draws some from the table.
CREATE FUNCTION leann.recall(
    index regclass, queries text[] DEFAULT NULL, k integer DEFAULT 10, samples integer DEFAULT 20
) RETURNS TABLE (
    query text, recall double precision, recomputes bigint, pages bigint
)
    VOLATILE PARALLEL UNSAFE COST 1000000 SET search_path = pg_catalog, pg_temp
    LANGUAGE c AS 'MODULE_PATHNAME', 'leann_recall_wrapper';
COMMENT ON FUNCTION leann.recall(regclass, text[], integer, integer) IS
    'the share of the k nearest rows that an index finds for each query, given or drawn from the table, against the whole table';
