//! The ONNX Runtime library: loaded once per process, never unloaded.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::EmbedError;

/// ONNX Runtime and its one environment.
#[derive(Debug)]
pub struct Library {
    path: PathBuf,
    environment: Environment,
}

/// ONNX Runtime allows one environment per process, ever: what was loaded stays.
static LOADED: Mutex<Option<&'static Library>> = Mutex::new(None);

impl Library {
    /// Loads ONNX Runtime (1.24 or later) from `path`.
    ///
    /// `LibraryMissing` when there is no such file and `LibraryUnusable` when it is something else or too old; either
    /// way nothing is loaded, and another path may be tried. Once one call has succeeded, every later call gives that
    /// same library, whatever its path.
    pub fn load(path: &Path) -> Result<&'static Library, EmbedError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = *loaded {
            return Ok(library);
        }
        if !path.is_file() {
            return Err(EmbedError::LibraryMissing { path: path.to_owned() });
        }
        let unusable = |reason: String| EmbedError::LibraryUnusable { path: path.to_owned(), reason };
        // A relative path would be looked for beside the executable.
        let real = path.canonicalize().map_err(|e| unusable(e.to_string()))?;
        forbid_telemetry();
        let environment = catch_unwind(AssertUnwindSafe(|| environment(&real)))
            .unwrap_or_else(|_| Err("it is not a usable ONNX Runtime".to_owned()))
            .map_err(unusable)?;
        let library = Box::leak(Box::new(Library { path: path.to_owned(), environment }));
        *loaded = Some(library);
        Ok(library)
    }

    /// The path it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the library says about its own build.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// For measurements against ONNX Runtime alone, which has to use the same environment.
    #[doc(hidden)]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn environment(path: &Path) -> Result<Environment, String> {
    let builder = ort::init_from(path).map_err(|e| e.to_string())?;
    builder.with_name("leann").with_telemetry(false).build().map_err(|e| e.to_string())
}

/// Builds of ONNX Runtime from 1.29 on report home unless this is set before they are loaded.
fn forbid_telemetry() {
    // SAFETY: setting a variable is unsound only while another thread reads the environment without std's lock. This
    // runs once, under the lock on LOADED, before this crate has started any thread; a caller with threads of its own
    // that call getenv from C has to load the library before it starts them.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}
