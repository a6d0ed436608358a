//! Launch of a matmul: the kernel that suits its shape, and the number of workgroups.

use super::FUSED_ROWS;
use super::many::{ManyRows, Matrices};
use super::round::rounded_bytes;
use super::stage::staged_bytes;
use super::{
    Arithmetic, FusedSums, MATMUL_COOPERATIVE, MATMUL_LANES, MATMUL_TILED, MATMUL_TILED_INT8, MATVEC, MATVEC_INT8,
    MatmulParams, Normed,
};
use crate::weight::{self, Dtype, Form, INT_DTYPES, Resident};
use crate::{Caps, Choice, Cost, Launch, Row, UNIFORM_BYTES, activation_bytes, reduce, stride};

/// Source of the rows of x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// One buffer `[rows, k]`.
    Plain,
    /// `concat[state, embedding]`, two buffers `[rows, k/2]`.
    Concat,
    /// The inner norm of [`FusedSums`], without a launch for it; see [`Matmul::normed`].
    Normed,
    /// A texture that [`stage`](super::stage()) has filled; only for forms in textures. If x has two halves, they are one row.
    Staged,
    /// Whole numbers and factors from [`round_rows`](super::round_rows()), for integer products; only for weights in blocks, row by row. If x has two halves,
    /// they are one row. Norms are already applied.
    Rounded,
}

/// Use of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// `y = W·x`.
    Store,
    /// `y = W·x + residual`. The residual is rows `[rows, n]`, or t of [`FusedSums`]; see [`Matmul::normed`].
    Residual,
    /// `y = silu(gate)·up`, with rows of W alternating between gate and up; a row of y has half as many values as W has rows.
    GateUp,
    /// [`FusedSums`] of `W·x`, for a norm that follows; only with [`Input::Concat`] and [`Input::Rounded`].
    First,
    /// [`FusedSums`] of `W·x` plus the outer norm of the last fused sums, or plus their t if they have no outer norm; only with [`Input::Plain`] and
    /// [`Input::Rounded`]. See [`Matmul::normed`].
    Sum,
}

/// Shape of a matmul over one resident part of a matrix.
#[derive(Clone, Copy, Debug)]
pub struct Matmul {
    /// Rows of x and y.
    pub rows: u32,
    /// Values per row of x; with [`Input::Concat`], of each of its two halves.
    pub k: u32,
    /// Rows of the whole W.
    pub n: u32,
    /// First row of W in this part: a multiple of 16 and of the form's group size.
    pub first: u32,
    /// Rows of W in this part: except in the last part, a multiple of 16 and of the form's group size.
    pub count: u32,
    /// Form of W.
    pub form: Form,
    /// Source of x.
    pub input: Input,
    /// Use of the sums.
    pub output: Output,
    /// Fused sums for [`Input::Normed`] and [`Output::Sum`]. With [`Output::Residual`], the fused sums whose t is the residual, without their outer norm, or
    /// `None` if the residual is plain rows. Ignored otherwise.
    pub normed: Option<Normed>,
    /// Whether x may be bound as a uniform buffer. One row is, if it fits and the device reads it faster from there.
    pub uniform: bool,
    /// Arithmetic mode of tiles, if the device supports it. int8 is chosen by [`Input::Rounded`] instead.
    pub arithmetic: Arithmetic,
}

impl Matmul {
    /// A product with a whole matrix `[n, k]`.
    #[must_use]
    pub const fn whole(rows: u32, k: u32, n: u32, form: Form) -> Self {
        let (input, output) = (Input::Plain, Output::Store);
        let (normed, uniform, arithmetic) = (None, false, Arithmetic::F32);
        Self { rows, k, n, first: 0, count: n, form, input, output, normed, uniform, arithmetic }
    }

    /// Chunks of eight per row of W.
    #[must_use]
    pub const fn chunks(&self) -> u32 {
        match self.input {
            Input::Plain | Input::Normed | Input::Staged | Input::Rounded => weight::chunks(self.k),
            Input::Concat => 2 * weight::chunks(self.k),
        }
    }

    /// The part of W.
    #[must_use]
    pub const fn weights(&self) -> Resident {
        Resident { form: self.form, rows: self.count, chunks: self.chunks() }
    }

