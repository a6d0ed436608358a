//! Tokens ahead of the known ones: drafts that are verified in one pass, and pipelined decoding, in which rows start from provisional tokens while earlier rows
//! are still iterated.
//!
//! Every choice is drawn from numbers that depend on the position alone, so drafts, provisional tokens and the tokens of plain decoding are compared draw for
//! draw: where they agree, the result is that of plain decoding, sampled or not.

mod enlist;
mod guess;
mod verify;

/// Maximum rows of cases that are checked and timed: drafts and provisional tokens are few.
const MOST_TIMED: u32 = 64;

pub use enlist::{ENLIST, EnlistParams, enlist};
pub use guess::{Front, GUESS, GuessParams, emitted_bytes, guess};
pub use verify::{Judge, VERIFY, VerifyParams, verify};
