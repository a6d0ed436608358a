//! Matrix times rows, `y = W·x`, with W in any dtype and sums in f32.
//!
//! - **matvec**: 1, 4 or 8 rows of x per workgroup, which reads four rows of W once. Decoding is bound by the bytes of W, so this kernel decides its speed;
//!   with few rows, it is the skinny matmul.
//! - **matmul_tiled**: tiles of 64 × 64 or 128 × 128 through workgroup memory, for prefill.
//! - **matvec_int8**, **matmul_tiled_int8**: variants of these two for weights in blocks, with x rounded to whole numbers by [`ROUND_ROWS`]. A device that has
//!   an instruction for four products of bytes needs a quarter of the instructions.
//! - **matmul_cooperative**: tiles whose parts subgroups multiply on a GPU's units for matrices; experimental in wgpu, so only on request.
//! - **matmul_lanes**: W from a texture, laid out for subgroups of a known size, for 1, 4 or 8 rows of x at a time. On lavapipe, a texture is read four times
//!   as fast as a buffer, a shuffle by a constant is one instruction, and workgroup memory is slow, so this kernel does everything there. With many rows, x is
//!   laid out in a texture first ([`STAGE`]).
//!
//! The arithmetic mode ([`Arithmetic`]) is chosen for the whole model. [`ManyRows`] decides which kernel a device uses for it.
//!
//! Parts swap the dtype of W, the source of x (a row, `concat[state, embedding]` without materializing it, or [`FusedSums`]) and the use of the sums: stored,
//! added to a residual, turned into fused sums, or combined to `silu(gate)·up`, two outputs from four sums (folder `mlp`). The kernels clamp reads to real rows
//! instead of branching, and write zeros into the padding of y.

mod arithmetic;
mod fused;
mod launch;
mod many;
mod reference;
mod round;
mod stage;
mod variants;

pub use arithmetic::Arithmetic;
pub use fused::{FusedSums, Normed};
pub use launch::{Input, Matmul, Output, matmul, stages};
pub use many::{ManyRows, Matrices};
pub use round::{ROUND_ROWS, RoundParams, round_rows, rounded_bytes};
pub use stage::{STAGE, StageParams, stage, staged_bytes};
pub use variants::{FUSED_ROWS, fuses, matmul_variants};

pub(crate) use variants::trials;

use launch::{COOPERATIVE_LINE, COOPERATIVE_SUBGROUPS, COOPERATIVE_TILE, ROWS_AT_ONCE, TILES as TILES_OF};
use reference::Family;

use crate::kernel::LANES;
use crate::shared::params;
use crate::weight::{EIGHT, WEIGHT, WEIGHT_INTS, WEIGHT_LANES};
use crate::{Axis, Binding, Case, Const, Cooperative, Kernel, Params, Part, ROW, Workload, mlp, reduce};

const ROWS: Binding = Binding::read("rows", "Row");

/// Source of the rows of x, and use of the sums.
const FLOW: Axis = Axis {
    name: "flow",
    options: &[
        Part::new("plain.store", STORE).using(&[PLAIN, ROWS_OUT, UNCHANGED]).with(&[X, Y]),
        Part::new("plain.residual", RESIDUAL).using(&[PLAIN, ROWS_OUT, UNCHANGED]).with(&[X, RESIDUE, Y]),
        Part::new("plain.gate_up", mlp::GATE_UP).using(&[PLAIN, ROWS_OUT, UNCHANGED]).with(&[X, PAIRS]),
        Part::new("concat.store", STORE).using(&[CONCAT, ROWS_OUT, UNCHANGED]).with(&[STATE, EMBEDDING, Y]),
        Part::new("concat.first", FIRST).using(&[CONCAT, FUSED_OUT, UNCHANGED]).with(&[STATE, EMBEDDING, NORMS, Y]),
        Part::new("plain.sum", SUM).using(&[PLAIN, FUSED_OUT, FUSED, UNCHANGED]).with(&[X, LAST, NORMS, Y]),
        Part::new("normed.store", STORE).using(&[NORMED, ROWS_OUT, FUSED, FACTOR]).with(&[X, Y]),
        Part::new("normed.gate_up", mlp::GATE_UP).using(&[NORMED, ROWS_OUT, FUSED, FACTOR]).with(&[X, PAIRS]),
    ],
};

