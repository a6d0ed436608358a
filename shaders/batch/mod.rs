//! Rows of several sequences in one table, each at its own step: those that are finished are read out, the others wait meanwhile.

mod follow;
mod turn;

pub use follow::{Came, FOLLOW, FollowParams, follow};
pub use turn::{TURN, TurnParams, turn};

/// What [`Row::exited`](crate::Row::exited) holds of a row that waits while others are read out.
pub const WAITS: u32 = 2;
