//! A loaded model: embeds texts with ONNX Runtime sessions that it keeps.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ort::session::Session;

use leann_value::{MAX_DIM, Role};

use crate::batch::{self, BatchLimits};
use crate::onnx_session::{self, Batch, Interrupter, Provider, Signature};
use crate::pooling::pool_to_unit_length;
use crate::spec::{ModelSpec, ServedFiles, SessionFile};
use crate::store::{ModelStore, ShouldStop};
use crate::tokens::{TextTokenizer, Tokens};
use crate::workers::{Failure, Job, StopFlag, Work};
use crate::{EmbedError, Library, Pooling};

/// How to load a model.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// `cpu` or `cuda`, in upper or lower case.
    pub execution_provider: String,
    /// Where copies of mapped files are kept and hashes remembered.
    pub store: ModelStore,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions { execution_provider: "cpu".to_owned(), store: ModelStore::none() }
    }
}

/// The result of one call of [`Model::embed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// Matrix of `n x dim` numbers, row-major, in the order of the texts. Every row has unit length.
    pub vectors: Vec<f32>,
    /// For each text, whether it was longer than the model's maximum and was truncated.
    pub truncated: Vec<bool>,
    /// Number of tokens given to the model, special tokens included and padding excluded.
    pub tokens: usize,
    /// Number of runs of the model.
    pub batches: usize,
}

impl Embedded {
    /// Returns how many texts were truncated.
    pub fn truncated_count(&self) -> usize {
        self.truncated.iter().filter(|truncated| **truncated).count()
    }
}

/// A model that is ready to run. Threads may share it.
pub struct Model {
    library: &'static Library,
    spec: ModelSpec,
    fingerprint: [u8; 32],
    exact: [u8; 32],
    provider: Provider,
    file: SessionFile,
    signature: Signature,
    dim: usize,
    tokenizer: TextTokenizer,
    /// Sessions that no thread is using. A session serves one run at a time (`Session::run` takes `&mut
    /// self`), so each worker thread takes one, and makes one if none is left.
    sessions: Mutex<Vec<Session>>,
}

/// Memory, in bytes, that all sessions together may take for copies of the weights.
const MAX_BYTES_OF_COPIES: u64 = 1 << 30;
/// Memory, in bytes, that copies of the weights may take between two calls. One session stays in any case,
/// because the next call needs it.
const MAX_IDLE_BYTES_OF_COPIES: u64 = 64 << 20;
/// Number of tokens from which one more session with a copy of the weights pays, if it will not be kept.
/// Making one takes about as long as a run over 2,000 tokens, whatever the size of the model.
const MIN_TOKENS_PER_COPY: usize = 4096;
/// Number of texts from which one more thread pays for tokenizing: one text takes less time than starting a
/// thread.
const MIN_TEXTS_PER_THREAD: usize = 64;

impl Model {
    /// Makes a session for the model, checks the model's inputs and outputs, and runs it once on a short
    /// text.
    ///
    /// The weights are mapped if the folder holds the mapped form. The model then has about 10 MB of memory
    /// of its own, and processes share the rest. Otherwise it holds a copy of the weights. Starts no threads.
    ///
    /// # Errors
    ///
    /// `ProviderMissing`; `ModelFile` if ONNX Runtime refuses the file or the files are not those that `spec`
    /// was opened with; `Unsupported` if the model has inputs or outputs that this crate does not know;
    /// `Inference` or `NotFinite` if the first run fails.
    pub fn load(
        library: &'static Library,
        spec: &ModelSpec,
        options: &LoadOptions,
    ) -> Result<Model, EmbedError> {
        Model::load_interruptibly(library, spec, options, &interrupter(spec.name())?, &|| false)
    }

