//! Format of `ruminate quantize`: matrices in blocks, stored in a safetensors file.
//!
//! ```text
//! NAME.q8    I8  [n, 32·blocks]   whole numbers            value = number · scale / 4096
//! NAME.q4    U8  [n, 16·blocks]   two numbers to a byte    value = (number - 8) · scale / 4096
//! NAME.q4_1  U8  [n, 16·blocks]   two numbers to a byte    value = number · scale / 4096 + min / 4096
//! NAME.scale F16 [n, blocks]      for each block of 32 values along a row
//! NAME.min   F16 [n, blocks]      of q4_1
//! ```
//!
//! The first of two numbers is in the lower half of its byte. Scales are stored multiplied by 4096, because f16 represents few small numbers. Rows are in the
//! checkpoint's order. Rows are padded with zeros to a multiple of 8 (if a row has two `halves`, the adapter's state and embedding, each half is padded), then
//! to whole blocks. The file's metadata give `format` and `version`, and describe each such matrix under its name: `{"dtype":"q4","shape":[n,k],"halves":1}`.
//! All other tensors are stored as in any safetensors file and keep their dtypes.

use std::collections::{BTreeMap, HashMap};

use ruminate_shaders::Dtype;
use ruminate_shaders::weight::{self, Stored};
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize};

use super::header::SafetensorsProblem;

/// Format name and version in a file's metadata.
pub(crate) const FORMAT: &str = "ruminate";
pub(crate) const VERSION: &str = "1";

/// Suffixes of the tensors that store a matrix in blocks.
pub(super) const SUFFIXES: [&str; 5] = [".q8", ".q4", ".q4_1", ".scale", ".min"];

/// Name of the matrix that a stored tensor is, or is part of.
pub(super) fn base(stored: &str) -> &str {
    SUFFIXES.iter().find_map(|suffix| stored.strip_suffix(suffix)).unwrap_or(stored)
}

/// Description of a matrix in blocks, from the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantized {
    /// Dtype; one of those in blocks.
    pub(crate) dtype: Dtype,
    /// Rows and columns, without padding.
    pub(crate) shape: [u32; 2],
    /// Separately padded parts of a row: 1 or 2.
    pub(crate) halves: u32,
}

/// One of the tensors that store a matrix in blocks.
pub(crate) struct Part {
    /// Suffix after the name of the matrix.
    pub(crate) suffix: &'static str,
    /// Dtype in the file.
    pub(crate) dtype: safetensors::Dtype,
    /// Shape `[n, values per row]`.
    pub(crate) shape: [usize; 2],
    /// Bytes of a row.
    pub(crate) row_bytes: usize,
}

/// Matrices by name, with the header entries of their parts.
pub(super) type Found = BTreeMap<String, (Quantized, Vec<TensorInfo>)>;

#[derive(Serialize, Deserialize)]
struct Description {
    dtype: String,
    shape: [u32; 2],
    halves: u32,
}

impl Quantized {
    /// Layout of the rows.
    pub(crate) const fn rows(&self) -> Stored {
        Stored { dtype: self.dtype, chunks: self.halves * weight::chunks(self.shape[1] / self.halves) }
    }

    /// Tensors that store the matrix: numbers, scales, and minima for dtypes that have them.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let (rows, n) = (self.rows(), self.shape[0] as usize);
        let (suffix, dtype) = match self.dtype {
            Dtype::Q8 => (".q8", safetensors::Dtype::I8),
            Dtype::Q4Min => (".q4_1", safetensors::Dtype::U8),
            _ => (".q4", safetensors::Dtype::U8),
        };
        let [scales, minima] = rows.factor_bytes();
        let halves =
            |suffix, row_bytes| Part { suffix, dtype: safetensors::Dtype::F16, shape: [n, row_bytes / 2], row_bytes };
        let row_bytes = rows.number_bytes();
        let mut parts = vec![Part { suffix, dtype, shape: [n, row_bytes], row_bytes }, halves(".scale", scales)];
        if minima > 0 {
            parts.push(halves(".min", minima));
        }
        parts
    }

    /// Description for the metadata.
    pub(crate) fn describe(&self) -> String {
        let Self { dtype, shape, halves } = *self;
        serde_json::json!(Description { dtype: dtype.name().to_owned(), shape, halves }).to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Description { dtype, shape, halves } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let known = Dtype::ALL.into_iter().find(|known| known.in_blocks() && known.name() == dtype);
        let dtype = known.ok_or_else(|| format!("unknown dtype `{dtype}` (expected q8, q4 or q4_1)"))?;
        // The limit keeps everything that is computed from these sizes from overflowing.
        if shape.iter().any(|&size| size == 0 || size > 1 << 24) || !matches!(halves, 1 | 2) || shape[1] % halves != 0 {
            return Err(format!("invalid shape {shape:?} in {halves} parts"));
        }
        Ok(Self { dtype, shape, halves })
    }
}

/// Matrices in blocks that a file holds, with their parts' offsets counted from the end of the header; `None` for a file of another format.
pub(super) fn read(metadata: &Metadata) -> Result<Option<Found>, SafetensorsProblem> {
    let empty = HashMap::new();
    let said = metadata.metadata().as_ref().unwrap_or(&empty);
    if said.get("format").is_none_or(|format| format != FORMAT) {
        return Ok(None);
    }
    let version = said.get("version").map_or("none", String::as_str);
    if version != VERSION {
        return Err(SafetensorsProblem::Version { found: version.to_owned() });
    }
    let tensors = metadata.tensors();
    // Sorted, so that a damaged file gives the same message every time.
    let described: BTreeMap<_, _> =
        said.iter().filter(|(key, _)| !matches!(key.as_str(), "format" | "version")).collect();
    let matrices = described.into_iter().map(|(name, text)| {
        let wrong = |reason| SafetensorsProblem::Described { tensor: name.clone(), reason };
        let matrix = Quantized::parse(text).map_err(wrong)?;
        let found = |part: &Part| {
            let tensor = format!("{name}{}", part.suffix);
            let expected = format!("{} {:?}", part.dtype, part.shape);
            match tensors.get(&tensor) {
                Some(info) if info.dtype == part.dtype && info.shape == part.shape => Ok((*info).clone()),
                other => {
                    let found = other.map_or("missing".to_owned(), |info| format!("{} {:?}", info.dtype, info.shape));
                    Err(SafetensorsProblem::Part { tensor, found, expected })
                }
            }
        };
        let parts = matrix.parts().iter().map(found).collect::<Result<_, _>>()?;
        Ok((name.clone(), (matrix, parts)))
    });
    matrices.collect::<Result<_, _>>().map(Some)
}
