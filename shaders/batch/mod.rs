//! Rows of several sequences in one table, each at its own step. Finished rows are read out while the others wait.

mod carry;
mod follow;
mod wake;

pub use carry::{CARRY, CarryParams, carry};
pub use follow::{FOLLOW, FollowParams, RowResult, follow};
pub use wake::{BATCH_ROWS, BATCH_WAKE, BatchWakeParams, batch_wake};
