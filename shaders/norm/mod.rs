//! RMSNorm over rows: `y = x · rsqrt(mean(x²) + eps) · w` in f32 (Zhang and Sennrich 2019; model card of Huginn-0125).
//!
//! One workgroup per row reads the row twice, the second time from cache. The weight is f32, padded like a row.

mod fused;
mod norm_add;

pub use fused::{FUSED_SUMS, FusedSumsParams, fused_sums, plain_fused_sums};
pub use norm_add::{NORM_ADD, NormAddParams, norm_add, norm_add_fused, norm_add_variants};

use crate::shared::params;
use crate::variants::{class_of_rows, of_reduction};
use crate::{Binding, Caps, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload};
use crate::{Trial, Variants, activation_bytes, reduce, stride};

/// RMSNorm over rows.
pub static RMS_NORM: Kernel = Kernel {
    name: "rms_norm",
    wgsl: include_str!("rms_norm.wgsl"),
    parts: &[ROW],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("x", "vec4<f32>"),
        Binding::read("w", "vec4<f32>"),
        Binding::write("y", "vec4<f32>"),
    ],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: RmsNormParams::FIELDS,
    params_size: size_of::<RmsNormParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`RMS_NORM`].
    pub struct RmsNormParams {
        /// Rows of x and y.
        pub rows: u32,
        /// Values per row.
        pub n: u32,
        /// Quads of values per padded row.
        pub quads: u32,
        /// Added to the mean square.
        pub eps: f32,
        /// Quads from row to row of x.
        pub x_quads: u32,
    }
}

/// Normalizes rows `x [rows, n]` into `y [rows, n]`. Bindings: rows, x, w, y.
#[must_use]
pub fn rms_norm(caps: &Caps, rows: u32, n: u32, eps: f32) -> Launch {
    rms_norm_from(caps, rows, n, stride(n), eps)
}

/// As [`rms_norm`], for rows that are `x_floats` apart, such as the sums t in fused sums.
#[must_use]
pub fn rms_norm_from(caps: &Caps, rows: u32, n: u32, x_floats: u32, eps: f32) -> Launch {
    let quads = stride(n) / 4;
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let bytes = activation_bytes(rows, n);
    Launch {
        kernel: &RMS_NORM,
        choice,
        overrides: vec![reduce::lanes_of_row(caps, quads)],
        params: bytemuck::bytes_of(&RmsNormParams { rows, n, quads, eps, x_quads: x_floats / 4 }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![
            u64::from(rows) * size_of::<Row>() as u64,
            u64::from(rows) * u64::from(x_floats) * 4,
            activation_bytes(1, n),
            bytes,
        ],
        cost: Cost { bytes: 2 * bytes, flops: u64::from(rows) * u64::from(n) * 4 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: RmsNormParams = launch.params();
    let (rows, x, w, y) = (slots.read::<Row>(), slots.read::<f32>(), slots.read::<f32>(), slots.write::<f32>());
    let width = params.quads as usize * 4;
    let apart = params.x_quads as usize * 4;
    for (row, (x, y)) in x.chunks(apart).zip(y.chunks_mut(width)).take(params.rows as usize).enumerate() {
        if rows[row].live == 0 {
            continue;
        }
        let x = &x[..width];
        let squares: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let scale = 1.0 / (squares / f64::from(params.n) + f64::from(params.eps)).sqrt();
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
            *y = (f64::from(x) * scale * f64::from(w)) as f32;
        }
    }
}

fn case(caps: &Caps, rows: u32, n: u32, resting: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    // In every third case, rows have gaps between them.
    let apart = stride(n) + if seed.is_multiple_of(3) { 12 } else { 0 };
    let launch = rms_norm_from(caps, rows, n, apart, 1e-6);
    let table = crate::row::test_rows(rows, resting);
    let x = noise.matrix(rows, n, apart);
    let w = noise.matrix(1, n, stride(n));
    let y = vec![0; (rows * stride(n)) as usize];
    Case {
        name: format!("{rows} rows of {n}, {resting} resting"),
        launch,
        data: vec![table, x, w, y].into(),
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::F32],
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 1, 0), (1, 33, 0), (3, 130, 1), (5, 777, 0), (2, 4095, 0), (17, 5280, 3), (700, 96, 0)];
    shapes
        .into_iter()
        .zip(1..)
        .map(|((rows, n, resting), seed)| case(&Caps::default(), rows, n, resting, seed))
        .collect()
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(&work.caps, work.rows, work.n_embd, 0, 1)]
}

/// All variants of a launch of [`rms_norm`].
#[must_use]
pub fn rms_norm_variants(caps: &Caps, launch: Launch) -> Variants {
    let RmsNormParams { rows, n, .. } = launch.params();
    let class = format!("rms_norm n={n} rows={}", class_of_rows(rows));
    let others = of_reduction(caps, &launch, 0);
    Variants::new(class, launch, others)
}

pub(crate) fn trials(work: &Workload) -> Vec<Trial> {
    let cases = at(work).into_iter();
    let plain = cases.map(|case| Trial { variants: rms_norm_variants(&work.caps, case.launch.clone()), case });
    plain.chain(norm_add::trials(work)).collect()
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(40);
    case(&Caps::default(), rows, 1 + noise.below(3000), noise.below(rows), seed)
}
