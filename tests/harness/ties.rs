//! Tokens that two ways of computing choose differently.

use anyhow::{Result, ensure};
use ruminate::{Session, State};

/// How far logits may be apart that rounding lets change places.
const NEAR: f32 = 0.02;

/// Fails if greedy choices behind a prompt differ, unless the first two that do are almost equally likely, by plain passes of so many steps in a new session.
///
/// # Errors
/// What the difference is; the session's.
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
    ensure!((a - b).abs() < NEAR, "{a} and {b} are no near-tie, behind {place} tokens");
    Ok(())
}
