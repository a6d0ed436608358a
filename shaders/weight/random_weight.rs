//! Random weights generated in device memory, for a model whose shape is known but whose weights are not available: results are noise, costs are real. Every
//! device, the reference, and [`RandomWeight::row`], which writes them to files, generate the same bits.

use rayon::prelude::*;

use super::{EIGHT, chunks};
use crate::recur::THREEFRY;
use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, Slots, Threefry, Workload, reduce};

/// Fills a buffer with random weights.
pub static RANDOM_WEIGHT: Kernel = Kernel {
    name: "random_weight",
    wgsl: include_str!("random_weight.wgsl"),
    parts: &[EIGHT, THREEFRY],
    bindings: &[Binding::write("w", "vec4<f32>")],
    axes: &[],
    overrides: &["WG"],
    params: RandomWeightParams::FIELDS,
    params_size: size_of::<RandomWeightParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`RANDOM_WEIGHT`].
    pub struct RandomWeightParams {
        /// Key of the generator.
        pub seed: [u32; 2],
        /// First row of this part of the matrix.
        pub first: u32,
        /// Rows in this part of the matrix.
        pub count: u32,
        /// Values per half of a row.
        pub k: u32,
        /// Chunks of eight per half of a row.
        pub chunks: u32,
        /// Halves of a row, each padded on its own: 1 or 2.
        pub halves: u32,
        /// Rows that are interleaved: see [`InTurn`].
        pub in_turn: u32,
        /// Rows per span of these.
        pub span: u32,
        /// Factor for the whole numbers that are drawn.
        pub scale: f32,
    }
}

/// A random matrix `[n, k]`, as stored in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomWeight {
    /// Key of the generator, different for every matrix.
    pub seed: u64,
    /// Values per row.
    pub k: u32,
    /// Standard deviation of the values.
    pub std: f64,
}

/// Rows to generate in a buffer, in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// First row.
    pub first: u32,
    /// Number of rows.
    pub count: u32,
    /// Halves of a row, each padded on its own: 1 or 2.
    pub halves: u32,
    /// Rows that are interleaved.
    pub rows: InTurn,
}

/// Interleaving of rows on a device, relative to their order in a checkpoint.
///
/// The first `rows` rows are divided into spans of `span` rows; on the device, rows of a span's first half alternate with rows of its second half. Gate and up
/// of an MLP are one span; heads whose rotary pairs are half a head apart are one span each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTurn {
    /// Number of interleaved rows, in whole spans; later rows keep their order.
    pub rows: u32,
    /// Rows per span, an even number.
    pub span: u32,
}

impl InTurn {
    /// All rows in the order of the checkpoint.
    pub const NONE: Self = Self { rows: 0, span: 2 };

    /// Stored index of the row that is held at `row`.
    #[must_use]
    pub const fn stored(self, row: u32) -> u32 {
        if row >= self.rows {
            return row;
        }
        let at = row % self.span;
        row - at + at % 2 * (self.span / 2) + at / 2
    }

    /// Index at which the row stored at `row` is held.
    #[must_use]
    pub const fn held(self, row: u32) -> u32 {
        if row >= self.rows {
            return row;
        }
        let (at, half) = (row % self.span, self.span / 2);
        row - at + at % half * 2 + at / half
    }
}

/// Variance of the sum of four bytes, 4 (256² − 1) / 12.
const VARIANCE: f64 = 21_845.0;

impl RandomWeight {
    /// Generates one stored row into `values` `[k]`.
    ///
    /// # Panics
    /// If `values` has another length.
    pub fn row(&self, row: u32, values: &mut [f32]) {
        assert_eq!(values.len(), self.k as usize, "one row");
        let (generator, scale) = (Threefry::new(self.seed), self.scale());
        for (pair, values) in (0..).zip(values.chunks_mut(2)) {
            let block = generator.block([row, pair]);
            values.iter_mut().zip(block).for_each(|(value, bits)| *value = bell(bits) * scale);
        }
    }

    /// Fills a buffer. Binding: w.
    #[must_use]
    pub fn fill(&self, held: Held) -> Launch {
        let Held { first, count, halves, rows } = held;
        let k = self.k / halves;
        let per_row = chunks(k) * halves;
        let wg = reduce::lanes(per_row, 128);
        let params = RandomWeightParams {
            seed: [self.seed as u32, (self.seed >> 32) as u32],
            first,
            count,
            k,
            chunks: chunks(k),
            halves,
            in_turn: rows.rows,
            span: rows.span,
            scale: self.scale(),
        };
        let bytes = u64::from(count) * u64::from(per_row) * 32;
        Launch {
            kernel: &RANDOM_WEIGHT,
            choice: Choice::default(),
            overrides: vec![wg],
            params: bytemuck::bytes_of(&params).to_vec(),
            workgroups: [per_row.div_ceil(wg), count.min(ROWS_AT_ONCE), 1],
            sizes: vec![bytes],
            // One block of the generator yields two values: 20 rounds of four operations and the key schedule.
            cost: Cost { bytes, flops: u64::from(count) * u64::from(self.k) * 50 },
        }
    }

