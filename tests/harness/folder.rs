//! Temporary checkpoint folders, and valid or deliberately invalid files for them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ruminate::Source;
use serde_json::{Map, Value, json};

/// Folder of a fixture: in tests/golden, or where `RUMINATE_TEST_GOLDEN` says that copies are, for test binaries that run elsewhere.
#[must_use]
pub fn golden_folder(name: &str) -> PathBuf {
    let elsewhere = std::env::var_os("RUMINATE_TEST_GOLDEN").filter(|folder| !folder.is_empty());
    elsewhere.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("golden"), PathBuf::from).join(name)
}

/// JSON file of a fixture.
///
/// # Errors
/// If it cannot be read.
pub fn golden_json(fixture: &str, file: &str) -> Result<Value> {
    let path = golden_folder(fixture).join(file);
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

/// Temporary folder, deleted on drop.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// Creates an empty folder.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// Creates an empty folder in memory if possible, for tests that write very often.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn in_memory() -> Result<Self> {
        Ok(Self(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?))
    }

    /// Writes or overwrites a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        std::fs::write(self.path().join(name), content).with_context(|| name.to_owned())
    }

    /// Path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Keeps the folder after the test, for inspection.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        self.0.keep()
    }

    /// The folder as a source, even if it is not a complete checkpoint.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::Dir(self.path().to_path_buf())
    }
}

/// Safetensors file with a given header and data.
#[must_use]
pub fn safetensors_file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// Safetensors file with tensors `(name, dtype, shape, data)`, one after another.
#[must_use]
pub fn safetensors_of(tensors: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
    let mut header = Map::new();
    let mut all = Vec::new();
    for (name, dtype, shape, data) in tensors {
        let start = all.len();
        all.extend_from_slice(data);
        header.insert((*name).to_owned(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, all.len()]}));
    }
    safetensors_file(&Value::Object(header).to_string(), &all)
}
