//! Header of a safetensors file: dtype, shape and offsets of each tensor.
//!
//! The safetensors crate decides in the end what is valid. The checks before it exist because a broken download should be explained in terms of the file (how
//! many bytes are missing, which two tensors overlap), and because offsets close to the largest integer must not reach arithmetic that could overflow.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::source::Bytes;

/// Bytes of the header's length field, which precedes the header.
const PREFIX: usize = 8;

/// Maximum length of a header in bytes, as in the safetensors crate.
const MOST_HEADER: u64 = 100_000_000;

/// Defect of a safetensors file or of a shard index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsProblem {
    /// The file is too short for a header.
    #[error("has {bytes} bytes, too few for a safetensors header; fetch it again")]
    Short {
        /// Length of the file.
        bytes: u64,
    },
    /// The header would be longer than the file.
    #[error(
        "declares a header of {header} bytes in a file of {bytes} bytes: it is truncated or not a safetensors file; fetch it again"
    )]
    HeaderLength {
        /// Declared length of the header.
        header: u64,
        /// Length of the file.
        bytes: u64,
    },
    /// The header does not follow the format.
    #[error("has an invalid header: {reason}; fetch it again")]
    Header {
        /// Error of the parser.
        reason: String,
    },
    /// The file ends before the data.
    #[error("has {bytes} bytes, but {tensor} ends at byte {needed}: it is truncated; fetch it again")]
    Truncated {
        /// The tensor that ends last.
        tensor: String,
        /// Expected length of the file.
        needed: u64,
        /// Length of the file.
        bytes: u64,
    },
    /// The file continues after the data.
    #[error("has {bytes} bytes, but its tensors end at byte {needed}: it is damaged; fetch it again")]
    Trailing {
        /// Expected length of the file.
        needed: u64,
        /// Length of the file.
        bytes: u64,
    },
    /// Two tensors share bytes.
    #[error("has tensors that overlap, {first} and {second}: it is damaged; fetch it again")]
    Overlap {
        /// Tensor that begins first.
        first: String,
        /// Tensor that begins inside the first.
        second: String,
    },
    /// Bytes that belong to no tensor, or offsets in reverse order.
    #[error(
        "assigns bytes {start} to {end} to {tensor}, expected to begin at byte {expected}: it is damaged; fetch it again"
    )]
    Offsets {
        /// Name of the tensor.
        tensor: String,
        /// First byte of its data, counted from the end of the header.
        start: u64,
        /// First byte after its data.
        end: u64,
        /// End of the preceding data.
        expected: u64,
    },
    /// A name that occurs twice in a header.
    #[error("has two tensors named {tensor}; keep one of them")]
    Duplicate {
        /// Name of the tensor.
        tensor: String,
    },
    /// A name that occurs in two files.
    #[error("contains {tensor}, and so does {other}; the files do not belong together")]
    InTwoFiles {
        /// Name of the tensor.
        tensor: String,
        /// The other file.
        other: String,
    },
    /// A quantized file of another format version.
    #[error("is quantized in version {found} of the format (expected version 1); quantize the original again")]
    Version {
        /// Version in the file.
        found: String,
    },
    /// A quantized matrix with an invalid description.
    #[error("has an invalid description of {tensor}: {reason}; quantize the original again")]
    Described {
        /// Name of the matrix.
        tensor: String,
        /// Reason why the description is invalid.
        reason: String,
    },
    /// A part of a quantized matrix that is missing or does not match the matrix.
    #[error("has {tensor} {found} (expected {expected}): it is damaged; quantize the original again")]
    Part {
        /// Name of the part.
        tensor: String,
        /// Its dtype and shape, or `missing`.
        found: String,
        /// Expected dtype and shape.
        expected: String,
    },
    /// A file in the index that does not exist or is in another folder.
    #[error(
        "assigns {tensor} to {shard}, which is not a file in the same folder; fetch that file or the matching index"
    )]
    MissingShard {
        /// File name in the index.
        shard: String,
        /// A tensor that the index assigns to it.
        tensor: String,
    },
    /// Shards without an index, some of which are missing.
    #[error("does not exist, nor does {missing}, one of the shards that the other file names imply; fetch both")]
    Incomplete {
        /// Name of the missing shard.
        missing: String,
    },
    /// A shard that does not contain a tensor that the index assigns to it.
    #[error("assigns {tensor} to {shard}, which does not contain it; the files do not belong together")]
    NotInShard {
        /// Name of the tensor.
        tensor: String,
        /// File name in the index.
        shard: String,
    },
}

/// Parsed header.
pub(super) struct Header {
    /// Offset of the first byte of the data.
    pub(super) data: usize,
    /// Tensors, with offsets that are inside the file.
    pub(super) metadata: Metadata,
    /// Dtypes unknown to the safetensors crate, by tensor; `metadata` gives their tensors as U8.
    pub(super) unknown: BTreeMap<String, String>,
}

/// Reads and checks the header of a file.
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

/// Checks that the tensors, sorted by offset, follow each other without overlap or gap and end where the file of `size` bytes ends.
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

/// Entries of a header, duplicates included; a map would hide a name that occurs twice.
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
