//! Compares this crate with ONNX Runtime alone on the same texts.
//!
//! ```text
//! cargo bench -p leann-embed --bench measure -- MODEL TEXTS [THREADS]
//! ```
//!
//! MODEL is the absolute path of a model's folder, TEXTS that of a file with one text per line. ONNX Runtime
//! is the library that LEANN_ONNXRUNTIME names, by default the one that `make deps` fetches.
//!
//! ONNX Runtime alone gets the rows as tokens, sorted by length, and its vectors are not pooled. It runs once
//! as most programs use it, with its own defaults on the ONNX file and 32 rows per run, and once as this
//! crate uses it, with the same file and runs as small. Rounds of the three alternate, so that other load on
//! the machine affects all alike.

use std::path::{Path, PathBuf};
use std::time::Instant;

use leann_embed::{Job, Library, LoadOptions, Model, ModelSpec, Role};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;
use tokenizers::{Tokenizer, TruncationParams};

type Failure = Box<dyn std::error::Error>;

/// Number of texts in a round.
const TEXTS_PER_ROUND: usize = 64;

fn main() -> Result<(), Failure> {
    // cargo adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [dir, texts, rest @ ..] = arguments.as_slice() else {
        // Not an error: "cargo bench" runs every bench without arguments.
        println!("usage: cargo bench -p leann-embed --bench measure -- MODEL TEXTS [THREADS]");
        return Ok(());
    };
    let threads = rest.first().map_or(Ok(1), |threads| threads.parse())?;
    let texts = std::fs::read_to_string(texts)?;
    let texts: Vec<&str> = texts.lines().collect();

    let mut last = Instant::now();
    let mut step = |what: &str| {
        println!(
            "{what:20} {:8.1} ms   own memory {:6.1} MB",
            last.elapsed().as_secs_f64() * 1e3,
            own_megabytes()
        );
        last = Instant::now();
    };
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.build/onnxruntime/libonnxruntime.so");
    let library = std::env::var_os("LEANN_ONNXRUNTIME").map_or(fetched, PathBuf::from);
    let library = Library::load(&library)?;
    step("library");
    let spec = ModelSpec::open(dir.as_ref())?;
    step("settings");
    spec.fingerprint()?;
    step("fingerprint");
    let model = Model::load(library, &spec, &LoadOptions::default())?;
    step("model");
    let query = ["how do vaccines work against a virus"];
    model.embed(&query, Role::Query, &Job::uninterrupted(1))?;
    step("first query");
    println!(
        "{:32} {:8.2} ms",
        "a query",
        best_of(200, || model.embed(&query, Role::Query, &Job::uninterrupted(1)))?
    );

    throughput(library, &model, &texts, threads)?;
    println!("own memory at the end {:29.1} MB", own_megabytes());
    Ok(())
}

/// Embeds the texts in all three ways and prints the rows per second.
fn throughput(library: &Library, model: &Model, texts: &[&str], threads: usize) -> Result<(), Failure> {
    let spec = model.spec();
    let source = ["onnx/model.onnx", "model.onnx"].map(|name| spec.dir().join(name));
    let source = source.iter().find(|path| path.exists()).ok_or("no ONNX file")?;
    let mut usual = Alone { session: session(library, source, threads)?, rows: 32, tokens: usize::MAX };
    let mut small = Alone { session: session(library, model.loaded_from(), threads)?, rows: 64, tokens: 256 };
    let tokenizer = tokenizer(spec)?;
    let job = Job::uninterrupted(threads);
    let rounds: Vec<&[&str]> = texts.chunks(TEXTS_PER_ROUND).collect();
    let (mut ours, mut usuals, mut smalls, mut tokens) =
        (Cost::default(), Cost::default(), Cost::default(), 0);
    for round in &rounds {
        let rows = split(&tokenizer, round)?;
        tokens += rows.iter().map(Vec::len).sum::<usize>();
        ours.add(|| model.embed(round, Role::Passage, &job))?;
        usuals.add(|| usual.run(&rows))?;
        smalls.add(|| small.run(&rows))?;
    }
    let (n, per_row) = (texts.len() as f64, tokens as f64 / texts.len() as f64);
    println!("{n} rows, {per_row:.0} tokens each on average, {threads} threads:");
    for (what, cost) in
        [("this crate", ours), ("alone, 32 rows a run", usuals), ("alone, small runs", smalls)]
    {
        println!("  {what:20} {:6.1} rows/s, {:6.1} rows per CPU second", n / cost.wall, n / cost.cpu);
    }
    Ok(())
}