/// [`FLOW`] with zero-padded `vec4` loads, for kernels in which each lane reads a different part of x.
const FLOW_OF_QUADS: Axis = Axis {
    name: "flow",
    options: &[
        Part::new("plain.store", STORE).using(&[QUADS, ROWS_OUT, UNCHANGED]).with(&[X, Y]),
        Part::new("plain.residual", RESIDUAL).using(&[QUADS, ROWS_OUT, UNCHANGED]).with(&[X, RESIDUE, Y]),
        Part::new("plain.gate_up", mlp::GATE_UP).using(&[QUADS, ROWS_OUT, UNCHANGED]).with(&[X, PAIRS]),
        Part::new("concat.store", STORE).using(&[QUADS_OF_TWO, ROWS_OUT, UNCHANGED]).with(&[STATE, EMBEDDING, Y]),
        Part::new("concat.first", FIRST)
            .using(&[QUADS_OF_TWO, FUSED_OUT, UNCHANGED])
            .with(&[STATE, EMBEDDING, NORMS, Y]),
        Part::new("plain.sum", SUM).using(&[QUADS, FUSED_OUT, FUSED, UNCHANGED]).with(&[X, LAST, NORMS, Y]),
        Part::new("normed.store", STORE).using(&[NORMED_QUADS, ROWS_OUT, FUSED, FACTOR]).with(&[X, Y]),
        Part::new("normed.gate_up", mlp::GATE_UP).using(&[NORMED_QUADS, ROWS_OUT, FUSED, FACTOR]).with(&[X, PAIRS]),
        Part::new("staged.store", STORE).using(&[STAGED, ROWS_OUT, UNCHANGED]).with(&[STAGED_X, Y]),
        Part::new("staged.residual", RESIDUAL).using(&[STAGED, ROWS_OUT, UNCHANGED]).with(&[STAGED_X, RESIDUE, Y]),
        Part::new("staged.gate_up", mlp::GATE_UP).using(&[STAGED, ROWS_OUT, UNCHANGED]).with(&[STAGED_X, PAIRS]),
    ],
};

/// [`FLOW`] in int8. Norms are applied when x is rounded.
const FLOW_OF_INTS: Axis = Axis {
    name: "flow",
    options: &[
        Part::new("rounded.store", STORE).using(&[ROWS_OUT, UNCHANGED]).with(&[NUMBERS, FACTORS, Y]),
        Part::new("rounded.residual", RESIDUAL).using(&[ROWS_OUT, UNCHANGED]).with(&[NUMBERS, FACTORS, RESIDUE, Y]),
        Part::new("rounded.gate_up", mlp::GATE_UP).using(&[ROWS_OUT, UNCHANGED]).with(&[NUMBERS, FACTORS, PAIRS]),
        Part::new("rounded.first", FIRST).using(&[FUSED_OUT, UNCHANGED]).with(&[NUMBERS, FACTORS, NORMS, Y]),
        Part::new("rounded.sum", SUM).using(&[FUSED_OUT, FUSED, UNCHANGED]).with(&[NUMBERS, FACTORS, LAST, NORMS, Y]),
    ],
};

/// First options of [`FLOW_OF_INTS`]: those without fused sums.
const FLOW_OF_INT_ROWS: Axis = Axis { name: "flow", options: FLOW_OF_INTS.options.split_at(3).0 };

/// First options of [`FLOW`]: those without fused sums.
const FLOW_OF_ROWS: Axis = Axis { name: "flow", options: FLOW.options.split_at(4).0 };

const X: Binding = Binding::read("x", "vec4<f32>");
const STATE: Binding = Binding::read("state", "vec4<f32>");
const EMBEDDING: Binding = Binding::read("embedding", "vec4<f32>");
const RESIDUE: Binding = Binding::read("residual", "vec4<f32>");
const LAST: Binding = Binding::read("last", "vec4<f32>");
const NORMS: Binding = Binding::read("norms", "vec4<f32>");
const Y: Binding = Binding::write("y", "vec4<f32>");
const PAIRS: Binding = Binding::write("y", "vec2<f32>");

/// Rows rounded by [`ROUND_ROWS`], and their factors.
const NUMBERS: Binding = Binding::read("x", "vec4<u32>");
const FACTORS: Binding = Binding::read("factors", "vec2<f32>");

/// x laid out by [`STAGE`].
const STAGED_X: Binding = X.in_texture();
const X_IN: &[Binding] = &[X];
const CONCAT_IN: &[Binding] = &[STATE, EMBEDDING];

