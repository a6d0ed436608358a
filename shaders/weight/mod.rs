//! Weights as the kernels read them: matrices in device memory.
//!
//! A matrix `[n, k]` is stored row after row. Each row is padded with zeros to whole chunks of eight values, so that a lane always loads 16 bytes (32 for f32)
//! whatever k is. A row may have two halves (the adapter's `concat[state, embedding]`), each padded on its own, so that both inputs begin at whole chunks.
//!
//! If the device prefers it, a matrix is stored in a texture instead, in the order in which subgroups of a known size read it: see [`Order`].

mod dtype;
mod form;
mod pack;
mod random_weight;
mod resident;
mod stored;

pub use dtype::Dtype;
pub use form::{Form, Order};
pub use pack::{PACK, PackParams, pack};
pub use random_weight::{Held, InTurn, RANDOM_WEIGHT, RandomWeight, RandomWeightParams};
pub use resident::Resident;
pub(crate) use resident::{FACTOR, round_block};
pub use stored::{Stored, StoredRows};

use crate::{Axis, Binding, Part, stride};

/// WGSL of `Eight`, needed by all kernels that read chunks.
pub(crate) const EIGHT: Part = Part::new("eight", include_str!("eight.wgsl"));

/// WGSL that unpacks weights in blocks.
pub(crate) const BLOCKS: &str = include_str!("quantized.wgsl");

/// WGSL that rounds a block: its factor to f16, and its values to whole numbers.
pub(crate) const ROUND: [&str; 2] = [include_str!("f16.wgsl"), include_str!("pack_blocks.wgsl")];

/// Axis of kernels that read weights row by row; its options are in the order of [`Dtype`].
pub(crate) const WEIGHT: Axis = Axis { name: "weight", options: &[F32, F16, BF16, Q8, Q4, Q4_MIN] };

/// Axis of kernels that read single rows in any form: the options of [`WEIGHT`], then those in the layout for subgroups.
pub(crate) const WEIGHT_ANY: Axis = Axis {
    name: "weight",
    options: &[
        F32,
        F16,
        BF16,
        Q8,
        Q4,
        Q4_MIN,
        Part::new("f32_lanes", include_str!("any_f32.wgsl"))
            .with_consts(&Dtype::F32.consts())
            .using(ANY_ALONE)
            .with(&[TEXELS]),
        Part::new("f16_lanes", include_str!("any_f16.wgsl"))
            .with_consts(&Dtype::F16.consts())
            .using(ANY_ALONE)
            .with(&[TEXELS]),
        Part::new("bf16_lanes", include_str!("any_bf16.wgsl"))
            .with_consts(&Dtype::Bf16.consts())
            .using(ANY_ALONE)
            .with(&[TEXELS]),
        Part::new("q8_lanes", include_str!("any_q8.wgsl"))
            .with_consts(&Dtype::Q8.consts())
            .using(&[TEXEL, WEIGHT_OF_UNITS, BLOCKS])
            .with(&[TEXELS]),
        Part::new("q4_lanes", include_str!("any_q4.wgsl"))
            .with_consts(&Dtype::Q4.consts())
            .using(&[TEXEL, WEIGHT_OF_UNITS, BLOCKS])
            .with(&[TEXELS]),
        Part::new("q4_1_lanes", include_str!("any_q4_1.wgsl"))
            .with_consts(&Dtype::Q4Min.consts())
            .using(&[TEXEL, WEIGHT_OF_UNITS, BLOCKS])
            .with(&[TEXELS]),
    ],
};

/// Axis of kernels that read weights by subgroups of a known size; its options are in the order of [`Dtype`].
pub(crate) const WEIGHT_LANES: Axis = Axis {
    name: "weight",
    options: &[
        Part::new("f32", include_str!("lanes_f32.wgsl"))
            .with_consts(&Dtype::F32.consts())
            .using(LANES_ALONE)
            .with(&[TEXELS]),
        Part::new("f16", include_str!("lanes_f16.wgsl"))
            .with_consts(&Dtype::F16.consts())
            .using(LANES_ALONE)
            .with(&[TEXELS]),
        Part::new("bf16", include_str!("lanes_bf16.wgsl"))
            .with_consts(&Dtype::Bf16.consts())
            .using(LANES_ALONE)
            .with(&[TEXELS]),
        Part::new("q8", include_str!("lanes_q8.wgsl"))
            .with_consts(&Dtype::Q8.consts())
            .using(&[TEXEL, BLOCKS])
            .with(&[TEXELS]),
        Part::new("q4", include_str!("lanes_q4.wgsl"))
            .with_consts(&Dtype::Q4.consts())
            .using(&[TEXEL, BLOCKS, NIBBLES])
            .with(&[TEXELS]),
        Part::new("q4_1", include_str!("lanes_q4_1.wgsl"))
            .with_consts(&Dtype::Q4Min.consts())
            .using(&[TEXEL, BLOCKS, NIBBLES])
            .with(&[TEXELS]),
    ],
};

/// Axis of kernels that multiply whole numbers; its options are in the order of [`INT_DTYPES`].
pub(crate) const WEIGHT_INTS: Axis = Axis {
    name: "weight",
    options: &[
        Q8.using(&[BLOCKS, include_str!("ints_q8.wgsl")]),
        Q4.using(&[BLOCKS, INT_NIBBLES, include_str!("ints_q4.wgsl")]),
        Q4_MIN.using(&[BLOCKS, INT_NIBBLES, include_str!("ints_q4_1.wgsl")]),
    ],
};

