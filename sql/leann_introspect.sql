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
CREATE FUNCTION leann.index_counts() RETURNS TABLE (
    indexrelid oid, searches bigint, pages bigint, nodes bigint, checked bigint, recomputes bigint, cache_hits bigint,
    late bigint, model_ms double precision, walk_ms double precision, since timestamptz
) LANGUAGE c AS 'MODULE_PATHNAME', 'index_counts_wrapper';
COMMENT ON FUNCTION leann.index_counts() IS 'the counts behind the view leann.stat_indexes';
CREATE VIEW leann.stat_indexes AS
    SELECT i.indrelid AS relid, c.indexrelid, n.nspname AS schemaname, t.relname, x.relname AS indexrelname,
        c.searches, c.pages, c.nodes, c.checked, c.recomputes, c.cache_hits, c.late, c.model_ms, c.walk_ms, c.since
    FROM leann.index_counts() AS c
        JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.indexrelid
        JOIN pg_catalog.pg_class AS x ON x.oid = c.indexrelid
        JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace;
GRANT SELECT ON leann.stat_indexes TO PUBLIC;
COMMENT ON VIEW leann.stat_indexes IS 'what searches did, index by index: of the whole server if the library is preloaded, else of this session';

CREATE FUNCTION leann.check(index regclass) RETURNS TABLE (block bigint, fault text)
    STRICT LANGUAGE c AS 'MODULE_PATHNAME', 'check_index_wrapper';
COMMENT ON FUNCTION leann.check(regclass) IS 'verifies a leann index: one row per fault, none if it is sound';

-- What a recompute costs on this machine. Texts of one's own are better than the ones here: cost grows with their length.
CREATE FUNCTION leann.measure_cost(
    texts text[] DEFAULT NULL, model text DEFAULT NULL,
    OUT single_ms double precision, OUT batch_ms double precision, OUT recompute_cost double precision
) LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sample text[] := (SELECT array_agg(body || ' ' || n || ' ' || random()) FROM (
        SELECT body, row_number() OVER () AS n FROM unnest(coalesce(texts, ARRAY[
            'An index access method tells the server how to find rows without reading the whole table. It is asked for rows in an'
            ' order, returns their places one after the other, and learns of every row that is inserted, updated or deleted. What it'
            ' keeps on its pages is its own business, as long as it is logged, locked and recovered with the rest of the database.',
            'Vaccines train the immune system to recognize a pathogen before the body meets it. A small and harmless part of the virus'
            ' or bacterium, or the instructions to make one, is enough for the body to produce antibodies and memory cells.',
            'The harbor was built in the second century and silted up in the sixth. Its breakwater can be seen from the road.'])) AS body
            , generate_series(1, CASE WHEN texts IS NULL THEN 6 ELSE 1 END)
        LIMIT 64) AS numbered WHERE body IS NOT NULL);
    began timestamptz;
    single text;
BEGIN
    IF sample IS NULL THEN
        RAISE 'there is no text to embed' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Once before, so that the model is loaded.
    PERFORM leann.embed(sample[1] || ' once', model);
    began := clock_timestamp();
    FOREACH single IN ARRAY sample[1:16] LOOP
        PERFORM leann.embed(single, model);
    END LOOP;
    single_ms := extract(epoch FROM clock_timestamp() - began) * 1000 / least(cardinality(sample), 16);
    SELECT array_agg(again || ' again') INTO sample FROM unnest(sample) AS again;
    began := clock_timestamp();
    PERFORM leann.embed_all(sample, model);
    batch_ms := extract(epoch FROM clock_timestamp() - began) * 1000 / cardinality(sample);
    -- A search embeds a few rows at a time. The unit is what a page costs, some 100 microseconds.
    recompute_cost := round(((single_ms + batch_ms) / 2 * 10)::numeric, 1);
END $$;
COMMENT ON FUNCTION leann.measure_cost(text[], text) IS 'what it takes to embed a text alone and in a batch, in milliseconds, and the leann.recompute_cost that fits';
