//! The type `embedding`: values survive input and output, and anything else is refused.

#[pgrx::pg_schema]
mod tests {
    use std::ffi::CString;

    use leann_value::{Role, Value};
    use pgrx::datum::FromDatum;
    use pgrx::prelude::*;

    use crate::support::{Numbers, fails, one, run};
    use crate::value::Embedding;

    /// Parts of generated strings that look like something else: a vector, a structured literal, SQL, JSON.
    const PIECES: &[&str] = &[
        "[",
        "]",
        ",",
        "1",
        "-0",
        ".5",
        "1e-40",
        "nan",
        "inf",
        "leann:",
        "leann:{",
        "{",
        "}",
        "\"text\":",
        "\"role\":",
        "\"model\":",
        "\"passage\"",
        "\"query\"",
        "\"",
        "\\",
        "\\u0000",
        "\\n",
        "\n",
        "\t",
        " ",
        "'",
        "$1",
        "ß",
        "…",
        "🦀",
        "日本",
        "\u{202e}",
        "\u{feff}",
        "a",
        "vaccine",
    ];

    fn hostile(numbers: &mut Numbers) -> String {
        (0..numbers.below(9)).map(|_| *numbers.pick(PIECES)).collect()
    }

    /// A few strings that random generation would rarely produce.
    const LITERALS: &[&str] = &[
        "",
        " ",
        "[",
        "[]x",
        "[1,2",
        "[a]",
        "[1,,2]",
        "[1 2]",
        "leann:",
        "leann:{}",
        "leann:{\"text\":1}",
        "leann:{\"text\":\"x\",\"roll\":\"query\"}",
        "leann:{\"text\":\"x\",\"role\":\"other\"}",
        "leann:{\"text\":\"x\"} and more",
        " leann:{\"text\":\"x\"}",
        "LEANN:{\"text\":\"x\"}",
    ];

    fn round_trip(value: Embedding) {
        let literal = value.literal();
        assert_eq!(
            Embedding::parse(&literal).expect("a literal that was written by this type"),
            value,
            "{literal:?}"
        );
        // The round trip through SQL: output, input, and both binary functions.
        let output = CString::new(literal.as_str()).expect("no null character");
        let datum = value.clone().into_datum().expect("an embedding");
        // SAFETY: the functions are those of the type, called with values of the types that they take.
        unsafe {
            let oid = Embedding::type_oid();
            let mut function = pg_sys::InvalidOid;
            let mut varlena = false;
            let mut parameter = pg_sys::InvalidOid;
            pg_sys::getTypeOutputInfo(oid, &mut function, &mut varlena);
            let written = pg_sys::OidOutputFunctionCall(function, datum);
            assert_eq!(std::ffi::CStr::from_ptr(written), output.as_c_str());
            pg_sys::getTypeInputInfo(oid, &mut function, &mut parameter);
            let read = pg_sys::OidInputFunctionCall(function, written, parameter, -1);
            assert_eq!(Embedding::from_datum(read, false), Some(value.clone()));
            pg_sys::getTypeBinaryOutputInfo(oid, &mut function, &mut varlena);
            let sent = pg_sys::OidSendFunctionCall(function, datum);
            let sent = pgrx::varlena_to_byte_slice(sent.cast());
            assert_eq!(receive(sent), Some(value));
        }
    }

    /// Returns what the receive function reads from these bytes, or `None` if it refuses them.
    fn receive(bytes: &[u8]) -> Option<Embedding> {
        let mut message = pgrx::StringInfo::new();
        message.push_bytes(bytes);
        let message = message.into_pg();
        // SAFETY: the function is the type's own, and the message is live.
        PgTryBuilder::new(move || unsafe {
            let mut function = pg_sys::InvalidOid;
            let mut parameter = pg_sys::InvalidOid;
            pg_sys::getTypeBinaryInputInfo(Embedding::type_oid(), &mut function, &mut parameter);
            let datum = pg_sys::OidReceiveFunctionCall(function, message, parameter, -1);
            assert_eq!((*message).cursor, (*message).len, "a receive function reads the whole message");
            Embedding::from_datum(datum, false)
        })
        .catch_when(PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION, |_| None)
        .catch_when(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, |_| None)
        .execute()
    }

