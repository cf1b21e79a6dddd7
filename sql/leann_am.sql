-- The access method and its operator classes.

CREATE FUNCTION leann.leann_handler(internal) RETURNS index_am_handler
    STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'leann_handler_wrapper';
CREATE ACCESS METHOD leann TYPE INDEX HANDLER leann.leann_handler;
COMMENT ON ACCESS METHOD leann IS 'searches text by meaning without storing embeddings';

CREATE OPERATOR CLASS leann.embedding_ops DEFAULT FOR TYPE leann.embedding USING leann AS
    OPERATOR 1 @extschema@.<-> (leann.embedding, text) FOR ORDER BY float_ops,
    OPERATOR 1 @extschema@.<-> (leann.embedding, leann.query) FOR ORDER BY float_ops,
    OPERATOR 1 @extschema@.<-> (leann.embedding, real[]) FOR ORDER BY float_ops,
    OPERATOR 1 @extschema@.<-> (leann.embedding, double precision[]) FOR ORDER BY float_ops,
    OPERATOR 1 @extschema@.<-> (leann.embedding, numeric[]) FOR ORDER BY float_ops,
    OPERATOR 1 @extschema@.<-> (leann.embedding, smallint[]) FOR ORDER BY float_ops,
    OPERATOR 1 @extschema@.<-> (leann.embedding, integer[]) FOR ORDER BY float_ops,
    OPERATOR 1 @extschema@.<-> (leann.embedding, bigint[]) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (leann.embedding, text) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (leann.embedding, leann.query) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (leann.embedding, real[]) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (leann.embedding, double precision[]) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (leann.embedding, numeric[]) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (leann.embedding, smallint[]) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (leann.embedding, integer[]) FOR ORDER BY float_ops,
    OPERATOR 2 @extschema@.<=> (leann.embedding, bigint[]) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (leann.embedding, text) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (leann.embedding, leann.query) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (leann.embedding, real[]) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (leann.embedding, double precision[]) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (leann.embedding, numeric[]) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (leann.embedding, smallint[]) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (leann.embedding, integer[]) FOR ORDER BY float_ops,
    OPERATOR 3 @extschema@.<#> (leann.embedding, bigint[]) FOR ORDER BY float_ops;

-- Without it, CREATE INDEX on a text column would only report that the type has no operator class. With it,
-- the access method is asked, refuses, and says what to index instead. It has no operators: no plan can use
-- it.
CREATE OPERATOR CLASS leann.embedding_of_needed DEFAULT FOR TYPE text USING leann AS STORAGE text;
