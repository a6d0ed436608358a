//! What it costs to know which tokens a constraint allows.

use std::time::Duration;

use ruminate_engine::clock::Instant;

use crate::constraint::Constraint;
use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// Follows a constraint along a text and gives, for each of its tokens, the time that it takes to compute which tokens may come in its place, and to go on by it.
/// The times are of one generation: the first ones find nothing in the grammar's caches.
///
/// # Errors
/// [`Error::Unconstrainable`] if the text is not one of the constraint's.
pub fn masks(constraint: &Constraint, tokenizer: &Tokenizer, tokens: &[u32]) -> Result<Vec<Duration>, Error> {
    let mut matching = constraint.start(tokenizer, tokenizer.eos())?;
    let mut times = Vec::with_capacity(tokens.len());
    for &token in tokens {
        let start = Instant::now();
        matching.mask()?;
        let complete = matching.take(token)?;
        times.push(start.elapsed());
        if complete {
            break;
        }
    }
    Ok(times)
}
