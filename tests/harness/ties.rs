//! Near-ties: tokens for which two ways of computing may choose differently.

use anyhow::{Result, ensure};
use ruminate::{Session, State};

/// Maximum difference of logits that rounding may reorder.
const NEAR: f32 = 0.02;

/// Checks that greedy tokens after a prompt are equal, or that the first two that differ are almost equally likely, by plain passes of `steps` steps in a
/// new session.
///
/// # Errors
/// If they differ otherwise, or the session fails.
pub fn near_tie(session: &mut Session, prompt: &[u32], steps: u32, expected: &[u32], found: &[u32]) -> Result<()> {
    let Some(place) = found.iter().zip(expected).position(|(a, b)| a != b) else {
        ensure!(found.len() == expected.len(), "{} tokens instead of {}", found.len(), expected.len());
        return Ok(());
    };
    let mut logits = session.forward(prompt, steps, State::Seeded, false)?;
    for token in &expected[..place] {
        logits = session.forward(&[*token], steps, State::Seeded, false)?;
    }
    let (a, b) = (logits[expected[place] as usize], logits[found[place] as usize]);
    ensure!((a - b).abs() < NEAR, "{a} and {b} are not a near-tie, after {place} tokens");
    Ok(())
}
