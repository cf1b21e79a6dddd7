//! A loaded model: texts in, vectors out.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ort::session::Session;

use leann_value::MAX_DIM;

use crate::Role;
use crate::batch::{self, Limits};
use crate::pooling::{normalise, pool};
use crate::session::{self, Batch, Interrupter, Provider, Signature};
use crate::spec::{ModelSpec, Serving, SessionFile};
use crate::store::{ShouldStop, Store};
use crate::tokens::{TextTokens, Tokens};
use crate::workers::{self, Job, StopFlag};
use crate::{EmbedError, Library, Pooling};

/// How to load a model.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// `cpu` or `cuda`.
    pub execution_provider: String,
    /// Where copies of mapped files are kept.
    pub store: Store,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions { execution_provider: "cpu".to_owned(), store: Store::none() }
    }
}

/// The result of one call.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// `n x dim`, row-major, in the order of the texts; every row has unit length.
    pub vectors: Vec<f32>,
    /// Of each text, whether it was longer than the model's maximum and was cut.
    pub cut: Vec<bool>,
    /// Tokens given to the model, special ones counted, padding not.
    pub tokens: usize,
    /// Runs of the model.
    pub batches: usize,
}

impl Embedded {
    /// How many texts were cut.
    pub fn truncated(&self) -> usize {
        self.cut.iter().filter(|cut| **cut).count()
    }
}

/// What gives texts their vectors: a [`Model`] in this process, or something that stands in for one.
pub trait Embedder {
    /// The model's name.
    fn name(&self) -> &str;
    /// Numbers per vector.
    fn dim(&self) -> usize;
    /// Longer texts are cut to this many tokens.
    fn max_tokens(&self) -> usize;
    /// Equal only for models that give equal vectors.
    fn fingerprint(&self) -> [u8; 32];
    /// See [`Model::embed`].
    fn embed(&self, texts: &[&str], role: Role, job: &Job) -> Result<Embedded, EmbedError>;
}

/// A model ready to run.
pub struct Model {
    library: &'static Library,
    spec: ModelSpec,
    fingerprint: [u8; 32],
    exact: [u8; 32],
    provider: Provider,
    file: SessionFile,
    signature: Signature,
    dim: usize,
    text_tokens: TextTokens,
    /// Sessions that no thread is using. A session serves one run at a time (its `run` is not safe to share, whatever
    /// the documentation says: see ort's `Session`), so each thread that works takes one, and makes one if need be.
    sessions: Mutex<Vec<Session>>,
}

/// Sessions that each hold a copy of the weights may take so much memory in all.
const COPIES_LIMIT: u64 = 1 << 30;
/// And so much between two calls: but one session always stays, since the next call needs it.
const COPIES_KEPT: u64 = 64 << 20;
/// Making a session with a copy of the weights takes about as long as a run over some two thousand tokens, whatever the
/// size of the model. One that will not be kept is made only if there is enough for it to do.
const TOKENS_PER_COPY: usize = 4096;

impl Model {
    /// Makes a session for the model, checks what it takes and gives, and runs it once on a short text.
    ///
    /// The weights are mapped if the folder holds the mapped form; then the model has some 10 MB of memory of its own,
    /// and processes share the rest. Otherwise it holds a copy of them. Starts no threads and leaves none behind.
    ///
    /// `ProviderMissing`, `ModelFile` if ONNX Runtime refuses the file or the files are not those that `spec` was opened
    /// with, `Unsupported` if the model takes or gives
    /// something else than this crate knows, `Inference` or `NotFinite` if the first run fails.
    pub fn load(
        library: &'static Library,
        spec: &ModelSpec,
        options: &LoadOptions,
    ) -> Result<Model, EmbedError> {
        Model::load_interruptibly(library, spec, options, &interrupter(spec.name())?, &|| false)
    }