    /// Loads a model like [`Model::load`], on a thread of its own, so that it can be stopped: a large model
    /// without a mapped form takes seconds.
    ///
    /// # Errors
    ///
    /// Those of [`Model::load`], `Stopped` and `Threads`.
    pub fn load_stoppable(
        library: &'static Library,
        spec: &ModelSpec,
        options: &LoadOptions,
        job: &Job,
    ) -> Result<Model, EmbedError> {
        let interrupter = interrupter(spec.name())?;
        let load = |_, stop: &StopFlag| {
            let should_stop = || stop.is_raised();
            Model::load_interruptibly(library, spec, options, &interrupter, &should_stop)
        };
        let work = Work { pieces: 1, threads: 1, run_piece: &load, interrupt: &|| interrupter.interrupt() };
        let loaded = work.run(job).map_err(|failure| worker_failed(spec.name(), failure))?;
        loaded.into_iter().next().ok_or(EmbedError::Stopped)
    }

    fn load_interruptibly(
        library: &'static Library,
        spec: &ModelSpec,
        options: &LoadOptions,
        interrupter: &Interrupter,
        should_stop: ShouldStop,
    ) -> Result<Model, EmbedError> {
        let provider = Provider::from_name(&options.execution_provider)?;
        let fingerprint = spec.fingerprint_stoppable(&options.store, should_stop)?;
        let tokenizer = TextTokenizer::load(spec)?;
        let served = spec.served_files(provider == Provider::Cpu, &options.store, should_stop)?;
        let exact = exact_fingerprint(library, spec, provider, fingerprint, &served);
        let file = served.file(&options.store, should_stop)?;
        let session = onnx_session::open(library, &file, provider, interrupter)?;
        spec.check_unchanged()?;
        let signature = Signature::from_session(&session, spec)
            .map_err(|e| EmbedError::Unsupported { model: spec.name().to_owned(), reason: e.to_string() })?;
        let mut model = Model {
            library,
            fingerprint,
            exact,
            provider,
            file,
            spec: spec.clone(),
            signature,
            dim: 0,
            tokenizer,
            sessions: Mutex::new(vec![session]),
        };
        model.dim = model.probe(interrupter)?;
        options.store.remember(&dim_key(&exact), &model.dim.to_string());
        Ok(model)
    }

    /// Returns the dimension of a model that has been loaded and run before with the same files, library and
    /// provider, or None if the store does not remember one.
    pub fn remembered_dim(
        library: &'static Library,
        spec: &ModelSpec,
        options: &LoadOptions,
        should_stop: ShouldStop,
    ) -> Result<Option<usize>, EmbedError> {
        let provider = Provider::from_name(&options.execution_provider)?;
        let fingerprint = spec.fingerprint_stoppable(&options.store, should_stop)?;
        let served = spec.served_files(provider == Provider::Cpu, &options.store, should_stop)?;
        let exact = exact_fingerprint(library, spec, provider, fingerprint, &served);
        Ok(options.store.recall(&dim_key(&exact)).and_then(|dim| dim.parse().ok()))
    }

    /// Unloads the model, and removes the copy of its files if it was made for this model and no other
    /// process uses it.
    pub fn discard(self) {
        drop(self.sessions);
        if let Some(held) = self.file.held {
            held.discard();
        }
    }

    /// Returns the name of the model's folder.
    pub fn name(&self) -> &str {
        self.spec.name()
    }

