//! Times how long it takes to compute the tokens that a constraint allows.

use std::time::Duration;

use ruminate_engine::clock::Instant;

use crate::constraint::Constraint;
use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// Follows a constraint along a text. For each token of the text, returns the time to compute the mask of allowed tokens and to advance by the token.
/// The times are those of one generation, which starts with empty caches of the grammar.
///
/// # Errors
/// [`Error::Unconstrainable`] if the text does not match the constraint.
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
