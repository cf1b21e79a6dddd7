-- What CREATE EXTENSION leann ran in version 0.1.0. Written by scripts/freeze_schema.sh.
CREATE SCHEMA leann;
COMMENT ON SCHEMA leann IS 'searches text by meaning without storing embeddings';
GRANT USAGE ON SCHEMA leann TO PUBLIC;
CREATE TYPE @extschema@.embedding;
CREATE FUNCTION leann.embedding_in(cstring) RETURNS @extschema@.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_in_wrapper';
CREATE FUNCTION leann.embedding_out(@extschema@.embedding) RETURNS cstring
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_out_wrapper';
CREATE FUNCTION leann.embedding_recv(internal) RETURNS @extschema@.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_recv_wrapper';
CREATE FUNCTION leann.embedding_send(@extschema@.embedding) RETURNS bytea
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_send_wrapper';
CREATE TYPE @extschema@.embedding (
    INPUT = leann.embedding_in,
    OUTPUT = leann.embedding_out,
    RECEIVE = leann.embedding_recv,
    SEND = leann.embedding_send,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = int4,
    STORAGE = extended
);
COMMENT ON TYPE @extschema@.embedding IS
    'the embedding of a text: a vector of unit length, or the text and whose model is to embed it';
CREATE FUNCTION leann.embedding_to_reals(@extschema@.embedding) RETURNS real[]
    STABLE STRICT PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_to_reals_wrapper';
CREATE FUNCTION leann.embedding_from_reals(real[]) RETURNS @extschema@.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_from_reals_wrapper';
CREATE FUNCTION leann.embedding_from_text(text) RETURNS @extschema@.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_from_text_wrapper';
CREATE CAST (@extschema@.embedding AS real[]) WITH FUNCTION leann.embedding_to_reals AS ASSIGNMENT;
CREATE CAST (real[] AS @extschema@.embedding) WITH FUNCTION leann.embedding_from_reals AS ASSIGNMENT;
CREATE CAST (text AS @extschema@.embedding) WITH FUNCTION leann.embedding_from_text;
CREATE CAST (varchar AS @extschema@.embedding) WITH FUNCTION leann.embedding_from_text;
CREATE FUNCTION leann.embedding_eq(@extschema@.embedding, @extschema@.embedding) RETURNS boolean
    IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE LANGUAGE internal AS 'byteaeq';
CREATE FUNCTION leann.embedding_ne(@extschema@.embedding, @extschema@.embedding) RETURNS boolean
    IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE LANGUAGE internal AS 'byteane';
CREATE FUNCTION leann.embedding_hash(@extschema@.embedding) RETURNS integer
    IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE LANGUAGE internal AS 'hashvarlena';
CREATE FUNCTION leann.embedding_hash_extended(@extschema@.embedding, bigint) RETURNS bigint
    IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE LANGUAGE internal AS 'hashvarlenaextended';
