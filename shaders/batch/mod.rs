//! Rows of several sequences in one table, each at its own step: those that are finished are read out, the others wait meanwhile.

mod carry;
mod follow;
mod wake;

pub use carry::{CARRY, CarryParams, carry};
pub use follow::{FOLLOW, FollowParams, RowResult, follow};
pub use wake::{BATCH_ROWS, BATCH_WAKE, BatchWakeParams, batch_wake};