    /// The same on a thread of its own, so that it can be stopped: a large model without a mapped form takes seconds.
    pub fn load_stoppable(
        library: &'static Library,
        spec: &ModelSpec,
        options: &LoadOptions,
        job: &Job,
    ) -> Result<Model, EmbedError> {
        let interrupter = interrupter(spec.name())?;
        let interrupt = || interrupter.interrupt();
        let stop = StopFlag::new(&interrupt);
        let work = |_| {
            let should_stop = || stop.is_raised();
            let loaded = Model::load_interruptibly(library, spec, options, &interrupter, &should_stop);
            if stop.is_raised() { Err(EmbedError::Stopped) } else { loaded }
        };
        let panicked = || failed(spec.name(), "a worker thread panicked");
        let mut loaded = workers::run(job, 1, 1, &stop, &work, &panicked)?;
        loaded.pop().ok_or(EmbedError::Stopped)
    }

    fn load_interruptibly(
        library: &'static Library,
        spec: &ModelSpec,
        options: &LoadOptions,
        interrupter: &Interrupter,
        should_stop: ShouldStop,
    ) -> Result<Model, EmbedError> {
        let provider = Provider::named(&options.execution_provider)?;
        let fingerprint = spec.fingerprint_stoppable(&options.store, should_stop)?;
        let text_tokens = TextTokens::load(spec)?;
        let serving = spec.serving(provider == Provider::Cpu, &options.store, should_stop)?;
        let exact = exact_fingerprint(library, spec, provider, fingerprint, &serving);
        let file = serving.file(&options.store, should_stop)?;
        let session = session::open(library, &file, provider, interrupter)?;
        spec.check_unchanged()?;
        let signature = Signature::of(&session, spec)?;
        let mut model = Model {
            library,
            fingerprint,
            exact,
            provider,
            file,
            spec: spec.clone(),
            signature,
            dim: 0,
            text_tokens,
            sessions: Mutex::new(vec![session]),
        };
        model.dim = model.probe(interrupter)?;
        options.store.remember(&ran(&exact), &model.dim.to_string());
        Ok(model)
    }

    /// Dimensions of a model that has been loaded and run before, just as it would be now: the store remembers. None if
    /// it does not.
    pub fn dim_if_it_ran(
        library: &'static Library,
        spec: &ModelSpec,
        options: &LoadOptions,
        should_stop: ShouldStop,
    ) -> Result<Option<usize>, EmbedError> {
        let provider = Provider::named(&options.execution_provider)?;
        let fingerprint = spec.fingerprint_stoppable(&options.store, should_stop)?;
        let serving = spec.serving(provider == Provider::Cpu, &options.store, should_stop)?;
        let exact = exact_fingerprint(library, spec, provider, fingerprint, &serving);
        Ok(options.store.recall(&ran(&exact)).and_then(|dim| dim.parse().ok()))
    }

    /// Ends it. A copy of its files that was made for it is removed, if nobody else uses it.
    pub fn discard(self) {
        drop(self.sessions);
        if let Some(held) = self.file.held {
            held.discard();
        }
    }

    /// The name of the model's folder.
    pub fn name(&self) -> &str {
        self.spec.name()
    }

