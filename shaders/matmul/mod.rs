//! Matrix times rows, `y = W·x`, with W in f32, f16 or bf16 and sums in f32.
//!
//! - **matvec**: 1, 4 or 8 rows of x per workgroup, which reads four rows of W once. Decoding is bound by the bytes of W, so
//!   this is the kernel that decides the speed; with few rows it is the skinny matmul.
//! - **matmul_tiled**: tiles of 64 × 64 through workgroup memory, for prefill.
//!
//! Parts swap the dtype of W, where x comes from (a row, or `concat[state, embedding]` without building it) and what happens
//! to the sums: stored, added to a residual, or, four sums making two outputs, `silu(gate)·up` (folder `mlp`).
//! Both kernels clamp reads to real rows instead of branching, and write zeros into the padding of y.

mod launch;
mod reference;

pub use launch::{Input, Matmul, Output, matmul, matmul_variants};

use crate::kernel::params;
use crate::weight::{EIGHT, WEIGHT};
use crate::{Axis, Binding, Case, Kernel, Params, Part, ROW, Workload, mlp, reduce};

const ROWS: Binding = Binding::read("rows", "Row");

const INPUT: Axis = Axis {
    name: "input",
    options: &[
        Part::new("plain", include_str!("input_plain.wgsl")).with(&[Binding::read("x", "vec4<f32>")]),
        Part::new("concat", include_str!("input_concat.wgsl"))
            .with(&[Binding::read("state", "vec4<f32>"), Binding::read("embedding", "vec4<f32>")]),
    ],
};

const OUTPUT: Axis = Axis {
    name: "output",
    options: &[
        Part::new("store", include_str!("output_store.wgsl")).with(&[Binding::write("y", "vec4<f32>")]),
        Part::new("residual", include_str!("output_residual.wgsl"))
            .with(&[Binding::read("residual", "vec4<f32>"), Binding::write("y", "vec4<f32>")]),
        mlp::GATE_UP,
    ],
};

const ROW_COUNT: Axis = Axis {
    name: "rows",
    options: &[
        Part::new("rows1", include_str!("rows_1.wgsl")),
        Part::new("rows4", include_str!("rows_4.wgsl")),
        Part::new("rows8", include_str!("rows_8.wgsl")),
    ],
};

/// Few rows at a time: W is read once for up to eight.
pub static MATVEC: Kernel = Kernel {
    name: "matvec",
    wgsl: include_str!("matvec.wgsl"),
    parts: &[ROW, EIGHT],
    bindings: &[ROWS],
    axes: &[WEIGHT, INPUT, OUTPUT, ROW_COUNT, reduce::REDUCE],
    overrides: &["WG"],
    params: MatmulParams::FIELDS,
    params_size: size_of::<MatmulParams>(),
    reference: reference::reference,
    cases: matvec_cases,
    random: matvec_random,
    at: matvec_at,
};

/// Many rows at a time, in tiles.
pub static MATMUL_TILED: Kernel = Kernel {
    name: "matmul_tiled",
    wgsl: include_str!("matmul_tiled.wgsl"),
    parts: &[ROW, EIGHT],
    bindings: &[ROWS],
    axes: &[WEIGHT, INPUT, OUTPUT],
    overrides: &[],
    params: MatmulParams::FIELDS,
    params_size: size_of::<MatmulParams>(),
    reference: reference::reference,
    cases: tiled_cases,
    random: tiled_random,
    at: tiled_at,
};

params! {
    /// Parameters of [`MATVEC`] and [`MATMUL_TILED`].
    pub struct MatmulParams {
        /// Rows of x and y.
        pub rows: u32,
        /// Rows of this part of W.
        pub n: u32,
        /// The same, with the padding that this launch writes.
        pub n_padded: u32,
        /// Rows of W before this part.
        pub first: u32,
        /// Chunks of eight per row of W.
        pub chunks: u32,
        /// Floats from row to row of y.
        pub y_stride: u32,
        /// Workgroups in x, where they are folded into two dimensions.
        pub groups_x: u32,
    }
}

fn matvec_cases() -> Vec<Case> {
    reference::cases(
        &[(1, 96, 130), (1, 5280, 33), (2, 130, 77), (4, 77, 10), (8, 192, 64), (13, 33, 260), (3, 1, 1)],
        false,
    )
}

fn tiled_cases() -> Vec<Case> {
    reference::cases(&[(1, 96, 130), (64, 64, 64), (65, 130, 77), (200, 77, 390), (17, 1056, 20), (4000, 24, 40)], true)
}

fn matvec_at(work: &Workload) -> Vec<Case> {
    reference::at(work, &MATVEC)
}

fn tiled_at(work: &Workload) -> Vec<Case> {
    reference::at(work, &MATMUL_TILED)
}

fn matvec_random(seed: u64) -> Case {
    reference::random(seed, false)
}

fn tiled_random(seed: u64) -> Case {
    reference::random(seed, true)
}