    /// Returns the number of components of a vector: 1 to 16,000.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Returns how many sessions are idle. For tests.
    #[doc(hidden)]
    pub fn sessions(&self) -> usize {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns the number of tokens, prompt and special tokens included, to which longer texts are truncated.
    pub fn max_tokens(&self) -> usize {
        self.spec.max_tokens()
    }

    /// Returns the [`ModelSpec::fingerprint`] of the model.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Returns a hash that is equal only for models that give the same vectors to the last bit, as a cache
    /// needs it. An index needs only the same [`Model::fingerprint`]: another provider, library or mapped
    /// form rounds differently.
    pub fn exact_fingerprint(&self) -> [u8; 32] {
        self.exact
    }

    /// Returns the description that the model was loaded from.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Returns the path of the file that sessions read: the mapped form, or the ONNX file if it has none.
    pub fn loaded_from(&self) -> &Path {
        &self.file.path
    }

    /// Embeds texts: any UTF-8, including empty ones. Texts that are longer than the model's maximum are
    /// truncated.
    ///
    /// The work is done on up to `job.threads` threads, all of which have ended when this returns. Meanwhile
    /// the calling thread asks `job.should_stop` every few milliseconds; if it returns true, runs of the
    /// model under way are terminated. A text's vector does not depend on the other texts, to within a cosine
    /// of 1e-5.
    ///
    /// Rows of similar length share a run, so a call with some hundreds of texts costs less per text than one
    /// with few.
    ///
    /// # Errors
    ///
    /// `Stopped`; `Tokenizer`, `Inference` or `NotFinite` if the model failed on any text; `Threads`;
    /// `ModelFile` if another session was needed and the model's files had been replaced: open and load the
    /// model again then.
    pub fn embed(&self, texts: &[&str], role: Role, job: &Job) -> Result<Embedded, EmbedError> {
        let tokens = self.tokens(texts, role, job)?;
        let lengths: Vec<usize> = tokens.iter().map(|tokens| tokens.ids.len()).collect();
        let threads = self.threads(job, lengths.iter().sum());
        let runs = batch::plan(&lengths, self.limits(), threads);
        let mut embedded = Embedded {
            vectors: vec![0.0; texts.len() * self.dim],
            truncated: tokens.iter().map(|tokens| tokens.truncated).collect(),
            tokens: lengths.iter().sum(),
            batches: runs.len(),
        };
        let run = self.run_all(&runs, &tokens, threads, job);
        self.close_surplus_sessions();
        for (rows, vectors) in runs.iter().zip(run?) {
            for (&row, vector) in rows.iter().zip(vectors.chunks_exact(self.dim)) {
                embedded.vectors[row * self.dim..][..self.dim].copy_from_slice(vector);
            }
        }
        Ok(embedded)
    }

    /// Returns whether a text is longer than the model's maximum. Works on the calling thread.
    pub fn truncates(&self, text: &str, role: Role, job: &Job) -> Result<bool, EmbedError> {
        Ok(self.tokenizer.tokenize(text, role, job.should_stop)?.truncated)
    }

    /// Tokenizes the texts, in their order.
    fn tokens(&self, texts: &[&str], role: Role, job: &Job) -> Result<Vec<Tokens>, EmbedError> {
        let tokenize =
            |text: usize, stop: &StopFlag| self.tokenizer.tokenize(texts[text], role, &|| stop.is_raised());
        let threads = job.threads.min(texts.len().div_ceil(MIN_TEXTS_PER_THREAD));
        let work = Work { pieces: texts.len(), threads, run_piece: &tokenize, interrupt: &|| {} };
        work.run(job).map_err(|failure| match failure {
            Failure::Panicked => self.failed("the tokenizer panicked"),
            other => worker_failed(self.name(), other),
        })
    }

    /// Returns the vectors of each run, its rows one after the other.
    fn run_all(
        &self,
        runs: &[Vec<usize>],
        tokens: &[Tokens],
        threads: usize,
        job: &Job,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        let interrupter = interrupter(self.name())?;
        let embed_run = |run: usize, _: &StopFlag| {
            let rows = runs[run].iter().map(|&row| tokens[row].ids.as_slice()).collect();
            self.run(rows, &interrupter)
        };
        let interrupt = || interrupter.interrupt();
        let work = Work { pieces: runs.len(), threads, run_piece: &embed_run, interrupt: &interrupt };
        work.run(job).map_err(|failure| worker_failed(self.name(), failure))
    }

    /// Runs the model once and returns the rows' vectors one after the other.
    fn run(&self, rows: Vec<&[u32]>, interrupter: &Interrupter) -> Result<Vec<f32>, EmbedError> {
        let mut session = self.take_session(interrupter)?;
        let batch = Batch { rows, pad_token: self.tokenizer.pad_token() };
        let read = |numbers: &[f32], dim: usize| self.vectors(&batch, numbers, dim);
        let result = onnx_session::run(&mut session, &self.signature, &batch, interrupter, read);
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        result.map_err(|e| self.failed(&e.to_string()))?
    }

    /// Pools and scales the output for a batch: `numbers` has the same shape for each row, with `dim` numbers
    /// per vector.
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
            if !pool_to_unit_length(pooling.unwrap_or(Pooling::Cls), given, row.len(), vector) {
                return Err(EmbedError::NotFinite { model: self.name().to_owned() });
            }
        }
        Ok(vectors)
    }

    /// Runs the model on one short text, on the calling thread, and returns the dimension of its vectors.
    fn probe(&self, interrupter: &Interrupter) -> Result<usize, EmbedError> {
        let tokens = self.tokenizer.tokenize("a", Role::Passage, &|| false)?;
        Ok(self.run(vec![&tokens.ids], interrupter)?.len())
    }

    /// Returns an idle session, or a new one.
    fn take_session(&self, interrupter: &Interrupter) -> Result<Session, EmbedError> {
        if let Some(session) = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(session);
        }
        let session = onnx_session::open(self.library, &self.file, self.provider, interrupter)?;
        if self.file.held.is_none() {
            // Sessions of two models under the same name would give vectors that do not belong together.
            self.spec.check_unchanged()?;
        }
        Ok(session)
    }

    /// Closes sessions until the idle ones hold no more memory than they may.
    fn close_surplus_sessions(&self) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.truncate(self.sessions_kept());
    }

    /// Returns the number of sessions that stay between two calls.
    fn sessions_kept(&self) -> usize {
        match self.provider {
            Provider::Cpu if self.file.mapped => usize::MAX,
            _ => (MAX_IDLE_BYTES_OF_COPIES / self.spec.weight_bytes().max(1)).max(1) as usize,
        }
    }

    /// Returns how many threads are to run the model at once in a call with this many tokens.
    fn threads(&self, job: &Job, tokens: usize) -> usize {
        let sessions = match self.provider {
            Provider::Cpu if self.file.mapped => usize::MAX,
            Provider::Cpu => {
                let most = (MAX_BYTES_OF_COPIES / self.spec.weight_bytes().max(1)).max(1) as usize;
                most.min(self.sessions_kept().max(tokens / MIN_TOKENS_PER_COPY))
            }
            // The device does one run at a time, and its memory may hold only one copy of the weights.
            Provider::Cuda => 1,
        };
        job.threads.clamp(1, sessions)
    }

    /// Returns how much a run may hold.
    fn limits(&self) -> BatchLimits {
        match self.provider {
            _ if self.spec.settings().one_row_per_run => BatchLimits::ONE_ROW,
            Provider::Cpu => BatchLimits::CPU,
            Provider::Cuda => BatchLimits::ACCELERATOR,
        }
    }

    fn failed(&self, reason: &str) -> EmbedError {
        failed(self.name(), reason)
    }
}