    /// Numbers per vector: 1 to 16,000.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many sessions it holds now: one for each thread that ran it, where they share what they hold.
    #[doc(hidden)]
    pub fn sessions(&self) -> usize {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Longer texts are cut to this many tokens, prompt and special tokens counted.
    pub fn max_tokens(&self) -> usize {
        self.spec.max_tokens()
    }

    /// See [`ModelSpec::fingerprint`].
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Equal only for what gives the same numbers to the last bit, for caches: an index is content with the same
    /// fingerprint, but another provider, library or mapped form rounds in other places.
    pub fn exact_fingerprint(&self) -> [u8; 32] {
        self.exact
    }

    /// What the model was loaded from.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The file behind the session: the mapped form, or the ONNX file if there is none that fits it.
    pub fn loaded_from(&self) -> &Path {
        &self.file.path
    }

    /// Embeds texts: any UTF-8, empty ones too. Longer texts than the model takes are cut and counted.
    ///
    /// The work is done on up to `job.threads` threads, all of which have ended when this returns; meanwhile the
    /// calling thread asks `job.should_stop` every few milliseconds, and a run of the model that is then under way is
    /// terminated. A text's vector does not depend on what else is in the call, to within a cosine of 1e-5.
    ///
    /// Sorting by length makes large calls cheaper: some hundreds of texts at once are a good number.
    ///
    /// `Stopped`; `Tokenizer`, `Inference` or `NotFinite` if the model failed on any text; `Threads`; `ModelFile` if
    /// another session was needed and the model's files had been replaced meanwhile: then open and load it again.
    pub fn embed(&self, texts: &[&str], role: Role, job: &Job) -> Result<Embedded, EmbedError> {
        let tokens = self.tokens(texts, role, job)?;
        let lengths: Vec<usize> = tokens.iter().map(|tokens| tokens.ids.len()).collect();
        let threads = self.threads(job, lengths.iter().sum());
        let runs = batch::plan(&lengths, self.limits(), threads);
        let mut embedded = Embedded {
            vectors: vec![0.0; texts.len() * self.dim],
            cut: tokens.iter().map(|tokens| tokens.truncated).collect(),
            tokens: lengths.iter().sum(),
            batches: runs.len(),
        };
        let run = self.run_all(&runs, &tokens, threads, job);
        self.give_back_sessions();
        for (rows, vectors) in runs.iter().zip(run?) {
            for (&row, vector) in rows.iter().zip(vectors.chunks_exact(self.dim)) {
                embedded.vectors[row * self.dim..][..self.dim].copy_from_slice(vector);
            }
        }
        Ok(embedded)
    }

    /// Whether a text is longer than the model takes. On the calling thread.
    pub fn cuts(&self, text: &str, role: Role, job: &Job) -> Result<bool, EmbedError> {
        Ok(self.text_tokens.split(text, role, job.should_stop)?.truncated)
    }

    fn tokens(&self, texts: &[&str], role: Role, job: &Job) -> Result<Vec<Tokens>, EmbedError> {
        let stop = StopFlag::new(&|| {});
        let should_stop = || stop.is_raised();
        let work = |text: usize| self.text_tokens.split(texts[text], role, &should_stop);
        // Splitting a text takes less time than starting a thread: a second one has to have some to do.
        let threads = job.threads.min(texts.len().div_ceil(64));
        workers::run(job, threads, texts.len(), &stop, &work, &|| self.failed("the tokenizer panicked"))
    }

    /// The vectors of each run, its rows one after the other.
    fn run_all(
        &self,
        runs: &[Vec<usize>],
        tokens: &[Tokens],
        threads: usize,
        job: &Job,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        let interrupter = interrupter(self.name())?;
        let interrupt = || interrupter.interrupt();
        let stop = StopFlag::new(&interrupt);
        let work = |run: usize| {
            let rows = runs[run].iter().map(|&row| tokens[row].ids.as_slice()).collect();
            let result = self.run(rows, &interrupter);
            // What is interrupted fails in some way or other; what matters is that it was to stop.
            if stop.is_raised() { Err(EmbedError::Stopped) } else { result }
        };
        workers::run(job, threads, runs.len(), &stop, &work, &|| self.failed("a worker thread panicked"))
    }

    /// Runs the model once; gives the rows' vectors one after the other.
    fn run(&self, rows: Vec<&[u32]>, interrupter: &Interrupter) -> Result<Vec<f32>, EmbedError> {
        let mut session = self.take_session(interrupter)?;
        let batch = Batch { rows, pad_token: self.text_tokens.pad_token() };
        let read = |numbers: &[f32], dim: usize| self.vectors(&batch, numbers, dim);
        let result = session::run(&mut session, &self.signature, &batch, interrupter, read);
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        result.map_err(|reason| self.failed(&reason))?
    }

    /// Pools and scales what the model gave for a batch.
    fn vectors(&self, batch: &Batch, numbers: &[f32], dim: usize) -> Result<Vec<f32>, EmbedError> {
        if dim != self.dim && self.dim != 0 || dim == 0 || dim > MAX_DIM {
            let expected = if self.dim == 0 { format!("1 to {MAX_DIM}") } else { self.dim.to_string() };
            return Err(self.failed(&format!("its vectors have {dim} numbers, not {expected}")));
        }
        let mut vectors = vec![0.0; batch.rows.len() * dim];
        let per_row = numbers.len() / batch.rows.len();
        for ((row, vector), given) in
            batch.rows.iter().zip(vectors.chunks_exact_mut(dim)).zip(numbers.chunks_exact(per_row))
        {
            let pooling = if self.signature.per_token { self.spec.pooling() } else { None };
            pool(pooling.unwrap_or(Pooling::Cls), given, row.len(), vector);
            if !normalise(vector) {
                return Err(EmbedError::NotFinite { model: self.name().to_owned() });
            }
        }
        Ok(vectors)
    }

    /// Runs the model on one short text, on the calling thread, to learn the length of its vectors.
    fn probe(&self, interrupter: &Interrupter) -> Result<usize, EmbedError> {
        let tokens = self.text_tokens.split("a", Role::Passage, &|| false)?;
        Ok(self.run(vec![&tokens.ids], interrupter)?.len())
    }

    fn take_session(&self, interrupter: &Interrupter) -> Result<Session, EmbedError> {
        if let Some(session) = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(session);
        }
        let session = session::open(self.library, &self.file, self.provider, interrupter)?;
        if self.file.held.is_none() {
            // Another model under the same name would give other vectors for some of the rows.
            self.spec.check_unchanged()?;
        }
        Ok(session)
    }

