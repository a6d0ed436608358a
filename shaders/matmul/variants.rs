//! All variants of a matrix product on a device, and the products of a model to tune them with.

use super::launch::{Input, Matmul, Output, ROW_IN_UNIFORM, ROWS_AT_ONCE, TILES};
use super::launch::{cooperative, lanes, matmul, matvec, stages, tiled};
use super::many::{ManyRows, Matrices};
use super::{FusedSums, Normed, reference};
use crate::variants::{class_of_rows, of_reduction};
use crate::weight::chunks;
use crate::{Caps, Product, Trial, Variants, Workload};

/// Maximum rows of a pass for a block's sums to stay fused: see [`FusedSums`].
pub const FUSED_ROWS: u32 = 8;

/// Whether the sums of blocks stay fused in a pass of `rows` rows of `width` values. They do not where rows are staged, because the staged x of a product is
/// plain.
#[must_use]
pub const fn fuses(caps: &Caps, rows: u32, width: u32) -> bool {
    rows <= FUSED_ROWS && !(caps.lanes.is_some() && stages(rows, width))
}

/// Rows of W from which all matrices belong to one shape class.
const WIDE: u32 = 2048;

/// Index of the axis of `matvec` for ways to reduce.
const REDUCE_AXIS: usize = 3;

/// All variants for a shape; the first is that of [`matmul`].
#[must_use]
pub fn matmul_variants(caps: &Caps, shape: Matmul) -> Variants {
    // With many rows, few rows at a time would read W far too often.
    let least = ROWS_AT_ONCE.iter().position(|&at_once| at_once * 16 >= shape.rows).unwrap_or(ROWS_AT_ONCE.len() - 1);
    let options = least as u8..ROWS_AT_ONCE.len() as u8;
    let others: Vec<_> = if shape.form.in_texture() {
        let in_uniform = (shape.rows == 1 && shape.fits_uniform(caps)).then_some(ROW_IN_UNIFORM);
        options.chain(in_uniform).map(|option| lanes(shape, option)).collect()
    } else {
        let few = options.flat_map(|option| of_reduction(caps, &matvec(caps, shape, option), REDUCE_AXIS));
        let in_tiles = !shape.is_fused();
        let tiles = (0..TILES.len() as u8).filter(|_| in_tiles).map(|option| tiled(shape, option));
        let matrices = match ManyRows::of(caps, shape.arithmetic, shape.form) {
            ManyRows::Cooperative(matrices) if in_tiles => cooperative_variants(caps, matrices),
            _ => Vec::new(),
        };
        let matrices = matrices.into_iter().map(|matrices| cooperative(shape, matrices));
        few.chain(tiles).chain(matrices).collect()
    };
    let Matmul { rows, k, n, form, input, output, arithmetic, .. } = shape;
    let high = if n >= WIDE { "wide".to_owned() } else { n.to_string() };
    let products = arithmetic.said();
    let class =
        format!("matmul {}{products} {input:?} {output:?} k={k} n={high} rows={}", form.name(), class_of_rows(rows));
    Variants::new(class, matmul(caps, shape), others)
}

/// Variants of a cooperative product: two slices in memory or one, and fewer lanes if a driver may form subgroups smaller than its largest, so that fewer lanes
/// are enough.
fn cooperative_variants(caps: &Caps, matrices: Matrices) -> Vec<Matrices> {
    let (least, largest) = caps.subgroups.expect("cooperative matrices need subgroups");
    let fewer = (matrices.lanes / largest * least).max(largest);
    let all = [matrices.lanes, fewer]
        .into_iter()
        .flat_map(|lanes| [2, 1].map(|buffers| Matrices { lanes, buffers, ..matrices }));
    all.filter(|matrices| matrices.fits(caps)).collect()
}

/// Whether a product writes fused sums.
const fn makes_fused(output: Output) -> bool {
    matches!(output, Output::First | Output::Sum)
}

/// Products of a model's passes, each matrix cut to its first rows.
pub(super) fn shapes(work: &Workload) -> Vec<Matmul> {
    let Workload { dtype, arithmetic, rows, .. } = *work;
    let form = arithmetic.form(&work.caps, dtype);
    let staged = |k| form.in_texture() && stages(rows, k);
    let all = work.products.iter().map(|&Product { k, n, input, output }| {
        let (k, input) = match input {
            Input::Concat if arithmetic.rounds(dtype) => (2 * 8 * chunks(k), Input::Rounded),
            _ if arithmetic.rounds(dtype) => (k, Input::Rounded),
            Input::Concat if staged(k) => (2 * 8 * chunks(k), Input::Staged),
            Input::Plain if staged(k) && !makes_fused(output) => (8 * chunks(k), Input::Staged),
            _ => (k, input),
        };
        let grain = form.group().max(16);
        // Fused sums need all rows of W.
        let cut = n > work.most_weight_rows && !makes_fused(output);
        let count = if cut { work.most_weight_rows / grain * grain } else { n };
        let width = if input == Input::Normed { k } else { n };
        let last = Normed { fused: FusedSums::of(width, form), outer: true, eps: 1e-6 };
        let normed = Some(last).filter(|_| output != Output::Residual);
        Matmul { input, output, count, arithmetic, normed, uniform: true, ..Matmul::whole(rows, k, n, form) }
    });
    all.collect()
}

/// Tuning tasks for the products of a model.
pub(crate) fn trials(work: &Workload) -> Vec<Trial> {
    let all = shapes(work).into_iter().zip(1..);
    all.map(|(shape, seed)| {
        let variants = matmul_variants(&work.caps, shape);
        let case = reference::case(shape, variants.launches[0].clone(), 0, seed);
        Trial { variants, case }
    })
    .collect()
}
