//! Weights in safetensors files, mapped into memory: one file, or shards with an index.
//!
//! Everything is known from the headers; the data is touched only when a tensor is read.

mod fingerprint;
mod header;
mod quantised;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use ruminate_shaders::Dtype;
use serde::Deserialize;

pub use header::SafetensorsProblem;
pub(crate) use quantised::{FORMAT, Part, Quantised, VERSION};

use crate::error::{Error, Result, TensorProblem};
use crate::source::{Bytes, Source};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A tensor that an architecture asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Name in the checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether the model cannot do without it.
    pub required: bool,
}

/// What a header says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the checkpoint.
    pub name: String,
    /// How it is stored.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bytes in the file.
    pub bytes: u64,
    /// File that holds it.
    pub file: String,
}

/// A tensor's data.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// How it is stored.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The bytes, little-endian, at any alignment.
    pub data: &'a [u8],
    file: &'a Bytes,
    start: usize,
}

/// The tensors of a checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    files: Vec<Bytes>,
    tensors: BTreeMap<String, Entry>,
    quantised: bool,
}

#[derive(Debug)]
struct Entry {
    info: TensorInfo,
    place: usize,
    start: usize,
    blocks: Option<Blocks>,
}

/// Where the parts of a matrix in blocks begin.
#[derive(Debug)]
struct Blocks {
    matrix: Quantised,
    starts: Vec<usize>,
}

/// A matrix in blocks: numbers, scales, and minima if it has any.
pub(crate) struct BlocksView<'a> {
    pub(crate) matrix: Quantised,
    /// Name of the file that holds it.
    pub(crate) name: &'a str,
    file: &'a Bytes,
    starts: &'a [usize],
}

impl BlocksView<'_> {
    /// Reads bytes of one of the parts into `out`, from the file and not from the mapping.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn read_at(&self, part: usize, offset: usize, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(self.starts[part] + offset, out)
    }
}

impl TensorView<'_> {
    /// Reads bytes of the data into `out`, from the file and not from the mapping: for weights that are passed on at once.
    ///
    /// # Errors
    /// The system's.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(self.start + offset, out)
    }

    /// Decodes the values from `start` on into `out`.
    ///
    /// # Panics
    /// If the tensor has fewer values.
    pub fn decode(&self, start: usize, out: &mut [f32]) {
        let size = self.dtype.bytes() as usize;
        self.dtype.decode_bytes(&self.data[start * size..], out);
    }
}

impl Checkpoint {
    /// Maps the files and reads their headers. Tensors that `ignore` names are left out, and a shard that holds nothing else is not
    /// opened and need not exist.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Json`] or [`Error::Safetensors`] say which file is damaged and how.
    pub fn open(source: &Source, ignore: &dyn Fn(&str) -> bool) -> Result<Self> {
        let mut checkpoint = Self { files: Vec::new(), tensors: BTreeMap::new(), quantised: false };
        if source.exists(SINGLE) {
            checkpoint.add(source, SINGLE, ignore)?;
        } else if source.exists(INDEX) {
            checkpoint.add_shards(source, ignore)?;
        } else {
            let error = std::io::Error::new(std::io::ErrorKind::NotFound, format!("neither it nor {INDEX} is there"));
            return Err(Error::File { file: source.describe(SINGLE), source: error });
        }
        Ok(checkpoint)
    }

