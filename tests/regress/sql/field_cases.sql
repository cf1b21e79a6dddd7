-- What users of other systems ran into, as they wrote it, with default settings: how many texts each statement embeds.
\c
CREATE TABLE docs (id int PRIMARY KEY, tenant int, status text, views int DEFAULT 0, body text);
INSERT INTO docs SELECT n, n % 200, CASE WHEN n % 3 = 0 THEN 'live' ELSE 'draft' END, 0,
    'passage number ' || n || ' about subject ' || n % 97 || ' and matter ' || n % 31 FROM generate_series(1, 4000) n;
CREATE INDEX docs_emb ON docs USING leann (embedding_of(body));
CREATE INDEX ON docs (tenant);
ANALYZE docs;
CREATE FUNCTION embedded(statement text) RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE before bigint; BEGIN
    PERFORM leann.clear_cache();
    SELECT lookups - hits INTO before FROM leann.cache WHERE scope = 'session';
    EXECUTE statement;
    RETURN (SELECT lookups - hits - before FROM leann.cache WHERE scope = 'session');
END $$;

-- A bulk update of a column that has nothing to do with the text, and one of an indexed foreign key.
SELECT embedded('UPDATE docs SET views = views + 1');
SELECT embedded('UPDATE docs SET tenant = tenant');
VACUUM ANALYZE docs;
-- A filter that few rows pass, or none, with and without statistics for it, in custom and generic plans.
PREPARE q(int, text) AS SELECT id FROM docs WHERE views = $1 ORDER BY embedding_of(body) <-> $2 LIMIT 10;
SET plan_cache_mode = force_generic_plan;
SELECT embedded($$EXECUTE q(5, 'subject 8')$$) <= 1 AS none;
RESET plan_cache_mode;
SELECT embedded($$SELECT id FROM docs WHERE views + 0 > 100 ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 10$$) <= 1 AS none;
SELECT embedded($$SELECT id FROM docs WHERE tenant = 7 ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 10$$) <= 21 AS tenant;
SELECT embedded($$SELECT id FROM docs WHERE status = 'live' ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 10$$) < 60 AS status;
SELECT embedded($$SELECT id FROM docs WHERE false ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 10$$) AS never;
-- A threshold on the distance.
SELECT embedded($$SELECT id FROM docs WHERE embedding_of(body) <=> 'subject 7' < 0.05 ORDER BY embedding_of(body) <=> 'subject 7' LIMIT 10$$) < 60 AS few;
SELECT embedded($$SELECT id FROM docs WHERE embedding_of(body) <=> 'subject 7' < 0.05$$) < 60 AS few;
SELECT embedded($$SELECT count(*) FROM docs WHERE 1 - (embedding_of(body) <=> 'passage number 77 about subject 77 and matter 15') > 0.99$$) < 400 AS few;
-- Fifty partitions of a hundred rows.
CREATE TABLE ev (id int, day int, body text) PARTITION BY RANGE (day);
SELECT format('CREATE TABLE ev_%s PARTITION OF ev FOR VALUES FROM (%s) TO (%s)', n, n, n + 1) FROM generate_series(0, 49) n \gexec
INSERT INTO ev SELECT n, n % 50, 'passage number ' || n || ' about subject ' || n % 97 || ' and matter ' || n % 31 FROM generate_series(1, 5000) n;
CREATE INDEX ON ev USING leann (embedding_of(body));
ANALYZE ev;
SELECT embedded($$SELECT id FROM ev ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 10$$) < 800 AS few;
-- A tie-breaker, as ORMs write it for stable pages.
EXPLAIN (COSTS OFF) SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7', id LIMIT 10;
SELECT embedded($$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7', id LIMIT 10$$) < 100 AS few;
DROP TABLE docs, ev;
DROP FUNCTION embedded;