    /// Ends the sessions that hold more memory than may be held for nothing.
    fn give_back_sessions(&self) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.truncate(self.sessions_kept());
    }

    /// Sessions that stay between two calls.
    fn sessions_kept(&self) -> usize {
        match self.provider {
            Provider::Cpu if self.file.mapped => usize::MAX,
            _ => (COPIES_KEPT / self.spec.weight_bytes().max(1)).max(1) as usize,
        }
    }

    /// How many threads may run the model at once, with so many tokens to do.
    fn threads(&self, job: &Job, tokens: usize) -> usize {
        let sessions = match self.provider {
            Provider::Cpu if self.file.mapped => usize::MAX,
            Provider::Cpu => {
                let most = (COPIES_LIMIT / self.spec.weight_bytes().max(1)).max(1) as usize;
                most.min(self.sessions_kept().max(tokens / TOKENS_PER_COPY))
            }
            // The device does one run at a time anyway, and has room for one copy of the weights.
            Provider::Cuda => 1,
        };
        job.threads.clamp(1, sessions)
    }

    fn limits(&self) -> Limits {
        match self.provider {
            _ if self.spec.settings().one_row_per_run => batch::ONE_ROW,
            Provider::Cpu => batch::CPU,
            Provider::Cuda => batch::ACCELERATOR,
        }
    }

    fn failed(&self, reason: &str) -> EmbedError {
        failed(self.name(), reason)
    }
}

/// See [`Model::exact_fingerprint`].
fn exact_fingerprint(
    library: &Library,
    spec: &ModelSpec,
    provider: Provider,
    fingerprint: [u8; 32],
    serving: &Serving,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&fingerprint);
    hasher.update(&[provider as u8, u8::from(serving.mapped)]);
    // A step that is left out makes no other vectors, but none.
    for text in [library.build_info(), spec.extra_step().unwrap_or_default()] {
        hasher.update(blake3::hash(text.as_bytes()).as_bytes());
    }
    for hash in serving.hashes() {
        hasher.update(hash.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// What the store remembers a model's first run under.
fn ran(exact: &[u8; 32]) -> String {
    format!("ran-{}", blake3::Hash::from_bytes(*exact).to_hex())
}

fn failed(model: &str, reason: &str) -> EmbedError {
    EmbedError::Inference { model: model.to_owned(), reason: reason.to_owned() }
}

fn interrupter(model: &str) -> Result<Interrupter, EmbedError> {
    Interrupter::new().map_err(|e| failed(model, &e.to_string()))
}

impl Embedder for Model {
    fn name(&self) -> &str {
        self.name()
    }

    fn dim(&self) -> usize {
        self.dim()
    }

    fn max_tokens(&self) -> usize {
        self.max_tokens()
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint()
    }

    fn embed(&self, texts: &[&str], role: Role, job: &Job) -> Result<Embedded, EmbedError> {
        self.embed(texts, role, job)
    }
}