    fn add_shards(&mut self, source: &Source, ignore: &dyn Fn(&str) -> bool) -> Result<()> {
        let file = source.describe(INDEX);
        let index: Index = serde_json::from_slice(&source.read(INDEX)?)
            .map_err(|error| Error::Json { file: file.clone(), source: error })?;
        let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, shard) in index.weight_map.iter().filter(|(name, _)| !ignore(name)) {
            shards.entry(shard).or_default().push(name);
        }
        let wrong = |problem| Error::Safetensors { file: file.clone(), problem };
        for (shard, names) in shards {
            if !is_beside(shard) || !source.exists(shard) {
                let tensor = names.first().map_or_else(String::new, ToString::to_string);
                return Err(wrong(SafetensorsProblem::MissingShard { shard: shard.to_owned(), tensor }));
            }
            let held = self.add(source, shard, ignore)?;
            if let Some(name) = names.iter().find(|name| !held.contains(**name)) {
                return Err(wrong(SafetensorsProblem::NotInShard {
                    tensor: (*name).to_owned(),
                    shard: shard.to_owned(),
                }));
            }
        }
        Ok(())
    }

    /// Adds the tensors of a file; gives their names, as they stand there.
    fn add(&mut self, source: &Source, name: &str, ignore: &dyn Fn(&str) -> bool) -> Result<BTreeSet<String>> {
        let bytes = source.map(name)?;
        let wrong = |problem| Error::Safetensors { file: source.describe(name), problem };
        let (data, metadata) = header::read(&bytes).map_err(wrong)?;
        let mut taken = BTreeSet::new();
        let quantised = quantised::read(&metadata).map_err(wrong)?;
        self.quantised |= quantised.is_some();
        for (tensor, (matrix, parts)) in quantised.unwrap_or_default() {
            taken.extend(matrix.parts().iter().map(|part| format!("{tensor}{}", part.suffix)));
            if ignore(&tensor) {
                continue;
            }
            let bytes = parts.iter().map(|part| (part.data_offsets.1 - part.data_offsets.0) as u64).sum();
            let starts: Vec<usize> = parts.iter().map(|part| data + part.data_offsets.0).collect();
            let shape = matrix.shape.map(|size| size as usize).to_vec();
            let info = TensorInfo { name: tensor.clone(), dtype: matrix.dtype, shape, bytes, file: name.to_owned() };
            let place = self.files.len();
            let entry = Entry { info, place, start: starts[0], blocks: Some(Blocks { matrix, starts }) };
            self.insert(tensor, entry).map_err(wrong)?;
        }
        for (tensor, info) in metadata.tensors() {
            if ignore(&tensor) || taken.contains(&tensor) {
                continue;
            }
            let dtype = match info.dtype {
                safetensors::Dtype::F32 => Dtype::F32,
                safetensors::Dtype::F16 => Dtype::F16,
                safetensors::Dtype::BF16 => Dtype::Bf16,
                other => return Err(wrong(SafetensorsProblem::Dtype { tensor, dtype: other.to_string() })),
            };
            let (start, end) = info.data_offsets;
            let shape = info.shape.clone();
            let entry = Entry {
                info: TensorInfo {
                    name: tensor.clone(),
                    dtype,
                    shape,
                    bytes: (end - start) as u64,
                    file: name.to_owned(),
                },
                place: self.files.len(),
                start: data + start,
                blocks: None,
            };
            self.insert(tensor, entry).map_err(wrong)?;
        }
        self.files.push(bytes);
        Ok(metadata.tensors().into_keys().collect())
    }

    fn insert(&mut self, tensor: String, entry: Entry) -> Result<(), SafetensorsProblem> {
        match self.tensors.insert(tensor, entry) {
            Some(Entry { info, .. }) => Err(SafetensorsProblem::InTwoFiles { tensor: info.name, other: info.file }),
            None => Ok(()),
        }
    }

    /// Whether the files are what `ruminate quantize` writes: matrices are held as they are stored, and not rounded again.
    #[must_use]
    pub fn is_quantised(&self) -> bool {
        self.quantised
    }

    /// A matrix in blocks, if there is one of that name.
    pub(crate) fn blocks(&self, name: &str) -> Option<BlocksView<'_>> {
        let Entry { info, place, blocks, .. } = self.tensors.get(name)?;
        let Blocks { matrix, starts } = blocks.as_ref()?;
        Some(BlocksView { matrix: *matrix, name: &info.file, file: &self.files[*place], starts })
    }

    /// Every tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|entry| &entry.info)
    }

    /// A tensor's data, if there is one of that name. Of a matrix in blocks, the data are the numbers alone, which [`TensorView::decode`] leaves
    /// as they are.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let Entry { info, place, start, blocks } = self.tensors.get(name)?;
        let file = &self.files[*place];
        let numbers = blocks.as_ref().map(|it| it.matrix.shape[0] as usize * it.matrix.rows().number_bytes());
        let data = &file[*start..*start + numbers.unwrap_or(info.bytes as usize)];
        Some(TensorView { dtype: info.dtype, shape: info.shape.clone(), data, file, start: *start })
    }

    /// A tensor's data.
    ///
    /// # Errors
    /// [`Error::Tensors`] if there is none of that name; [`Self::check`] would have said so.
    pub fn required(&self, name: &str) -> Result<TensorView<'_>> {
        let missing = || Error::Tensors(vec![TensorProblem::Missing { name: name.to_owned(), shape: Vec::new() }]);
        self.tensor(name).ok_or_else(missing)
    }

    /// Compares names and shapes with what an architecture asks for.
    ///
    /// # Errors
    /// [`Error::Tensors`] lists everything that is missing, surplus or of another shape.
    pub fn check(&self, expected: &[Expected]) -> Result<()> {
        let mut problems = Vec::new();
        for Expected { name, shape, required } in expected {
            match self.tensors.get(name) {
                None if *required => problems.push(TensorProblem::Missing { name: name.clone(), shape: shape.clone() }),
                Some(entry) if entry.info.shape != *shape => problems.push(TensorProblem::Shape {
                    name: name.clone(),
                    file: entry.info.file.clone(),
                    found: entry.info.shape.clone(),
                    expected: shape.clone(),
                }),
                _ => {}
            }
        }
        let known: BTreeSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
        for info in self.tensors().filter(|info| !known.contains(info.name.as_str())) {
            problems.push(TensorProblem::Surplus { name: info.name.clone(), file: info.file.clone() });
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Tensors(problems)) }
    }
}

/// Whether a shard's name is that of a file beside the index, not a path to somewhere else.
fn is_beside(shard: &str) -> bool {
    let mut parts = Path::new(shard).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}
