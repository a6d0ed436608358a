//! Checkpoints: weights in safetensors files, either one file or shards with an index.
//!
//! Opening a checkpoint reads only the headers; the data of a tensor is read on demand.

mod fingerprint;
mod header;
mod index;
mod names;
mod quantized;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use ruminate_shaders::Dtype;

pub(crate) use self::index::is_weights;
use self::index::{Files, SINGLE, is_beside};
pub use header::SafetensorsProblem;
pub use index::ShardIndex;
pub(crate) use quantized::{FORMAT, Part, Quantized, VERSION};
pub(crate) use view::BlocksView;
pub use view::TensorView;

use crate::arch::Spec;
use crate::error::{Error, Result, TensorProblem};
use crate::source::{Bytes, Source};

/// A tensor that an architecture needs or may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Name in the checkpoint.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Whether the model cannot run without it.
    pub required: bool,
}

/// Description of a stored tensor, from a file's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the checkpoint.
    pub name: String,
    /// Dtype in the file.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
    /// Size in the file, in bytes.
    pub bytes: u64,
    /// File that holds it.
    pub file: String,
}

/// A stored tensor that the model does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnusedTensor {
    /// Name in the checkpoint.
    pub name: String,
    /// File that holds it.
    pub file: String,
}

/// The tensors of a checkpoint.
#[derive(Debug, Default)]
pub struct Checkpoint {
    files: Vec<Bytes>,
    tensors: BTreeMap<String, Entry>,
    /// Tensors with unsupported dtypes, an error only if the model needs one of them.
    unreadable: BTreeMap<String, Unreadable>,
    /// Names that occur in two files, if no index assigns them to one.
    twice: BTreeMap<String, [String; 2]>,
    /// Aliases in the files' metadata: names of shared tensors, with the name under which each is stored.
    stands_for: BTreeMap<String, String>,
    unused: Vec<UnusedTensor>,
    quantized: bool,
}

#[derive(Debug)]
struct Unreadable {
    file: String,
    dtype: String,
    shape: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    info: TensorInfo,
    place: usize,
    start: usize,
    blocks: Option<Blocks>,
}

/// Offsets of the parts of a matrix in blocks.
#[derive(Clone, Debug)]
struct Blocks {
    matrix: Quantized,
    starts: Vec<usize>,
}

/// Names of all stored tensors, quantized or not; `None` if they cannot be read.
pub(crate) fn stored_names(source: &Source) -> Option<BTreeSet<String>> {
    let files = Files::find(source).ok()?;
    if let Some(index) = files.index() {
        return Some(index.tensors().map(|(name, _)| quantized::base(name).to_owned()).collect());
    }
    let checkpoint = Checkpoint::read(source, &files, &|_| false).ok()?;
    Some(checkpoint.tensors.keys().chain(checkpoint.unreadable.keys()).cloned().collect())
}

