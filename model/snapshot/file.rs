//! File format of a saved session: safetensors, with tensors in the order of positions.
//!
//! ```text
//! metadata  format, version, session (settings), model (configuration, dtypes, SHA-256 of a sample of its weights)
//! tokens    U32 [positions]
//! depth     U32 [positions]                  steps stored at each position
//! pages     U32 [slots, pages]               page table, so that sums are added in the same order
//! state     F32 [n_embd]                     state that continuous compute may carry on, if there is one
//! kv.outside.L   U8 [positions, bytes]       keys, then values, of layer L of prelude and coda, in the cache's dtype
//! kv.core.L.S    U8 [stored, bytes]          keys, then values, of layer L of the core in slot S, for the positions that have stored a step in that slot
//! sha256    U8 [32]                          checksum of everything before it
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::SnapshotProblem;
use super::settings::{About, Settings};
use crate::error::Error;
use crate::output::OutputFile;

const FORMAT: &str = "ruminate session";
/// Version 1 identified weights only by their norms.
const VERSION: u32 = 2;

/// Maximum bytes of a header; the limit of the safetensors crate.
const MOST_HEADER: u64 = 100_000_000;

/// Bytes of a checksum.
const SUM: u64 = 32;

/// Tensor that the file should have.
pub(super) struct Expected {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
}

impl Expected {
    pub(super) fn new(name: &str, dtype: &'static str, shape: Vec<u64>) -> Self {
        Self { name: name.to_owned(), dtype, shape }
    }

    fn bytes(&self) -> u64 {
        self.shape.iter().product::<u64>() * if self.dtype == "U8" { 1 } else { 4 }
    }
}

/// Session file being written. It gets its name when it is complete.
pub(super) struct Writer {
    path: PathBuf,
    file: BufWriter<OutputFile>,
    hash: Sha256,
}

impl Writer {
    /// Creates a file for these tensors, whose data must be written in this order.
    pub(super) fn create(path: &Path, about: &About, settings: &Settings, tensors: &[Expected]) -> Result<Self, Error> {
        let file = BufWriter::new(OutputFile::create(path)?);
        let mut writer = Self { path: path.to_owned(), file, hash: Sha256::new() };
        let text = |value: serde_json::Result<Value>| value.map(|value| value.to_string()).unwrap_or_default();
        let mut header = Map::new();
        header.insert(
            "__metadata__".to_owned(),
            json!({
                "format": FORMAT,
                "version": VERSION.to_string(),
                "model": text(serde_json::to_value(about)),
                "session": text(serde_json::to_value(settings)),
            }),
        );
        let sum = Expected::new("sha256", "U8", vec![SUM]);
        let mut end = 0;
        for tensor in tensors.iter().chain([&sum]) {
            let start = end;
            end += tensor.bytes();
            let entry = json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end] });
            header.insert(tensor.name.clone(), entry);
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        writer.write(&(header.len() as u64).to_le_bytes())?;
        writer.write(&header)?;
        Ok(writer)
    }

    /// Appends bytes of the next tensor.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|error| self.failed(error))
    }

    /// Flushes the file to disk and gives it its name.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let sum = self.hash.finalize_reset();
        self.write(&sum)?;
        let Self { path, file, .. } = self;
        let failed = |source| Error::Write { file: path.display().to_string(), source };
        file.into_inner().map_err(|error| failed(error.into_error()))?.finish()
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Write { file: self.path.display().to_string(), source }
    }
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Open session file with a verified checksum.
pub(super) struct Reader {
    path: PathBuf,
    file: File,
    /// Byte offset of the tensor data.
    data: u64,
    tensors: BTreeMap<String, Entry>,
    pub(super) about: About,
    pub(super) settings: Settings,
}

