//! Post-norm and residual: `sum = x + y · rsqrt(mean(y²) + eps) · w` in f32, a norm on a sublayer's output (OLMo 2, arXiv 2501.00656; in Ouro, arXiv
//! 2510.25741, in addition to a pre-norm).
//!
//! The sum is written as plain rows, or as [`FusedSums`](crate::matmul::FusedSums) for the pre-norm of the next sublayer, which then needs no launch. x may be
//! the sums t of fused sums, so the caller passes the distance between its rows.

use super::plain_fused_sums;
use crate::shared::params;
use crate::variants::{class_of_rows, of_reduction};
use crate::{Axis, Binding, Caps, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, Part, ROW, Row, Slots};
use crate::{Trial, Variants, Workload, activation_bytes, reduce, stride};

/// Index of the axis of [`NORM_ADD`] for ways to reduce.
const REDUCE_AXIS: usize = 1;

const SUM: Binding = Binding::write("sum", "vec4<f32>");

/// RMSNorm of a sublayer's output, added to the residual.
pub static NORM_ADD: Kernel = Kernel {
    name: "norm_add",
    wgsl: include_str!("norm_add.wgsl"),
    parts: &[ROW],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("x", "vec4<f32>"),
        Binding::read("y", "vec4<f32>"),
        Binding::read("w", "vec4<f32>"),
    ],
    axes: &[
        Axis {
            name: "then",
            options: &[
                Part::new("rows", include_str!("then_rows.wgsl")).with(&[SUM]),
                Part::new("fused", include_str!("then_fused.wgsl")).with(&[Binding::read("next", "vec4<f32>"), SUM]),
            ],
        },
        reduce::REDUCE,
    ],
    overrides: &["WG"],
    params: NormAddParams::FIELDS,
    params_size: size_of::<NormAddParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`NORM_ADD`].
    pub struct NormAddParams {
        /// Rows of x, y and the sum.
        pub rows: u32,
        /// Values per row.
        pub n: u32,
        /// Quads of values per padded row.
        pub quads: u32,
        /// Quads from row to row of x.
        pub x_quads: u32,
        /// Floats from row to row of the sum.
        pub made: u32,
        /// Added to the mean square.
        pub eps: f32,
    }
}

/// Adds the norm of rows `y [rows, n]` to rows `x [rows, n]`, which are `x_floats` apart (a multiple of 4). Bindings: rows, x, y, w `[n]`, sum `[rows, n]`.
#[must_use]
pub fn norm_add(caps: &Caps, rows: u32, n: u32, x_floats: u32, eps: f32) -> Launch {
    launch(caps, (rows, n), x_floats, eps, false)
}

/// As [`norm_add`], but writes the fused sums of the result, in the shape of [`plain_fused_sums`], for a norm with the weights `next`. Bindings: rows, x, y, w
/// `[n]`, next `[n]`, sum.
#[must_use]
pub fn norm_add_fused(caps: &Caps, rows: u32, n: u32, x_floats: u32, eps: f32) -> Launch {
    launch(caps, (rows, n), x_floats, eps, true)
}