/// Dtypes whose weights are whole numbers, in blocks.
pub(crate) const INT_DTYPES: [Dtype; 3] = [Dtype::Q8, Dtype::Q4, Dtype::Q4Min];

const INT_NIBBLES: &str = include_str!("ints_nibbles.wgsl");
const F32: Part = Part::new("f32", include_str!("rows_f32.wgsl"))
    .with_consts(&Dtype::F32.consts())
    .using(&[WEIGHT_OF_UNITS, ALONE])
    .with(&[FLOATS]);
const F16: Part = Part::new("f16", include_str!("rows_f16.wgsl"))
    .with_consts(&Dtype::F16.consts())
    .using(&[WEIGHT_OF_UNITS, ALONE])
    .with(&[WORDS]);
const BF16: Part = Part::new("bf16", include_str!("rows_bf16.wgsl"))
    .with_consts(&Dtype::Bf16.consts())
    .using(&[WEIGHT_OF_UNITS, ALONE])
    .with(&[WORDS]);
const Q8: Part = Part::new("q8", include_str!("rows_q8.wgsl"))
    .with_consts(&Dtype::Q8.consts())
    .using(&[WEIGHT_OF_UNITS, BLOCKS, IN_BLOCKS])
    .with(&[WORDS]);
const Q4: Part = Part::new("q4", include_str!("rows_q4.wgsl"))
    .with_consts(&Dtype::Q4.consts())
    .using(&[WEIGHT_OF_UNITS, BLOCKS, IN_BLOCKS])
    .with(&[WORDS]);
const Q4_MIN: Part = Part::new("q4_1", include_str!("rows_q4_1.wgsl"))
    .with_consts(&Dtype::Q4Min.consts())
    .using(&[WEIGHT_OF_UNITS, BLOCKS, IN_BLOCKS])
    .with(&[WORDS]);

/// WGSL that turns products with raw numbers into products with weights.
const ALONE: &str = include_str!("rows_alone.wgsl");
const IN_BLOCKS: &str = include_str!("rows_blocks.wgsl");
const WEIGHT_OF_UNITS: &str = include_str!("weight.wgsl");
/// WGSL for float dtypes in the layout for subgroups.
const ANY_ALONE: &[&str] = &[TEXEL, WEIGHT_OF_UNITS, include_str!("any_alone.wgsl")];
const LANES_ALONE: &[&str] = &[BLOCKS, include_str!("lanes_alone.wgsl")];
const TEXEL: &str = include_str!("texel.wgsl");
const NIBBLES: &str = include_str!("lanes_nibbles.wgsl");
const FLOATS: Binding = Binding::read("w", "vec4<f32>");
const WORDS: Binding = Binding::read("w", "vec4<u32>");
const TEXELS: Binding = Binding::read("w", "vec4<u32>").in_texture();

/// Option of [`WEIGHT_ANY`] for a form.
pub(crate) const fn any_option(form: Form) -> u8 {
    let dtype = form.dtype.option();
    if form.in_texture() { Dtype::ALL.len() as u8 + dtype } else { dtype }
}

/// Form for an option of [`WEIGHT_ANY`] and a subgroup size.
pub(crate) const fn form_of(option: usize, lanes: u32) -> Form {
    let order = if option < Dtype::ALL.len() { Order::Rows } else { Order::Lanes(lanes) };
    Form { dtype: Dtype::ALL[option % Dtype::ALL.len()], order }
}

/// Blocks of 32 that a row of `chunks` chunks fills.
#[must_use]
pub(crate) const fn blocks(chunks: u32) -> u32 {
    chunks.div_ceil(4)
}

/// Chunks of eight that a row of `k` values fills.
#[must_use]
pub const fn chunks(k: u32) -> u32 {
    stride(k) / 8
}

/// A matrix `[n, k]` of test data in a form, as words.
pub(crate) fn test_matrix(noise: &mut crate::Noise, form: Form, n: u32, halves: &[u32]) -> Vec<u32> {
    let mut values = Vec::new();
    for _ in 0..n {
        for &k in halves {
            values.extend((0..k).map(|_| noise.signed()));
            values.resize(values.len().next_multiple_of(8), 0.0);
        }
    }
    let w = Resident { form, rows: n, chunks: halves.iter().map(|&k| chunks(k)).sum() };
    let mut words = vec![0; w.bytes().div_ceil(4) as usize];
    w.put(&mut words, 0, &values);
    words
}

/// Every form that tests cover.
pub(crate) fn test_forms() -> impl Iterator<Item = Form> + Clone {
    (0..WEIGHT_ANY.options.len()).map(|option| form_of(option, TEST_LANES))
}

/// A random one of [`test_forms`].
pub(crate) fn random_form(noise: &mut crate::Noise) -> Form {
    form_of(noise.below(WEIGHT_ANY.options.len() as u32) as usize, TEST_LANES)
}

/// Subgroup size that cases assume: that of the device that uses such forms.
pub(crate) const TEST_LANES: u32 = 8;