const PLAIN: &str = include_str!("input_plain.wgsl");
const CONCAT: &str = include_str!("input_concat.wgsl");
const NORMED: &str = include_str!("input_normed.wgsl");
const QUADS: &str = include_str!("quad_plain.wgsl");
const QUADS_OF_TWO: &str = include_str!("quad_concat.wgsl");
const NORMED_QUADS: &str = include_str!("quad_normed.wgsl");
const STAGED: &str = include_str!("quad_staged.wgsl");
const UNCHANGED: &str = include_str!("factor_none.wgsl");
const FACTOR: &str = include_str!("factor_normed.wgsl");
const FUSED: &str = include_str!("fused.wgsl");
const ROWS_OUT: &str = include_str!("emit_rows.wgsl");
const FUSED_OUT: &str = include_str!("emit_fused.wgsl");
const STORE: &str = include_str!("output_store.wgsl");
const RESIDUAL: &str = include_str!("output_residual.wgsl");
const SUM: &str = include_str!("output_sum.wgsl");
const FIRST: &str = include_str!("output_first.wgsl");

/// WGSL with which lanes sum four rows of W times one row of x, and times eight.
pub(crate) const TOKENS_1: &str = include_str!("tokens_1.wgsl");
pub(crate) const TOKENS_8: &str = include_str!("tokens_8.wgsl");
/// Accumulators of the lanes.
pub(crate) const SUMS: &str = include_str!("sums.wgsl");
const SCALES: &str = include_str!("scales.wgsl");
const BLOCKS_MANY: &str = include_str!("blocks_many.wgsl");

/// Rows of x at a time, by option of the axis `rows`.
pub(crate) const M: [Const; 3] =
    [Const::u32("M", ROWS_AT_ONCE[0]), Const::u32("M", ROWS_AT_ONCE[1]), Const::u32("M", ROWS_AT_ONCE[2])];

const ROW_COUNT: Axis = Axis {
    name: "rows",
    options: &[
        Part::new("rows1", "").with_consts(&[M[0]]),
        Part::new("rows4", "").with_consts(&[M[1]]),
        Part::new("rows8", "").with_consts(&[M[2]]),
    ],
};

const TOKENS: Axis = Axis {
    name: "rows",
    options: &[
        Part::new("rows1", TOKENS_1)
            .with_consts(&[M[0]])
            .using(&[SUMS, SCALES, include_str!("blocks_1.wgsl")])
            .with_subgroups(),
        Part::new("rows4", include_str!("tokens_4.wgsl"))
            .with_consts(&[M[1]])
            .using(&[SUMS, SCALES, BLOCKS_MANY])
            .with_subgroups(),
        Part::new("rows8", TOKENS_8).with_consts(&[M[2]]).using(&[SUMS, SCALES, BLOCKS_MANY]).with_subgroups(),
        Part::new("row_in_uniform", TOKENS_1)
            .with_consts(&[M[0]])
            .using(&[SUMS, SCALES, include_str!("blocks_1.wgsl")])
            .in_uniforms(&[X.name])
            .with_subgroups(),
    ],
};

/// WGSL of all tiled kernels. They need no checks: rows of x and W are clamped to real ones, chunks past a row are zeros, indices into workgroup memory follow
/// from the lane, and sums are written to real rows and outputs only.
const TILES: Part = Part::new("tiles", include_str!("tiles.wgsl")).trusted();

/// Rows and outputs of a tile.
const TILE_SIDE: [Const; 2] = [Const::u32("TILE", TILES_OF[0]), Const::u32("TILE", TILES_OF[1])];

/// Size of tiles, and the format in which products are summed.
const TILE: Axis = Axis {
    name: "tile",
    options: &[
        Part::new("tile64", include_str!("slice_f32.wgsl")).with_consts(&[TILE_SIDE[0]]).using(&[TILE_64, FETCH]),
        Part::new("tile128", include_str!("slice_f32.wgsl")).with_consts(&[TILE_SIDE[1]]).using(&[TILE_128, FETCH]),
        // Larger tiles in f16 need too many registers, or a loop in which compilers multiply one pair at a time.
        Part::new("tile64_f16", include_str!("slice_f16.wgsl"))
            .with_consts(&[TILE_SIDE[0]])
            .using(&[TILE_64, FETCH])
            .with_f16(),
    ],
};

