//! Files of a fixture.

use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Expected outputs of a checkpoint.
pub struct Fixture {
    json: Value,
    bytes: Vec<u8>,
}

impl Fixture {
    /// Reads `expected.json` and `expected.safetensors`.
    ///
    /// # Errors
    /// If one is missing or malformed.
    pub fn open(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).with_context(|| format!("{} is not a fixture: cannot read {name}", folder.display()))
        };
        let json = serde_json::from_slice(&read("expected.json")?).context("expected.json")?;
        Ok(Self { json, bytes: read("expected.safetensors")? })
    }

    /// Value in `expected.json` at a path such as `/forward/tokens`; null if it is missing.
    #[must_use]
    pub fn value(&self, path: &str) -> &Value {
        self.json.pointer(path).unwrap_or(&Value::Null)
    }

    /// Integers in a list of `expected.json`; empty if the list is missing.
    #[must_use]
    pub fn numbers(&self, path: &str) -> Vec<u32> {
        numbers(self.value(path))
    }

    /// Whether a tensor of this name exists.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).is_ok_and(|file| file.tensor(name).is_ok())
    }

    /// Names of all tensors with a prefix, without the prefix.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let file = SafeTensors::deserialize(&self.bytes).context("expected.safetensors")?;
        Ok(file.names().into_iter().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect())
    }

    /// Tensor in `expected.safetensors`, or `None` if it is missing.
    ///
    /// # Errors
    /// If it is not f32.
    pub fn optional(&self, name: &str) -> Result<Option<Vec<f32>>> {
        if self.has(name) { self.tensor(name).map(Some) } else { Ok(None) }
    }

    /// Tensor in `expected.safetensors`.
    ///
    /// # Errors
    /// If it is missing or not f32.
    pub fn tensor(&self, name: &str) -> Result<Vec<f32>> {
        let file = SafeTensors::deserialize(&self.bytes).context("expected.safetensors")?;
        let tensor = file.tensor(name).with_context(|| format!("expected.safetensors: {name}"))?;
        if tensor.dtype() != Dtype::F32 {
            bail!("expected.safetensors: {name} is {:?}, expected F32", tensor.dtype());
        }
        Ok(tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// Allowed error of a tensor.
    #[must_use]
    pub fn bound(&self, name: &str, expected: &[f32]) -> f64 {
        let largest = expected.iter().fold(0.0, |m: f64, v| m.max(f64::from(v.abs())));
        let noise = self.json["noise"][name]["max_abs_diff_f32_f64"].as_f64().unwrap_or(0.0);
        1e-4 * largest + 4.0 * noise
    }
}

/// Integers in a JSON list.
#[must_use]
pub(super) fn numbers(list: &Value) -> Vec<u32> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|v| v.as_u64().and_then(|v| u32::try_from(v).ok())).collect()
}
