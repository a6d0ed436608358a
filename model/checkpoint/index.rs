//! Weight files of a checkpoint: a single file, or shards with an index that assigns tensors to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::{SafetensorsProblem, names};
use crate::arch::Spec;
use crate::error::{Error, Result};
use crate::source::Source;

/// Name of the only weight file of an unsharded checkpoint.
pub(super) const SINGLE: &str = "model.safetensors";
/// Name of the index of shards.
const INDEX: &str = "model.safetensors.index.json";

/// Contents of `model.safetensors.index.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// Weight files of a checkpoint.
pub(super) enum Files {
    /// One file.
    Single,
    /// Shards with an index.
    Indexed(ShardIndex),
    /// Complete set of shards without an index.
    Shards(Vec<String>),
}

impl ShardIndex {
    /// Parses an index; `file` names it in messages.
    ///
    /// # Errors
    /// See [`parse_json`](crate::parse_json).
    pub fn parse(file: &str, content: &[u8]) -> Result<Self> {
        crate::parse_json(file, content)
    }

    /// Shards that a model of this configuration reads, then those that it does not read. The latter hold only buffers, or a tied head besides the embedding.
    #[must_use]
    pub fn shards(&self, spec: &Spec) -> (Vec<String>, Vec<String>) {
        let all: BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        let read = self.assigned(&names::unread(&spec.manifest(), |name| self.weight_map.contains_key(name)));
        let (needed, unread): (Vec<_>, Vec<_>) = all.into_iter().partition(|shard| read.contains_key(shard));
        (needed.into_iter().map(str::to_owned).collect(), unread.into_iter().map(str::to_owned).collect())
    }

    /// Names of tensors by shard, except those for which `ignore` returns true.
    pub(super) fn assigned(&self, ignore: &dyn Fn(&str) -> bool) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut shards: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, shard) in self.weight_map.iter().filter(|(name, _)| !ignore(name)) {
            shards.entry(shard).or_default().insert(name);
        }
        shards
    }

    /// Shard that a tensor is assigned to.
    pub(super) fn shard(&self, name: &str) -> Option<&str> {
        self.weight_map.get(name).map(String::as_str)
    }

    /// All tensors with their shards, ordered by name.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.weight_map.iter().map(|(name, shard)| (name.as_str(), shard.as_str()))
    }
}

impl Files {
    /// Finds the weight files.
    ///
    /// # Errors
    /// [`Error::File`] if there are no weight files; [`Error::Safetensors`] if there are shards without an index and some are missing.
    pub(super) fn find(source: &Source) -> Result<Self> {
        if source.exists(SINGLE) {
            return Ok(Self::Single);
        }
        if source.exists(INDEX) {
            return source.json(INDEX).map(Self::Indexed);
        }
        let shards: BTreeMap<(u32, u32), String> =
            source.names()?.into_iter().filter_map(|name| Some((place(&name)?, name))).collect();
        let Some(&(count, _)) = shards.keys().next_back() else {
            let instead = source.other_format()?.map(|found| format!("; {found}"));
            let reason = format!("neither it nor {INDEX} exists{}", instead.unwrap_or_default());
            let error = std::io::Error::new(std::io::ErrorKind::NotFound, reason);
            return Err(Error::File { file: source.describe(SINGLE), source: error });
        };
        for number in 1..=count {
            if !shards.contains_key(&(count, number)) {
                let missing = format!("model-{number:05}-of-{count:05}.safetensors");
                let problem = SafetensorsProblem::Incomplete { missing };
                return Err(Error::Safetensors { file: source.describe(INDEX), problem });
            }
        }
        Ok(Self::Shards(shards.into_values().collect()))
    }

    /// The index, if the checkpoint has one.
    pub(super) fn index(&self) -> Option<&ShardIndex> {
        if let Self::Indexed(index) = self { Some(index) } else { None }
    }
}

/// Whether a file is the index or a weight file that is read.
pub(crate) fn is_weights(source: &Source, name: &str) -> Result<bool> {
    if name != INDEX && !name.ends_with(".safetensors") {
        return Ok(false);
    }
    Ok(match Files::find(source)? {
        Files::Single => name == SINGLE,
        Files::Indexed(index) => name == INDEX || index.weight_map.values().any(|shard| shard == name),
        Files::Shards(shards) => shards.iter().any(|shard| shard == name),
    })
}

/// Whether a shard's name is a plain file name, not a path to another folder.
pub(super) fn is_beside(shard: &str) -> bool {
    let mut parts = Path::new(shard).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// Parses a shard's file name into the number of shards and the shard's own number: `model-00002-of-00003.safetensors` is (3, 2).
fn place(name: &str) -> Option<(u32, u32)> {
    let (number, count) = name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    Some((digits(count)?, digits(number)?))
}
