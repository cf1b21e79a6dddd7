//! An ONNX Runtime session: opens one, reads what its model takes and gives, and runs it on one batch of
//! token ids.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ort::ep::ExecutionProvider;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, LoadCanceler, SessionBuilder};
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType};

use crate::spec::{ModelSpec, SessionFile};
use crate::{EmbedError, Library};

/// What runs the model. The discriminants are part of [`crate::Model::exact_fingerprint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    Cuda,
}

impl Provider {
    /// Returns the provider of this name, in upper or lower case. `ProviderMissing` if there is none, or if
    /// the library was built without it.
    pub fn from_name(name: &str) -> Result<Provider, EmbedError> {
        let missing = |reason: &str| EmbedError::ProviderMissing {
            provider: name.to_owned(),
            reason: reason.to_owned(),
        };
        match name.to_ascii_lowercase().as_str() {
            "cpu" => Ok(Provider::Cpu),
            "cuda" => match ort::ep::CUDA::is_available() {
                Ok(true) => Ok(Provider::Cuda),
                Ok(false) => Err(missing("it was built without it")),
                Err(e) => Err(missing(&e.to_string())),
            },
            _ => Err(missing("only \"cpu\" and \"cuda\" are known")),
        }
    }
}

/// Terminates what ONNX Runtime is doing on other threads.
pub struct Interrupter {
    run_options: RunOptions,
    loads: Mutex<Loads>,
}

/// The sessions that are being made, and whether they have been told to give up.
#[derive(Default)]
struct Loads {
    under_way: Vec<LoadCanceler>,
    interrupted: bool,
}

impl Interrupter {
    pub fn new() -> ort::Result<Interrupter> {
        Ok(Interrupter { run_options: RunOptions::new()?, loads: Mutex::default() })
    }

    /// Makes runs and loads under way end with an error as soon as they can, and every later one too.
    pub fn interrupt(&self) {
        // Both calls fail only on a null pointer.
        let _ = self.run_options.terminate();
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.interrupted = true;
        for load in loads.under_way.drain(..) {
            let _ = load.cancel();
        }
    }

    /// Lets [`Interrupter::interrupt`] end the load that `builder` is about to begin.
    fn watch(&self, builder: &SessionBuilder) {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.under_way.push(builder.canceler());
        if loads.interrupted {
            let _ = builder.canceler().cancel();
        }
    }
}

/// Makes a session, which starts no threads.
///
/// `ModelFile` if ONNX Runtime refuses the file, `ProviderMissing` if it cannot use the device.
pub fn open(
    library: &Library,
    file: &SessionFile,
    provider: Provider,
    interrupter: &Interrupter,
) -> Result<Session, EmbedError> {
    // ONNX Runtime's messages contain the whole path, which a user of the model is not meant to see.
    let folder = file.path.parent().unwrap_or(Path::new("")).display().to_string();
    let failed = |reason: String| EmbedError::ModelFile {
        path: file.path.clone(),
        reason: if folder.is_empty() { reason } else { reason.replace(&format!("{folder}/"), "") },
    };
    let builder = Session::builder(library.environment()).map_err(|e| failed(e.to_string()))?;
    let provider_failed = |e: String| match provider {
        Provider::Cpu => failed(e),
        Provider::Cuda => EmbedError::ProviderMissing { provider: "cuda".to_owned(), reason: e },
    };
    let builder = configured(builder, file.mapped).map_err(|e| failed(e.to_string()))?;
    let mut builder = with_provider(builder, provider).map_err(|e| provider_failed(e.to_string()))?;
    interrupter.watch(&builder);
    builder.commit_from_file(&file.path).map_err(|e| {
        let hint = if file.mapped { "; write the mapped form again, or remove it" } else { "" };
        failed(format!("{e}{hint}"))
    })
}

/// Sets what is the same for every provider.
fn configured(builder: SessionBuilder, mapped: bool) -> ort::Result<SessionBuilder> {
    let level = if mapped { GraphOptimizationLevel::Disable } else { GraphOptimizationLevel::Level2 };
    let builder = builder
        .with_optimization_level(level)?
        // With one thread per run a session starts no threads. Several runs at once share the cores instead.
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        // Memory plans pay only if the same input shape comes again, and they keep its memory.
        .with_memory_pattern(false)?
        // Errors are returned; the log would repeat them.
        .with_log_level(LogLevel::Fatal)?;
    Ok(builder)
}

