//! Joins the parts of a row's attention: one for each split of the keys in each segment of the cache.

use super::split::{LOWEST, partial_bytes};
use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload};
use crate::{activation_bytes, stride, weight};

/// Combination of attention parts.
pub static COMBINE: Kernel = Kernel {
    name: "combine",
    wgsl: include_str!("combine.wgsl"),
    parts: &[ROW],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("partial_sums", "vec2<f32>"),
        Binding::write("y", "vec2<f32>"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: CombineParams::FIELDS,
    params_size: size_of::<CombineParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`COMBINE`].
    pub struct CombineParams {
        /// Rows of the table.
        pub rows: u32,
        /// Query heads.
        pub heads: u32,
        /// Values per head.
        pub head_dim: u32,
        /// Chunks of eight per padded head.
        pub chunks: u32,
        /// Parts per row and head.
        pub parts: u32,
        /// Floats from row to row of y.
        pub y_stride: u32,
    }
}

/// Joins `partial_sums [rows, heads, parts]` into `y [rows, heads·head_dim]`. A head's sums are padded to `chunks` chunks of eight, like its keys. Bindings:
/// rows, partial_sums, y.
#[must_use]
pub fn combine(rows: u32, heads: u32, (head_dim, chunks): (u32, u32), parts: u32) -> Launch {
    let y_stride = stride(heads * head_dim);
    let read = partial_bytes(rows, heads, parts, chunks);
    let written = activation_bytes(rows, heads * head_dim);
    Launch {
        kernel: &COMBINE,
        choice: Choice::default(),
        overrides: vec![64],
        params: bytemuck::bytes_of(&CombineParams { rows, heads, head_dim, chunks, parts, y_stride }).to_vec(),
        workgroups: [heads, rows, 1],
        sizes: vec![u64::from(rows) * size_of::<Row>() as u64, read, written],
        cost: Cost { bytes: read + written, flops: read / 2 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: CombineParams = launch.params();
    let (rows, partial, y) = (slots.read::<Row>(), slots.read::<f32>(), slots.write::<f32>());
    let (head_dim, size) = (params.head_dim as usize, params.chunks as usize * 8 + 2);
    let parts = params.parts as usize;
    for (row, y) in y.chunks_mut(params.y_stride as usize).enumerate().take(params.rows as usize) {
        if rows[row].live == 0 {
            continue;
        }
        y.fill(0.0);
        for (head, y) in y.chunks_exact_mut(head_dim).enumerate().take(params.heads as usize) {
            let all = partial[(row * params.heads as usize + head) * parts * size..].chunks(size).take(parts);
            let parts: Vec<&[f32]> = all.filter(|part| part[1] > 0.0).collect();
            let largest = parts.iter().fold(f64::MIN, |m, part| m.max(f64::from(part[0])));
            let scales: Vec<f64> = parts.iter().map(|part| (f64::from(part[0]) - largest).exp()).collect();
            let weights: f64 = parts.iter().zip(&scales).map(|(part, scale)| f64::from(part[1]) * scale).sum();
            for (i, y) in y.iter_mut().enumerate() {
                let sum: f64 = parts.iter().zip(&scales).map(|(part, scale)| f64::from(part[2 + i]) * scale).sum();
                *y = (sum / weights.max(1e-30)) as f32;
            }
        }
    }
}

fn case(rows: u32, heads: u32, head_dim: u32, parts: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let chunks = weight::chunks(head_dim) + seed as u32 % 2;
    let launch = combine(rows, heads, (head_dim, chunks), parts);
    let size = chunks * 8 + 2;
    let mut partial = noise.matrix(rows * heads * parts, size, size);
    for (i, part) in partial.chunks_mut(size as usize).enumerate() {
        let empty = parts > 1 && i % 3 == 1;
        part[0] = if empty { LOWEST.to_bits() } else { (10.0 * noise.signed()).to_bits() };
        part[1] = if empty { 0 } else { (1.5 + noise.signed()).to_bits() };
        if empty {
            part[2..].fill(0);
        }
    }
    Case {
        name: format!("{rows} rows, {heads} heads of {head_dim}, {parts} parts"),
        data: vec![crate::row::test_rows(rows, 0), partial, vec![0; launch.sizes[2] as usize / 4]].into(),
        checks: vec![Check::Skip, Check::Skip, Check::F32],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 1, 2, 1), (1, 55, 96, 16), (3, 5, 26, 4), (40, 4, 128, 2), (4000, 2, 16, 1)];
    let all = shapes.into_iter().zip(1..);
    all.map(|((rows, heads, head_dim, parts), seed)| case(rows, heads, head_dim, parts, seed)).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(work.rows, work.heads, work.head_dim, (16 / work.rows).max(1), 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let head_dim = 2 * (1 + noise.below(64));
    case(1 + noise.below(20), 1 + noise.below(9), head_dim, 1 + noise.below(9), seed)
}
