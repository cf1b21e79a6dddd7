//! Loads the ONNX Runtime library, once per process. It is never unloaded.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::EmbedError;

/// ONNX Runtime and its one environment.
#[derive(Debug)]
pub struct Library {
    environment: Environment,
}

/// The library that this process uses. ONNX Runtime allows one environment in the life of a process, so it
/// stays.
static LOADED: Mutex<Option<&'static Library>> = Mutex::new(None);

impl Library {
    /// Loads ONNX Runtime (1.24 or later) from `path`.
    ///
    /// Once a call has succeeded, every later call returns the same library, whatever its path.
    ///
    /// # Errors
    ///
    /// `LibraryMissing` if there is no such file, `LibraryUnusable` if it is something else or too old.
    /// Nothing is loaded then, and another path may be tried.
    pub fn load(path: &Path) -> Result<&'static Library, EmbedError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = *loaded {
            return Ok(library);
        }
        if !path.is_file() {
            return Err(EmbedError::LibraryMissing { path: path.to_owned() });
        }
        let unusable = |reason: String| EmbedError::LibraryUnusable { path: path.to_owned(), reason };
        // The loader would search for a relative path in the folder of the executable.
        let real = path.canonicalize().map_err(|e| unusable(e.to_string()))?;
        forbid_telemetry();
        let environment = match catch_unwind(AssertUnwindSafe(|| environment(&real))) {
            Ok(made) => made.map_err(|e| unusable(e.to_string()))?,
            Err(_) => return Err(unusable("it is not a usable ONNX Runtime".to_owned())),
        };
        let library = Box::leak(Box::new(Library { environment }));
        *loaded = Some(library);
        Ok(library)
    }

    /// Returns what the library says about its own build: version, commit and compiler flags.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }

    /// Returns the environment, for measurements of ONNX Runtime alone, which have to share it.
    #[doc(hidden)]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// Loads the library and makes its environment. Panics if the file is a library that is not ONNX Runtime.
fn environment(path: &Path) -> Result<Environment, Box<dyn Error>> {
    Ok(ort::init_from(path)?.with_name("leann").with_telemetry(false).build()?)
}

/// Switches off the telemetry of ONNX Runtime: builds from 1.29 on report home unless this is set before they
/// are loaded.
fn forbid_telemetry() {
    // SAFETY: setting a variable is unsound only while another thread reads the environment without std's
    // lock. This runs under the lock on LOADED, before this crate has started any thread. A caller with
    // threads of its own that call getenv from C has to load the library before it starts them.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}
