-- The forms of docs/queries.md: which use the index, and which do not, with default settings.
CREATE TABLE docs (id int PRIMARY KEY, tenant int, title text, body text);
INSERT INTO docs SELECT n, n % 40, 'title ' || n, 'passage number ' || n || ' about subject ' || n % 97 FROM generate_series(1, 3000) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
CREATE TABLE notes (id int, note varchar(200));
INSERT INTO notes SELECT n, 'note number ' || n FROM generate_series(1, 1000) n;
CREATE INDEX notes_embedding ON notes USING leann (embedding_of(note));
CREATE TABLE parts (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1000) TO (2000);
INSERT INTO parts SELECT n, 'part number ' || n FROM generate_series(0, 1999) n;
CREATE INDEX parts_embedding ON parts USING leann (embedding_of(body));
CREATE TABLE questions (id int PRIMARY KEY, question text);
INSERT INTO questions SELECT n, 'question about subject ' || n FROM generate_series(1, 20) n;
ANALYZE docs, notes, parts, questions;
CREATE FUNCTION volatile_words() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'subject 7'; END $$;
CREATE FUNCTION stable_words() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN 'subject 7'; END $$;
CREATE VIEW texts AS SELECT id, embedding_of(body) AS embedding FROM docs;

-- Whether a leann index answers a query, and no table of texts is read as a whole.
CREATE FUNCTION uses_index(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    line text;
    ordered boolean := false;
    read boolean := false;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        ordered := ordered OR line ~ 'Order By: .*(<->|<=>|<#>)';
        read := read OR line ~ 'Seq Scan on (docs|notes|parts)';
    END LOOP;
    RETURN ordered AND NOT read;
END $$;

-- Forms that use it.
SELECT uses_index(query), query FROM unnest(ARRAY[
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 10$$,
    $$SELECT id, embedding_of(body) <=> 'subject 7' AS distance FROM docs WHERE tenant < 20 ORDER BY distance LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY leann.distance(body, 'subject 7') LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> lower('Subject 7') LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> stable_words() LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> (SELECT volatile_words()) LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> leann.embed('subject 7', role => 'query') LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> (SELECT question FROM questions WHERE id = 7) LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> (SELECT embedding_of(body) FROM docs WHERE id = 7) LIMIT 10$$,
    $$WITH q AS MATERIALIZED (SELECT 'subject 7' AS words) SELECT id FROM docs ORDER BY embedding_of(body) <-> (SELECT words FROM q) LIMIT 10$$,
    $$SELECT q.id, near.id FROM questions q CROSS JOIN LATERAL (SELECT id FROM docs ORDER BY embedding_of(body) <-> q.question LIMIT 3) AS near$$,
    $$SELECT id FROM docs WHERE embedding_of(body) <-> 'subject 7' < 0.9$$,
    $$SELECT id FROM docs WHERE embedding_of(body) <-> 'subject 7' < 0.9 ORDER BY embedding_of(body) <-> 'subject 7'$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7', id LIMIT 10$$,
    $$SELECT * FROM (SELECT id, embedding_of(body) <-> 'subject 7' AS d FROM docs ORDER BY d LIMIT 10) AS near WHERE d < 0.9$$,
    $$SELECT id, 1 - d AS similarity FROM (SELECT id, embedding_of(body) <=> 'subject 7' AS d FROM docs ORDER BY d LIMIT 10) AS near ORDER BY d$$,
    $$SELECT * FROM (SELECT id, embedding_of(body) <-> 'subject 7' AS d FROM docs ORDER BY d LIMIT 50) AS near ORDER BY d, id LIMIT 10$$,
    $$SELECT tenant, min(d) FROM (SELECT tenant, embedding_of(body) <-> 'subject 7' AS d FROM docs ORDER BY d LIMIT 100) AS near GROUP BY tenant ORDER BY 2 LIMIT 10$$,
    $$SELECT DISTINCT tenant FROM (SELECT tenant FROM docs ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 100) AS near$$,
    $$SELECT min(embedding_of(body) <-> 'subject 7') FROM docs$$,
    $$SELECT id, rank() OVER (ORDER BY embedding_of(body) <-> 'subject 7') FROM docs ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 10 OFFSET 20$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 5 FOR UPDATE SKIP LOCKED$$,
    $$UPDATE docs SET tenant = 1 WHERE id = ANY (ARRAY(SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 10))$$,
    $$DECLARE c CURSOR FOR SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7'$$,
    $$SELECT id FROM texts ORDER BY embedding <-> 'subject 7' LIMIT 10$$,
    $$SELECT id FROM parts ORDER BY embedding_of(body) <-> 'subject 7' LIMIT 10$$,
    $$SELECT * FROM (SELECT id, embedding_of(body) AS e FROM docs UNION ALL SELECT id, embedding_of(note) FROM notes) AS all_texts ORDER BY e <-> 'subject 7' LIMIT 10$$,
    $$SELECT d.id, title FROM docs d JOIN questions q ON q.id = d.tenant WHERE d.tenant < 20 ORDER BY embedding_of(d.body) <-> 'subject 7' LIMIT 10$$
]) AS query;

-- Forms that do not.
SELECT uses_index(query), query FROM unnest(ARRAY[
    $$SELECT id FROM docs WHERE embedding_of(body) <-> 'subject 7' > 0.9$$,
    $$SELECT id, 1 - (embedding_of(body) <=> 'subject 7') AS similarity FROM docs ORDER BY similarity DESC LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7' DESC LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7' NULLS FIRST LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY round((embedding_of(body) <-> 'subject 7')::numeric, 2) LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> 'subject 7'$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body) <-> volatile_words() LIMIT 10$$,
    $$SELECT b.id FROM docs a, docs b WHERE a.id = 7 ORDER BY embedding_of(b.body) <-> a.body LIMIT 10$$,
    $$WITH q AS MATERIALIZED (SELECT 'subject 7' AS words) SELECT id FROM docs, q ORDER BY embedding_of(body) <-> q.words LIMIT 10$$,
    $$SELECT tenant, min(embedding_of(body) <-> 'subject 7') FROM docs GROUP BY tenant ORDER BY 2 LIMIT 10$$,
    $$SELECT DISTINCT ON (tenant) id FROM docs ORDER BY tenant, embedding_of(body) <-> 'subject 7'$$,
    $$SELECT id, rank() OVER (ORDER BY embedding_of(body) <-> 'subject 7') AS place FROM docs ORDER BY place LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY leann.embedding_l2(embedding_of(body), 'subject 7'::text) LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body || '') <-> 'subject 7' LIMIT 10$$,
    $$SELECT id FROM docs ORDER BY embedding_of(body, 'tiny-hash') <-> 'subject 7' LIMIT 10$$,
    $$UPDATE docs SET tenant = 1 WHERE embedding_of(body) <-> 'subject 7' < 0.9$$
]) AS query;

