//! Files of weights: a single one, or shards with an index that says which shard holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::{SafetensorsProblem, names};
use crate::arch::Spec;
use crate::error::{Error, Result};
use crate::source::Source;

/// The name of weights in a single file.
pub(super) const SINGLE: &str = "model.safetensors";
/// The name of the index of shards.
const INDEX: &str = "model.safetensors.index.json";

/// The content of `model.safetensors.index.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// The files of weights of a checkpoint.
pub(super) enum Files {
    /// One file.
    Single,
    /// Shards, and an index.
    Indexed(ShardIndex),
    /// Shards whose names say that all are there.
    Shards(Vec<String>),
}

impl ShardIndex {
    /// Parses an index; `file` names it in messages.
    ///
    /// # Errors
    /// As [`parse_json`](crate::parse_json).
    pub fn parse(file: &str, content: &[u8]) -> Result<Self> {
        crate::parse_json(file, content)
    }

    /// The shards that a model of this configuration reads, and those that it does not: these hold nothing but buffers, or a tied head beside the
    /// embedding that it repeats.
    #[must_use]
    pub fn shards(&self, spec: &Spec) -> (Vec<String>, Vec<String>) {
        let all: BTreeSet<&str> = self.weight_map.values().map(String::as_str).collect();
        let read = self.assigned(&names::unread(&spec.manifest(), |name| self.weight_map.contains_key(name)));
        let (needed, unread): (Vec<_>, Vec<_>) = all.into_iter().partition(|shard| read.contains_key(shard));
        (needed.into_iter().map(str::to_owned).collect(), unread.into_iter().map(str::to_owned).collect())
    }

    /// Names of tensors by shard, but for those that `ignore` names.
    pub(super) fn assigned(&self, ignore: &dyn Fn(&str) -> bool) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut shards: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, shard) in self.weight_map.iter().filter(|(name, _)| !ignore(name)) {
            shards.entry(shard).or_default().insert(name);
        }
        shards
    }

    /// The shard of a tensor.
    pub(super) fn shard(&self, name: &str) -> Option<&str> {
        self.weight_map.get(name).map(String::as_str)
    }

    /// All tensors with their shards, by name.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.weight_map.iter().map(|(name, shard)| (name.as_str(), shard.as_str()))
    }
}

impl Files {
    /// Finds the files of weights.
    ///
    /// # Errors
    /// [`Error::File`] if there are none; [`Error::Safetensors`] if shards without an index are not complete.
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
            let reason = format!("neither it nor {INDEX} is there{}", instead.unwrap_or_default());
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

    /// The index, if there is one.
    pub(super) fn index(&self) -> Option<&ShardIndex> {
        if let Self::Indexed(index) = self { Some(index) } else { None }
    }
}

/// Whether a file is the index, or is read for weights.
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

/// Whether a shard's name is that of a file beside the index, not a path to somewhere else.
pub(super) fn is_beside(shard: &str) -> bool {
    let mut parts = Path::new(shard).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// How many shards there are, and the number of this one: of `model-00002-of-00003.safetensors` 3 and 2.
fn place(name: &str) -> Option<(u32, u32)> {
    let (number, count) = name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    Some((digits(count)?, digits(number)?))
}
