-- The structure of an index, what the latest scan did, and whether an index is sound.

CREATE FUNCTION leann.index_info(index regclass) RETURNS TABLE (
    model text, fingerprint text, dimensions integer, store text, trained boolean, rows_trained bigint,
    sketch_bytes integer, directions integer, nodes bigint, node_pages bigint, hub_pages bigint, params_pages bigint, free_pages bigint,
    fill double precision, bytes bigint, bytes_per_row double precision, rows_at_build bigint,
    untrained_rows bigint, untrained_rows_at_build bigint, sketch_fit double precision, sketch_fit_at_build double precision,
    truncated_rows bigint, advice text
) STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'index_info_wrapper';
COMMENT ON FUNCTION leann.index_info(regclass) IS 'size, contents and model of a leann index, and whether a rebuild is worth it';

CREATE FUNCTION leann.last_scan() RETURNS TABLE (
    scans bigint, pages bigint, nodes bigint, checked bigint, candidates bigint, recomputes bigint, cache_hits bigint, batches bigint,
    late bigint, embedded bigint, model_ms double precision, walk_ms double precision
) STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'last_scan_wrapper';
COMMENT ON FUNCTION leann.last_scan() IS 'what the latest statement of this session that searched did';

CREATE FUNCTION leann.check(index regclass) RETURNS TABLE (block bigint, fault text)
    STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'check_index_wrapper';
COMMENT ON FUNCTION leann.check(regclass) IS 'verifies a leann index: one row per fault, none if it is sound';
