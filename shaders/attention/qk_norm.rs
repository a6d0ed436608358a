//! RMSNorm of the queries and of the keys of a row, each over its whole width, before the split into heads and the rotation (OLMo 2, arXiv 2501.00656).
//!
//! Values are addressed in pairs: a head's width is only known to be even, so keys and values may begin at any pair of a row.

use crate::shared::params;
use crate::{Binding, Caps, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// RMSNorm of queries and keys, in place.
pub static QK_NORM: Kernel = Kernel {
    name: "qk_norm",
    wgsl: include_str!("qk_norm.wgsl"),
    parts: &[ROW],
    bindings: &[Binding::read("rows", "Row"), Binding::read("w", "vec2<f32>"), Binding::write("qkv", "vec2<f32>")],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: QkNormParams::FIELDS,
    params_size: size_of::<QkNormParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`QK_NORM`].
    pub struct QkNormParams {
        /// Rows of the table.
        pub rows: u32,
        /// Pairs of values in a row's queries.
        pub q_pairs: u32,
        /// Pairs of values in a row's keys.
        pub k_pairs: u32,
        /// Pairs from row to row of qkv.
        pub row_pairs: u32,
        /// Added to the mean squares.
        pub eps: f32,
    }
}

/// Norms the queries and the keys of `qkv [rows, (heads + 2·kv_heads)·head_dim]` in place; `head_dim` is even. Bindings: rows, w `[(heads +
/// kv_heads)·head_dim]` (weights of the queries first, padded like an activation), qkv.
#[must_use]
pub fn qk_norm(caps: &Caps, rows: u32, (heads, kv_heads): (u32, u32), head_dim: u32, eps: f32) -> Launch {
    let (q, k) = (heads * head_dim, kv_heads * head_dim);
    let width = q + 2 * k;
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let params = QkNormParams { rows, q_pairs: q / 2, k_pairs: k / 2, row_pairs: stride(width) / 2, eps };
    Launch {
        kernel: &QK_NORM,
        choice,
        overrides: vec![reduce::lanes_of_row(caps, params.q_pairs / 2)],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [rows, 2, 1],
        sizes: vec![
            u64::from(rows) * size_of::<Row>() as u64,
            activation_bytes(1, q + k),
            activation_bytes(rows, width),
        ],
        cost: Cost { bytes: 2 * activation_bytes(rows, q + k), flops: u64::from(rows) * u64::from(q + k) * 4 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: QkNormParams = launch.params();
    let (rows, w, qkv) = (slots.read::<Row>(), slots.read::<f32>(), slots.write::<f32>());
    let (q, k) = (2 * params.q_pairs as usize, 2 * params.k_pairs as usize);
    let rows = rows.iter().zip(qkv.chunks_mut(2 * params.row_pairs as usize)).take(params.rows as usize);
    for (_, qkv) in rows.filter(|(row, _)| row.live != 0) {
        for part in [0..q, q..q + k] {
            let (values, w) = (&mut qkv[part.clone()], &w[part]);
            let squares: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            let scale = 1.0 / (squares / values.len() as f64 + f64::from(params.eps)).sqrt();
            values.iter_mut().zip(w).for_each(|(v, &w)| *v = (f64::from(*v) * scale * f64::from(w)) as f32);
        }
    }
}

fn case(caps: &Caps, rows: u32, heads: (u32, u32), head_dim: u32, (resting, seed): (u32, u64)) -> Case {
    let mut noise = Noise::new(seed);
    let (q, k) = (heads.0 * head_dim, heads.1 * head_dim);
    let width = q + 2 * k;
    let table = crate::row::test_rows(rows, resting);
    let (w, qkv) = (noise.matrix(1, q + k, stride(q + k)), noise.matrix(rows, width, stride(width)));
    Case {
        name: format!("{rows} rows of {}+{} heads of {head_dim}, {resting} resting", heads.0, heads.1),
        launch: qk_norm(caps, rows, heads, head_dim, 1e-6),
        data: vec![table, w, qkv].into(),
        checks: vec![Check::Skip, Check::Skip, Check::F32],
    }
}

fn cases() -> Vec<Case> {
    let shapes = [
        (1, (1, 1), 2, 0),
        (3, (5, 5), 26, 1),
        (2, (6, 2), 14, 0),
        (33, (3, 1), 10, 4),
        (4, (16, 16), 128, 0),
        (1, (55, 55), 96, 0),
        (4000, (2, 1), 12, 0),
    ];
    let all = shapes.into_iter().zip(1..);
    all.map(|((rows, heads, head_dim, resting), seed)| case(&Caps::default(), rows, heads, head_dim, (resting, seed)))
        .collect()
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(&work.caps, work.rows, (work.heads, work.kv_heads), work.head_dim, (0, 1))]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let (rows, kv_heads) = (1 + noise.below(30), 1 + noise.below(6));
    let heads = kv_heads * (1 + noise.below(4));
    let head_dim = 2 * (1 + noise.below(64));
    case(&Caps::default(), rows, (heads, kv_heads), head_dim, (noise.below(rows), seed))
}