impl Reader {
    /// Opens a file and reads it once to verify its checksum.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let wrong = |problem| Error::Snapshot { file: path.display().to_string(), problem };
        let failed = |source| Error::File { file: path.display().to_string(), source };
        let damaged = |reason: &str| wrong(SnapshotProblem::contradicts(reason));
        let mut file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut prefix = [0; 8];
        if bytes < 8 {
            return Err(wrong(SnapshotProblem::Other));
        }
        file.read_exact(&mut prefix).map_err(failed)?;
        let length = u64::from_le_bytes(prefix);
        if !(2..=MOST_HEADER).contains(&length) {
            return Err(wrong(SnapshotProblem::Other));
        }
        let data = 8 + length;
        if data > bytes {
            let mut start = [0; 1];
            // A header begins with a brace.
            let begins = bytes > 8 && file.read_exact(&mut start).is_ok() && start == *b"{";
            let problem = SnapshotProblem::CutOff { bytes, needed: data };
            return Err(wrong(if begins { problem } else { SnapshotProblem::Other }));
        }
        let mut header = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact(&mut header).map_err(failed)?;
        let mut header: Map<String, Value> =
            serde_json::from_slice(&header).map_err(|_| wrong(SnapshotProblem::Other))?;
        let metadata = header.remove("__metadata__").unwrap_or_default();
        let said = |name: &str| metadata[name].as_str().unwrap_or_default();
        if said("format") != FORMAT {
            return Err(wrong(SnapshotProblem::Other));
        }
        if said("version") != VERSION.to_string() {
            let (found, expected) = (said("version").to_owned(), VERSION);
            return Err(wrong(SnapshotProblem::Version { found, expected }));
        }
        let tensors: BTreeMap<String, Entry> = serde_json::from_value(Value::Object(header))
            .map_err(|error| damaged(&format!("its header does not parse: {error}")))?;
        check_offsets(&tensors, data, bytes).map_err(wrong)?;
        let sum = tensors.get("sha256").map(|entry| entry.data_offsets);
        if sum.is_none_or(|(start, end)| data + end != bytes || end - start != SUM) {
            return Err(damaged("the checksum is missing"));
        }
        let (computed, stored) = checksum(&mut file, bytes - SUM).map_err(failed)?;
        if computed != stored {
            return Err(damaged("the checksum does not match"));
        }
        let unreadable = |error| damaged(&format!("its metadata does not parse: {error}"));
        let about = serde_json::from_str(said("model")).map_err(unreadable)?;
        let settings = serde_json::from_str(said("session")).map_err(unreadable)?;
        Ok(Self { path: path.to_owned(), file, data, tensors, about, settings })
    }

    /// An error about this file.
    pub(super) fn wrong(&self, problem: SnapshotProblem) -> Error {
        Error::Snapshot { file: self.path.display().to_string(), problem }
    }

    /// Whether the file has a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Checks that the file has exactly the expected tensors and the checksum.
    pub(super) fn check(&self, expected: &[Expected]) -> Result<(), Error> {
        for tensor in expected {
            let found = self.tensors.get(&tensor.name).map(|entry| (entry.dtype.as_str(), &entry.shape));
            if found != Some((tensor.dtype, &tensor.shape)) {
                return Err(
                    self.wrong(SnapshotProblem::contradicts(&format!("{} has the wrong dtype or shape", tensor.name)))
                );
            }
        }
        if self.tensors.len() != expected.len() + 1 {
            return Err(self.wrong(SnapshotProblem::contradicts("it has unexpected tensors")));
        }
        Ok(())
    }

    /// Reads a tensor of `count` `u32` values.
    pub(super) fn words(&mut self, name: &str, count: u64) -> Result<Vec<u32>, Error> {
        let held = self.tensors.get(name).map(|entry| entry.data_offsets.1 - entry.data_offsets.0);
        if held != Some(count * 4) {
            return Err(self.wrong(SnapshotProblem::contradicts(&format!("{name} has the wrong size"))));
        }
        let mut bytes = vec![0; usize::try_from(count * 4).unwrap_or(0)];
        self.read(name, 0, &mut bytes)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Reads bytes of a tensor, starting at `offset`.
    pub(super) fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let range = self.tensors.get(name).map(|entry| entry.data_offsets);
        let range = range.filter(|(start, end)| offset + out.len() as u64 <= end - start);
        let Some((start, _)) = range else {
            return Err(self.wrong(SnapshotProblem::contradicts(&format!("{name} is too short"))));
        };
        let at = SeekFrom::Start(self.data + start + offset);
        let read = self.file.seek(at).and_then(|_| self.file.read_exact(out));
        read.map_err(|source| Error::File { file: self.path.display().to_string(), source })
    }
}

/// Checks that the tensors are contiguous and end with the file.
fn check_offsets(tensors: &BTreeMap<String, Entry>, data: u64, bytes: u64) -> Result<(), SnapshotProblem> {
    let mut places: Vec<_> = tensors.iter().map(|(name, entry)| (entry.data_offsets, name, entry)).collect();
    places.sort_by_key(|&(offsets, ..)| offsets);
    let mut expected = 0;
    for ((start, end), name, entry) in places {
        let size = if entry.dtype == "U8" { 1 } else { 4 };
        let held = entry.shape.iter().try_fold(size, |product: u64, &count| product.checked_mul(count));
        if start != expected || end.checked_sub(start).is_none_or(|length| Some(length) != held) {
            return Err(SnapshotProblem::contradicts(&format!("{name} has wrong offsets")));
        }
        expected = end;
    }
    let needed = data.saturating_add(expected);
    if bytes < needed {
        return Err(SnapshotProblem::CutOff { bytes, needed });
    }
    if bytes > needed {
        return Err(SnapshotProblem::contradicts("it has extra bytes after its last tensor"));
    }
    Ok(())
}

/// Computes the checksum of the first `bytes` bytes and reads the stored one after them.
fn checksum(file: &mut File, bytes: u64) -> std::io::Result<(String, String)> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut hash, mut left, mut piece) = (Sha256::new(), bytes, vec![0; 1 << 20]);
    while left > 0 {
        let now = left.min(1 << 20);
        let part = &mut piece[..usize::try_from(now).unwrap_or(1 << 20)];
        reader.read_exact(part)?;
        hash.update(part);
        left -= now;
    }
    let mut stored = [0; SUM as usize];
    reader.read_exact(&mut stored)?;
    Ok((hex(&hash.finalize()), hex(&stored)))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
