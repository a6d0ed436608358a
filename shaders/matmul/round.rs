//! Rounding of x to whole numbers, for integer products: rows in blocks of 32, each with its own factor.
//!
//! A number is a signed byte of magnitude 127 at most; four make a word. A block's factor is `largest / 127`, rounded to 11 bits of mantissa with any exponent,
//! so that no activation is too large. It is stored with the sum of the block's values, which weights with an offset need.

use super::launch::Input;
use super::reference::{norm_factors, test_fused_sums};
use super::{CONCAT_IN, Normed, X_IN};
use crate::reduce::{self, REDUCE};
use crate::shared::params;
use crate::weight::{Dtype, FACTOR, ROUND, blocks, chunks, round_block};
use crate::{Axis, Binding, Caps, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, Part, ROW, Row};
use crate::{Slots, Workload, activation_bytes, stride};

/// Rounds rows to whole numbers.
pub static ROUND_ROWS: Kernel = Kernel {
    name: "round_rows",
    wgsl: include_str!("round_rows.wgsl"),
    parts: &[ROW, crate::weight::EIGHT, Part::new("values", "alias Values = array<vec4<f32>, 8>;\n").using(&ROUND)],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::write("numbers", "vec4<u32>"),
        Binding::write("factors", "vec2<f32>"),
    ],
    axes: &[
        Axis {
            name: "input",
            options: &[
                Part::new("plain", super::QUADS).using(&[super::UNCHANGED]).with(X_IN),
                Part::new("concat", super::QUADS_OF_TWO).using(&[super::UNCHANGED]).with(CONCAT_IN),
                Part::new("normed", super::NORMED_QUADS).using(&[super::FUSED, super::FACTOR]).with(X_IN),
            ],
        },
        Axis {
            name: "order",
            options: &[
                Part::new("words", include_str!("order_words.wgsl")),
                Part::new("nibbles", include_str!("order_nibbles.wgsl")),
            ],
        },
        REDUCE,
    ],
    overrides: &["WG"],
    params: RoundParams::FIELDS,
    params_size: size_of::<RoundParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`ROUND_ROWS`].
    pub struct RoundParams {
        /// Rows of x.
        pub rows: u32,
        /// Chunks of eight per row, over both halves if there are two.
        pub chunks: u32,
        /// Floats from row to row of the fused sums that are read.
        pub fused: u32,
        /// Groups of outputs in the fused sums.
        pub parts: u32,
        /// Values that the norms average over.
        pub width: u32,
        /// Epsilon of the norms.
        pub eps: f32,
        /// 1 if there is an outer norm.
        pub outer: u32,
    }
}

/// Bytes of the numbers and of the factors of `rows` rows of `chunks` chunks of eight.
#[must_use]
pub const fn rounded_bytes(rows: u32, chunks: u32) -> [u64; 2] {
    let blocks = rows as u64 * blocks(chunks) as u64;
    [blocks * 32, blocks * 8]
}

/// Whether numbers are ordered like the nibbles of a dtype: of every eight, those at even positions first.
const fn by_nibbles(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Q4 | Dtype::Q4Min)
}

/// Rounds `rows` rows of `chunks` chunks of eight for products with weights of a dtype.
///
/// With [`Input::Concat`], half of the chunks come from each of two inputs; with [`Input::Normed`], the rows are the inner norm of fused sums. Bindings: rows,
/// numbers, factors, then x (or state and embedding, or the fused sums).
///
/// # Panics
/// If the fused sums are missing, or if x is already staged or rounded.
#[must_use]
pub fn round_rows(
    caps: &Caps,
    (rows, chunks): (u32, u32),
    (input, normed): (Input, Option<Normed>),
    dtype: Dtype,
) -> Launch {
    let mut choice = Choice::default();
    let values = activation_bytes(rows, chunks * 8);
    let normed = normed.filter(|_| input == Input::Normed);
    let (option, read) = match (input, normed) {
        (Input::Plain, _) => (0, vec![values]),
        (Input::Concat, _) => (1, vec![values / 2; 2]),
        (Input::Normed, Some(normed)) => (2, vec![normed.fused.bytes(rows)]),
        _ => panic!("{input:?} rows cannot be rounded"),
    };
    choice.0 = [option, u8::from(by_nibbles(dtype)), reduce::preferred(caps), 0, 0, 0];
    let params = RoundParams {
        rows,
        chunks,
        fused: normed.map_or(0, |normed| normed.fused.floats()),
        parts: normed.map_or(0, |normed| normed.fused.parts()),
        width: normed.map_or(0, |normed| normed.fused.width),
        eps: normed.map_or(0.0, |normed| normed.eps),
        outer: u32::from(normed.is_some_and(|normed| normed.outer)),
    };
    let written = rounded_bytes(rows, chunks);
    let moved = values + written[0] + written[1];
    let mut sizes = vec![u64::from(rows) * size_of::<Row>() as u64];
    sizes.extend(written);
    sizes.extend(read);
    Launch {
        kernel: &ROUND_ROWS,
        choice,
        overrides: vec![reduce::lanes(blocks(chunks), 256)],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [rows, 1, 1],
        sizes,
        cost: Cost { bytes: moved, flops: u64::from(rows) * u64::from(chunks) * 8 * 6 },
    }
}