/// Wall-clock seconds, and CPU seconds of all threads. Only the latter can be compared on a machine with
/// other load.
#[derive(Default)]
struct Cost {
    wall: f64,
    cpu: f64,
}

impl Cost {
    /// Does the work and adds what it took.
    fn add<T, E>(&mut self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let result = work();
        self.wall += start.elapsed().as_secs_f64();
        self.cpu += cpu_seconds() - cpu;
        result
    }
}

/// Returns the CPU seconds of this process: utime and stime of proc(5), which are in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_the_name = stat.rsplit(')').next().unwrap_or_default();
    after_the_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// Reads a model's tokenizer, with its own truncation.
fn tokenizer(spec: &ModelSpec) -> Result<Tokenizer, Failure> {
    let mut tokenizer = Tokenizer::from_file(spec.dir().join("tokenizer.json")).map_err(|e| e.to_string())?;
    tokenizer.with_padding(None);
    let truncation = TruncationParams { max_length: spec.max_tokens(), ..Default::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(|e| e.to_string())?;
    Ok(tokenizer)
}

/// Returns the token ids of the texts, longest first.
fn split(tokenizer: &Tokenizer, texts: &[&str]) -> Result<Vec<Vec<i64>>, Failure> {
    let mut rows = Vec::new();
    for text in texts {
        let encoding = tokenizer.encode_fast(*text, true).map_err(|e| e.to_string())?;
        rows.push(encoding.get_ids().iter().map(|&id| i64::from(id)).collect());
    }
    rows.sort_by_key(|row: &Vec<i64>| std::cmp::Reverse(row.len()));
    Ok(rows)
}

/// Makes a session with ONNX Runtime's own defaults.
fn session(library: &Library, file: &Path, threads: usize) -> Result<Session, Failure> {
    let builder = Session::builder(library.environment())?;
    let builder = builder.with_optimization_level(GraphOptimizationLevel::All)?;
    Ok(builder.with_intra_threads(threads)?.commit_from_file(file)?)
}

/// ONNX Runtime without this crate, and how many rows and tokens it gets per run.
struct Alone {
    session: Session,
    rows: usize,
    tokens: usize,
}

impl Alone {
    /// Runs the model on the rows, which are sorted by length.
    fn run(&mut self, mut rows: &[Vec<i64>]) -> Result<(), ort::Error> {
        while let Some(longest) = rows.first() {
            let count = (self.tokens / longest.len()).clamp(1, self.rows).min(rows.len());
            let (now, later) = rows.split_at(count);
            rows = later;
            let shape = [count, longest.len()];
            let padded = |value: &dyn Fn(i64) -> i64| -> Vec<i64> {
                now.iter()
                    .flat_map(|row| (0..shape[1]).map(|at| row.get(at).map_or(0, |&id| value(id))))
                    .collect()
            };
            let tensor = |numbers| Tensor::from_array((shape, numbers));
            let mut inputs = vec![
                ("input_ids", tensor(padded(&|id| id))?),
                ("attention_mask", tensor(padded(&|_| 1))?),
                ("token_type_ids", tensor(padded(&|_| 0))?),
            ];
            inputs.retain(|(name, _)| self.session.inputs().iter().any(|input| input.name() == *name));
            self.session.run(inputs)?;
        }
        Ok(())
    }
}

/// Returns the milliseconds that the fastest of `n` calls took.
fn best_of<T, E>(n: usize, mut work: impl FnMut() -> Result<T, E>) -> Result<f64, E> {
    let mut best = f64::INFINITY;
    for _ in 0..n {
        let start = Instant::now();
        work()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}

/// Returns this process's private memory in MB, without mapped files.
fn own_megabytes() -> f64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let anonymous = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kilobytes =
        anonymous.and_then(|line| line.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1024.0
}