CREATE OPERATOR @extschema@.= (
    LEFTARG = @extschema@.embedding, RIGHTARG = @extschema@.embedding, FUNCTION = leann.embedding_eq,
    COMMUTATOR = OPERATOR(@extschema@.=), NEGATOR = OPERATOR(@extschema@.<>),
    RESTRICT = eqsel, JOIN = eqjoinsel, HASHES
);
CREATE OPERATOR @extschema@.<> (
    LEFTARG = @extschema@.embedding, RIGHTARG = @extschema@.embedding, FUNCTION = leann.embedding_ne,
    COMMUTATOR = OPERATOR(@extschema@.<>), NEGATOR = OPERATOR(@extschema@.=),
    RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR CLASS @extschema@.embedding_hash_ops DEFAULT FOR TYPE @extschema@.embedding USING hash AS
    OPERATOR 1 @extschema@.= (@extschema@.embedding, @extschema@.embedding),
    FUNCTION 1 leann.embedding_hash(@extschema@.embedding),
    FUNCTION 2 leann.embedding_hash_extended(@extschema@.embedding, bigint);
CREATE FUNCTION @extschema@.embedding_of(body text) RETURNS @extschema@.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_of_wrapper';
COMMENT ON FUNCTION @extschema@.embedding_of(text) IS 'the embedding of a row''s text by the default model';
CREATE FUNCTION @extschema@.embedding_of(body text, model text) RETURNS @extschema@.embedding
    IMMUTABLE STRICT PARALLEL SAFE LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_of_model_wrapper';
COMMENT ON FUNCTION @extschema@.embedding_of(text, text) IS 'the embedding of a row''s text by a model';
CREATE FUNCTION leann.embed(body text, model text DEFAULT NULL, role text DEFAULT 'passage') RETURNS real[]
    STABLE PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'leann_embed_text_wrapper';
COMMENT ON FUNCTION leann.embed(text, text, text) IS 'the vector of a text';
CREATE FUNCTION leann.embed(bodies text[], model text DEFAULT NULL, role text DEFAULT 'passage') RETURNS SETOF real[]
    STABLE PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'leann_embed_array_wrapper';
COMMENT ON FUNCTION leann.embed(text[], text, text) IS 'the vectors of texts, in their order';
CREATE FUNCTION leann.embedding_l2(@extschema@.embedding, @extschema@.embedding) RETURNS double precision
    STABLE STRICT PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_wrapper';
CREATE FUNCTION leann.embedding_l2(@extschema@.embedding, text) RETURNS double precision
    STABLE STRICT PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_text_wrapper';
CREATE FUNCTION leann.embedding_l2(@extschema@.embedding, real[]) RETURNS double precision
    STABLE STRICT PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_l2_reals_wrapper';
CREATE FUNCTION leann.embedding_cosine(@extschema@.embedding, @extschema@.embedding) RETURNS double precision
    STABLE STRICT PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_wrapper';
CREATE FUNCTION leann.embedding_cosine(@extschema@.embedding, text) RETURNS double precision
    STABLE STRICT PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_text_wrapper';
CREATE FUNCTION leann.embedding_cosine(@extschema@.embedding, real[]) RETURNS double precision
    STABLE STRICT PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_cosine_reals_wrapper';
CREATE FUNCTION leann.embedding_negative_inner_product(@extschema@.embedding, @extschema@.embedding) RETURNS double precision
    STABLE STRICT PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_wrapper';
CREATE FUNCTION leann.embedding_negative_inner_product(@extschema@.embedding, text) RETURNS double precision
    STABLE STRICT PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_text_wrapper';
CREATE FUNCTION leann.embedding_negative_inner_product(@extschema@.embedding, real[]) RETURNS double precision
    STABLE STRICT PARALLEL SAFE COST 100000 LANGUAGE c AS 'MODULE_PATHNAME', 'embedding_negative_inner_product_reals_wrapper';
CREATE OPERATOR @extschema@.<-> (
    LEFTARG = @extschema@.embedding, RIGHTARG = @extschema@.embedding, FUNCTION = leann.embedding_l2,
    COMMUTATOR = OPERATOR(@extschema@.<->)
);
COMMENT ON OPERATOR @extschema@.<-> (@extschema@.embedding, @extschema@.embedding) IS 'L2 distance';
CREATE OPERATOR @extschema@.<-> (
    LEFTARG = @extschema@.embedding, RIGHTARG = text, FUNCTION = leann.embedding_l2
);
COMMENT ON OPERATOR @extschema@.<-> (@extschema@.embedding, text) IS 'L2 distance';
CREATE OPERATOR @extschema@.<-> (
    LEFTARG = @extschema@.embedding, RIGHTARG = real[], FUNCTION = leann.embedding_l2
);
COMMENT ON OPERATOR @extschema@.<-> (@extschema@.embedding, real[]) IS 'L2 distance';
CREATE OPERATOR @extschema@.<=> (
    LEFTARG = @extschema@.embedding, RIGHTARG = @extschema@.embedding, FUNCTION = leann.embedding_cosine,
    COMMUTATOR = OPERATOR(@extschema@.<=>)
);
COMMENT ON OPERATOR @extschema@.<=> (@extschema@.embedding, @extschema@.embedding) IS 'cosine distance';
CREATE OPERATOR @extschema@.<=> (
    LEFTARG = @extschema@.embedding, RIGHTARG = text, FUNCTION = leann.embedding_cosine
);
COMMENT ON OPERATOR @extschema@.<=> (@extschema@.embedding, text) IS 'cosine distance';
CREATE OPERATOR @extschema@.<=> (
    LEFTARG = @extschema@.embedding, RIGHTARG = real[], FUNCTION = leann.embedding_cosine
);
COMMENT ON OPERATOR @extschema@.<=> (@extschema@.embedding, real[]) IS 'cosine distance';
CREATE OPERATOR @extschema@.<#> (
    LEFTARG = @extschema@.embedding, RIGHTARG = @extschema@.embedding, FUNCTION = leann.embedding_negative_inner_product,
    COMMUTATOR = OPERATOR(@extschema@.<#>)
);
COMMENT ON OPERATOR @extschema@.<#> (@extschema@.embedding, @extschema@.embedding) IS 'negative inner product';
CREATE OPERATOR @extschema@.<#> (
    LEFTARG = @extschema@.embedding, RIGHTARG = text, FUNCTION = leann.embedding_negative_inner_product
);
COMMENT ON OPERATOR @extschema@.<#> (@extschema@.embedding, text) IS 'negative inner product';
CREATE OPERATOR @extschema@.<#> (
    LEFTARG = @extschema@.embedding, RIGHTARG = real[], FUNCTION = leann.embedding_negative_inner_product
);
COMMENT ON OPERATOR @extschema@.<#> (@extschema@.embedding, real[]) IS 'negative inner product';
CREATE FUNCTION leann.list_models() RETURNS TABLE (
    name text, dimensions integer, max_tokens integer, pooling text, normalised boolean, query_prompt text,
    passage_prompt text, fingerprint text, error text
)
    VOLATILE STRICT PARALLEL SAFE COST 10000 ROWS 10
    LANGUAGE c AS 'MODULE_PATHNAME', 'leann_list_models_wrapper';
