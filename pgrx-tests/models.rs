//! Models in a backend: what they embed, what is cached, what is reported, and what happens where they are
//! missing.

#[pgrx::pg_schema]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use leann_embed::Role;
    use pgrx::prelude::*;

    use crate::model;
    use crate::pg::interrupts::with_signals_blocked;
    use crate::support::{MODEL, OTHER_MODEL, fails, model_dir, one, onnxruntime_library, run};

    fn set(name: &str, value: &str) {
        run(&format!("SET {name} = '{value}'"));
    }

    /// Creates a folder for one test, which is removed afterwards.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("leann-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a folder in the temporary directory");
            Scratch(path)
        }

        fn path(&self) -> String {
            self.0.display().to_string()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn copy_model(name: &str, to: &Path) {
        fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
            std::fs::create_dir_all(to)?;
            for entry in std::fs::read_dir(from)? {
                let entry = entry?;
                let (from, to) = (entry.path(), to.join(entry.file_name()));
                if from.is_dir() {
                    copy(&from, &to)?;
                } else {
                    std::fs::copy(from, to)?;
                }
            }
            Ok(())
        }
        copy(&model_dir().join(name), to).expect("a copy of the model");
    }

    #[pg_test]
    fn embed_gives_unit_vectors() {
        let norm = one::<f64>("SELECT sqrt(sum(x::float8 ^ 2)) FROM unnest(leann.embed('a cat')) x")
            .expect("a norm");
        assert!((norm - 1.0).abs() < 1e-6, "{norm}");
        assert_eq!(one::<bool>("SELECT leann.embed('a') = embedding_of('a')::real[]"), Some(true));
        assert_eq!(
            one::<bool>("SELECT leann.embed('a', role => 'query') = 'a'::leann.embedding::real[]"),
            Some(true)
        );
        assert_eq!(one::<bool>("SELECT leann.embed('a', 'tiny-hash') = leann.embed('a')"), Some(true));
        assert_eq!(one::<bool>("SELECT leann.embed(NULL::text) IS NULL"), Some(true));
        fails("SELECT leann.embed('a', role => 'author')", "22023", "\"author\" is not a role");
        fails("SELECT leann.embed('a', '../tiny-hash')", "22023", "must not begin with a dot");
        fails("SELECT leann.embed('a', 'x/tiny-hash')", "22023", "must not contain a slash");
    }

    #[pg_test]
    fn any_text_can_be_embedded() {
        for text in [
            "''",
            "' '",
            "E'\\n\\t'",
            "'🦀🦀'",
            "'日本語 and العربية'",
            "repeat('long ', 200000)",
            "E'\\u0001'",
        ] {
            let zeros =
                format!("SELECT count(*) FROM unnest(leann.embed({text})) x WHERE x = 'NaN' OR x IS NULL");
            assert_eq!(one::<i64>(&zeros), Some(0), "{text}");
        }
    }

    #[pg_test]
    fn embed_an_array_in_its_order() {
        run("CREATE TABLE t AS SELECT n, CASE WHEN n % 10 > 0 THEN 'text ' || n % 400 END AS body
             FROM generate_series(1, 1000) n");
        let wrong = "SELECT count(*) FROM t FULL JOIN (
                         SELECT row_number() OVER () AS n, e
                         FROM (SELECT leann.embed_all(array_agg(body ORDER BY n)) AS e FROM t) x
                     ) x USING (n) WHERE e IS DISTINCT FROM leann.embed(body)";
        assert_eq!(one::<i64>(wrong), Some(0));
        assert_eq!(one::<i64>("SELECT count(*) FROM leann.embed_all('{}'::text[]) e"), Some(0));
        assert_eq!(one::<i64>("SELECT count(*) FROM leann.embed_all(NULL::text[]) e"), Some(0));
        assert_eq!(
            one::<i64>("SELECT count(*) FROM leann.embed_all('{NULL,NULL}'::text[]) e WHERE e IS NULL"),
            Some(2)
        );
        assert_eq!(one::<i64>("SELECT count(*) FROM leann.embed_all('{{a,b},{c,d}}'::text[]) e"), Some(4));
        run("SELECT leann.embed_all(array_agg(body)) FROM t LIMIT 1");
        fails("SELECT leann.embed_all('{a}'::text[], role => 'author')", "22023", "is not a role");
        fails(
            "SELECT leann.embed_all('{NULL,a}'::text[], 'absent')",
            "42704",
            "model \"absent\" does not exist",
        );
    }

    #[pg_test]
    fn nothing_is_embedded_twice() {
        model::clear_cache();
        let before = model::counters();
        let texts: Vec<String> = (0..100).map(|n| format!("text {}", n % 40)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let first = model::embed(MODEL, Role::Passage, &texts).expect("embeddings");
        let counters = model::counters();
        assert_eq!(counters.recomputes - before.recomputes, 40);
        assert_eq!(counters.cache_hits - before.cache_hits, 60);
        assert!(counters.batches > before.batches && counters.model_ms > before.model_ms);
        assert_eq!(model::embed(MODEL, Role::Passage, &texts).expect("embeddings"), first);
        let again = model::counters();
        assert_eq!((again.recomputes, again.batches), (counters.recomputes, counters.batches));
        assert_eq!(again.cache_hits - counters.cache_hits, 100);
        // The same text as a query is another embedding, and is counted separately.
        model::embed(MODEL, Role::Query, &texts[..3]).expect("embeddings");
        assert_eq!(model::counters().queries - again.queries, 3);
        assert_eq!(model::counters().recomputes, again.recomputes);
        run("SELECT leann.clear_cache()");
        model::embed(MODEL, Role::Passage, &texts).expect("embeddings");
        assert_eq!(model::counters().recomputes - again.recomputes, 40);
    }

    #[pg_test]
    fn the_cache_keeps_to_its_size() {
        run("SET leann.cache_size = '64kB'");
        model::clear_cache();
        let texts: Vec<String> = (0..2000).map(|n| format!("text {n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let all = model::embed(MODEL, Role::Passage, &texts).expect("embeddings");
        assert_eq!(all.len(), texts.len(), "an answer may be larger than the cache");
        let before = model::counters();
        let last = &texts[texts.len() - 20..];
        assert_eq!(model::embed(MODEL, Role::Passage, last).expect("embeddings"), all[texts.len() - 20..]);
        assert_eq!(model::counters().recomputes, before.recomputes, "the latest are kept");
        model::embed(MODEL, Role::Passage, &texts[..20]).expect("embeddings");
        assert_eq!(model::counters().recomputes, before.recomputes + 20, "the earliest are not");
    }

    #[pg_test]
    fn many_threads_give_what_one_gives() {
        let texts: Vec<String> = (0..300).map(|n| "word ".repeat(n % 50) + &n.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut all = Vec::new();
        for threads in [1, 2, 7, 0] {
            run(&format!("SET leann.threads = {threads}"));
            model::clear_cache();
            all.push(model::embed(MODEL, Role::Passage, &texts).expect("embeddings"));
        }
        for some in &all[1..] {
            for (a, b) in some.iter().zip(&all[0]) {
                let difference = a.iter().zip(b.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(difference < 1e-5, "{difference}");
            }
        }
    }

    #[pg_test]
    fn a_missing_model_does_not_stay_missing() {
        let failure = fails("SELECT leann.embed('a', 'absent')", "42704", "model \"absent\" does not exist");
        assert!(
            failure.hint.contains("leann.model_dir") && failure.hint.contains("leann.models"),
            "{failure:?}"
        );
        let scratch = Scratch::new("missing");
        set("leann.model_dir", &scratch.path());
        let failure =
            fails("SELECT embedding_of('a') <-> 'b'", "42704", "model \"tiny-hash\" does not exist");
        assert!(
            !format!("{failure:?}").contains(&scratch.path()),
            "paths are for superusers only: {failure:?}"
        );
        // An empty folder, then a broken model, then a whole one.
        std::fs::create_dir(scratch.0.join(MODEL)).expect("a folder");
        fails("SELECT leann.embed('a')", "42704", "tiny-hash");
        copy_model(MODEL, &scratch.0.join(MODEL));
        let tokenizer = scratch.0.join(MODEL).join("tokenizer.json");
        std::fs::write(&tokenizer, "{").expect("a file");
        let failure = fails("SELECT leann.embed('a')", "F0000", "tokenizer.json");
        assert!(!format!("{failure:?}").contains(&scratch.path()), "{failure:?}");
        copy_model(MODEL, &scratch.0.join(MODEL));
        assert!(one::<Vec<f32>>("SELECT leann.embed('a')").is_some());
    }

    #[pg_test]
    fn a_replaced_model_is_loaded_anew() {
        let scratch = Scratch::new("replaced");
        copy_model(MODEL, &scratch.0.join("m"));
        copy_model(OTHER_MODEL, &scratch.0.join("new"));
        set("leann.model_dir", &scratch.path());
        let dim = || one::<i32>("SELECT array_length(leann.embed('a', 'm'), 1)");
        let (old, new) = (dim(), one::<i32>("SELECT array_length(leann.embed('a', 'new'), 1)"));
        assert_ne!(old, new);
        std::fs::rename(scratch.0.join("m"), scratch.0.join("old")).expect("a new name");
        std::fs::rename(scratch.0.join("new"), scratch.0.join("m")).expect("a new name");
        assert_eq!(dim(), old, "a statement keeps to its model");
        // SAFETY: the server makes the same call when the next statement arrives.
        unsafe { pg_sys::SetCurrentStatementStartTimestamp() };
        assert_eq!(dim(), new);
        std::fs::remove_dir_all(scratch.0.join("m")).expect("a folder");
        // SAFETY: as above.
        unsafe { pg_sys::SetCurrentStatementStartTimestamp() };
        fails("SELECT leann.embed('a', 'm')", "42704", "model \"m\" does not exist");
    }

    #[pg_test]
    fn a_missing_library_does_not_stay_missing() {
        set("leann.onnxruntime_library", "/nonexistent/libonnxruntime.so");
        let failure = fails("SELECT leann.embed('a')", "58P01", "ONNX Runtime library is not installed");
        assert!(failure.hint.contains("leann.onnxruntime_library"), "{failure:?}");
        // A file that is not a library.
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        set("leann.onnxruntime_library", manifest);
        let failure = fails("SELECT leann.embed('a')", "58000", "ONNX Runtime library cannot be used");
        assert!(failure.hint.contains("leann.onnxruntime_library"), "{failure:?}");
        set("leann.onnxruntime_library", &onnxruntime_library().display().to_string());
        assert!(one::<Vec<f32>>("SELECT leann.embed('a')").is_some());
    }

    #[pg_test]
    fn the_path_of_the_library_is_for_superusers() {
        set("leann.onnxruntime_library", "/nonexistent/libonnxruntime.so");
        let detail = || fails("SELECT leann.embed('a')", "58P01", "ONNX Runtime").detail;
        assert!(detail().contains("/nonexistent/libonnxruntime.so"));
        run("CREATE ROLE leann_user; GRANT USAGE ON SCHEMA tests TO leann_user; SET ROLE leann_user");
        assert_eq!(detail(), "");
    }

    #[pg_test]
    fn a_provider_that_the_library_lacks() {
        set("leann.execution_provider", "cuda");
        fails("SELECT leann.embed('a')", "0A000", "execution provider \"cuda\"");
        set("leann.execution_provider", "cpu");
        assert!(one::<Vec<f32>>("SELECT leann.embed('a')").is_some());
    }

    #[pg_test]
    fn links_are_not_followed() {
        let scratch = Scratch::new("links");
        symlink(model_dir().join(MODEL), scratch.0.join("linked")).expect("a link");
        set("leann.model_dir", &scratch.path());
        fails("SELECT leann.embed('a', 'linked')", "42704", "linked");
        assert_eq!(one::<i64>("SELECT count(*) FROM leann.models WHERE ready"), Some(0));
    }

    #[pg_test]
    fn models_are_listed() {
        let scratch = Scratch::new("listed");
        copy_model(MODEL, &scratch.0.join("good"));
        copy_model(MODEL, &scratch.0.join("bad"));
        std::fs::write(scratch.0.join("bad/config.json"), "[").expect("a file");
        std::fs::write(scratch.0.join("stray.txt"), "no model").expect("a file");
        std::fs::create_dir(scratch.0.join(".hidden")).expect("a folder");
        set("leann.model_dir", &scratch.path());
        assert_eq!(
            one::<String>("SELECT string_agg(name || ' ' || ready, ', ' ORDER BY name) FROM leann.models"),
            Some("bad false, good true".to_owned())
        );
        assert_eq!(
            one::<bool>(
                "SELECT fingerprint ~ '^[0-9a-f]{64}$' AND max_tokens > 0 FROM leann.models WHERE ready"
            ),
            Some(true)
        );
        let error = one::<String>("SELECT error FROM leann.models WHERE NOT ready").expect("an error");
        assert!(error.contains("config.json") && !error.contains(&scratch.path()), "{error}");
        set("leann.model_dir", "/nonexistent");
        let failure = fails("SELECT * FROM leann.models", "58P01", "folder of models cannot be read");
        assert!(failure.hint.contains("leann.model_dir") && !failure.message.contains('/'), "{failure:?}");
    }

    #[pg_test]
    fn settings_are_bounded_and_described() {
        for (name, value) in [
            ("ef_search", "0"),
            ("ef_search", "10001"),
            ("patience", "-1"),
            ("expected_rows", "0"),
            ("rerank_z", "-4.5"),
            ("rerank_z", "9"),
            ("max_recompute", "-1"),
            ("recompute_batch", "0"),
            ("recompute_batch", "1025"),
            ("cache_size", "63kB"),
            ("threads", "-1"),
            ("recompute_cost", "-1"),
            ("log_min_duration", "-2"),
        ] {
            fails(&format!("SET leann.{name} = '{value}'"), "22023", "is outside the valid range");
        }
        for (name, value) in [
            ("iterative_scan", "'off'"),
            ("execution_provider", "'tpu'"),
            ("default_model", "''"),
            ("default_model", "'../x'"),
            ("default_model", "'a/b'"),
            ("default_model", "'.hidden'"),
            ("model_dir", "'models'"),
            ("onnxruntime_library", "'libonnxruntime.so'"),
        ] {
            fails(&format!("SET leann.{name} = {value}"), "22023", "invalid value for parameter");
        }
        assert!(
            fails("SET leann.default_model = 'a/b'", "22023", "").detail.contains("must not contain a slash")
        );
        assert!(fails("SET leann.model_dir = 'models'", "22023", "").detail.contains("absolute"));
        fails("SET leann.ef_serach = 1", "42602", "invalid configuration parameter name");
        let undescribed = "SELECT count(*) FROM pg_settings WHERE name LIKE 'leann.%'
                           AND (short_desc IS NULL OR extra_desc IS NULL
                                OR short_desc NOT LIKE '%.' OR extra_desc NOT LIKE '%.')";
        assert_eq!(one::<i64>(undescribed), Some(0));
        assert_eq!(one::<i64>("SELECT count(*) FROM pg_settings WHERE name LIKE 'leann.%'"), Some(18));
        assert_eq!(one::<String>("SHOW leann.cache_size"), Some("4MB".to_owned()));
    }

    #[pg_test]
    fn files_are_for_superusers() {
        run("CREATE ROLE leann_user; GRANT USAGE ON SCHEMA tests TO leann_user; SET ROLE leann_user");
        for (name, value) in
            [("model_dir", "/tmp"), ("onnxruntime_library", "/tmp/x.so"), ("execution_provider", "cuda")]
        {
            fails(&format!("SET leann.{name} = '{value}'"), "42501", "permission denied");
        }
        fails("SHOW leann.model_dir", "42501", "");
        assert!(one::<i64>("SELECT count(*) FROM leann.models WHERE ready").is_some_and(|models| models > 0));
        assert!(one::<f64>("SELECT embedding_of('a') <-> 'b'").is_some());
        let failure = fails("SELECT leann.embed('a', 'absent')", "42704", "absent");
        assert!(!format!("{failure:?}").contains(&*model_dir().to_string_lossy()), "{failure:?}");
        run("RESET ROLE");
    }

    /// Returns whether the backend's own thread is the only one, now or within a second: a finished thread
    /// may take a moment to leave the list.
    fn is_single_threaded() -> bool {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) {
            if std::fs::read_dir("/proc/self/task").expect("Linux").count() == 1 {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn long_texts(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{n} ") + &"word ".repeat(250)).collect()
    }

    #[pg_test]
    fn a_cancelled_query_ends_the_model() {
        model::embed(MODEL, Role::Passage, &["loads the model"]).expect("an embedding");
        assert!(is_single_threaded(), "the library keeps no threads");
        let texts = long_texts(40_000);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let process = std::process::id() as libc::pid_t;
        let canceller = with_signals_blocked(|| {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                // SAFETY: sends this process the signal that pg_cancel_backend sends.
                unsafe { libc::kill(process, libc::SIGINT) };
                Instant::now()
            })
        });
        let cancelled = PgTryBuilder::new(|| {
            model::embed(MODEL, Role::Passage, &texts).expect("embeddings");
            false
        })
        .catch_when(PgSqlErrorCode::ERRCODE_QUERY_CANCELED, |_| true)
        .execute();
        let waited = canceller.join().expect("the thread ends").elapsed();
        assert!(cancelled, "the texts were embedded too fast for this test");
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        assert!(is_single_threaded(), "every worker has ended");
        assert_eq!(model::embed(MODEL, Role::Passage, &texts[..10]).expect("embeddings").len(), 10);
    }

    /// Some interrupts, such as a cache invalidation, end nothing: the work that they stopped is done all the
    /// same.
    #[pg_test]
    fn an_interrupt_that_ends_nothing() {
        let texts = long_texts(2000);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for _ in 0..3 {
            // SAFETY: sets the flags that a signal handler sets.
            unsafe { pg_sys::InterruptPending = 1 };
            model::clear_cache();
            assert_eq!(model::embed(MODEL, Role::Passage, &texts).expect("embeddings").len(), texts.len());
        }
    }

    /// Signals must reach no thread but the backend's own.
    #[pg_test]
    fn no_thread_takes_signals() {
        model::embed(MODEL, Role::Passage, &["loads the model"]).expect("an embedding");
        let masks = std::thread::scope(|scope| {
            let texts = long_texts(2000);
            let watcher = with_signals_blocked(|| {
                scope.spawn(|| {
                    let mut masks = std::collections::BTreeSet::new();
                    for _ in 0..200 {
                        masks.extend(other_threads_open_to(libc::SIGINT));
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    masks
                })
            });
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            model::embed(MODEL, Role::Passage, &texts).expect("embeddings");
            watcher.join().expect("the thread ends")
        });
        assert!(masks.is_empty(), "{masks:?}");
    }

    /// Returns the names of the threads, other than the process's first, that do not block a signal.
    fn other_threads_open_to(signal: libc::c_int) -> Vec<String> {
        let mut open = Vec::new();
        for task in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
            // A thread may end between the two calls.
            let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
            let field = |name: &str| {
                status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim).to_owned()
            };
            let blocked = u64::from_str_radix(&field("SigBlk:"), 16).unwrap_or(u64::MAX);
            if field("Pid:") != std::process::id().to_string() && blocked & (1 << (signal - 1)) == 0 {
                open.push(field("Name:"));
            }
        }
        open
    }
}