/// [`TILE`] in int8.
const TILE_OF_INTS: Axis = Axis {
    name: "tile",
    options: &[
        Part::new("tile64", include_str!("slice_int8.wgsl"))
            .with_consts(&[TILE_SIDE[0]])
            .using(&[TILE_64])
            .with_bytes(),
        Part::new("tile128", include_str!("slice_int8.wgsl"))
            .with_consts(&[TILE_SIDE[1]])
            .using(&[TILE_128])
            .with_bytes(),
    ],
};

const TILE_64: &str = include_str!("tile_64.wgsl");
const TILE_128: &str = include_str!("tile_128.wgsl");
const FETCH: &str = include_str!("fetch.wgsl");

/// Layout of a tile whose parts subgroups multiply.
const COOPERATIVE: Part = Part::shared(
    &[
        Const::u32("TILE", COOPERATIVE_TILE),
        Const::u32("LINE", COOPERATIVE_LINE),
        Const::u32("QUARTERS", COOPERATIVE_SUBGROUPS),
    ],
    &[],
);

/// Rows and columns of a matrix.
const fn side(matrices: Cooperative) -> Const {
    Const::u32("SIDE", matrices.side())
}

/// Kinds of matrices that subgroups multiply: [`Cooperative::ALL`].
pub(crate) const MATRICES: Axis = Axis {
    name: "matrices",
    options: &[
        Part::new("f16of16", include_str!("cooperative_16_f16.wgsl"))
            .with_consts(&[side(Cooperative::F16Of16)])
            .with_matrices(Cooperative::F16Of16),
        Part::new("f32of8", include_str!("cooperative_8_f32.wgsl"))
            .with_consts(&[side(Cooperative::F32Of8)])
            .with_matrices(Cooperative::F32Of8),
        Part::new("f16of8", include_str!("cooperative_8_f16.wgsl"))
            .with_consts(&[side(Cooperative::F16Of8)])
            .with_matrices(Cooperative::F16Of8),
    ],
};

/// Slices of k in workgroup memory: with two, the next one is fetched while the current one is multiplied.
const BUFFERS: Axis = Axis {
    name: "buffers",
    options: &[
        Part::new("once", "").with_consts(&[Const::u32("BUFFERS", 1)]),
        Part::new("twice", "").with_consts(&[Const::u32("BUFFERS", 2)]),
    ],
};

/// Matmul for few rows: W is read once for up to eight rows.
pub static MATVEC: Kernel = Kernel {
    name: "matvec",
    wgsl: include_str!("matvec.wgsl"),
    parts: &[ROW, EIGHT, Part::new("products", include_str!("products.wgsl"))],
    bindings: &[ROWS],
    axes: &[WEIGHT, FLOW, ROW_COUNT, reduce::REDUCE],
    overrides: &["WG"],
    params: MatmulParams::FIELDS,
    params_size: size_of::<MatmulParams>(),
    reference: reference::reference,
    cases: matvec_cases,
    random: matvec_random,
    at: matvec_at,
};

/// [`MATVEC`] in int8.
pub static MATVEC_INT8: Kernel = Kernel {
    name: "matvec_int8",
    wgsl: include_str!("matvec.wgsl"),
    parts: &[ROW, EIGHT, Part::new("products", include_str!("dots.wgsl")).with_bytes()],
    bindings: &[ROWS],
    axes: &[WEIGHT_INTS, FLOW_OF_INTS, ROW_COUNT, reduce::REDUCE],
    overrides: &["WG"],
    params: MatmulParams::FIELDS,
    params_size: size_of::<MatmulParams>(),
    reference: reference::reference,
    cases: matvec_int8_cases,
    random: matvec_int8_random,
    at: matvec_int8_at,
};

/// Matmul for many rows, in tiles.
pub static MATMUL_TILED: Kernel = Kernel {
    name: "matmul_tiled",
    wgsl: include_str!("matmul_tiled.wgsl"),
    parts: &[ROW, EIGHT, TILES],
    bindings: &[ROWS],
    axes: &[WEIGHT, FLOW_OF_ROWS, TILE],
    overrides: &[],
    params: MatmulParams::FIELDS,
    params_size: size_of::<MatmulParams>(),
    reference: reference::reference,
    cases: tiled_cases,
    random: tiled_random,
    at: tiled_at,
};