-- The forms that belong together give the same rows. (Exactly: no row is left out.)
SET leann.iterative_scan = relaxed_order;
SET leann.rerank_z = 8;
SET leann.ef_search = 3000;
SET leann.patience = 1000;
SELECT array_agg(id ORDER BY d) = (SELECT array_agg(id ORDER BY d) FROM (
    SELECT id, embedding_of(body) <-> 'subject 7' AS d FROM docs ORDER BY d, id LIMIT 10) AS exact) AS tie_breaker
FROM (SELECT * FROM (SELECT id, embedding_of(body) <-> 'subject 7' AS d FROM docs ORDER BY d LIMIT 50) AS near ORDER BY d, id LIMIT 10) AS by_index;
SELECT array_agg(id ORDER BY d) = (SELECT array_agg(id ORDER BY s DESC) FROM (
    SELECT id, 1 - (embedding_of(body) <=> 'passage number 77 about subject 77') AS s FROM docs ORDER BY s DESC LIMIT 5) AS exact) AS similarity
FROM (SELECT id, embedding_of(body) <=> 'passage number 77 about subject 77' AS d FROM docs ORDER BY d LIMIT 5) AS by_index;
SELECT array_agg(id ORDER BY id) = (SELECT array_agg(id ORDER BY id) FROM docs WHERE embedding_of(body) <-> 'passage number 77 about subject 77' < 0.45) AS threshold
FROM (SELECT id, embedding_of(body) <-> 'passage number 77 about subject 77' AS d FROM docs ORDER BY d LIMIT 300) AS by_index WHERE d < 0.45;
DROP VIEW texts;
DROP TABLE docs, notes, parts, questions;
DROP FUNCTION uses_index, volatile_words, stable_words;