    fn scale(&self) -> f32 {
        (self.std / VARIANCE.sqrt()) as f32
    }
}

/// Rows of workgroups in one dispatch; each loops over further rows.
const ROWS_AT_ONCE: u32 = 16_384;

/// Sum of the four bytes, minus its mean.
fn bell(bits: u32) -> f32 {
    let sum: i16 = bits.to_le_bytes().into_iter().map(i16::from).sum();
    f32::from(sum - 510)
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: RandomWeightParams = launch.params();
    let RandomWeightParams { first, k, halves, in_turn, span, scale, .. } = params;
    let order = InTurn { rows: in_turn, span };
    let generator = Threefry::from_words(params.seed);
    let value = |row: u32, column: u32| bell(generator.block([row, column / 2])[(column % 2) as usize]) * scale;
    let width = params.chunks as usize * 8;
    let w: &mut [f32] = slots.write();
    (first..first + params.count).into_par_iter().zip(w.par_chunks_mut(width * halves as usize)).for_each(
        |(row, out)| {
            let row = order.stored(row);
            out.fill(0.0);
            for (half, out) in (0..halves).zip(out.chunks_mut(width)) {
                out.iter_mut().zip(0..k).for_each(|(out, column)| *out = value(row, half * k + column));
            }
        },
    );
}

fn case(weight: RandomWeight, held: Held) -> Case {
    let launch = weight.fill(held);
    let Held { first, count, halves, .. } = held;
    Case {
        name: format!("{count} rows from {first} of {} values in {halves} halves", weight.k),
        data: vec![vec![u32::MAX; launch.sizes[0] as usize / 4]].into(),
        checks: vec![Check::Exact],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let none = InTurn::NONE;
    let (gate_up, heads) = (InTurn { rows: 18, span: 18 }, InTurn { rows: 12, span: 6 });
    let shapes = [
        (1, 96, 1, none),
        (7, 33, 1, none),
        (3, 50, 2, none),
        (6, 130, 1, gate_up),
        (9, 40, 1, heads),
        (20_000, 8, 1, none),
        (4, 10_560, 2, none),
    ];
    shapes
        .into_iter()
        .zip(1..)
        .map(|((count, k, halves, rows), seed)| {
            let weight = RandomWeight { seed: seed << 30 | seed, k, std: 0.0087 };
            case(weight, Held { first: 5, count, halves, rows })
        })
        .collect()
}

fn at(work: &Workload) -> Vec<Case> {
    let weight = RandomWeight { seed: 1, k: work.n_embd, std: 0.0087 };
    vec![case(weight, Held { first: 0, count: work.rows, halves: 1, rows: InTurn::NONE })]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let halves = 1 + noise.below(2);
    let weight = RandomWeight { seed, k: halves * (1 + noise.below(500)), std: f64::from(noise.signed().abs()) + 1e-4 };
    let [first, count] = [100, 60].map(|end| noise.below(end));
    let span = 2 * (1 + noise.below(100));
    let rows = if halves == 1 { InTurn { rows: span * noise.below(3), span } } else { InTurn::NONE };
    case(weight, Held { first, count: count + 1, halves, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_held_once() {
        for order in [InTurn::NONE, InTurn { rows: 18, span: 18 }, InTurn { rows: 12, span: 6 }] {
            (0..20).for_each(|row| assert_eq!(order.held(order.stored(row)), row, "{order:?}"));
        }
        // Heads of six values, whose pairs are three apart.
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(|row| InTurn { rows: 12, span: 6 }.stored(row)), [0, 3, 1, 4, 2, 5, 6]);
    }

    #[test]
    fn weights_have_mean_zero_and_the_standard_deviation_asked_for() {
        let weight = RandomWeight { seed: 42, k: 5280, std: 0.0087 };
        let mut values = vec![0.0; 5280];
        let (mut sum, mut squares, rows) = (0.0, 0.0, 40);
        for row in 0..rows {
            weight.row(row, &mut values);
            sum += values.iter().map(|&v| f64::from(v)).sum::<f64>();
            squares += values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
        }
        let count = f64::from(rows) * 5280.0;
        let (mean, std) = (sum / count, (squares / count).sqrt());
        assert!(mean.abs() < 1e-4, "mean {mean}");
        assert!((std / 0.0087 - 1.0).abs() < 0.01, "standard deviation {std}");
    }
}
