//! [`FusedSums`] of plain rows, with which a series of blocks begins whose norms need no launch.

use crate::matmul::FusedSums;
use crate::shared::params;
use crate::{Binding, Caps, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// Fused sums of plain rows.
pub static FUSED_SUMS: Kernel = Kernel {
    name: "fused_sums",
    wgsl: include_str!("fused.wgsl"),
    parts: &[ROW],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("x", "vec4<f32>"),
        Binding::read("w", "vec4<f32>"),
        Binding::write("y", "vec4<f32>"),
    ],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: FusedSumsParams::FIELDS,
    params_size: size_of::<FusedSumsParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`FUSED_SUMS`].
    pub struct FusedSumsParams {
        /// Rows of x and y.
        pub rows: u32,
        /// Quads of values per padded row.
        pub quads: u32,
        /// Floats from row to row of y.
        pub made: u32,
    }
}

/// Shape of the result of [`fused_sums`]: one group of outputs.
#[must_use]
pub const fn plain_fused_sums(n: u32) -> FusedSums {
    FusedSums { width: n, grain: stride(n) }
}

/// Computes the fused sums of rows `x [rows, n]` for a norm with the weights w, without an outer norm. Bindings: rows, x, w, y.
#[must_use]
pub fn fused_sums(caps: &Caps, rows: u32, n: u32) -> Launch {
    let (quads, made) = (stride(n) / 4, plain_fused_sums(n));
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let bytes = activation_bytes(rows, n);
    Launch {
        kernel: &FUSED_SUMS,
        choice,
        overrides: vec![reduce::lanes_of_row(caps, quads)],
        params: bytemuck::bytes_of(&FusedSumsParams { rows, quads, made: made.floats() }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![u64::from(rows) * size_of::<Row>() as u64, bytes, activation_bytes(1, n), made.bytes(rows)],
        cost: Cost { bytes: 3 * bytes, flops: u64::from(rows) * u64::from(n) * 3 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: FusedSumsParams = launch.params();
    let (rows, x, w, y) = (slots.read::<Row>(), slots.read::<f32>(), slots.read::<f32>(), slots.write::<f32>());
    let width = params.quads as usize * 4;
    for (row, (x, y)) in x.chunks(width).zip(y.chunks_mut(params.made as usize)).take(params.rows as usize).enumerate()
    {
        if rows[row].live == 0 {
            continue;
        }
        let (t, rest) = y.split_at_mut(width);
        let (u, squares) = rest.split_at_mut(width);
        t.copy_from_slice(x);
        u.iter_mut().zip(x.iter().zip(w)).for_each(|(u, (x, w))| *u = x * w);
        let sum: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        squares.copy_from_slice(&[sum as f32, sum as f32, 0.0, 0.0]);
    }
}

fn case(caps: &Caps, rows: u32, n: u32, resting: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = fused_sums(caps, rows, n);
    let table = crate::row::test_rows(rows, resting);
    let (x, w) = (noise.matrix(rows, n, stride(n)), noise.matrix(1, n, stride(n)));
    Case {
        name: format!("{rows} rows of {n}, {resting} resting"),
        data: vec![table, x, w, vec![0; launch.sizes[3] as usize / 4]].into(),
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::F32],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 1, 0), (1, 33, 0), (3, 130, 1), (5, 777, 0), (8, 5280, 3)];
    let all = shapes.into_iter().zip(1..);
    all.map(|((rows, n, resting), seed)| case(&Caps::default(), rows, n, resting, seed)).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(&work.caps, work.rows, work.n_embd, 0, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(12);
    case(&Caps::default(), rows, 1 + noise.below(3000), noise.below(rows), seed)
}