    /// Bytes of x, if it is one buffer.
    fn x_bytes(&self) -> Option<u64> {
        match self.input {
            Input::Plain => Some(activation_bytes(self.rows, self.k)),
            Input::Normed => self.normed.map(|normed| normed.fused.bytes(self.rows)),
            Input::Concat | Input::Staged | Input::Rounded => None,
        }
    }

    /// Whether x can be bound as a uniform buffer on a device.
    pub(super) fn fits_uniform(&self, caps: &Caps) -> bool {
        let fits = |bytes| bytes <= UNIFORM_BYTES && caps.max_uniform >= UNIFORM_BYTES;
        self.uniform && self.form.in_texture() && self.x_bytes().is_some_and(fits)
    }

    /// Whether it reads or writes fused sums.
    pub(super) const fn is_fused(&self) -> bool {
        matches!(self.input, Input::Normed) || self.makes().is_some()
    }

    /// Shape of the fused sums that it writes, if any.
    #[must_use]
    pub const fn makes(&self) -> Option<FusedSums> {
        match self.output {
            Output::First | Output::Sum => Some(FusedSums::of(self.n, self.form)),
            Output::Store | Output::Residual | Output::GateUp => None,
        }
    }

    /// Values per row of y.
    #[must_use]
    pub const fn width(&self) -> u32 {
        match self.output {
            Output::GateUp => self.n / 2,
            Output::Store | Output::Residual | Output::First | Output::Sum => self.n,
        }
    }
}

/// Supported combinations, in the order of the kernels' options.
pub(super) const FLOWS: [(Input, Output); 11] = [
    (Input::Plain, Output::Store),
    (Input::Plain, Output::Residual),
    (Input::Plain, Output::GateUp),
    (Input::Concat, Output::Store),
    (Input::Concat, Output::First),
    (Input::Plain, Output::Sum),
    (Input::Normed, Output::Store),
    (Input::Normed, Output::GateUp),
    (Input::Staged, Output::Store),
    (Input::Staged, Output::Residual),
    (Input::Staged, Output::GateUp),
];

/// Supported combinations in int8, in the order of the options of the int8 kernels.
pub(super) const ROUNDED_FLOWS: [(Input, Output); 5] = [
    (Input::Rounded, Output::Store),
    (Input::Rounded, Output::Residual),
    (Input::Rounded, Output::GateUp),
    (Input::Rounded, Output::First),
    (Input::Rounded, Output::Sum),
];

/// Number of [`ROUNDED_FLOWS`] without fused sums, which come first.
pub(super) const ROUNDED_WITHOUT_FUSED: usize = 3;

/// Numbers of [`FLOWS`] that kernels with and without fused sums support; only `matmul_lanes` supports all.
pub(super) const WITH_FUSED: usize = 8;
pub(super) const WITHOUT_FUSED: usize = 4;

/// Rows of x per workgroup, by option.
pub(super) const ROWS_AT_ONCE: [u32; 3] = [1, 4, 8];

/// Option of `matmul_lanes` for one row of x in a uniform buffer.
pub(super) const ROW_IN_UNIFORM: u8 = 3;

/// Minimum rows of x for tiles to beat reading W again for every eight rows.
const TILED_FROM: u32 = 24;

/// Rows and outputs of a tile, by option.
pub(super) const TILES: [u32; 2] = [64, 128];

/// Option of small tiles in f16; large tiles are always in f32.
const TILE_OF_F16: u8 = 2;

/// Minimum number of large tiles that keeps a device busy.
const MANY_TILES: u32 = 128;

/// Rows and outputs of a tile of cooperative matrices, and the number of subgroups that compute it.
pub(super) const COOPERATIVE_TILE: u32 = 64;
pub(super) const COOPERATIVE_SUBGROUPS: u32 = 4;
/// Values per line of its slices, with padding that puts lines into different banks.
pub(super) const COOPERATIVE_LINE: u32 = 40;

/// Values per row from which staging a few rows of x costs less than it saves.
const WIDE_INPUT: u32 = 512;

/// Whether staging `rows` rows of `k` values pays, if W is in a texture: each group of rows of W reads all of x, and software drivers load from buffers one lane
/// at a time, which takes two thirds of the time of eight rows. A single row is not staged: its launches stay few.
#[must_use]
pub const fn stages(rows: u32, k: u32) -> bool {
    rows > FUSED_ROWS || rows > 1 && k >= WIDE_INPUT
}

