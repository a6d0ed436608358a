//! Noise floor of a trace: the distance by which rounding alone moves states at every step.

use ruminate::trace::Trace;
use ruminate::{Arithmetic, Dtype};

/// Noise floor: distances between two states below this are explained by rounding. Rounded weights are constant, so they only shift the fixed point.
/// Keys, values and the factors of products are rounded again at every step, which keeps moving states.
pub(super) fn floor(trace: &Trace, kv_dtype: Dtype, products: Arithmetic) -> f32 {
    let ends = (0..trace.tokens.len()).map(|token| trace.state(token, trace.steps as usize));
    let norm = |state: &[f32]| state.iter().map(|value| value * value).sum::<f32>().sqrt();
    ends.map(norm).fold(0.0, f32::max) * of_cache(kv_dtype).max(of_products(products))
}

/// Relative error of states computed in f32: a few units in the last place of the sums.
const F32: f32 = 1.0 / (1 << 22) as f32;

/// Relative error of keys and values: the distance between adjacent numbers; in blocks with a common scale, that of the largest number.
fn of_cache(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F32 => F32,
        Dtype::F16 => 1.0 / (1 << 11) as f32,
        Dtype::Bf16 => 1.0 / (1 << 8) as f32,
        _ => 1.0 / (1 << 7) as f32,
    }
}

/// Relative error of products in an arithmetic mode.
fn of_products(products: Arithmetic) -> f32 {
    match products {
        Arithmetic::F32 => F32,
        Arithmetic::Int8 => 1.0 / (1 << 7) as f32,
        _ => 1.0 / (1 << 11) as f32,
    }
}
