-- Unlogged and temporary tables, and changes from one to the other.
SET enable_seqscan = off;
CREATE UNLOGGED TABLE quick (id int PRIMARY KEY, body text);
CREATE INDEX quick_embedding ON quick USING leann (embedding_of(body));
INSERT INTO quick SELECT n, 'row number ' || n FROM generate_series(1, 300) n;
SELECT id FROM quick ORDER BY embedding_of(body) <-> 'row number 250' LIMIT 1;
SELECT * FROM leann.check('quick_embedding');
ALTER TABLE quick SET LOGGED;
SELECT id FROM quick ORDER BY embedding_of(body) <-> 'row number 250' LIMIT 1;
SELECT * FROM leann.check('quick_embedding');
ALTER TABLE quick SET UNLOGGED;
INSERT INTO quick VALUES (301, 'a row after the change');
SELECT id FROM quick ORDER BY embedding_of(body) <-> 'a row after the change' LIMIT 1;
SELECT * FROM leann.check('quick_embedding');
DROP TABLE quick;

CREATE UNLOGGED TABLE filled AS SELECT n AS id, 'row number ' || n AS body FROM generate_series(1, 300) n;
CREATE INDEX filled_embedding ON filled USING leann (embedding_of(body));
DELETE FROM filled WHERE id % 2 = 0;
VACUUM filled;
SELECT id FROM filled ORDER BY embedding_of(body) <-> 'row number 251' LIMIT 1;
SELECT * FROM leann.check('filled_embedding');
DROP TABLE filled;

CREATE TEMP TABLE passing (id int PRIMARY KEY, body text);
CREATE INDEX passing_embedding ON passing USING leann (embedding_of(body));
INSERT INTO passing SELECT n, 'row number ' || n FROM generate_series(1, 300) n;
SELECT id FROM passing ORDER BY embedding_of(body) <-> 'row number 250' LIMIT 1;
DELETE FROM passing WHERE id = 250;
VACUUM passing;
SELECT id = 250 AS deleted FROM passing ORDER BY embedding_of(body) <-> 'row number 250' LIMIT 1;
SELECT * FROM leann.check('passing_embedding');
TRUNCATE passing;
SELECT count(*) FROM (SELECT id FROM passing ORDER BY embedding_of(body) <-> 'row' LIMIT 5) AS near;
DROP TABLE passing;

BEGIN;
CREATE TEMP TABLE brief (id int, body text) ON COMMIT DELETE ROWS;
CREATE INDEX brief_embedding ON brief USING leann (embedding_of(body));
INSERT INTO brief VALUES (1, 'one'), (2, 'two');
SELECT id FROM brief ORDER BY embedding_of(body) <-> 'two' LIMIT 1;
COMMIT;
SELECT count(*) FROM (SELECT id FROM brief ORDER BY embedding_of(body) <-> 'two' LIMIT 5) AS near;
INSERT INTO brief VALUES (3, 'three');
DROP TABLE brief;
