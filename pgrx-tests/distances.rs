//! The distance operators: every way to write the right operand, their results, and what they refuse.

#[pgrx::pg_schema]
mod tests {
    use pgrx::datum::DatumWithOid;
    use pgrx::prelude::*;

    use crate::sql::operators::Strategy;
    use crate::support::{Numbers, fails, one, run};
    use leann_vector::exact_squared_distance as squared_distance;

    const OPERATORS: [&str; 3] = ["<->", "<=>", "<#>"];

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
    }

    #[pg_test]
    fn distances_of_vectors() {
        let distance = |operator: &str, b: &str| {
            one::<f64>(&format!("SELECT '[3,4]'::leann.embedding {operator} '{b}'")).expect("a distance")
        };
        for (operator, right_angle, opposite, same) in
            [("<->", 2f64.sqrt(), 2.0, 0.0), ("<=>", 1.0, 2.0, 0.0), ("<#>", 0.0, 1.0, -1.0)]
        {
            close(distance(operator, "[-4,3]"), right_angle);
            close(distance(operator, "[-3,-4]"), opposite);
            assert_eq!(distance(operator, "[3,4]"), same, "{operator}: exactly, not nearly");
            assert_eq!(distance(operator, "[30,40]"), same, "{operator}: length does not count");
        }
    }

    #[pg_test]
    fn distances_agree_with_each_other() {
        let mut numbers = Numbers::new(5);
        let mut unit = |dim: usize| {
            let vector: Vec<f64> = (0..dim).map(|_| numbers.below(2001) as f64 - 1000.5).collect();
            let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
            vector.into_iter().map(|x| (x / norm) as f32).collect::<Vec<f32>>()
        };
        for dim in [1, 2, 7, 8, 9, 63, 384] {
            let (a, b) = (unit(dim), unit(dim));
            let squared = squared_distance(&a, &b);
            let inner: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            close(squared, 2.0 - 2.0 * inner);
            assert_eq!(squared.to_bits(), squared_distance(&b, &a).to_bits());
            assert_eq!(squared_distance(&a, &a), 0.0);
            close(Strategy::L2.distance(squared), squared.sqrt());
            close(Strategy::Cosine.distance(squared), 1.0 - inner);
            close(Strategy::NegativeInnerProduct.distance(squared), -inner);
        }
    }

    /// An embedding in the right operand gives the same distance in every notation.
    #[pg_test]
    fn right_operands() {
        run("CREATE TABLE t (body text)");
        run("INSERT INTO t VALUES ('a cat sat on the mat')");
        for operator in OPERATORS {
            let query = |operand: &str| {
                one::<f64>(&format!("SELECT embedding_of(body) {operator} {operand} FROM t"))
                    .expect("a distance")
            };
            let distance = query("'where is the cat'");
            for operand in [
                "'where is the cat'::text",
                "'where is the cat'::varchar",
                "'where is the cat'::char(20)",
                "'where is the cat'::leann.embedding",
                "('where is the ' || 'cat')",
                "leann.embed('where is the cat', role => 'query')",
                "'where is the cat'::leann.embedding::real[]",
                "'leann:{\"text\":\"where is the cat\"}'::leann.embedding",
                "leann.embed('where is the cat', role => 'query')::double precision[]",
                "leann.embed('where is the cat', role => 'query')::numeric[]",
                "leann.embed('where is the cat', role => 'query')::text",
                "leann.embed('where is the cat', role => 'query')::leann.embedding::text",
                "leann.embed('where is the cat', role => 'query')::leann.embedding::text::leann.embedding",
            ] {
                assert!((query(operand) - distance).abs() < 1e-6, "{operator} {operand}");
            }
            for oid in [pg_sys::TEXTOID, pg_sys::VARCHAROID] {
                // SAFETY: a string converts to a datum of each of these types.
                let parameter = unsafe { DatumWithOid::new("where is the cat", oid) };
                let select = format!("SELECT embedding_of(body) {operator} $1 FROM t");
                let given = Spi::get_one_with_args::<f64>(&select, &[parameter]).expect("a query");
                close(given.expect("a distance"), distance);
            }
            let vector = one::<Vec<f32>>("SELECT leann.embed('where is the cat', role => 'query')");
            let select = format!("SELECT embedding_of(body) {operator} $1 FROM t");
            let given = Spi::get_one_with_args::<f64>(&select, &[vector.into()]).expect("a query");
            close(given.expect("a distance"), distance);
            // A prepared statement whose parameter has no declared type.
            run(&format!("PREPARE p AS SELECT embedding_of(body) {operator} $1 FROM t"));
            assert_eq!(
                one::<String>("SELECT parameter_types::text FROM pg_prepared_statements WHERE name = 'p'"),
                Some("{text}".to_owned())
            );
            close(one::<f64>("EXECUTE p('where is the cat')").expect("a distance"), distance);
            run("DEALLOCATE p");
        }
    }

    #[pg_test]
    fn operands_change_places() {
        for operator in OPERATORS {
            let select =
                format!("SELECT (embedding_of('a') {operator} 'b') = ('b' {operator} embedding_of('a'))");
            assert_eq!(one::<bool>(&select), Some(true));
        }
    }

    #[pg_test]
    fn null_operands() {
        run("SET leann.model_dir = '/nonexistent'");
        for operator in OPERATORS {
            for operand in ["NULL", "NULL::text", "NULL::real[]", "NULL::leann.embedding"] {
                assert_eq!(one::<f64>(&format!("SELECT embedding_of('a') {operator} {operand}")), None);
            }
            assert_eq!(one::<f64>(&format!("SELECT embedding_of(NULL) {operator} 'a'")), None);
        }
    }

    #[pg_test]
    fn operands_that_do_not_fit() {
        let dim = one::<i32>("SELECT array_length(leann.embed('a'), 1)").expect("a dimension");
        let words = format!("different embedding dimensions {dim} and 3");
        for operand in ["ARRAY[1,2,3]", "ARRAY[1,2,3]::real[]", "'[1,2,3]'::leann.embedding"] {
            fails(&format!("SELECT embedding_of('a') <-> {operand}"), "22000", &words);
        }
        // A text with fewer numbers than the model has dimensions is taken as words, and so is one that looks
        // like a literal.
        for operand in ["'[1,2,3]'", "'[1,nan]'::text", "'leann:{\"text\":\"b\",\"model\":\"n\"}'"] {
            assert!(one::<f64>(&format!("SELECT embedding_of('a') <-> {operand}")).is_some(), "{operand}");
        }
        fails("SELECT '[1,2]'::leann.embedding <=> ARRAY[1,2,3]", "22000", "dimensions 2 and 3");
        fails("SELECT '[1,2]'::leann.embedding <=> '[0,0]'", "22000", "dimensions 2 and 64");
        fails("SELECT embedding_of('a') <-> ARRAY['1','2']", "42883", "operator does not exist");
        fails("SELECT embedding_of('a') <-> ARRAY[1e39::float8]", "22003", "out of range for type real");
        fails("SELECT embedding_of('a') <-> ARRAY[1,NULL]::real[]", "22004", "must not contain NULLs");
        fails("SELECT embedding_of('a') <-> ARRAY[[1,2],[3,4]]::real[]", "2202E", "one-dimensional");
        fails("SELECT embedding_of('a') <-> '{}'::real[]", "22023", "at least one dimension");
        fails(
            "SELECT embedding_of('a', 'm') <-> 'leann:{\"text\":\"b\",\"model\":\"n\"}'::leann.embedding",
            "42804",
            "\"m\" and \"n\"",
        );
        fails("SELECT 1 ORDER BY embedding_of('a') <-> ARRAY[0,0]::real[]", "22023", "all zeros");
    }

    #[pg_test]
    fn a_query_takes_the_model_of_the_row() {
        run("SET leann.default_model = 'absent'");
        let same = "SELECT embedding_of('a', 'tiny-hash') <-> leann.embed('a', 'tiny-hash', 'passage')";
        assert_eq!(one::<f64>(same), Some(0.0));
        assert!(one::<f64>("SELECT embedding_of('a', 'tiny-hash') <-> 'a'").is_some());
        assert!(one::<f64>("SELECT embedding_of('a', 'tiny-hash') <-> embedding_of('b')").is_some());
        // The row's model is the default one, even if the query names another.
        fails(
            "SELECT embedding_of('a') <-> embedding_of('b', 'tiny-hash')",
            "42804",
            "\"absent\" and \"tiny-hash\"",
        );
        fails("SELECT embedding_of('a') <-> 'a'", "42704", "model \"absent\" does not exist");
    }

    #[pg_test]
    fn a_scan_without_an_index_orders_rows() {
        run("CREATE TABLE t AS SELECT n, 'word' || n || ' word' || n + 1 AS body
             FROM generate_series(1, 200) n");
        for operator in OPERATORS {
            let first =
                format!("SELECT n FROM t ORDER BY embedding_of(body) {operator} 'word7 word8' LIMIT 1");
            assert_eq!(one::<i32>(&first), Some(7));
        }
    }

    /// A plan that recomputes every row of a table is expensive, as `leann.recompute_cost` says.
    #[pg_test]
    fn distances_have_a_price() {
        run("CREATE TABLE t AS SELECT n::text AS body FROM generate_series(1, 100) n");
        run("ANALYZE t");
        let plan = Spi::explain("SELECT * FROM t ORDER BY embedding_of(body) <-> 'a'").expect("a plan").0;
        let cost = plan[0]["Plan"]["Total Cost"].as_f64().expect("a cost");
        let recompute = one::<String>("SHOW leann.recompute_cost").and_then(|cost| cost.parse().ok());
        let expected = 100.0 * recompute.unwrap_or(0.0f64);
        assert!((cost / expected - 1.0).abs() < 0.01, "{cost} and {expected}");
    }
}
