//! The header of a safetensors file: where each tensor lies.
//!
//! The safetensors crate has the last word on what is valid. The checks before it exist because a broken download should be explained in
//! terms of the file (how many bytes are missing, which two tensors overlap), and because offsets close to the end of the number range
//! must not reach arithmetic that could wrap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::source::Bytes;

/// Bytes before the header: its length.
const PREFIX: usize = 8;

/// Bytes of a header, at most, as the safetensors crate has it.
const MOST_HEADER: u64 = 100_000_000;

/// What is wrong with a safetensors file or with the index of several.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsProblem {
    /// Too short for a header.
    #[error("has {bytes} bytes, too few for a safetensors header; fetch it again")]
    Short {
        /// Bytes of the file.
        bytes: u64,
    },
    /// The header would be longer than the file.
    #[error(
        "announces a header of {header} bytes in a file of {bytes}; it is truncated or no safetensors file: fetch it again"
    )]
    HeaderLength {
        /// Bytes that the header should have.
        header: u64,
        /// Bytes of the file.
        bytes: u64,
    },
    /// The header is not what the format asks for.
    #[error("has a header that does not parse: {reason}; fetch it again")]
    Header {
        /// What the parser says.
        reason: String,
    },
    /// The file ends before the data does.
    #[error("has {bytes} bytes, but {tensor} ends at byte {needed}: it is truncated, fetch it again")]
    Truncated {
        /// The tensor that ends last.
        tensor: String,
        /// Bytes that the file should have.
        needed: u64,
        /// Bytes of the file.
        bytes: u64,
    },
    /// The file goes on after the data.
    #[error("has {bytes} bytes, but its tensors end at byte {needed}: it is damaged, fetch it again")]
    Trailing {
        /// Bytes that the file should have.
        needed: u64,
        /// Bytes of the file.
        bytes: u64,
    },
    /// Two tensors share bytes.
    #[error("has tensors that overlap, {first} and {second}: it is damaged, fetch it again")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The one that begins inside it.
        second: String,
    },
    /// Bytes that belong to no tensor, or offsets the wrong way round.
    #[error(
        "gives {tensor} the bytes {start} to {end}, where byte {expected} should be the first: it is damaged, fetch it again"
    )]
    Offsets {
        /// Name of the tensor.
        tensor: String,
        /// First byte of its data, counted from the end of the header.
        start: u64,
        /// Byte after its data.
        end: u64,
        /// Where the data before it ends.
        expected: u64,
    },
    /// One name twice in a header.
    #[error("has two tensors named {tensor}; keep one of them")]
    Duplicate {
        /// Name of the tensor.
        tensor: String,
    },
    /// One name in two files.
    #[error("holds {tensor}, which {other} holds too; the files do not belong together")]
    InTwoFiles {
        /// Name of the tensor.
        tensor: String,
        /// The other file.
        other: String,
    },
    /// A quantised file of another version.
    #[error("is quantised in version {found} of the format; this program reads version 1: quantise the original again")]
    Version {
        /// What the file says.
        found: String,
    },
    /// A quantised matrix whose description makes no sense.
    #[error("describes {tensor} in a way that cannot be: {reason}; quantise the original again")]
    Described {
        /// Name of the matrix.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// A part of a quantised matrix is missing, or not what the matrix asks for.
    #[error("has {tensor} {found}, where its matrix asks for {expected}: it is damaged, quantise the original again")]
    Part {
        /// Name of the part.
        tensor: String,
        /// Its number format and shape, if it is there.
        found: String,
        /// What they should be.
        expected: String,
    },
    /// The index names a file that does not exist, or that lies elsewhere.
    #[error("puts {tensor} into {shard}, which is no file beside it; fetch that file or the matching index")]
    MissingShard {
        /// The file as the index spells it.
        shard: String,
        /// A tensor that should be in it.
        tensor: String,
    },
    /// Shards without an index, of which some are missing.
    #[error("is not there, nor is {missing}, one of the shards that the others' names announce; fetch both")]
    Incomplete {
        /// The file that is missing.
        missing: String,
    },
    /// The index is wrong about a tensor.
    #[error("puts {tensor} into {shard}, which does not hold it; the files do not belong together")]
    NotInShard {
        /// Name of the tensor.
        tensor: String,
        /// The file as the index spells it.
        shard: String,
    },
}