/// Launch that suits the device and the number of rows.
///
/// Bindings: rows, W, then x (or state and embedding, or fused sums, or numbers and factors), then the residual, the last fused sums and the norms' weights, as
/// far as the output needs them, then y. If the residual is t of fused sums, the fused sums are bound.
///
/// The norms' weights are padded like activations. For [`Output::First`], they are those of the inner norm. For [`Output::Sum`], they are those of the outer
/// norm of the last fused sums, those of the outer norm of the new ones, and the product of both norms' weights of the new ones.
///
/// # Panics
/// If input and output cannot be combined, or fused sums are missing.
#[must_use]
pub fn matmul(caps: &Caps, shape: Matmul) -> Launch {
    if shape.form.in_texture() {
        return lanes(
            shape,
            match shape.rows {
                1 if caps.row_in_uniform && shape.fits_uniform(caps) => ROW_IN_UNIFORM,
                1 => 0,
                2..=4 => 1,
                _ => 2,
            },
        );
    }
    if shape.rows >= TILED_FROM && !shape.is_fused() {
        let many = ManyRows::of(caps, shape.arithmetic, shape.form);
        if let ManyRows::Cooperative(matrices) = many {
            return cooperative(shape, matrices);
        }
        let large = tiled(shape, 1);
        let enough = large.workgroups[0] * large.workgroups[1] >= MANY_TILES && many != ManyRows::TiledF16;
        return if enough { large } else { tiled(shape, 0) };
    }
    let option = match shape.rows {
        1 => 0,
        2..=4 => 1,
        _ => 2,
    };
    matvec(caps, shape, option)
}

pub(super) fn lanes(shape: Matmul, option: u8) -> Launch {
    let per_group = if option == ROW_IN_UNIFORM { 1 } else { ROWS_AT_ONCE[usize::from(option)] };
    let passes = shape.rows.div_ceil(per_group);
    // Neighboring workgroups share rows of W, which stay in cache, but not rows of x.
    let workgroups = [passes, padded(&shape).div_ceil(shape.form.group()), 1];
    let mut choice = choice(&shape);
    choice.0[0] = shape.form.dtype.option();
    choice.0[2] = option;
    let overrides = vec![shape.form.lanes()];
    launch(&MATMUL_LANES, choice, overrides, &params(&shape, workgroups[0]), workgroups, &shape, 1)
}

pub(super) fn matvec(caps: &Caps, shape: Matmul, option: u8) -> Launch {
    let per_group = ROWS_AT_ONCE[usize::from(option)];
    let padded = padded(&shape);
    let groups = padded.div_ceil(4);
    let groups_x = groups.min(caps.max_workgroups);
    let mut choice = choice(&shape);
    choice.0[2] = option;
    choice.0[3] = reduce::preferred(caps);
    let params = params(&shape, groups_x);
    let overrides = vec![reduce::lanes(params.chunks, 128)];
    let workgroups = [groups_x, groups.div_ceil(groups_x), shape.rows.div_ceil(per_group)];
    let passes = u64::from(workgroups[2]);
    let kernel = if shape.input == Input::Rounded { &MATVEC_INT8 } else { &MATVEC };
    launch(kernel, choice, overrides, &params, workgroups, &shape, passes)
}

pub(super) fn tiled(shape: Matmul, option: u8) -> Launch {
    let tile = TILES[usize::from(option)];
    let workgroups = [padded(&shape).div_ceil(tile), shape.rows.div_ceil(tile), 1];
    let params = params(&shape, workgroups[0]);
    let mut choice = choice(&shape);
    choice.0[2] = option;
    let kernel = if shape.input == Input::Rounded {
        &MATMUL_TILED_INT8
    } else {
        if shape.arithmetic == Arithmetic::F16 && option == 0 {
            choice.0[2] = TILE_OF_F16;
        }
        &MATMUL_TILED
    };
    launch(kernel, choice, vec![], &params, workgroups, &shape, u64::from(workgroups[1]))
}

pub(super) fn cooperative(shape: Matmul, matrices: Matrices) -> Launch {
    let workgroups = [padded(&shape).div_ceil(COOPERATIVE_TILE), shape.rows.div_ceil(COOPERATIVE_TILE), 1];
    let params = params(&shape, workgroups[0]);
    let mut choice = choice(&shape);
    choice.0[2] = matrices.kind as u8;
    choice.0[3] = u8::from(matrices.buffers == 2);
    launch(&MATMUL_COOPERATIVE, choice, vec![matrices.lanes], &params, workgroups, &shape, u64::from(workgroups[1]))
}

