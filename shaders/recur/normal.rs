//! Normally distributed numbers from random bits.

use super::{Threefry, unit};
use crate::{Const, Part};

/// WGSL of [`normal_within`]; it needs that of the generator.
pub(crate) const NORMAL: Part =
    Part::new("normal", include_str!("normal.wgsl")).with_consts(&[Const::f32("WITHIN", WITHIN as f32)]);

/// Standard normal number, truncated to the central range that holds the share `mass` of the distribution: the inverse distribution function at a uniform
/// number.
pub(crate) fn normal_within(mass: f64, bits: u32) -> f64 {
    std::f64::consts::SQRT_2 * erfinv(mass * (2.0 * unit(bits) - 1.0))
}

/// erf(3/√2): the mass of a normal distribution within ±3 standard deviations, where initial states are truncated.
pub(crate) const WITHIN: f64 = 0.9973002;

/// Numbers of the row that a key belongs to, in order.
pub(crate) fn normals_within(mass: f64, key: [u32; 2]) -> impl Iterator<Item = f64> {
    let numbers = Threefry::from_words(key);
    (0..).flat_map(move |pair| numbers.block([pair, 0])).map(move |bits| normal_within(mass, bits))
}

/// Inverse error function: the approximation of M. Giles, "Approximating the erfinv function" (GPU Computing Gems, 2011), in single precision. It defines what
/// both sides compute.
fn erfinv(x: f64) -> f64 {
    let w = -((1.0 - x) * (1.0 + x)).ln();
    let (w, coefficients) = if w < 5.0 { (w - 2.5, &CENTER) } else { (w.sqrt() - 3.0, &TAIL) };
    coefficients.iter().fold(0.0, |p, &c| c + p * w) * x
}

const CENTER: [f64; 9] = [
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
];
const TAIL: [f64; 9] = [
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
];