    fn deferred(text: &str, role: Role, model: Option<&str>) -> Embedding {
        Embedding(Value::Deferred { text: text.to_owned(), role, model: model.map(str::to_owned) })
    }

    #[pg_test]
    fn deferred_values_read_back() {
        let mut numbers = Numbers::new(1);
        let texts = LITERALS.iter().map(|text| (*text).to_owned());
        let texts: Vec<String> = texts.chain((0..3000).map(|_| hostile(&mut numbers))).collect();
        for text in &texts {
            for role in [Role::Query, Role::Passage] {
                round_trip(deferred(text, role, None));
                round_trip(deferred(text, role, Some("all-MiniLM-L6-v2")));
            }
        }
        round_trip(deferred(&"long … text ".repeat(100_000), Role::Passage, Some("m")));
    }

    #[pg_test]
    fn any_string_is_a_literal_or_refused() {
        let mut numbers = Numbers::new(2);
        for _ in 0..5000 {
            let literal = hostile(&mut numbers);
            if let Ok(value) = Embedding::parse(&literal) {
                round_trip(value);
            }
        }
        for literal in LITERALS {
            assert_eq!(
                Embedding::parse(literal).ok(),
                Some(deferred(literal, Role::Query, None)),
                "{literal:?}"
            );
        }
    }

    #[pg_test]
    fn vectors_read_back() {
        let mut numbers = Numbers::new(3);
        for _ in 0..500 {
            let dim = 1 + numbers.below(400);
            let scale = 10f32.powi(numbers.below(70) as i32 - 35);
            let vector: Vec<f32> = (0..dim)
                .map(|_| {
                    (numbers.below(2001) as f32 - 1000.0)
                        * scale
                        * if numbers.below(9) == 0 { 1e-9 } else { 1.0 }
                })
                .collect();
            if vector.iter().all(|number| *number == 0.0) {
                continue;
            }
            let value = Embedding::dense(vector).expect("finite and not zero");
            let Value::Dense(unit) = &value.0 else { unreachable!() };
            let norm: f64 = unit.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
            assert!((norm - 1.0).abs() < 1e-6, "{norm}");
            assert_eq!(Embedding::dense(unit.clone()), Ok(value.clone()), "a unit vector stays as it is");
            round_trip(value);
        }
    }

