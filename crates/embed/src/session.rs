//! An ONNX Runtime session: what the model takes and gives, and running it on one batch of token numbers.

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

/// Where the model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    Cuda,
}

impl Provider {
    /// `ProviderMissing` if there is no such provider, or the library was built without it.
    pub fn named(name: &str) -> Result<Provider, EmbedError> {
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

/// Cuts short what ONNX Runtime is doing on other threads.
pub struct Interrupter {
    run_options: RunOptions,
    loads: Mutex<Loads>,
}

#[derive(Default)]
struct Loads {
    under_way: Vec<LoadCanceler>,
    interrupted: bool,
}

impl Interrupter {
    pub fn new() -> ort::Result<Interrupter> {
        Ok(Interrupter { run_options: RunOptions::new()?, loads: Mutex::default() })
    }

    /// Runs and loads under way end with an error as soon as they can, and so does every later one.
    pub fn interrupt(&self) {
        // Neither can fail but on a null pointer.
        let _ = self.run_options.terminate();
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.interrupted = true;
        for load in loads.under_way.drain(..) {
            let _ = load.cancel();
        }
    }

    fn watch(&self, builder: &SessionBuilder) {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.under_way.push(builder.canceler());
        if loads.interrupted {
            let _ = builder.canceler().cancel();
        }
    }
}

/// Makes a session. It starts no thread of its own.
pub fn open(
    library: &Library,
    file: &SessionFile,
    provider: Provider,
    interrupter: &Interrupter,
) -> Result<Session, EmbedError> {
    // ONNX Runtime names files by the paths it was given, which is more than a user of the model has to know.
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

fn configured(builder: SessionBuilder, mapped: bool) -> ort::Result<SessionBuilder> {
    let level = if mapped { GraphOptimizationLevel::Disable } else { GraphOptimizationLevel::Level2 };
    let builder = builder
        .with_optimization_level(level)?
        // One thread per run is what keeps a session from starting threads; several runs share the cores instead.
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        // Plans for a shape of input pay only when the shape returns, and hold on to its memory.
        .with_memory_pattern(false)?
        // What goes wrong comes back as an error; the log would have it a second time.
        .with_log_level(LogLevel::Fatal)?;
    Ok(builder)
}

fn with_provider(builder: SessionBuilder, provider: Provider) -> ort::Result<SessionBuilder> {
    // The arena never gives memory back, 80 MB after a run of 2,048 tokens, and is at most 2 % faster.
    let cpu = ort::ep::CPU::default().with_arena_allocator(false).build().error_on_failure();
    let providers = match provider {
        Provider::Cpu => vec![cpu],
        Provider::Cuda => vec![ort::ep::CUDA::default().build().error_on_failure(), cpu],
    };
    Ok(builder.with_execution_providers(providers)?)
}

/// What a model takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// In the model's order.
    inputs: Vec<Input>,
    output: String,
    /// The output has a vector for each token, not one for each row.
    pub per_token: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Input {
    name: String,
    content: Content,
    wide: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    TokenNumbers,
    AttentionMask,
    Zeros,
}

/// Outputs by the names that exporters give them, best first.
const ROW_OUTPUTS: [&str; 1] = ["sentence_embedding"];
const TOKEN_OUTPUTS: [&str; 2] = ["last_hidden_state", "token_embeddings"];

impl Signature {
    /// `Unsupported`, saying what the model wants or gives, if this crate cannot serve it.
    pub fn of(session: &Session, spec: &ModelSpec) -> Result<Signature, EmbedError> {
        let unsupported = |reason| EmbedError::Unsupported { model: spec.name().to_owned(), reason };
        let inputs =
            session.inputs().iter().map(input).collect::<Result<Vec<_>, _>>().map_err(unsupported)?;
        for (content, name) in
            [(Content::TokenNumbers, "input_ids"), (Content::AttentionMask, "attention_mask")]
        {
            if !inputs.iter().any(|input| input.content == content) {
                return Err(unsupported(format!("it has no input \"{name}\"")));
            }
        }
        let (output, per_token) = output(session, spec.settings().output.as_deref()).map_err(unsupported)?;
        if let (true, Some(step)) = (per_token, spec.extra_step()) {
            return Err(unsupported(format!("its ONNX file leaves out the step \"{step}\" of modules.json")));
        }
        if per_token && spec.pooling().is_none() {
            let reason = "it gives a vector for each token, and no file says how a text's is made of them: copy \
                          modules.json and 1_Pooling from where the model was published, or write {\"pooling\": \
                          \"mean\"}, \"cls\" or \"last_token\", whichever it was trained with, into leann.json in its \
                          folder";
            return Err(unsupported(reason.to_owned()));
        }
        Ok(Signature { inputs, output, per_token })
    }
}

fn input(outlet: &Outlet) -> Result<Input, String> {
    let name = outlet.name().to_owned();
    let content = match name.as_str() {
        "input_ids" => Content::TokenNumbers,
        "attention_mask" => Content::AttentionMask,
        "token_type_ids" => Content::Zeros,
        _ => return Err(format!("it wants an input \"{name}\"")),
    };
    let wide = match outlet.dtype().tensor_type() {
        Some(TensorElementType::Int64) => true,
        Some(TensorElementType::Int32) => false,
        _ => return Err(format!("its input \"{name}\" is not of int64 or int32")),
    };
    match outlet.dtype().tensor_shape().map(|shape| &shape[..]) {
        Some([batch, length]) if *batch < 0 && *length < 0 => Ok(Input { name, content, wide }),
        _ => Err(format!("its input \"{name}\" is not of any number of rows and tokens")),
    }
}

/// The name of the output to use, and whether it is per token.
fn output(session: &Session, wanted: Option<&str>) -> Result<(String, bool), String> {
    let outputs = session.outputs();
    let named = |name: &str| outputs.iter().find(|output| output.name() == name);
    let chosen = match wanted {
        Some(name) => named(name).ok_or_else(|| format!("it has no output \"{name}\""))?,
        None => match ROW_OUTPUTS.iter().chain(&TOKEN_OUTPUTS).find_map(|name| named(name)) {
            Some(output) => output,
            None if outputs.len() == 1 => &outputs[0],
            None => {
                let names: Vec<&str> = outputs.iter().map(Outlet::name).collect();
                return Err(format!("which of its outputs is meant is not clear: {}", names.join(", ")));
            }
        },
    };
    let name = chosen.name().to_owned();
    if chosen.dtype().tensor_type() != Some(TensorElementType::Float32) {
        return Err(format!("its output \"{name}\" is not of float32"));
    }
    match chosen.dtype().tensor_shape().map(|shape| shape.len()) {
        Some(3) => Ok((name, true)),
        Some(2) => Ok((name, false)),
        _ => Err(format!("its output \"{name}\" is neither a vector for each token nor one for each row")),
    }
}

/// Token numbers of some rows, padded to the longest.
pub struct Batch<'t> {
    pub rows: Vec<&'t [u32]>,
    pub pad_token: u32,
}

impl Batch<'_> {
    fn length(&self) -> usize {
        self.rows.iter().map(|row| row.len()).max().unwrap_or(0)
    }

    /// One input tensor; `value` gives the number for a token, `padding` what stands after the last.
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

    fn input(&self, input: &Input) -> ort::Result<DynValue> {
        match input.content {
            Content::TokenNumbers => self.tensor(input.wide, i64::from, i64::from(self.pad_token)),
            Content::AttentionMask => self.tensor(input.wide, |_| 1, 0),
            Content::Zeros => self.tensor(input.wide, |_| 0, 0),
        }
    }
}

/// Runs the model on a batch and gives `read` the output: its numbers, and how many of them belong to each vector.
///
/// `Err` is what ONNX Runtime says, also when the run was interrupted, or what is wrong with the shape of what it gave.
pub fn run<T>(
    session: &mut Session,
    signature: &Signature,
    batch: &Batch,
    interrupter: &Interrupter,
    read: impl FnOnce(&[f32], usize) -> T,
) -> Result<T, String> {
    let named =
        |input: &Input| Ok((Cow::from(input.name.clone()), SessionInputValue::from(batch.input(input)?)));
    let inputs: ort::Result<Vec<_>> = signature.inputs.iter().map(named).collect();
    let outputs = inputs
        .and_then(|inputs| session.run_with_options(inputs, &interrupter.run_options))
        .map_err(|e| e.to_string())?;
    let output = outputs.get(&signature.output).ok_or("an output is missing")?;
    let (shape, numbers) = output.try_extract_tensor::<f32>().map_err(|e| e.to_string())?;
    let (rows, length) = (batch.rows.len() as i64, batch.length() as i64);
    let dim = match (&shape[..], signature.per_token) {
        (&[r, l, dim], true) if r == rows && l == length => dim,
        (&[r, dim], false) if r == rows => dim,
        (shape, _) => {
            return Err(format!("an output for {rows} rows of {length} tokens has the shape {shape:?}"));
        }
    };
    Ok(read(numbers, usize::try_from(dim).unwrap_or(0)))
}