CREATE VIEW leann.models AS
    SELECT name, dimensions, max_tokens, pooling, normalised, query_prompt, passage_prompt, fingerprint,
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
CREATE FUNCTION leann.recall(index regclass, queries text[], k integer DEFAULT 10) RETURNS TABLE (
    query text, recall double precision, recomputes bigint, pages bigint
)
    VOLATILE STRICT PARALLEL UNSAFE COST 1000000 SET search_path = pg_catalog, pg_temp
    LANGUAGE c AS 'MODULE_PATHNAME', 'leann_recall_wrapper';
COMMENT ON FUNCTION leann.recall(regclass, text[], integer) IS
    'the share of the k nearest rows that an index finds for each query, against the whole table';
CREATE FUNCTION leann.leann_handler(internal) RETURNS index_am_handler
    STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'leann_handler_wrapper';
CREATE ACCESS METHOD leann TYPE INDEX HANDLER leann.leann_handler;
COMMENT ON ACCESS METHOD leann IS 'searches text by meaning without storing embeddings';
CREATE OPERATOR CLASS @extschema@.embedding_ops DEFAULT FOR TYPE @extschema@.embedding USING leann AS
    OPERATOR 1 @extschema@.<-> (@extschema@.embedding, @extschema@.embedding) FOR ORDER BY float_ops,
    OPERATOR 1 @extschema@.<-> (@extschema@.embedding, text) FOR ORDER BY float_ops,
    OPERATOR 1 @extschema@.<-> (@extschema@.embedding, real[]) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (@extschema@.embedding, @extschema@.embedding) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (@extschema@.embedding, text) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (@extschema@.embedding, real[]) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (@extschema@.embedding, @extschema@.embedding) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (@extschema@.embedding, text) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (@extschema@.embedding, real[]) FOR ORDER BY float_ops;
CREATE OPERATOR CLASS @extschema@.embedding_of_needed DEFAULT FOR TYPE text USING leann AS STORAGE text;
CREATE FUNCTION leann.index_info(index regclass) RETURNS TABLE (
    model text, fingerprint text, dimensions integer, store text, trained boolean, rows_trained bigint,
    sketch_bytes integer, directions integer, nodes bigint, node_pages bigint, hub_pages bigint, params_pages bigint, free_pages bigint,
    fill double precision, bytes bigint, bytes_per_row double precision, rows_at_build bigint, advice text
) STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'index_info_wrapper';
COMMENT ON FUNCTION leann.index_info(regclass) IS 'size, contents and model of a leann index, and whether a rebuild is worth it';
CREATE FUNCTION leann.last_scan() RETURNS TABLE (
    pages bigint, nodes bigint, candidates bigint, recomputes bigint, cache_hits bigint, batches bigint, late bigint,
    model_ms double precision, walk_ms double precision
) STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'last_scan_wrapper';
COMMENT ON FUNCTION leann.last_scan() IS 'what the latest leann scan of this session did';
CREATE FUNCTION leann.check(index regclass) RETURNS TABLE (block bigint, fault text)
    STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'check_index_wrapper';
COMMENT ON FUNCTION leann.check(regclass) IS 'verifies a leann index: one row per fault, none if it is sound';
