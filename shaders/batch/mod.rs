//! Rows of several sequences in one table, each at its own step: those that are finished are read out, the others wait meanwhile.

mod carry;
mod follow;
mod turn;

pub use carry::{CARRY, CarryParams, carry};
pub use follow::{Came, FOLLOW, FollowParams, follow};
pub use turn::{TURN, TURN_ROWS, TurnParams, turn};
