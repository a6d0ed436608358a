//! Rows of several sequences in one table, each at its own step: those that are finished are read out, the others wait meanwhile.

mod carry;
mod follow;
mod wake;

pub use carry::{CARRY, CarryParams, carry};
pub use follow::{RowResult, FOLLOW, FollowParams, follow};
pub use wake::{BATCH_WAKE, BATCH_ROWS, BatchWakeParams, batch_wake};
