//! The header of a safetensors file: where each tensor lies.
//!
//! The safetensors crate has the last word on what is valid. The checks before it exist because a broken download should be explained in
//! terms of the file (how many bytes are missing, which two tensors overlap), and because offsets close to the end of the number range
//! must not reach arithmetic that could wrap.

use std::collections::BTreeSet;
use std::fmt;

use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Bytes before the header: its length.
const PREFIX: usize = 8;

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
    /// A number format that the engine does not read.
    #[error("stores {tensor} as {dtype}; supported: F32, F16, BF16, and what `ruminate quantize` writes")]
    Dtype {
        /// Name of the tensor.
        tensor: String,
        /// Its number format.
        dtype: String,
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
    /// The index is wrong about a tensor.
    #[error("puts {tensor} into {shard}, which does not hold it; the files do not belong together")]
    NotInShard {
        /// Name of the tensor.
        tensor: String,
        /// The file as the index spells it.
        shard: String,
    },
}

/// Reads the header; gives the place where the data begins, and the tensors with offsets that lie inside the file.
pub(super) fn read(bytes: &[u8]) -> Result<(usize, Metadata), SafetensorsProblem> {
    let size = bytes.len() as u64;
    let Some(prefix) = bytes.first_chunk::<PREFIX>() else { return Err(SafetensorsProblem::Short { bytes: size }) };
    let header = u64::from_le_bytes(*prefix);
    let text = usize::try_from(header).ok().and_then(|header| bytes[PREFIX..].get(..header));
    let Some(text) = text else { return Err(SafetensorsProblem::HeaderLength { header, bytes: size }) };
    let unreadable = |reason: String| SafetensorsProblem::Header { reason };
    let Entries { mut tensors } = serde_json::from_slice(text).map_err(|error| unreadable(error.to_string()))?;
    check_names(&tensors)?;
    tensors.sort_by_key(|(_, place)| place.data_offsets);
    check_offsets(&tensors, size, PREFIX as u64 + header)?;
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| unreadable(error.to_string()))?;
    Ok((PREFIX + header, metadata))
}

fn check_names(tensors: &[(String, Place)]) -> Result<(), SafetensorsProblem> {
    let mut seen = BTreeSet::new();
    for (tensor, place) in tensors {
        if !seen.insert(tensor) {
            return Err(SafetensorsProblem::Duplicate { tensor: tensor.clone() });
        }
        // A name that the format does not know would otherwise be reported without the tensor.
        if safetensors::Dtype::deserialize(serde_json::Value::from(place.dtype.as_str())).is_err() {
            return Err(SafetensorsProblem::Dtype { tensor: tensor.clone(), dtype: place.dtype.clone() });
        }
    }
    Ok(())
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
    data_offsets: (u64, u64),
}

/// A header's entries as they stand there: a map would hide a name that stands there twice.
struct Entries {
    tensors: Vec<(String, Place)>,
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
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Entries { tensors })
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