/// Position of a value among the bytes of its block.
const fn place(column: usize, nibbles: bool) -> usize {
    let (eight, i) = (column / 8 * 8, column % 8);
    eight + if nibbles { i % 2 * 4 + i / 2 } else { i }
}

/// Rounds values in blocks of 32, times a factor, to numbers and factors.
fn round_values(values: &[f32], factor: f64, nibbles: bool, numbers: &mut [u32], factors: &mut [[f32; 2]]) {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(numbers);
    for ((values, bytes), out) in values.chunks(32).zip(bytes.chunks_exact_mut(32)).zip(factors) {
        let largest = values.iter().fold(0_f32, |most, v| most.max(v.abs()));
        let exponent = (largest.to_bits() >> 23).clamp(1, 253);
        let near_one = f32::from_bits((254 - exponent) << 23);
        let near: Vec<f32> = values.iter().map(|v| v * near_one).collect();
        let (half, _, block) = round_block(Dtype::Q8, &near);
        let scale = f64::from(half.to_f32() / FACTOR) * f64::from(f32::from_bits(exponent << 23)) * factor;
        let mut total = 0.0;
        for (column, number) in block.into_iter().enumerate() {
            let number = number as u8 ^ 0x80;
            bytes[place(column, nibbles)] = number;
            total += f64::from(number.cast_signed());
        }
        *out = [scale as f32, (scale * total) as f32];
    }
}

/// Decodes a row of numbers and factors to f64.
pub(super) fn decode_row(numbers: &[u32], factors: &[f32], (row, chunks): (usize, u32), dtype: Dtype) -> Vec<f64> {
    let blocks = blocks(chunks) as usize;
    let bytes: &[u8] = bytemuck::cast_slice(&numbers[row * blocks * 8..][..blocks * 8]);
    let value = |column: usize| {
        let number = bytes[column / 32 * 32 + place(column % 32, by_nibbles(dtype))].cast_signed();
        f64::from(number) * f64::from(factors[2 * (row * blocks + column / 32)])
    };
    (0..chunks as usize * 8).map(value).collect()
}

/// Random rows, rounded: numbers and factors, in words.
pub(super) fn test_rounded(noise: &mut Noise, (rows, k): (u32, u32), dtype: Dtype) -> [Vec<u32>; 2] {
    let [numbers, factors] = rounded_bytes(rows, chunks(k));
    let (mut numbers, mut factors) = (vec![0; numbers as usize / 4], vec![[0.0; 2]; factors as usize / 8]);
    let blocks = factors.len() / rows.max(1) as usize;
    for row in 0..rows as usize {
        let values: Vec<f32> = noise.matrix(1, k, stride(k)).into_iter().map(f32::from_bits).collect();
        let (first, last) = (row * blocks, (row + 1) * blocks);
        round_values(&values, 1.0, by_nibbles(dtype), &mut numbers[first * 8..last * 8], &mut factors[first..last]);
    }
    [numbers, bytemuck::cast_slice(&factors).to_vec()]
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: RoundParams = launch.params();
    let (rows, numbers) = (slots.read::<Row>(), slots.write::<u32>());
    let factors = slots.write::<[f32; 2]>();
    let x: Vec<&[f32]> = (0..if launch.option(0) == 1 { 2 } else { 1 }).map(|_| slots.read()).collect();
    let (width, blocks) = (params.chunks as usize * 8, blocks(params.chunks) as usize);
    for row in (0..params.rows as usize).filter(|&row| rows[row].live != 0) {
        let (values, factor) = match launch.option(0) {
            0 => (x[0][row * width..][..width].to_vec(), 1.0),
            1 => (x.iter().flat_map(|half| &half[row * width / 2..][..width / 2]).copied().collect(), 1.0),
            _ => {
                let fused = &x[0][row * params.fused as usize..][..params.fused as usize];
                let RoundParams { parts, width: mean_over, eps, outer, .. } = params;
                let (outer, inner) = norm_factors(&fused[2 * width..], (parts, mean_over), eps, outer != 0);
                (fused[width..2 * width].to_vec(), outer * inner)
            }
        };
        let (first, last) = (row * blocks, (row + 1) * blocks);
        let numbers = &mut numbers[first * 8..last * 8];
        round_values(&values, factor, launch.option(1) == 1, numbers, &mut factors[first..last]);
    }
}

