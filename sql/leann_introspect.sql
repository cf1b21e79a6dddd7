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
    late bigint, embedded bigint, model_ms double precision, walk_ms double precision, group_size bigint, bound double precision
) STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'last_scan_wrapper';
COMMENT ON FUNCTION leann.last_scan() IS 'what the latest statement of this session that searched did';

-- Counts since the statistics were reset, as all of the server's.
CREATE FUNCTION leann.index_counts(reset bigint) RETURNS TABLE (
    indexrelid oid, searches bigint, pages bigint, nodes bigint, checked bigint, recomputes bigint, cache_hits bigint,
    late bigint, model_ms double precision, walk_ms double precision, since bigint
) LANGUAGE c AS 'MODULE_PATHNAME', 'index_counts_wrapper';
COMMENT ON FUNCTION leann.index_counts(bigint) IS 'the counts behind the view leann.stat_indexes';
CREATE VIEW leann.stat_indexes AS
    SELECT i.indrelid AS relid, c.indexrelid, n.nspname AS schemaname, t.relname, x.relname AS indexrelname,
        c.searches, c.pages, c.nodes, c.checked, c.recomputes, c.cache_hits, c.late, c.model_ms, c.walk_ms,
        timestamptz '2000-01-01 00:00:00 UTC' + c.since * interval '1 microsecond' AS since
    FROM leann.index_counts((extract(epoch FROM (
            SELECT d.stats_reset FROM pg_catalog.pg_stat_database AS d WHERE d.datname = pg_catalog.current_database())
            - timestamptz '2000-01-01 00:00:00 UTC') * 1000000)::bigint) AS c
        JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.indexrelid
        JOIN pg_catalog.pg_class AS x ON x.oid = c.indexrelid
        JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace;
GRANT SELECT ON leann.stat_indexes TO PUBLIC;
COMMENT ON VIEW leann.stat_indexes IS 'what searches did, index by index: of the whole server if the library is preloaded, else of this session';

CREATE FUNCTION leann.check(index regclass) RETURNS TABLE (block bigint, fault text)
    STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'check_index_wrapper';
COMMENT ON FUNCTION leann.check(regclass) IS 'verifies a leann index: one row per fault, none if it is sound';