fn launch(caps: &Caps, (rows, n): (u32, u32), x_floats: u32, eps: f32, fused: bool) -> Launch {
    let quads = stride(n) / 4;
    let mut choice = Choice::default();
    choice.0[0] = u8::from(fused);
    choice.0[REDUCE_AXIS] = reduce::preferred(caps);
    let (bytes, weights) = (activation_bytes(rows, n), activation_bytes(1, n));
    let made = if fused { plain_fused_sums(n).floats() } else { stride(n) };
    let params = NormAddParams { rows, n, quads, x_quads: x_floats / 4, made, eps };
    let mut sizes =
        vec![u64::from(rows) * size_of::<Row>() as u64, u64::from(rows) * u64::from(x_floats) * 4, bytes, weights];
    if fused {
        sizes.push(weights);
    }
    let written = u64::from(rows) * u64::from(made) * 4;
    sizes.push(written);
    Launch {
        kernel: &NORM_ADD,
        choice,
        overrides: vec![reduce::lanes_of_row(caps, quads)],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [rows, 1, 1],
        sizes,
        cost: Cost { bytes: 2 * bytes + written, flops: u64::from(rows) * u64::from(n) * 8 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: NormAddParams = launch.params();
    let (rows, x, y, w) = (slots.read::<Row>(), slots.read::<f32>(), slots.read::<f32>(), slots.read::<f32>());
    let next: &[f32] = if launch.option(0) == 1 { slots.read() } else { &[] };
    let sum = slots.write::<f32>();
    let width = params.quads as usize * 4;
    for row in (0..params.rows as usize).filter(|&row| rows[row].live != 0) {
        let (x, y) = (&x[row * params.x_quads as usize * 4..][..width], &y[row * width..][..width]);
        let squares: f64 = y.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let scale = 1.0 / (squares / f64::from(params.n) + f64::from(params.eps)).sqrt();
        let made: Vec<f64> =
            x.iter().zip(y).zip(w).map(|((&x, &y), &w)| f64::from(x) + f64::from(y) * scale * f64::from(w)).collect();
        let (t, rest) = sum[row * params.made as usize..][..params.made as usize].split_at_mut(width);
        t.iter_mut().zip(&made).for_each(|(t, &v)| *t = v as f32);
        if launch.option(0) == 1 {
            let (u, squares) = rest.split_at_mut(width);
            u.iter_mut().zip(made.iter().zip(next)).for_each(|(u, (v, &w))| *u = (v * f64::from(w)) as f32);
            let total = made.iter().map(|v| v * v).sum::<f64>() as f32;
            squares.copy_from_slice(&[total, total, 0.0, 0.0]);
        }
    }
}

fn case(caps: &Caps, (rows, n): (u32, u32), resting: u32, fused: bool, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    // x is plain rows or the sums t of fused sums.
    let (apart, from) =
        if seed.is_multiple_of(2) { (plain_fused_sums(n).floats(), " of fused sums") } else { (stride(n), "") };
    let launch = launch(caps, (rows, n), apart, 1e-6, fused);
    let mut data = vec![crate::row::test_rows(rows, resting), noise.matrix(rows, n, apart)];
    data.push(noise.matrix(rows, n, stride(n)));
    data.extend((0..launch.sizes.len() - 4).map(|_| noise.matrix(1, n, stride(n))));
    let mut checks = vec![Check::Skip; data.len()];
    data.push(vec![0; *launch.sizes.last().expect("a sum is written") as usize / 4]);
    checks.push(Check::F32);
    Case { name: format!("{rows} rows{from} of {n}, {resting} resting"), launch, data: data.into(), checks }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 1, 0), (1, 33, 0), (3, 130, 1), (5, 777, 0), (2, 4095, 0), (17, 5280, 3), (700, 96, 0)];
    let both = shapes.into_iter().flat_map(|shape| [(shape, false), (shape, true)]).zip(0..);
    // Covers both kinds of x with both kinds of result.
    both.map(|(((rows, n, resting), fused), i)| case(&Caps::default(), (rows, n), resting, fused, i + i / 2)).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    let shape = (work.rows, work.n_embd);
    [false, true].map(|fused| case(&work.caps, shape, 0, fused, 1)).to_vec()
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(40);
    let (n, resting, fused) = (1 + noise.below(3000), noise.below(rows), noise.below(2) == 0);
    case(&Caps::default(), (rows, n), resting, fused, seed)
}

/// All variants of a launch of [`norm_add`] or [`norm_add_fused`].
#[must_use]
pub fn norm_add_variants(caps: &Caps, launch: Launch) -> Variants {
    let NormAddParams { rows, n, .. } = launch.params();
    let then = NORM_ADD.axes[0].options[launch.option(0)].name;
    let class = format!("norm_add {then} n={n} rows={}", class_of_rows(rows));
    let others = of_reduction(caps, &launch, REDUCE_AXIS);
    Variants::new(class, launch, others)
}

pub(super) fn trials(work: &Workload) -> Vec<Trial> {
    let cases = at(work).into_iter();
    cases.map(|case| Trial { variants: norm_add_variants(&work.caps, case.launch.clone()), case }).collect()
}
