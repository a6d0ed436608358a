//! Weights as the kernels read them: a resident matrix.
//!
//! A matrix `[n, k]` lies row after row, each row padded with zeros to whole chunks of eight values, so that a lane always
//! loads 16 bytes (32 for f32) whatever k is. A row may have two halves (the adapter's `concat[state, embedding]`), padded
//! each on its own, so that the kernels find both inputs at whole chunks.
//!
//! Where the device prefers it, a matrix lies in a texture instead, in the order in which subgroups of a known size read it: see [`Form`].

mod form;
mod random_weight;

pub use form::{Form, Order};
pub use random_weight::{Held, RANDOM_WEIGHT, RandomWeight, RandomWeightParams};

use half::{bf16, f16};

use crate::{Axis, Binding, Part, stride};

/// WGSL of `Eight`, needed by all kernels that read chunks.
pub(crate) const EIGHT: Part = Part::new("eight", include_str!("eight.wgsl"));

/// Axis of kernels that read weights row by row; its options are in the order of [`Dtype`].
pub(crate) const WEIGHT: Axis = Axis { name: "weight", options: &[F32, F16, BF16] };

/// Axis of kernels that read single rows in whatever form: those of [`WEIGHT`], and bf16 for subgroups.
pub(crate) const WEIGHT_ANY: Axis = Axis {
    name: "weight",
    options: &[F32, F16, BF16, Part::new("bf16_lanes", include_str!("weight_bf16_lanes.wgsl")).with(&[TEXELS])],
};

/// Axis of kernels that read weights by subgroups of a known size.
pub(crate) const WEIGHT_LANES: Axis =
    Axis { name: "weight", options: &[Part::new("bf16", include_str!("lanes_bf16.wgsl")).with(&[TEXELS])] };

const F32: Part = Part::new("f32", include_str!("weight_f32.wgsl")).with(&[Binding::read("w", "vec4<f32>")]);
const F16: Part = Part::new("f16", include_str!("weight_f16.wgsl")).with(&[Binding::read("w", "vec4<u32>")]);
const BF16: Part = Part::new("bf16", include_str!("weight_bf16.wgsl")).with(&[Binding::read("w", "vec4<u32>")]);
const TEXELS: Binding = Binding::read("w", "vec4<u32>").in_texture();

/// The option of [`WEIGHT_ANY`] for a form.
pub(crate) const fn any_option(form: Form) -> u8 {
    if form.in_texture() { Dtype::ALL.len() as u8 } else { form.dtype.option() }
}

/// The form that an option of [`WEIGHT_ANY`] stands for, with so many lanes.
pub(crate) fn form_of(option: usize, lanes: u32) -> Form {
    Dtype::ALL.get(option).map_or(Form { dtype: Dtype::Bf16, order: Order::Lanes(lanes) }, |&dtype| dtype.into())
}

/// How weights are stored on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
}

impl Dtype {
    /// Every dtype, in the order of the kernels' options.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Name as users write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes per value.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(crate) const fn option(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 2,
        }
    }

    /// Bytes of `rows` rows of `chunks` chunks.
    #[must_use]
    pub const fn matrix_bytes(self, rows: u32, chunks: u32) -> u64 {
        rows as u64 * chunks as u64 * 8 * self.bytes()
    }

    /// The largest finite value that rounds to a finite one.
    #[must_use]
    pub const fn largest(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            // Halfway to the next power of two, exclusive.
            Self::F16 => 65_519.996,
            Self::Bf16 => f32::from_bits(0x7f7f_7fff),
        }
    }

    /// Decodes little-endian bytes at any alignment.
    ///
    /// # Panics
    /// If there are fewer bytes than `values` takes.
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
        }
    }

    /// Appends values in this dtype, rounded to nearest, ties to even, and pads with zeros to whole chunks.
    pub fn encode_row(self, values: &[f32], out: &mut Vec<u8>) {
        let end = out.len() + values.len().next_multiple_of(8) * if matches!(self, Self::F32) { 4 } else { 2 };
        match self {
            Self::F32 => out.extend_from_slice(bytemuck::cast_slice(values)),
            Self::F16 => out.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes())),
            Self::Bf16 => out.extend(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes())),
        }
        out.resize(end, 0);
    }

    /// The value at an index of a buffer of words.
    #[must_use]
    pub fn decode(self, words: &[u32], index: usize) -> f32 {
        match self {
            Self::F32 => f32::from_bits(words[index]),
            Self::F16 => f16::from_bits(bytemuck::cast_slice::<u32, u16>(words)[index]).to_f32(),
            Self::Bf16 => bf16::from_bits(bytemuck::cast_slice::<u32, u16>(words)[index]).to_f32(),
        }
    }
}

/// Chunks of eight that a row of `k` values fills.
#[must_use]
pub const fn chunks(k: u32) -> u32 {
    stride(k) / 8
}

/// A matrix `[n, k]` of test data in a form, as words.
pub(crate) fn test_matrix(noise: &mut crate::Noise, form: Form, n: u32, halves: &[u32]) -> Vec<u32> {
    let mut bytes = Vec::new();
    for _ in 0..n {
        for &k in halves {
            let row: Vec<f32> = (0..k).map(|_| noise.signed()).collect();
            form.dtype.encode_row(&row, &mut bytes);
        }
    }
    let bytes = form.arrange(halves.iter().map(|&k| chunks(k)).sum(), bytes);
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Every form that tests cover.
pub(crate) fn test_forms() -> impl Iterator<Item = Form> + Clone {
    let lanes = Form { dtype: Dtype::Bf16, order: Order::Lanes(TEST_LANES) };
    Dtype::ALL.into_iter().map(Form::from).chain([lanes])
}

/// One of them.
pub(crate) fn random_form(noise: &mut crate::Noise) -> Form {
    let all = test_forms();
    let place = noise.below(all.clone().count() as u32) as usize;
    all.clone().nth(place).unwrap_or(Dtype::F32.into())
}

/// Lanes that cases are made for: those of the device that has the form.
pub(crate) const TEST_LANES: u32 = 8;