fn launch(
    kernel: &'static crate::Kernel,
    choice: Choice,
    overrides: Vec<u32>,
    params: &MatmulParams,
    workgroups: [u32; 3],
    shape: &Matmul,
    passes: u64,
) -> Launch {
    let weights = shape.weights().bytes();
    let x = activation_bytes(shape.rows, shape.k);
    let y = activation_bytes(shape.rows, shape.width());
    let staged = || staged_bytes(shape.rows, shape.chunks());
    let taken = || shape.normed.expect("a matmul on fused sums is given their shape").fused.bytes(shape.rows);
    let made = || shape.makes().map_or(y, |fused| fused.bytes(shape.rows));
    let residual = || shape.normed.map_or(y, |normed| normed.fused.bytes(shape.rows));
    let norms = |count: u32| activation_bytes(count, shape.n);
    let mut sizes = vec![u64::from(shape.rows) * size_of::<Row>() as u64, weights];
    sizes.extend(match (shape.input, shape.output) {
        (Input::Plain, Output::Store | Output::GateUp) => vec![x, y],
        (Input::Plain, Output::Residual) => vec![x, residual(), y],
        (Input::Plain, Output::Sum) => vec![x, taken(), norms(3), made()],
        (Input::Concat, Output::First) => vec![x, x, norms(1), made()],
        (Input::Normed, _) => vec![taken(), y],
        (Input::Staged, Output::Residual) => vec![staged(), residual(), y],
        (Input::Staged, _) => vec![staged(), y],
        (Input::Rounded, output) => {
            let mut sizes = rounded_bytes(shape.rows, shape.chunks()).to_vec();
            match output {
                Output::Residual => sizes.push(residual()),
                Output::First => sizes.push(norms(1)),
                Output::Sum => sizes.extend([taken(), norms(3)]),
                Output::Store | Output::GateUp => {}
            }
            sizes.push(made());
            sizes
        }
        (Input::Concat, _) => vec![x, x, y],
        (Input::Plain, Output::First) => panic!("the first fused sums are made from state and embedding"),
    });
    let moved = weights * passes + sizes[2..].iter().sum::<u64>();
    let flops = 2 * u64::from(shape.rows) * u64::from(shape.count) * u64::from(params.chunks) * 8;
    let params = bytemuck::bytes_of(params).to_vec();
    Launch { kernel, choice, overrides, params, workgroups, sizes, cost: Cost { bytes: moved, flops } }
}

fn choice(shape: &Matmul) -> Choice {
    let mut choice = Choice::default();
    let (dtypes, flows): (&[_], &[_]) =
        if shape.input == Input::Rounded { (&INT_DTYPES, &ROUNDED_FLOWS) } else { (&Dtype::ALL, &FLOWS) };
    let dtype = dtypes.iter().position(|&dtype| dtype == shape.form.dtype);
    choice.0[0] = dtype.unwrap_or_else(|| panic!("int8 does not support {}", shape.form.name())) as u8;
    let flow = flows.iter().position(|&flow| flow == (shape.input, shape.output));
    choice.0[1] = flow.unwrap_or_else(|| panic!("no kernel for {:?} and {:?}", shape.input, shape.output)) as u8;
    choice
}

/// Rows of W that a launch covers, with the padding of y if this is the last part.
fn padded(shape: &Matmul) -> u32 {
    let per_output = if shape.output == Output::GateUp { 2 } else { 1 };
    if shape.first + shape.count == shape.n { stride(shape.width()) * per_output - shape.first } else { shape.count }
}

fn params(shape: &Matmul, groups_x: u32) -> MatmulParams {
    MatmulParams {
        rows: shape.rows,
        n: shape.count,
        n_padded: padded(shape),
        first: shape.first,
        chunks: shape.chunks(),
        y_stride: stride(shape.width()),
        groups_x,
        scales: shape.weights().scales(),
        fused: shape.normed.map_or(stride(shape.width()), |normed| normed.fused.floats()),
        parts: shape.normed.map_or(0, |normed| normed.fused.parts()),
        width: shape.normed.map_or(0, |normed| normed.fused.width),
        eps: shape.normed.map_or(0.0, |normed| normed.eps),
        outer: u32::from(shape.normed.is_some_and(|normed| normed.outer)),
        made: shape.makes().map_or(0, |fused| fused.floats()),
    }
}
