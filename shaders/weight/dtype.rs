//! Dtypes of weights, keys and values.

use half::{bf16, f16};

use crate::Const;

/// Format in which values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16, the upper half of an IEEE single.
    Bf16,
    /// Whole numbers from -127 to 127 in blocks of 32 along the row, each with a factor in f16: 8.5 bits per weight. ggml's `Q8_0`.
    Q8,
    /// Whole numbers from -8 to 7 in blocks of 32, each with a factor in f16: 4.5 bits per weight. ggml's `Q4_0`.
    Q4,
    /// Whole numbers from 0 to 15 in blocks of 32, each with a factor and a minimum in f16: 5 bits per weight. ggml's `Q4_1`.
    #[cfg_attr(feature = "serde", serde(rename = "q4_1"))]
    Q4Min,
}

impl Dtype {
    /// Every dtype, in the order of the kernels' options.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::Bf16, Self::Q8, Self::Q4, Self::Q4Min];

    /// Float dtypes, whose values are not in blocks. Checkpoints store tensors in these.
    pub const FLOATS: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Name in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
            Self::Q4Min => "q4_1",
        }
    }

    /// Whether values are in blocks with a common factor.
    #[must_use]
    pub const fn in_blocks(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4 | Self::Q4Min)
    }

    /// Bytes per value of float dtypes; 0 for dtypes in blocks.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8 | Self::Q4 | Self::Q4Min => 0,
        }
    }

    /// Index of the option for this dtype on the kernels' axes.
    pub(crate) const fn option(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 2,
            Self::Q8 => 3,
            Self::Q4 => 4,
            Self::Q4Min => 5,
        }
    }

    /// Units of 16 bytes that hold 32 values of a row.
    #[must_use]
    pub const fn units(self) -> u32 {
        match self {
            Self::F32 => 8,
            Self::F16 | Self::Bf16 => 4,
            Self::Q8 => 2,
            Self::Q4 | Self::Q4Min => 1,
        }
    }

    /// f16 numbers per block: none for float dtypes, a factor, or a factor and a minimum.
    #[must_use]
    pub const fn factors(self) -> u32 {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 0,
            Self::Q8 | Self::Q4 => 1,
            Self::Q4Min => 2,
        }
    }

    /// Chunks of eight that a kernel reads at once: one, or as many as a 16-byte unit of a block holds.
    const fn chunks_at_once(self) -> u32 {
        if self.units() < 4 { 4 / self.units() } else { 1 }
    }

    /// [`Self::chunks_at_once`], [`Self::units`] and [`Self::factors`] in WGSL.
    pub(crate) const fn consts(self) -> [Const; 3] {
        [
            Const::u32("UNIT", self.chunks_at_once()),
            Const::u32("UNITS", self.units()),
            Const::u32("FACTORS", self.factors()),
        ]
    }

    /// Largest value that is stored as a finite number.
    #[must_use]
    pub const fn largest(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            // Just below halfway from 65,504 to the next power of two.
            Self::F16 => 65_519.996,
            Self::Bf16 => f32::from_bits(0x7f7f_7fff),
            // The largest factor in f16, stored 4096 times too large.
            Self::Q8 => 65_504.0 / 4096.0 * 127.0,
            Self::Q4 => 65_504.0 / 4096.0 * 7.0,
            Self::Q4Min => 65_504.0 / 4096.0,
        }
    }

    /// Bytes of `rows` rows of `chunks` chunks of eight values in a float dtype.
    #[must_use]
    pub const fn matrix_bytes(self, rows: u32, chunks: u32) -> u64 {
        rows as u64 * chunks as u64 * 8 * self.bytes()
    }

    /// Decodes little-endian bytes of a float dtype at any alignment. Does nothing for dtypes in blocks.
    ///
    /// # Panics
    /// If there are fewer bytes than `values` needs.
    pub fn decode_bytes(self, bytes: &[u8], values: &mut [f32]) {
        let bytes = &bytes[..values.len() * self.bytes() as usize];
        match self {
            Self::F32 => {
                let chunks = bytes.as_chunks::<4>().0;
                values.iter_mut().zip(chunks).for_each(|(value, &b)| *value = f32::from_le_bytes(b));
            }
            Self::F16 => {
                let chunks = bytes.as_chunks::<2>().0;
                values.iter_mut().zip(chunks).for_each(|(value, &b)| *value = f16::from_le_bytes(b).to_f32());
            }
            Self::Bf16 => {
                let chunks = bytes.as_chunks::<2>().0;
                values.iter_mut().zip(chunks).for_each(|(value, &b)| *value = bf16::from_le_bytes(b).to_f32());
            }
            Self::Q8 | Self::Q4 | Self::Q4Min => {}
        }
    }

    /// Appends values in a float dtype, rounded to nearest, ties to even, and pads with zeros to whole chunks. For dtypes in blocks, f32 is appended: see
    /// [`Resident::put_encoded`](super::Resident::put_encoded).
    pub fn encode_row(self, values: &[f32], out: &mut Vec<u8>) {
        let width = if self.bytes() == 2 { 2 } else { 4 };
        let end = out.len() + values.len().next_multiple_of(8) * width;
        match self {
            Self::F16 => out.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes())),
            Self::Bf16 => out.extend(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes())),
            Self::F32 | Self::Q8 | Self::Q4 | Self::Q4Min => out.extend_from_slice(bytemuck::cast_slice(values)),
        }
        out.resize(end, 0);
    }

    /// The value at an index of a buffer of words, in a float dtype.
    #[must_use]
    pub fn decode(self, words: &[u32], index: usize) -> f32 {
        match self {
            Self::F16 => f16::from_bits(bytemuck::cast_slice::<u32, u16>(words)[index]).to_f32(),
            Self::Bf16 => bf16::from_bits(bytemuck::cast_slice::<u32, u16>(words)[index]).to_f32(),
            Self::F32 | Self::Q8 | Self::Q4 | Self::Q4Min => f32::from_bits(words[index]),
        }
    }
}