/// Sets the provider, with the CPU as the fallback for operators that a device lacks.
fn with_provider(builder: SessionBuilder, provider: Provider) -> ort::Result<SessionBuilder> {
    // The arena never gives memory back, 80 MB after a run of 2,048 tokens, and is at most 2 % faster.
    let cpu = ort::ep::CPU::default().with_arena_allocator(false).build().error_on_failure();
    let providers = match provider {
        Provider::Cpu => vec![cpu],
        Provider::Cuda => vec![ort::ep::CUDA::default().build().error_on_failure(), cpu],
    };
    Ok(builder.with_execution_providers(providers)?)
}

/// What a model takes and gives: its inputs and the output that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The inputs in the model's order.
    inputs: Vec<Input>,
    output: String,
    /// Whether the output has a vector for each token, and not one for each row.
    pub per_token: bool,
}

/// An input of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Input {
    name: String,
    content: Content,
    /// Whether the numbers are of int64, and not of int32.
    wide: bool,
}

/// What an input is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    TokenIds,
    AttentionMask,
    Zeros,
}

/// Names that exporters give to an output with a vector for each row, best first.
const ROW_OUTPUTS: [&str; 1] = ["sentence_embedding"];
/// Names that exporters give to an output with a vector for each token, best first.
const TOKEN_OUTPUTS: [&str; 2] = ["last_hidden_state", "token_embeddings"];

/// Why this crate cannot serve a model. The messages complete "model "x" is not supported: ...".
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("it has no input \"{0}\"")]
    InputMissing(&'static str),
    #[error("it requires an input \"{0}\"")]
    InputUnknown(String),
    #[error("its input \"{0}\" is not of int64 or int32")]
    InputType(String),
    #[error("its input \"{0}\" is not of any number of rows and tokens")]
    InputShape(String),
    #[error("it has no output \"{0}\"")]
    OutputMissing(String),
    /// The names of the outputs, joined.
    #[error("which of its outputs is meant is not clear: {0}")]
    OutputUnclear(String),
    #[error("its output \"{0}\" is not of float32")]
    OutputType(String),
    #[error("its output \"{0}\" is neither a vector for each token nor one for each row")]
    OutputShape(String),
    #[error("its ONNX file leaves out the step \"{0}\" of modules.json")]
    StepMissing(String),
    #[error(
        "it gives a vector for each token, and no file says how a text's is made of them: \
         copy modules.json and 1_Pooling from where the model was published, \
         or write {{\"pooling\": \"mean\"}}, \"cls\" or \"last_token\", whichever it was trained with, \
         into leann.json in its folder"
    )]
    PoolingUnknown,
}

impl Signature {
    /// Reads what the model of a session takes and gives, and checks that this crate can serve it.
    pub fn from_session(session: &Session, spec: &ModelSpec) -> Result<Signature, SignatureError> {
        let inputs = session.inputs().iter().map(input).collect::<Result<Vec<_>, _>>()?;
        for (content, name) in [(Content::TokenIds, "input_ids"), (Content::AttentionMask, "attention_mask")]
        {
            if !inputs.iter().any(|input| input.content == content) {
                return Err(SignatureError::InputMissing(name));
            }
        }
        let (output, per_token) = output(session, spec.settings().output.as_deref())?;
        if let (true, Some(step)) = (per_token, spec.extra_step()) {
            return Err(SignatureError::StepMissing(step.to_owned()));
        }
        if per_token && spec.pooling().is_none() {
            return Err(SignatureError::PoolingUnknown);
        }
        Ok(Signature { inputs, output, per_token })
    }
}

/// Reads what an input is to be filled with.
fn input(outlet: &Outlet) -> Result<Input, SignatureError> {
    let name = outlet.name().to_owned();
    let content = match name.as_str() {
        "input_ids" => Content::TokenIds,
        "attention_mask" => Content::AttentionMask,
        "token_type_ids" => Content::Zeros,
        _ => return Err(SignatureError::InputUnknown(name)),
    };
    let wide = match outlet.dtype().tensor_type() {
        Some(TensorElementType::Int64) => true,
        Some(TensorElementType::Int32) => false,
        _ => return Err(SignatureError::InputType(name)),
    };
    match outlet.dtype().tensor_shape().map(|shape| &shape[..]) {
        Some([batch, length]) if *batch < 0 && *length < 0 => Ok(Input { name, content, wide }),
        _ => Err(SignatureError::InputShape(name)),
    }
}

