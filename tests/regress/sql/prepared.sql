-- Parameters, typed as drivers type them, with custom and generic plans.
CREATE TABLE docs (id int PRIMARY KEY, body text);
INSERT INTO docs SELECT n, 'passage number ' || n || ' about subject ' || n % 11 FROM generate_series(1, 1000) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
ANALYZE docs;

PREPARE by_text(text) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
PREPARE by_varchar(varchar) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
PREPARE by_embedding(leann.embedding) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
PREPARE by_reals(real[]) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
PREPARE untyped AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1;
PREPARE with_limit(text, int) AS SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT $2;
SELECT name, parameter_types FROM pg_prepared_statements ORDER BY name;

SET plan_cache_mode = force_custom_plan;
EXPLAIN (COSTS OFF) EXECUTE by_text('passage number 42 about subject 9');
EXECUTE by_text('passage number 42 about subject 9');
EXECUTE by_varchar('passage number 42 about subject 9');
EXECUTE by_embedding('passage number 42 about subject 9');
EXECUTE untyped('passage number 42 about subject 9');

SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE by_text('passage number 42 about subject 9');
EXPLAIN (COSTS OFF) EXECUTE by_varchar('passage number 42 about subject 9');
EXPLAIN (COSTS OFF) EXECUTE by_embedding('passage number 42 about subject 9');
EXPLAIN (COSTS OFF) EXECUTE by_reals(ARRAY[1,2]::real[]);
EXPLAIN (COSTS OFF) EXECUTE untyped('passage number 42 about subject 9');
EXECUTE by_text('passage number 42 about subject 9');
EXECUTE by_text('passage number 43 about subject 10');
EXECUTE by_varchar('passage number 42 about subject 9');
EXECUTE by_embedding('passage number 42 about subject 9');
EXECUTE by_reals(leann.embed('passage number 42 about subject 9'));
EXECUTE untyped('passage number 42 about subject 9');
SELECT count(*) FROM (SELECT 1) AS one;
EXECUTE with_limit('passage number 42 about subject 9', 1);
EXECUTE with_limit(NULL, 0);
RESET plan_cache_mode;

-- From five executions on Postgres may choose a generic plan by itself.
EXECUTE by_text('passage number 1 about subject 1');
EXECUTE by_text('passage number 2 about subject 2');
EXECUTE by_text('passage number 3 about subject 3');
EXECUTE by_text('passage number 4 about subject 4');
EXECUTE by_text('passage number 5 about subject 5');
EXECUTE by_text('passage number 6 about subject 6');
EXECUTE by_text('passage number 7 about subject 7');

-- Functions: SQL and PL/pgSQL.
CREATE FUNCTION nearest(question text, wanted int) RETURNS SETOF int LANGUAGE sql STABLE
    AS $$ SELECT id FROM docs ORDER BY embedding_of(body) <-> question LIMIT wanted $$;
SELECT * FROM nearest('passage number 77 about subject 0', 1);
CREATE FUNCTION nearest_plpgsql(question text) RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    found int;
BEGIN
    SELECT id INTO found FROM docs ORDER BY embedding_of(body) <-> question LIMIT 1;
    RETURN found;
END $$;
SELECT n, nearest_plpgsql('passage number ' || n || ' about subject ' || n % 11) AS found FROM generate_series(100, 105) n;

-- A statement prepared before the index is dropped and made again.
DROP INDEX docs_embedding;
EXECUTE by_text('passage number 42 about subject 9');
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
EXECUTE by_text('passage number 42 about subject 9');
DEALLOCATE ALL;
DROP FUNCTION nearest, nearest_plpgsql;
DROP TABLE docs;
