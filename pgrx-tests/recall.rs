//! `leann.recall`: its figures are right and those of the given index, and it changes nothing in the session.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::support::{fails, one, run};

    /// Creates a table of 600 distinct rows.
    fn table() {
        run("CREATE TABLE t AS SELECT n AS id, 'word' || n || ' word' || n % 97 || ' word' || n % 31 AS body
             FROM generate_series(1, 600) n");
        run("CREATE INDEX t_leann ON t USING leann (embedding_of(body))");
    }

    const QUERIES: &str = "ARRAY['word7 word8', 'word500 word90', NULL, 'word33']";

    #[pg_test]
    fn recall_of_an_index() {
        table();
        let figures = |columns: &str| format!("SELECT {columns} FROM leann.recall('t_leann', {QUERIES}, 5)");
        assert_eq!(one::<i64>(&figures("count(*)")), Some(3), "a NULL has no line");
        assert_eq!(
            one::<String>(&figures("string_agg(query, ',')")),
            Some("word7 word8,word500 word90,word33".to_owned())
        );
        assert!(one::<f64>(&figures("avg(recall)")).is_some_and(|recall| (0.8..=1.0).contains(&recall)));
        assert_eq!(one::<bool>(&figures("bool_and(recomputes BETWEEN 5 AND 600 AND pages > 0)")), Some(true));
        // The second call gives the same figures, although the cache could answer now.
        let recomputes = one::<i64>(&figures("sum(recomputes)::bigint"));
        assert_eq!(one::<i64>(&figures("sum(recomputes)::bigint")), recomputes);
        // With fewer recomputes than requested rows, it cannot find them all.
        run("SET leann.max_recompute = 1; SET leann.ef_search = 1");
        assert!(one::<i64>(&figures("max(recomputes)")).is_some_and(|most| most < 60));
    }

    #[pg_test]
    fn rows_that_tie_are_as_good_as_each_other() {
        run("CREATE TABLE t AS SELECT 'same text ' || n % 2 AS body FROM generate_series(1, 400) n");
        run("CREATE INDEX t_leann ON t USING leann (embedding_of(body))");
        assert_eq!(one::<f64>("SELECT recall FROM leann.recall('t_leann', '{same text 1}')"), Some(1.0));
    }

    #[pg_test]
    fn recall_of_one_index_of_several() {
        table();
        run("CREATE INDEX t_part ON t USING leann (embedding_of(body)) WHERE id % 3 = 0");
        run("CREATE INDEX t_model ON t USING leann (embedding_of(body || '!'::varchar, 'tiny-hash'))");
        run("CREATE INDEX t_other ON t USING leann (embedding_of(body))");
        for index in ["t_leann", "t_part", "t_model", "t_other"] {
            let recall = one::<f64>(&format!("SELECT avg(recall) FROM leann.recall('{index}', {QUERIES})"));
            assert!(recall.is_some_and(|recall| recall > 0.8), "{index}: {recall:?}");
        }
        // The call leaves nothing behind.
        assert_eq!(one::<String>("SHOW enable_seqscan"), Some("on".to_owned()));
        run("CREATE INDEX t_hash ON t USING hash (id); SET enable_seqscan = off");
        let plan = Spi::explain("SELECT * FROM t WHERE id = 7").expect("a plan").0.to_string();
        assert!(plan.contains("t_hash"), "{plan}");
    }

    #[pg_test]
    fn recall_looks_at_the_plan_not_at_its_text() {
        table();
        run("SET leann.default_model = 'tiny-hash-b'");
        fails("SELECT * FROM leann.recall('t_leann', '{Index Scan}')", "55000", "cannot use the index");
    }

    #[pg_test]
    fn recall_of_nothing() {
        run("CREATE TABLE t (body text); CREATE INDEX t_leann ON t USING leann (embedding_of(body))");
        assert_eq!(
            one::<i64>("SELECT count(*) FROM leann.recall('t_leann', '{a,b}') WHERE recall IS NULL"),
            Some(2)
        );
        assert_eq!(one::<i64>("SELECT count(*) FROM leann.recall('t_leann', '{}')"), Some(0));
        run("INSERT INTO t VALUES (NULL), ('one text'), (NULL)");
        assert_eq!(one::<f64>("SELECT recall FROM leann.recall('t_leann', '{text}', 10)"), Some(1.0));
    }

    #[pg_test]
    fn recall_of_drawn_queries() {
        table();
        let figures = |columns: &str| format!("SELECT {columns} FROM leann.recall('t_leann')");
        assert_eq!(one::<i64>(&figures("count(DISTINCT query)")), Some(20));
        assert_eq!(one::<bool>(&figures("bool_and(query IN (SELECT body FROM t))")), Some(true));
        assert!(one::<f64>(&figures("avg(recall)")).is_some_and(|recall| (0.5..=1.0).contains(&recall)));
        // Calls draw different rows: chance does not draw the same 20 of 600 ten times.
        let draws = "SELECT count(DISTINCT queries) FROM (
            SELECT n, string_agg(query, ',' ORDER BY query) AS queries
            FROM generate_series(1, 10) n, leann.recall('t_leann', k => n) GROUP BY n) AS draws";
        assert!(one::<i64>(draws).is_some_and(|different| different > 1));
        // The call leaves nothing behind.
        assert_eq!(one::<String>("SHOW enable_seqscan"), Some("on".to_owned()));
        for samples in ["0", "-1", "10001"] {
            fails(
                &format!("SELECT * FROM leann.recall('t_leann', samples => {samples})"),
                "22023",
                "samples must be between 1 and 10000",
            );
        }
    }

    #[pg_test]
    fn recall_that_is_refused() {
        table();
        run("CREATE INDEX t_btree ON t (id)");
        fails("SELECT * FROM leann.recall('t_btree', '{a}')", "42809", "not a leann index");
        fails("SELECT * FROM leann.recall('t', '{a}')", "42809", "not a leann index");
        for k in ["0", "-1", "10001"] {
            fails(
                &format!("SELECT * FROM leann.recall('t_leann', '{{a}}', {k})"),
                "22023",
                "k must be between",
            );
        }
        // After an error, as after a success, the planner sees all indexes and its own settings.
        run("SET leann.default_model = 'tiny-hash-b'");
        fails("SELECT * FROM leann.recall('t_leann', '{a}')", "55000", "cannot use the index");
        run("RESET leann.default_model");
        assert_eq!(one::<String>("SHOW enable_seqscan"), Some("on".to_owned()));
        run("SET enable_seqscan = off");
        let plan = Spi::explain("SELECT * FROM t WHERE id = 7").expect("a plan").0.to_string();
        assert!(plan.contains("t_btree"), "{plan}");
        run("RESET enable_seqscan");
        run("CREATE ROLE leann_reader; GRANT USAGE ON SCHEMA tests TO leann_reader; SET ROLE leann_reader");
        fails("SELECT * FROM leann.recall('t_leann', '{a}')", "42501", "permission denied for table t");
        fails("SELECT * FROM leann.recall('t_leann')", "42501", "permission denied for table t");
        run("RESET ROLE");
    }
}