/// Returns the name of the output to use, and whether it is per token.
fn output(session: &Session, wanted: Option<&str>) -> Result<(String, bool), SignatureError> {
    let outputs = session.outputs();
    let named = |name: &str| outputs.iter().find(|output| output.name() == name);
    let chosen = match wanted {
        Some(name) => named(name).ok_or_else(|| SignatureError::OutputMissing(name.to_owned()))?,
        None => match ROW_OUTPUTS.iter().chain(&TOKEN_OUTPUTS).find_map(|name| named(name)) {
            Some(output) => output,
            None if outputs.len() == 1 => &outputs[0],
            None => {
                let names: Vec<&str> = outputs.iter().map(Outlet::name).collect();
                return Err(SignatureError::OutputUnclear(names.join(", ")));
            }
        },
    };
    let name = chosen.name().to_owned();
    if chosen.dtype().tensor_type() != Some(TensorElementType::Float32) {
        return Err(SignatureError::OutputType(name));
    }
    match chosen.dtype().tensor_shape().map(|shape| shape.len()) {
        Some(3) => Ok((name, true)),
        Some(2) => Ok((name, false)),
        _ => Err(SignatureError::OutputShape(name)),
    }
}

/// The token ids of some rows, which are padded to the longest.
pub struct Batch<'t> {
    pub rows: Vec<&'t [u32]>,
    pub pad_token: u32,
}

impl Batch<'_> {
    /// Returns the number of tokens of the longest row.
    fn length(&self) -> usize {
        self.rows.iter().map(|row| row.len()).max().unwrap_or(0)
    }

    /// Makes an input tensor of `rows x length` numbers: `value` of each token, and `padding` after the last
    /// of a row.
    fn tensor(&self, wide: bool, value: impl Fn(u32) -> i64, padding: i64) -> ort::Result<DynValue> {
        let shape = [self.rows.len(), self.length()];
        let numbers = self.rows.iter().flat_map(|row| {
            row.iter().map(|&token| value(token)).chain(std::iter::repeat_n(padding, shape[1] - row.len()))
        });
        Ok(if wide {
            Tensor::from_array((shape, numbers.collect::<Vec<i64>>()))?.into_dyn()
        } else {
            Tensor::from_array((shape, numbers.map(|number| number as i32).collect::<Vec<i32>>()))?.into_dyn()
        })
    }

    /// Makes the tensor for an input of the model.
    fn input(&self, input: &Input) -> ort::Result<DynValue> {
        match input.content {
            Content::TokenIds => self.tensor(input.wide, i64::from, i64::from(self.pad_token)),
            Content::AttentionMask => self.tensor(input.wide, |_| 1, 0),
            Content::Zeros => self.tensor(input.wide, |_| 0, 0),
        }
    }
}

/// Why a run gave no vectors. The messages complete "model "x" failed: ...".
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// ONNX Runtime refused, or the run was interrupted.
    #[error(transparent)]
    Runtime(#[from] ort::Error),
    #[error("an output is missing")]
    OutputMissing,
    #[error("an output for {rows} rows of {length} tokens has the shape {shape:?}")]
    OutputShape { rows: i64, length: i64, shape: Vec<i64> },
}

/// Runs the model on a batch and calls `read` with the numbers of the output and how many of them are a
/// vector.
pub fn run<T>(
    session: &mut Session,
    signature: &Signature,
    batch: &Batch,
    interrupter: &Interrupter,
    read: impl FnOnce(&[f32], usize) -> T,
) -> Result<T, RunError> {
    let named =
        |input: &Input| Ok((Cow::from(input.name.clone()), SessionInputValue::from(batch.input(input)?)));
    let inputs = signature.inputs.iter().map(named).collect::<ort::Result<Vec<_>>>()?;
    let outputs = session.run_with_options(inputs, &interrupter.run_options)?;
    let output = outputs.get(&signature.output).ok_or(RunError::OutputMissing)?;
    let (shape, numbers) = output.try_extract_tensor::<f32>()?;
    let (rows, length) = (batch.rows.len() as i64, batch.length() as i64);
    let dim = match (&shape[..], signature.per_token) {
        (&[r, l, dim], true) if r == rows && l == length => dim,
        (&[r, dim], false) if r == rows => dim,
        (shape, _) => return Err(RunError::OutputShape { rows, length, shape: shape.to_vec() }),
    };
    Ok(read(numbers, usize::try_from(dim).unwrap_or(0)))
}
