//! Checkpoint folders made up for a test, and files for them that are right or wrong on purpose.

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

/// A JSON file of a fixture.
///
/// # Errors
/// If it cannot be read.
pub fn golden_json(fixture: &str, file: &str) -> Result<Value> {
    let path = golden_folder(fixture).join(file);
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

/// A temporary folder, gone with the value.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// An empty folder.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// An empty folder in memory, where the system has such a place: for tests that write very often.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn in_memory() -> Result<Self> {
        Ok(Self(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?))
    }

    /// Writes a file, or writes it anew.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        std::fs::write(self.path().join(name), content).with_context(|| name.to_owned())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves it where it is, for someone to look at.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        self.0.keep()
    }

    /// The folder as a source, whether or not it is a whole checkpoint.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::Dir(self.path().to_path_buf())
    }
}

/// A safetensors file: the header as it is given, then the data.
#[must_use]
pub fn safetensors_file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// A safetensors file of tensors `(name, dtype, shape, data)`, one after the other.
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
