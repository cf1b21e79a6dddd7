-- The access method and its operator classes.

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

-- Without it, CREATE INDEX on a text column says that the type has no operator class, which helps nobody. With it, the
-- access method is asked, refuses, and says what to index instead. It has no operators: no plan can use it.
CREATE OPERATOR CLASS @extschema@.embedding_of_needed DEFAULT FOR TYPE text USING leann AS STORAGE text;
