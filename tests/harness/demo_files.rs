//! Folders with the demo's files, optionally modified.

use anyhow::{Context, Result};
use ruminate::{Source, demo};
use serde_json::{Value, json};

use crate::folder::{Folder, safetensors_file};

/// File with the demo's weights.
pub const WEIGHTS: &str = "model.safetensors";
/// Index from tensors to shards.
pub const INDEX: &str = "model.safetensors.index.json";
/// Shard with all tensors that are not in [`SECOND`].
pub const FIRST: &str = "model-00001-of-00002.safetensors";
/// Shard with core and coda.
pub const SECOND: &str = "model-00002-of-00002.safetensors";

/// Header and data of a safetensors file.
#[derive(Debug)]
pub struct Parts {
    /// Entries of the header.
    pub header: Value,
    /// Data after the header.
    pub data: Vec<u8>,
}

impl Parts {
    /// Parts of the demo's weights.
    ///
    /// # Errors
    /// Never in practice, because the demo is embedded.
    pub fn demo() -> Result<Self> {
        let file = demo::source().read(WEIGHTS)?;
        let length = usize::try_from(u64::from_le_bytes(file[..8].try_into()?))?;
        Ok(Self { header: serde_json::from_slice(&file[8..8 + length])?, data: file[8 + length..].to_vec() })
    }

    /// Joins the parts into a file.
    #[must_use]
    pub fn file(&self) -> Vec<u8> {
        safetensors_file(&self.header.to_string(), &self.data)
    }

    /// File with only the tensors whose names `keep` accepts.
    ///
    /// # Errors
    /// If the header is invalid.
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Result<Vec<u8>> {
        let mut part = Self { header: json!({}), data: Vec::new() };
        for (name, entry) in self.header.as_object().context("a header is an object")? {
            if name == "__metadata__" || !keep(name) {
                continue;
            }
            let [start, end]: [usize; 2] = serde_json::from_value(entry["data_offsets"].clone())?;
            let at = part.data.len();
            part.data.extend_from_slice(&self.data[start..end]);
            part.header[name] = entry.clone();
            part.header[name]["data_offsets"] = json!([at, part.data.len()]);
        }
        Ok(part.file())
    }

    /// Bytes of a tensor.
    ///
    /// # Errors
    /// If the tensor does not exist.
    pub fn bytes(&mut self, name: &str) -> Result<&mut [u8]> {
        let [start, end]: [usize; 2] = serde_json::from_value(self.header[name]["data_offsets"].clone())?;
        self.data.get_mut(start..end).context("offsets beyond the data")
    }
}

/// Temporary folder with the demo's files.
///
/// # Errors
/// If the folder cannot be created.
pub fn folder() -> Result<Folder> {
    let folder = Folder::new()?;
    let Source::Embedded(files) = demo::source() else { anyhow::bail!("the demo is embedded") };
    files.iter().try_for_each(|(name, content)| folder.write(name, content))?;
    Ok(folder)
}

/// The demo's files with a JSON file changed.
///
/// # Errors
/// If a file cannot be read or written.
pub fn with_json(name: &str, change: impl FnOnce(&mut Value)) -> Result<Folder> {
    let folder = folder()?;
    let mut value = serde_json::from_slice(&std::fs::read(folder.path().join(name))?)?;
    change(&mut value);
    folder.write(name, value.to_string())?;
    Ok(folder)
}

/// The demo's files with other weights.
///
/// # Errors
/// If a file cannot be written.
pub fn with_weights(file: &[u8]) -> Result<Folder> {
    let folder = folder()?;
    folder.write(WEIGHTS, file)?;
    Ok(folder)
}

/// The demo's files in two shards, with core and coda in the second, and an index changed by `change`.
///
/// # Errors
/// If a file cannot be written.
pub fn sharded(change: impl FnOnce(&mut Value)) -> Result<Folder> {
    let folder = folder()?;
    std::fs::remove_file(folder.path().join(WEIGHTS))?;
    let parts = Parts::demo()?;
    let in_second = |name: &str| name.contains(".core_block.") || name.contains(".coda.");
    folder.write(FIRST, parts.only(|name| !in_second(name))?)?;
    folder.write(SECOND, parts.only(in_second)?)?;
    let names = parts.header.as_object().context("a header is an object")?.keys();
    let places = names.filter(|name| *name != "__metadata__");
    let map = places.map(|name| (name.clone(), json!(if in_second(name) { SECOND } else { FIRST }))).collect();
    let mut index = json!({"metadata": {}, "weight_map": Value::Object(map)});
    change(&mut index);
    folder.write(INDEX, index.to_string())?;
    Ok(folder)
}
