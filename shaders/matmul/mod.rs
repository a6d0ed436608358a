//! Matrix times rows, `y = W·x`, with W in any dtype and sums in f32.
//!
//! - **matvec**: 1, 4 or 8 rows of x per workgroup, which reads four rows of W once. Decoding is bound by the bytes of W, so
//!   this is the kernel that decides the speed; with few rows it is the skinny matmul.
//! - **matmul_tiled**: tiles of 64 × 64 through workgroup memory, for prefill.
//! - **matmul_lanes**: W from a texture, laid out for subgroups of a known size, for 1, 4 or 8 rows of x at a time. On lavapipe a texture is
//!   read four times as fast as a buffer, a shuffle by a constant is one instruction, and workgroup memory is slow: there this kernel does
//!   everything.
//!
//! Parts swap the dtype of W, where x comes from (a row, or `concat[state, embedding]` without building it) and what happens
//! to the sums: stored, added to a residual, or, four sums making two outputs, `silu(gate)·up` (folder `mlp`).
//! Both kernels clamp reads to real rows instead of branching, and write zeros into the padding of y.

mod launch;
mod reference;

pub use launch::{Input, Matmul, Output, matmul, matmul_variants};

use reference::Family;

use crate::kernel::{LANES, params};
use crate::weight::{EIGHT, WEIGHT, WEIGHT_LANES};
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

/// The same in units of four, zeros behind the end: for kernels whose lanes take different places of x.
const QUADS: Axis = Axis {
    name: "input",
    options: &[
        Part::new("plain", include_str!("quad_plain.wgsl")).with(&[Binding::read("x", "vec4<f32>")]),
        Part::new("concat", include_str!("quad_concat.wgsl"))
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

const TOKENS: Axis = Axis {
    name: "rows",
    options: &[
        Part::new("rows1", include_str!("tokens_1.wgsl")).with_subgroups(),
        Part::new("rows4", include_str!("tokens_4.wgsl")).with_subgroups(),
        Part::new("rows8", include_str!("tokens_8.wgsl")).with_subgroups(),
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

/// Rows in eights, W read by subgroups from a texture.
pub static MATMUL_LANES: Kernel = Kernel {
    name: "matmul_lanes",
    wgsl: include_str!("matmul_lanes.wgsl"),
    parts: &[ROW, EIGHT],
    bindings: &[ROWS],
    axes: &[WEIGHT_LANES, QUADS, OUTPUT, TOKENS],
    overrides: &[LANES],
    params: MatmulParams::FIELDS,
    params_size: size_of::<MatmulParams>(),
    reference: reference::reference,
    cases: lanes_cases,
    random: lanes_random,
    at: lanes_at,
};

params! {
    /// Parameters of every matmul.
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
        /// Where the factors of blocks begin in W, in units of 16 bytes.
        pub scales: u32,
    }
}

fn matvec_cases() -> Vec<Case> {
    reference::cases(
        &[(1, 96, 130), (1, 5280, 33), (2, 130, 77), (4, 77, 10), (8, 192, 64), (13, 33, 260), (3, 1, 1)],
        Family::Matvec,
    )
}

fn tiled_cases() -> Vec<Case> {
    reference::cases(
        &[(1, 96, 130), (64, 64, 64), (65, 130, 77), (200, 77, 390), (17, 1056, 20), (4000, 24, 40)],
        Family::Tiled,
    )
}

fn lanes_cases() -> Vec<Case> {
    reference::cases(
        &[
            (1, 96, 130),
            (1, 5280, 33),
            (2, 130, 77),
            (5, 77, 10),
            (8, 192, 64),
            (13, 33, 260),
            (3, 1, 1),
            (65, 130, 77),
        ],
        Family::Lanes,
    )
}

fn matvec_at(work: &Workload) -> Vec<Case> {
    reference::at(work, &MATVEC)
}

fn tiled_at(work: &Workload) -> Vec<Case> {
    reference::at(work, &MATMUL_TILED)
}

fn lanes_at(work: &Workload) -> Vec<Case> {
    reference::at(work, &MATMUL_LANES)
}

fn matvec_random(seed: u64) -> Case {
    reference::random(seed, Family::Matvec)
}

fn tiled_random(seed: u64) -> Case {
    reference::random(seed, Family::Tiled)
}

fn lanes_random(seed: u64) -> Case {
    reference::random(seed, Family::Lanes)
}