impl Checkpoint {
    /// Opens the weights of a model of this configuration: reads the headers of the files that the model needs, and compares names, dtypes and shapes with the
    /// model's tensors.
    ///
    /// If an index assigns a tensor to a shard, copies in other shards are ignored. A shared tensor may be stored under any of its names: the tied head for the
    /// embedding, and the aliases in the files' metadata. Buffers beside the weights are skipped, see [`Self::unused`].
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Content`], [`Error::Json`] or [`Error::Safetensors`] name the damaged file and its defect; [`Error::Tensors`] lists every
    /// tensor that is missing, unknown, or of an unsupported dtype or a wrong shape.
    pub fn for_config(source: &Source, spec: &Spec) -> Result<Self> {
        let files = Files::find(source)?;
        let index = files.index();
        let manifest = spec.manifest();
        let unread = names::unread(&manifest, |name| index.is_some_and(|index| index.shard(name).is_some()));
        let ignore = |name: &str| index.is_some() && unread(name);
        let mut checkpoint = Self::read(source, &files, &ignore)?;
        let copies: Vec<(&str, &str)> = manifest.copies().collect();
        let is_copy = |name: &str| copies.iter().any(|(_, copy)| *copy == quantized::base(name));
        if let Some(index) = index {
            let unused = index.tensors().filter(|(name, _)| unread(name) && !is_copy(name));
            let tensor = |(name, file): (&str, &str)| UnusedTensor { name: name.to_owned(), file: file.to_owned() };
            checkpoint.unused = unused.map(tensor).collect();
        }
        for (name, copy) in copies {
            checkpoint.share(name, copy);
            checkpoint.forget(copy);
        }
        let expected: Vec<Expected> = manifest.tensors().cloned().collect();
        for Expected { name, .. } in expected.iter().filter(|tensor| tensor.required) {
            if let Some(stored) = checkpoint.stands_for.get(name).cloned() {
                checkpoint.share(name, &stored);
            }
        }
        checkpoint.check(&expected)?;
        checkpoint.set_aside(&expected);
        Ok(checkpoint)
    }

    /// Reads the headers of all files, whatever the model. Skips tensors for which `ignore` returns true; a shard that holds no other tensors in the index is
    /// not opened and need not exist.
    ///
    /// # Errors
    /// See [`Self::for_config`], except for [`Error::Tensors`], which [`Self::check`] returns.
    pub fn open(source: &Source, ignore: &dyn Fn(&str) -> bool) -> Result<Self> {
        Self::read(source, &Files::find(source)?, ignore)
    }

    fn read(source: &Source, files: &Files, ignore: &dyn Fn(&str) -> bool) -> Result<Self> {
        let mut checkpoint = Self::default();
        match files {
            Files::Single => drop(checkpoint.add(source, SINGLE, ignore)?),
            Files::Shards(shards) => {
                for shard in shards {
                    checkpoint.add(source, shard, ignore)?;
                }
            }
            Files::Indexed(index) => {
                let wrong =
                    |problem| Error::Safetensors { file: source.describe("model.safetensors.index.json"), problem };
                for (shard, names) in index.assigned(ignore) {
                    if !is_beside(shard) || !source.exists(shard) {
                        let tensor = names.first().map_or_else(String::new, ToString::to_string);
                        return Err(wrong(SafetensorsProblem::MissingShard { shard: shard.to_owned(), tensor }));
                    }
                    // Ignores copies of tensors that the index assigns to other shards.
                    let elsewhere = |name: &str| index.shard(name).is_some_and(|other| other != shard);
                    let held = checkpoint.add(source, shard, &|name| ignore(name) || elsewhere(name))?;
                    if let Some(name) = names.iter().find(|name| !held.contains(**name)) {
                        let (tensor, shard) = ((*name).to_owned(), shard.to_owned());
                        return Err(wrong(SafetensorsProblem::NotInShard { tensor, shard }));
                    }
                }
            }
        }
        Ok(checkpoint)
    }

    /// Adds the tensors of a file and returns all names in its header. Skips tensors for which `ignore` returns true.
    fn add(&mut self, source: &Source, name: &str, ignore: &dyn Fn(&str) -> bool) -> Result<BTreeSet<String>> {
        let file = source.open(name)?;
        let failed = |error| Error::File { file: source.describe(name), source: error };
        let wrong = |problem| Error::Safetensors { file: source.describe(name), problem };
        let header = header::read(&file).map_err(failed)?.map_err(wrong)?;
        let (data, metadata, place) = (header.data, header.metadata, self.files.len());
        let mut taken = BTreeSet::new();
        let quantized = quantized::read(&metadata).map_err(wrong)?;
        self.quantized |= quantized.is_some();
        for (tensor, (matrix, parts)) in quantized.unwrap_or_default() {
            let stored: Vec<String> = matrix.parts().iter().map(|part| format!("{tensor}{}", part.suffix)).collect();
            let left_out = ignore(&tensor) || stored.iter().any(|stored| ignore(stored));
            taken.extend(stored);
            if left_out {
                continue;
            }
            let bytes = parts.iter().map(|part| (part.data_offsets.1 - part.data_offsets.0) as u64).sum();
            let starts: Vec<usize> = parts.iter().map(|part| data + part.data_offsets.0).collect();
            let shape = matrix.shape.map(|size| size as usize).to_vec();
            let info = TensorInfo { name: tensor.clone(), dtype: matrix.dtype, shape, bytes, file: name.to_owned() };
            self.insert(tensor, Entry { info, place, start: starts[0], blocks: Some(Blocks { matrix, starts }) });
        }
        let all: BTreeMap<_, _> = metadata.tensors().into_iter().collect();
        let held = all.keys().cloned().collect();
        for (tensor, info) in all {
            if ignore(&tensor) || taken.contains(&tensor) {
                continue;
            }
            let known = match info.dtype {
                safetensors::Dtype::F32 => Some(Dtype::F32),
                safetensors::Dtype::F16 => Some(Dtype::F16),
                safetensors::Dtype::BF16 => Some(Dtype::Bf16),
                _ => None,
            };
            let (start, end) = info.data_offsets;
            let Some(dtype) = known else {
                let dtype = header.unknown.get(&tensor).cloned().unwrap_or_else(|| info.dtype.to_string());
                let other = Unreadable { file: name.to_owned(), dtype, shape: info.shape.clone() };
                self.unreadable.insert(tensor, other);
                continue;
            };
            let (shape, bytes, file) = (info.shape.clone(), (end - start) as u64, name.to_owned());
            let info = TensorInfo { name: tensor.clone(), dtype, shape, bytes, file };
            self.insert(tensor, Entry { info, place, start: data + start, blocks: None });
        }
        self.stands_for.extend(metadata.metadata().iter().flatten().map(|(name, kept)| (name.clone(), kept.clone())));
        self.files.push(file);
        Ok(held)
    }

    fn insert(&mut self, tensor: String, entry: Entry) {
        let second = entry.info.file.clone();
        if let Some(Entry { info, .. }) = self.tensors.insert(tensor, entry) {
            self.twice.insert(info.name, [info.file, second]);
        }
    }

    /// Makes the tensor stored as `stored` available as `name` too, unless a tensor is stored under that name.
    fn share(&mut self, name: &str, stored: &str) {
        if self.tensors.contains_key(name) || self.unreadable.contains_key(name) {
            return;
        }
        if let Some(mut entry) = self.tensors.get(stored).cloned() {
            name.clone_into(&mut entry.info.name);
            self.tensors.insert(name.to_owned(), entry);
        }
    }

    fn forget(&mut self, name: &str) {
        self.tensors.remove(name);
        self.unreadable.remove(name);
        self.twice.remove(name);
    }

    /// Moves tensors that are not part of the architecture to the unused ones.
    fn set_aside(&mut self, expected: &[Expected]) {
        let known: BTreeSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
        let surplus: Vec<String> = self.tensors.keys().filter(|name| !known.contains(name.as_str())).cloned().collect();
        let read = surplus.into_iter().filter_map(|name| self.tensors.remove(&name).map(|it| (name, it.info.file)));
        let mut unused: Vec<UnusedTensor> = read.map(|(name, file)| UnusedTensor { name, file }).collect();
        unused.extend(
            std::mem::take(&mut self.unreadable).into_iter().map(|(name, it)| UnusedTensor { name, file: it.file }),
        );
        self.unused.append(&mut unused);
        self.unused.sort_by(|a, b| a.name.cmp(&b.name));
        self.unused.dedup();
    }

    /// Stored tensors that the model does not read, by name: buffers of the code that wrote the checkpoint. A copy of a tied head is not listed.
    #[must_use]
    pub fn unused(&self) -> &[UnusedTensor] {
        &self.unused
    }

    /// Whether `ruminate quantize` wrote the files. Their matrices keep the stored dtypes and are not rounded again.
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        self.quantized
    }

    /// Finds a matrix in blocks by name.
    pub(crate) fn blocks(&self, name: &str) -> Option<BlocksView<'_>> {
        let Entry { info, place, blocks, .. } = self.tensors.get(name)?;
        let Blocks { matrix, starts } = blocks.as_ref()?;
        Some(BlocksView { matrix: *matrix, name: &info.file, file: &self.files[*place], starts })
    }

    /// All tensors, ordered by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|entry| &entry.info)
    }

    /// Finds a tensor by name. The data of a matrix in blocks are its numbers alone, which [`TensorView::decode`] does not scale.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let Entry { info, place, start, blocks } = self.tensors.get(name)?;
        let numbers = blocks.as_ref().map(|it| it.matrix.shape[0] as usize * it.matrix.rows().number_bytes());
        let bytes = numbers.unwrap_or(info.bytes as usize);
        Some(TensorView {
            dtype: info.dtype,
            shape: info.shape.clone(),
            file: &self.files[*place],
            start: *start,
            bytes,
        })
    }

    /// Finds a tensor that must exist.
    ///
    /// # Errors
    /// [`Error::Tensors`] if no tensor has that name, which [`Self::check`] reports beforehand.
    pub fn required(&self, name: &str) -> Result<TensorView<'_>> {
        let missing = || Error::Tensors(vec![TensorProblem::Missing { name: name.to_owned(), shape: Vec::new() }]);
        self.tensor(name).ok_or_else(missing)
    }

    /// Compares names, dtypes and shapes with the tensors that an architecture expects.
    ///
    /// # Errors
    /// [`Error::Tensors`] lists every missing tensor, every weight that the architecture does not know, and every tensor of a wrong dtype or shape.
    pub fn check(&self, expected: &[Expected]) -> Result<()> {
        let mut problems = Vec::new();
        for Expected { name, shape, required } in expected {
            let copies = self.twice.get(name).cloned();
            if let Some([first, second]) = copies {
                problems.push(TensorProblem::InTwoFiles { name: name.clone(), first, second });
            }
            match (self.tensors.get(name), self.unreadable.get(name)) {
                (None, Some(Unreadable { file, dtype, .. })) => {
                    let (name, file, dtype) = (name.clone(), file.clone(), dtype.clone());
                    problems.push(TensorProblem::Dtype { name, file, dtype });
                }
                (None, None) if *required => {
                    problems.push(TensorProblem::Missing { name: name.clone(), shape: shape.clone() });
                }
                (Some(entry), _) if entry.info.shape != *shape => problems.push(TensorProblem::Shape {
                    name: name.clone(),
                    file: entry.info.file.clone(),
                    found: entry.info.shape.clone(),
                    expected: shape.clone(),
                }),
                _ => {}
            }
        }
        let known: BTreeSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
        let readable = self.tensors().map(|info| (info.name.as_str(), true, info.shape.as_slice(), &info.file));
        let unreadable = self.unreadable.iter();
        // Weights are floating-point numbers; integers are buffers.
        let unreadable =
            unreadable.map(|(name, it)| (name.as_str(), it.dtype.starts_with('F'), it.shape.as_slice(), &it.file));
        let mut surplus: Vec<_> = readable.chain(unreadable).filter(|(name, ..)| !known.contains(name)).collect();
        surplus.sort_unstable_by_key(|(name, ..)| *name);
        for (name, _, _, file) in
            surplus.into_iter().filter(|&(name, is_float, shape, _)| names::is_weight(name, is_float, shape))
        {
            problems.push(TensorProblem::Surplus { name: name.to_owned(), file: file.clone() });
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Tensors(problems)) }
    }
}