fn case(rows: u32, k: u32, input: Input, dtype: Dtype, (resting, seed): (u32, u64)) -> Case {
    let mut noise = Noise::new(seed);
    let (width, halves) = (stride(k), if input == Input::Concat { 2 } else { 1 });
    let fused = super::FusedSums { width: k, grain: [4, 32, width][(seed % 3) as usize] };
    let normed = Normed { fused, outer: seed % 5 > 1, eps: 1e-6 };
    let launch = round_rows(&Caps::default(), (rows, halves * chunks(k)), (input, Some(normed)), dtype);
    let mut data = vec![crate::row::test_rows(rows, resting)];
    data.extend(launch.sizes[1..3].iter().map(|&bytes| vec![0; bytes as usize / 4]));
    if input == Input::Normed {
        data.push(test_fused_sums(&mut noise, rows, fused));
    } else {
        data.extend((0..halves).map(|_| noise.matrix(rows, k, width)));
    }
    // Some blocks are zeros. Every fourth case has blocks of all magnitudes, whose factors no common error bound fits, so only the numbers are checked.
    let extreme = seed % 4 == 3;
    let sizes = if extreme { [1.0, 1e-20, 0.0, 3e5, 1e30] } else { [1.0, 0.1, 0.0, 0.5, 7.0] };
    for (i, word) in data[3..].iter_mut().flatten().enumerate().filter(|_| input != Input::Normed) {
        *word = (f32::from_bits(*word) * sizes[i / 32 % 5]).to_bits();
    }
    let mut checks = vec![Check::Skip; data.len()];
    (checks[1], checks[2]) = (Check::Exact, if extreme { Check::Skip } else { Check::F32 });
    let name = format!("{rows} rows of {k}, {input:?} for {}", dtype.name());
    Case { name, launch, data: data.into(), checks }
}

const INPUTS: [Input; 3] = [Input::Plain, Input::Concat, Input::Normed];

fn cases() -> Vec<Case> {
    let shapes = [(1, 33), (8, 32), (9, 130), (3, 5280), (65, 7), (300, 96)];
    let all = shapes.iter().flat_map(|&shape| INPUTS.map(|input| (shape, input)));
    let all = all.flat_map(|of| [Dtype::Q8, Dtype::Q4].map(|dtype| (of, dtype)));
    let resting = |rows| u32::from(rows > 2);
    all.zip(0..).map(|((((rows, k), input), dtype), seed)| case(rows, k, input, dtype, (resting(rows), seed))).collect()
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let input = INPUTS[noise.below(3) as usize];
    let dtype = [Dtype::Q8, Dtype::Q4, Dtype::Q4Min][noise.below(3) as usize];
    let rows = 1 + noise.below(100);
    case(rows, 1 + noise.below(600), input, dtype, (noise.below(rows), seed))
}

fn at(work: &Workload) -> Vec<Case> {
    let Workload { n_embd, hidden, rows, dtype, .. } = *work;
    if !work.arithmetic.rounds(dtype) {
        return vec![];
    }
    let normed = if super::fuses(&work.caps, rows, n_embd) { Input::Normed } else { Input::Plain };
    let all = [(n_embd, Input::Concat), (n_embd, normed), (hidden, Input::Plain)];
    all.into_iter().zip(1..).map(|((k, input), seed)| case(rows, k, input, dtype, (0, seed))).collect()
}