    #[pg_test]
    fn literals_of_vectors() {
        assert_eq!(one::<String>("SELECT '[3, 4]'::leann.embedding::text"), Some("[0.6,0.8]".to_owned()));
        assert_eq!(
            one::<String>("SELECT E' [ -0 ,\t+2e0 ] \\n'::leann.embedding::text"),
            Some("[0,1]".to_owned())
        );
        assert_eq!(one::<String>("SELECT '[1e-30,0]'::leann.embedding::text"), Some("[1,0]".to_owned()));
        assert_eq!(
            one::<String>("SELECT '[3e38,3e38]'::leann.embedding::text"),
            Some("[0.70710677,0.70710677]".to_owned())
        );
        for (literal, words) in [
            ("[]", "at least one dimension"),
            ("[ ]", "at least one dimension"),
            ("[0,0]", "all zeros"),
            ("[-0]", "all zeros"),
            ("[1e-60]", "all zeros"),
            ("[1,NaN]", "must not contain NaN"),
            ("[-inf,1]", "must not contain infinity"),
            ("[1,Infinity]", "must not contain infinity"),
            ("[1,1e39]", "\"1e39\" is out of range"),
        ] {
            fails(&format!("SELECT '{literal}'::leann.embedding"), "22P02", words);
        }
        let wide = |dim: usize| format!("SELECT ('[' || repeat('1,', {}) || '1]')::leann.embedding", dim - 1);
        fails(&wide(16_001), "22P02", "more than 16000 dimensions, not 16001");
        run(&wide(16_000));
        fails(r#"SELECT 'leann:{"text":"a\u0000b"}'::leann.embedding"#, "22P02", "null character");
        fails(
            r#"SELECT 'leann:{"text":"a","model":"../b"}'::leann.embedding"#,
            "22023",
            "must not begin with a dot",
        );
        fails(r#"SELECT 'leann:{"text":"a","model":""}'::leann.embedding"#, "22023", "must not be empty");
    }

    #[pg_test]
    fn receive_takes_nothing_by_trust() {
        for dim in [1usize, 2, 384] {
            let mut bytes = vec![2, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend((0..dim).flat_map(|_| 0.5f32.to_be_bytes()));
            assert!(matches!(receive(&bytes), Some(Embedding(Value::Dense(unit))) if unit.len() == dim));
            bytes.push(0);
            assert_eq!(receive(&bytes), None, "not a whole number of numbers");
        }
        let refused: &[&[u8]] = &[
            &[],
            &[2, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[2, 1, 0, 0, 0, 0, 0, 0, 63, 128, 0, 0],
            &[2, 0, 0, 1, 0, 0, 0, 0, 63, 128, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 1, 63, 128, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xc0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0x80, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 0],
            &[3, 1, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[1, 3, 0, 0, 0, 0, 0, 0],
            &[1, 1, 0, 2, 0, 0, 0, 0, b'm'],
            &[1, 1, 0xff, 0xff, 0, 0, 0, 0, b'm'],
            &[1, 1, 0, 1, 0, 0, 0, 0, b'/', b'x'],
            &[1, 1, 0, 1, 0, 0, 0, 0, 0xff, b'x'],
            &[1, 1, 0, 0, 0, 0, 0, 0, 0xff],
            &[1, 1, 0, 0, 0, 0, 0, 0, b'a', 0],
        ];
        for bytes in refused {
            assert_eq!(receive(bytes), None, "{bytes:?}");
        }
        assert_eq!(
            receive(&[1, 2, 0, 1, 0, 0, 0, 0, b'm', b'x']),
            Some(deferred("x", Role::Passage, Some("m")))
        );

        let mut numbers = Numbers::new(4);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> =
                (0..numbers.below(40)).map(|_| *numbers.pick(&[0, 1, 2, 3, 65, 128, 195, 255])).collect();
            if let [kind, ..] = bytes.as_mut_slice() {
                *kind = 1 + *kind % 2;
            }
            if let Some(value) = receive(&bytes) {
                round_trip(value);
            }
        }
    }

    #[pg_test]
    fn values_survive_storage() {
        run("CREATE TABLE t (id int, e leann.embedding)");
        // Texts that are short, long enough to be compressed, and long enough to be stored out of line
        // uncompressed.
        run("INSERT INTO t SELECT n, embedding_of(repeat('ab' || n, n))
             FROM generate_series(0, 12000, 500) n");
        run("ALTER TABLE t ALTER e SET STORAGE external");
        run("INSERT INTO t SELECT n + 1, embedding_of(repeat('cd' || n, n))
             FROM generate_series(0, 12000, 500) n");
        let wrong = "SELECT count(*) FROM t WHERE e <> embedding_of(
                     repeat(CASE id % 500 WHEN 0 THEN 'ab' || id ELSE 'cd' || (id - 1) END, id - id % 500))";
        assert_eq!(one::<i64>(wrong), Some(0));
        assert_eq!(one::<i64>("SELECT count(*) FROM t WHERE e::text::leann.embedding <> e"), Some(0));
    }

    #[pg_test]
    fn equal_values_and_their_hashes() {
        assert_eq!(one::<bool>("SELECT embedding_of('a') = embedding_of('a')"), Some(true));
        assert_eq!(
            one::<bool>("SELECT embedding_of('a') <> 'a'::leann.embedding"),
            Some(true),
            "the roles differ"
        );
        assert_eq!(one::<bool>("SELECT embedding_of('a') = embedding_of('a', 'm')"), Some(false));
        assert_eq!(one::<bool>("SELECT '[3,4]'::leann.embedding = '[6,8]'::leann.embedding"), Some(true));
        assert_eq!(one::<bool>("SELECT '[0,1]'::leann.embedding = '[-0,1]'::leann.embedding"), Some(true));
        run("CREATE TABLE t AS SELECT embedding_of('text ' || n % 7) AS e FROM generate_series(1, 700) n");
        assert_eq!(one::<i64>("SELECT count(*) FROM (SELECT DISTINCT e FROM t) d"), Some(7));
        assert_eq!(
            one::<i64>("SELECT count(*) FROM (SELECT e FROM t GROUP BY e HAVING count(*) = 100) d"),
            Some(7)
        );
        assert_eq!(one::<i64>("SELECT count(*) FROM (SELECT e FROM t UNION SELECT e FROM t) d"), Some(7));
        run("SET enable_nestloop = off; SET enable_mergejoin = off");
        assert_eq!(one::<i64>("SELECT count(*) FROM t a JOIN t b USING (e)"), Some(70_000));
        assert_eq!(
            one::<bool>(
                "SELECT leann.embedding_hash_extended(e, 0)::bit(32) = leann.embedding_hash(e)::bit(32)
                 FROM t"
            ),
            Some(true),
            "with seed 0 the low bits agree, as hash partitioning expects"
        );
        run("CREATE TABLE p (e leann.embedding) PARTITION BY HASH (e)");
        run("CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (modulus 2, remainder 0)");
        run("CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (modulus 2, remainder 1)");
        run("INSERT INTO p SELECT e FROM t");
        assert_eq!(one::<i64>("SELECT count(*) FROM p WHERE e = embedding_of('text 3')"), Some(100));
        fails("SELECT e FROM t ORDER BY e", "42883", "could not identify an ordering operator");
    }

    #[pg_test]
    fn casts_that_need_no_model() {
        run("SET leann.model_dir = '/nonexistent'");
        assert_eq!(one::<Vec<f32>>("SELECT '[3,4]'::leann.embedding::real[]"), Some(vec![0.6, 0.8]));
        assert_eq!(
            one::<String>("SELECT ARRAY[3,4]::real[]::leann.embedding::text"),
            Some("[0.6,0.8]".to_owned())
        );
        assert_eq!(one::<String>("SELECT 'a'::text::leann.embedding::text"), Some("a".to_owned()));
        assert_eq!(
            one::<String>("SELECT '[3,4]'::varchar::leann.embedding::text"),
            Some("[0.6,0.8]".to_owned())
        );
        assert_eq!(
            one::<String>("SELECT embedding_of('a'::varchar)::text"),
            Some(r#"leann:{"text":"a","role":"passage"}"#.to_owned())
        );
        assert_eq!(
            one::<String>("SELECT embedding_of('a', 'm')::text"),
            Some(r#"leann:{"text":"a","role":"passage","model":"m"}"#.to_owned())
        );
        assert_eq!(
            one::<bool>("SELECT embedding_of(NULL) IS NULL AND embedding_of('a', NULL) IS NULL"),
            Some(true)
        );
        fails("SELECT embedding_of('a', '../m')", "22023", "must not begin with a dot");
        fails("SELECT embedding_of('a', 'm/n')", "22023", "must not contain a slash");
        fails("SELECT ARRAY[1,NULL]::real[]::leann.embedding", "22004", "must not contain NULLs");
        fails("SELECT ARRAY[[1,2],[3,4]]::real[]::leann.embedding", "2202E", "one-dimensional");
        fails("SELECT '{}'::real[]::leann.embedding", "22023", "at least one dimension");
        fails("SELECT ARRAY[1,'NaN']::real[]::leann.embedding", "22023", "must not contain NaN");
        // Assignment casts in both directions.
        run("CREATE TABLE t (e leann.embedding, r real[])");
        run("INSERT INTO t VALUES (ARRAY[3,4]::real[], '[3,4]'::leann.embedding)");
        assert_eq!(one::<String>("SELECT e::text || r::text FROM t"), Some("[0.6,0.8]{0.6,0.8}".to_owned()));
        // An array with other bounds, and one that a function returned in expanded form.
        assert_eq!(
            one::<String>("SELECT '[5:6]={3,4}'::real[]::leann.embedding::text"),
            Some("[0.6,0.8]".to_owned())
        );
    }

    #[pg_test]
    fn an_expression_index_takes_it() {
        run("CREATE TABLE t (body text, name varchar(20))");
        run("CREATE INDEX ON t USING hash (embedding_of(body))");
        run("CREATE INDEX ON t USING hash (embedding_of(name))");
        run("CREATE INDEX ON t USING hash (embedding_of(name || ' ' || body, 'm'))");
        run("INSERT INTO t SELECT 'body ' || n, 'name ' || n FROM generate_series(1, 100) n");
        run("ANALYZE t");
        run("SET enable_seqscan = off");
        assert_eq!(
            one::<String>("SELECT name::text FROM t WHERE embedding_of(body) = embedding_of('body 7')"),
            Some("name 7".to_owned())
        );
    }
}
