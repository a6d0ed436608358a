//! Tokens ahead of what is known: drafts that are verified in one pass, and rows that begin with a guess while those before them are still iterated.
//!
//! Every choice is drawn from numbers that depend on the position alone, so a draft, a guess and the token that plain decoding gives are compared draw for
//! draw: where they agree nothing was lost, sampled or not.

mod enlist;
mod guess;
mod verify;

/// Rows that are examined and timed, at most: drafts and guesses are few.
const MOST_TIMED: u32 = 64;

pub use enlist::{ENLIST, EnlistParams, enlist};
pub use guess::{Front, GUESS, GuessParams, emitted_bytes, guess};
pub use verify::{Judge, VERIFY, VerifyParams, verify};
