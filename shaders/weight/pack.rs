//! Rounding of rows in f32 to the form of a matrix, on the device.
//!
//! The numbers are those of ggml's `Q8_0`, `Q4_0` and `Q4_1`, except that factors are rounded to f16 first, so that each number is the best one for the stored
//! factor.

use super::{Dtype, EIGHT, Form, Order, ROUND, Resident, chunks, random_form, test_forms};
use crate::shared::params;
use crate::{
    Axis, Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, Part, Slots, Workload, reduce, stride,
};

/// Rounds rows to a form.
pub static PACK: Kernel = Kernel {
    name: "pack",
    wgsl: include_str!("pack.wgsl"),
    parts: &[EIGHT, Part::new("values", include_str!("pack_values.wgsl"))],
    bindings: &[Binding::read("x", "vec4<f32>")],
    axes: &[
        Axis {
            name: "dtype",
            options: &[
                Part::new("f32", include_str!("pack_f32.wgsl")).with_consts(&Dtype::F32.consts()),
                Part::new("f16", include_str!("pack_f16.wgsl")).with_consts(&Dtype::F16.consts()).using(&[F16]),
                Part::new("bf16", include_str!("pack_bf16.wgsl")).with_consts(&Dtype::Bf16.consts()),
                Part::new("q8", include_str!("pack_q8.wgsl")).with_consts(&Dtype::Q8.consts()).using(&[F16, BLOCKS]),
                Part::new("q4", include_str!("pack_q4.wgsl"))
                    .with_consts(&Dtype::Q4.consts())
                    .using(&[F16, BLOCKS, NIBBLES]),
                Part::new("q4_1", include_str!("pack_q4_1.wgsl"))
                    .with_consts(&Dtype::Q4Min.consts())
                    .using(&[F16, BLOCKS, NIBBLES]),
            ],
        },
        Axis {
            name: "order",
            options: &[
                Part::new("rows", include_str!("put_rows.wgsl")).with(&[Binding::write("w", "vec4<u32>")]),
                Part::new("lanes", include_str!("put_lanes.wgsl"))
                    .with(&[Binding::write("w", "vec4<u32>").in_texture()]),
            ],
        },
    ],
    overrides: &["WG"],
    params: PackParams::FIELDS,
    params_size: size_of::<PackParams>(),
    reference,
    cases,
    random,
    at,
};

const F16: &str = ROUND[0];
const BLOCKS: &str = ROUND[1];
const NIBBLES: &str = include_str!("pack_nibbles.wgsl");

params! {
    /// Parameters of [`PACK`].
    pub struct PackParams {
        /// First row of the matrix that is written.
        pub first: u32,
        /// Rows of x.
        pub count: u32,
        /// Rows of x, with the rows of zeros that fill up a group.
        pub padded: u32,
        /// Rows of the matrix.
        pub rows: u32,
        /// Chunks of eight per row.
        pub chunks: u32,
        /// Subgroup size that the matrix is laid out for, or 0.
        pub lanes: u32,
        /// Start of the factors of blocks, in units of 16 bytes.
        pub scales: u32,
        /// Quads of rows that the workgroups process at once.
        pub quads_at_once: u32,
    }
}

/// Maximum workgroups in y; each loops over further rows.
const QUADS_AT_ONCE: u32 = 16_384;

/// Rounds `count` rows of x `[count, 8·chunks]` into the rows of `w` from `first` on, which is the start of a group. Bindings: x, w.
#[must_use]
pub fn pack(w: Resident, first: u32, count: u32) -> Launch {
    let Resident { form, rows, chunks } = w;
    let mut choice = Choice::default();
    choice.0[0] = form.dtype.option();
    choice.0[1] = u8::from(form.in_texture());
    // After the last rows of a matrix, zeros fill up its last group.
    let padded = if first + count == rows { count.next_multiple_of(form.group()) } else { count };
    let quads = padded.div_ceil(4);
    let quads_at_once = quads.min(QUADS_AT_ONCE);
    let pairs = chunks.div_ceil(8);
    let wg = reduce::lanes(pairs, 64);
    let params =
        PackParams { first, count, padded, rows, chunks, lanes: form.lanes(), scales: w.scales(), quads_at_once };
    let x = u64::from(count) * u64::from(chunks) * 32;
    let written = w.bytes() * u64::from(count) / u64::from(rows.max(1));
    Launch {
        kernel: &PACK,
        choice,
        overrides: vec![wg],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [pairs.div_ceil(wg), quads_at_once, 1],
        sizes: vec![x, w.bytes()],
        cost: Cost { bytes: x + written, flops: x / 4 * 8 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: PackParams = launch.params();
    let order = if launch.option(1) == 1 { Order::Lanes(params.lanes) } else { Order::Rows };
    let form = Form { dtype: Dtype::ALL[launch.option(0)], order };
    let x = slots.read::<f32>();
    let w = slots.write::<u32>();
    let held = Resident { form, rows: params.rows, chunks: params.chunks };
    held.put(w, params.first, &x[..(params.count * params.chunks * 8) as usize]);
}

fn case(form: Form, rows: u32, first: u32, k: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let w = Resident { form, rows, chunks: chunks(k) };
    let mut x = noise.matrix(rows - first, k, stride(k));
    // Some blocks are zeros, and some are small numbers.
    for (i, word) in x.iter_mut().enumerate() {
        let block = i / 32 % 7;
        *word = if block == 3 { 0 } else { (f32::from_bits(*word) * if block == 5 { 1e-4 } else { 0.02 }).to_bits() };
    }
    let launch = pack(w, first, rows - first);
    Case {
        name: format!("rows {first} to {rows} of {k}, {}", form.name()),
        data: vec![x, vec![0; launch.sizes[1] as usize / 4]].into(),
        checks: vec![Check::Skip, Check::Exact],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 0, 96), (77, 0, 130), (130, 64, 33), (40, 32, 1), (33, 0, 5280)];
    let all = shapes.into_iter().flat_map(|shape| test_forms().map(move |form| (shape, form)));
    all.zip(1..).map(|(((rows, first, k), form), seed)| case(form, rows, first, k, seed)).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(Form::preferred(&work.caps, work.dtype), work.rows, 0, work.n_embd, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let form = random_form(&mut noise);
    let first = form.group().max(4) * noise.below(3);
    case(form, first + 1 + noise.below(100), first, 1 + noise.below(400), seed)
}
