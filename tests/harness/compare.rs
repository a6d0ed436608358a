//! Numeric comparison.

use anyhow::{Result, bail, ensure};

/// Checks that the normalized mean square error of `found` is at most `bound`.
///
/// # Errors
/// If the error is larger, or a value is not finite.
pub fn compare(found: &[f32], expected: &[f32], bound: f64) -> Result<()> {
    ensure!(found.len() == expected.len(), "{} values, expected {}", found.len(), expected.len());
    if let Some(at) = found.iter().position(|v| !v.is_finite()) {
        bail!("value {at} is {}, expected {}", found[at], expected[at]);
    }
    let pairs = || found.iter().zip(expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let error: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
    let power: f64 = pairs().map(|(_, b)| b * b).sum();
    let nmse = if power > 0.0 { error / power } else { error };
    let worst = pairs().enumerate().max_by(|(_, (a, b)), (_, (c, d))| (a - b).abs().total_cmp(&(c - d).abs()));
    ensure!(nmse <= bound, "normalized mean square error {nmse:.3e} above {bound:.0e}; worst: {worst:?}");
    Ok(())
}