/// What a header says.
pub(super) struct Header {
    /// Index of the first byte of the data.
    pub(super) data: usize,
    /// Tensors, with offsets that lie inside the file.
    pub(super) metadata: Metadata,
    /// Number formats that the safetensors crate does not know, by tensor: the metadata call these U8.
    pub(super) unknown: BTreeMap<String, String>,
}

/// Reads the header.
pub(super) fn read(file: &Bytes) -> std::io::Result<Result<Header, SafetensorsProblem>> {
    let size = file.len();
    let mut prefix = [0; PREFIX];
    if size < PREFIX as u64 {
        return Ok(Err(SafetensorsProblem::Short { bytes: size }));
    }
    file.read_at(0, &mut prefix)?;
    let header = u64::from_le_bytes(prefix);
    if header > size - PREFIX as u64 {
        return Ok(Err(SafetensorsProblem::HeaderLength { header, bytes: size }));
    }
    if header > MOST_HEADER {
        return Ok(Err(unreadable(format!("{header} bytes are more than the format allows, {MOST_HEADER}"))));
    }
    let mut text = vec![0; header as usize];
    file.read_at(PREFIX, &mut text)?;
    Ok(parse(&text, size))
}

fn parse(text: &[u8], size: u64) -> Result<Header, SafetensorsProblem> {
    let Entries { mut tensors, metadata } =
        serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
    check_names(&tensors)?;
    tensors.sort_by_key(|(_, place)| place.data_offsets);
    let data = PREFIX + text.len();
    check_offsets(&tensors, size, data as u64)?;
    let mut unknown = BTreeMap::new();
    let infos = tensors.into_iter().map(|(name, Place { dtype, shape, data_offsets: (start, end) })| {
        let known = safetensors::Dtype::deserialize(serde_json::Value::from(dtype.as_str())).ok();
        let data_offsets = (start as usize, end as usize);
        let shape = if known.is_some() { shape } else { vec![data_offsets.1 - data_offsets.0] };
        if known.is_none() {
            unknown.insert(name.clone(), dtype);
        }
        (name, TensorInfo { dtype: known.unwrap_or(safetensors::Dtype::U8), shape, data_offsets })
    });
    let metadata = Metadata::new(metadata, infos.collect()).map_err(|error| unreadable(error.to_string()))?;
    Ok(Header { data, metadata, unknown })
}

fn unreadable(reason: String) -> SafetensorsProblem {
    SafetensorsProblem::Header { reason }
}

fn check_names(tensors: &[(String, Place)]) -> Result<(), SafetensorsProblem> {
    let mut seen = BTreeSet::new();
    match tensors.iter().find(|(tensor, _)| !seen.insert(tensor)) {
        Some((tensor, _)) => Err(SafetensorsProblem::Duplicate { tensor: tensor.clone() }),
        None => Ok(()),
    }
}

/// Tensors, in the order of their offsets, must follow each other without overlap or gap and end where the file of `size` bytes does.
fn check_offsets(tensors: &[(String, Place)], size: u64, data: u64) -> Result<(), SafetensorsProblem> {
    let mut expected = 0;
    let mut previous = "";
    for (tensor, Place { data_offsets: (start, end), .. }) in tensors {
        if *start < expected {
            return Err(SafetensorsProblem::Overlap { first: previous.to_owned(), second: tensor.clone() });
        }
        if *start != expected || end < start {
            return Err(SafetensorsProblem::Offsets { tensor: tensor.clone(), start: *start, end: *end, expected });
        }
        (expected, previous) = (*end, tensor);
    }
    let needed = data.saturating_add(expected);
    if needed > size {
        return Err(SafetensorsProblem::Truncated { tensor: previous.to_owned(), needed, bytes: size });
    }
    if needed < size {
        return Err(SafetensorsProblem::Trailing { needed, bytes: size });
    }
    Ok(())
}

#[derive(Deserialize)]
struct Place {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// A header's entries as they stand there: a map would hide a name that stands there twice.
struct Entries {
    tensors: Vec<(String, Place)>,
    metadata: Option<HashMap<String, String>>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that describes tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let (mut tensors, mut metadata) = (Vec::new(), None);
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        metadata = map.next_value()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Entries { tensors, metadata })
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