/// [`MATMUL_TILED`] in int8.
pub static MATMUL_TILED_INT8: Kernel = Kernel {
    name: "matmul_tiled_int8",
    wgsl: include_str!("matmul_tiled.wgsl"),
    parts: &[ROW, EIGHT, TILES],
    bindings: &[ROWS],
    axes: &[WEIGHT_INTS, FLOW_OF_INT_ROWS, TILE_OF_INTS],
    overrides: &[],
    params: MatmulParams::FIELDS,
    params_size: size_of::<MatmulParams>(),
    reference: reference::reference,
    cases: tiled_int8_cases,
    random: tiled_int8_random,
    at: tiled_int8_at,
};

/// Matmul for many rows, in tiles of matrices that subgroups multiply.
pub static MATMUL_COOPERATIVE: Kernel = Kernel {
    name: "matmul_cooperative",
    wgsl: include_str!("matmul_cooperative.wgsl"),
    parts: &[ROW, EIGHT, TILES, COOPERATIVE],
    bindings: &[ROWS],
    axes: &[WEIGHT, FLOW_OF_ROWS, MATRICES, BUFFERS],
    overrides: &["WG"],
    params: MatmulParams::FIELDS,
    params_size: size_of::<MatmulParams>(),
    reference: reference::reference,
    cases: cooperative_cases,
    random: cooperative_random,
    at: cooperative_at,
};

/// Matmul for up to eight rows at a time, with W read from a texture by subgroups.
pub static MATMUL_LANES: Kernel = Kernel {
    name: "matmul_lanes",
    wgsl: include_str!("matmul_lanes.wgsl"),
    parts: &[ROW, EIGHT],
    bindings: &[ROWS],
    axes: &[WEIGHT_LANES, FLOW_OF_QUADS, TOKENS],
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
        /// Rows of this part of W, with the padding that this launch writes.
        pub n_padded: u32,
        /// Rows of W before this part.
        pub first: u32,
        /// Chunks of eight per row of W.
        pub chunks: u32,
        /// Floats from row to row of y.
        pub y_stride: u32,
        /// Workgroups in x, if they are folded into two dimensions.
        pub groups_x: u32,
        /// Start of the factors of blocks in W, in units of 16 bytes.
        pub scales: u32,
        /// Floats from row to row of the fused sums that are read, or of the residual.
        pub fused: u32,
        /// Groups of outputs in the fused sums that are read.
        pub parts: u32,
        /// Values that the norms average over.
        pub width: u32,
        /// Epsilon of the norms.
        pub eps: f32,
        /// 1 if there is an outer norm.
        pub outer: u32,
        /// Floats from row to row of the fused sums that are written.
        pub made: u32,
    }
}

/// Rows, k and n of the cases of matvec and of tiles.
const FEW: [(u32, u32, u32); 7] =
    [(1, 96, 130), (1, 5280, 33), (2, 130, 77), (4, 77, 10), (8, 192, 64), (13, 33, 260), (3, 1, 1)];
const MANY: [(u32, u32, u32); 6] =
    [(1, 96, 130), (64, 64, 64), (65, 130, 77), (200, 77, 390), (17, 1056, 20), (4000, 24, 40)];

fn matvec_cases() -> Vec<Case> {
    reference::cases(&FEW, Family::Matvec)
}

fn matvec_int8_cases() -> Vec<Case> {
    reference::cases(&FEW, Family::MatvecInt8)
}

fn tiled_cases() -> Vec<Case> {
    reference::cases(&MANY, Family::Tiled)
}

fn tiled_int8_cases() -> Vec<Case> {
    reference::cases(&MANY, Family::TiledInt8)
}

fn cooperative_cases() -> Vec<Case> {
    reference::cases(&MANY, Family::Cooperative)
}

fn cooperative_random(seed: u64) -> Case {
    reference::random(seed, Family::Cooperative)
}

fn cooperative_at(work: &Workload) -> Vec<Case> {
    reference::at(work, &MATMUL_COOPERATIVE)
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

fn matvec_int8_at(work: &Workload) -> Vec<Case> {
    reference::at(work, &MATVEC_INT8)
}

fn tiled_int8_at(work: &Workload) -> Vec<Case> {
    reference::at(work, &MATMUL_TILED_INT8)
}

fn matvec_int8_random(seed: u64) -> Case {
    reference::random(seed, Family::MatvecInt8)
}

fn tiled_int8_random(seed: u64) -> Case {
    reference::random(seed, Family::TiledInt8)
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