/// Computes [`Model::exact_fingerprint`].
fn exact_fingerprint(
    library: &Library,
    spec: &ModelSpec,
    provider: Provider,
    fingerprint: [u8; 32],
    served: &ServedFiles,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&fingerprint);
    hasher.update(&[provider as u8, u8::from(served.mapped)]);
    // A step that the ONNX file leaves out decides whether there are vectors, not which.
    for text in [library.build_info(), spec.extra_step().unwrap_or_default()] {
        hasher.update(blake3::hash(text.as_bytes()).as_bytes());
    }
    for hash in served.hashes() {
        hasher.update(hash.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Returns the key under which the store remembers the dimension of a model that has run.
fn dim_key(exact: &[u8; 32]) -> String {
    format!("ran-{}", blake3::Hash::from_bytes(*exact).to_hex())
}

fn failed(model: &str, reason: &str) -> EmbedError {
    EmbedError::Inference { model: model.to_owned(), reason: reason.to_owned() }
}

/// Turns what the worker threads report into an error of this model.
fn worker_failed(model: &str, failure: Failure<EmbedError>) -> EmbedError {
    match failure {
        Failure::Stopped => EmbedError::Stopped,
        Failure::Piece(e) => e,
        Failure::Panicked => failed(model, "a worker thread panicked"),
        Failure::NoThread(refused) => EmbedError::Threads {
            reason: refused.map_or_else(|| "none was started".to_owned(), |e| e.to_string()),
        },
    }
}

fn interrupter(model: &str) -> Result<Interrupter, EmbedError> {
    Interrupter::new().map_err(|e| failed(model, &e.to_string()))
}
