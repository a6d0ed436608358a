//! The row table: the unit of work of every kernel.
//!
//! A row is one position of one sequence at one recurrence step. A pass applies one weight-shared block to all active rows,
//! so prefill, decode, batches and different depths are the same commands on different tables. The table lives in device
//! memory; kernels advance it between steps.

use crate::shared::table;
use crate::{Const, Part};

/// [`Row`], [`NONE`] and [`WAITS`] in WGSL.
pub const ROW: Part = Part::shared(&[Const::u32("NONE", NONE), Const::u32("WAITS", WAITS)], &[Row::TABLE]);

/// Number of rows in the table, for kernels that loop over it. Needs `params.rows` and a binding `rows`.
pub(crate) const TABLE_ROWS: Part = Part::new("table_rows", include_str!("table_rows.wgsl"));

/// No read-out for this row, or no page for this table entry.
pub const NONE: u32 = u32::MAX;

/// Value of [`Row::exited`] for a row that waits while others are read out.
pub const WAITS: u32 = 2;

table! {
    /// One position of one sequence at one recurrence step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Row {
        /// Index into the sequence table.
        pub sequence: u32,
        /// Position in the sequence, from 0.
        pub position: u32,
        /// Recurrence step, from 0; advanced on the device.
        pub step: u32,
        /// Token id at this position.
        pub token: u32,
        /// 1 while the row takes part in passes, 0 while it is inactive.
        pub live: u32,
        /// Index among the rows that are read out, or [`NONE`].
        pub output: u32,
        /// 1 if the recurrent state is drawn at random, 0 if the state buffer already holds it.
        pub draw: u32,
        /// 1 once the row has exited the recurrence early; or [`WAITS`].
        pub exited: u32,
    }
}

impl Row {
    /// An active row at step 0 that draws its state and is not read out.
    #[must_use]
    pub const fn new(sequence: u32, position: u32, token: u32) -> Self {
        Self { sequence, position, step: 0, token, live: 1, output: NONE, draw: 1, exited: 0 }
    }

    /// An inactive row, which fills a table up to its capacity.
    pub const RESTING: Self =
        Self { sequence: 0, position: 0, step: 0, token: 0, live: 0, output: NONE, draw: 0, exited: 0 };
}

table! {
    /// Entry of the sequence table: the seeds of a sequence's random numbers, and its number of steps.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Sequence {
        /// Seed of draws and noise, low and high word.
        pub seed: [u32; 2],
        /// Seed of initial states, low and high word.
        pub state_seed: [u32; 2],
        /// Standard deviation of the initial state before truncation, embedding scale included; 0 gives zeros.
        pub state_std: f32,
        /// Steps of its rows, if rows of different depths share passes; 0 if every row takes as many steps as the pass has.
        pub steps: u32,
        /// Unused; keeps the entry at 32 bytes.
        pub reserved: [u32; 2],
    }
}

/// Floats from row to row of an activation `[rows, n]`: n rounded up to 8. The padding is always zero, so that every kernel can load 16 bytes at a time
/// whatever the model's width.
#[must_use]
pub const fn stride(n: u32) -> u32 {
    n.next_multiple_of(8)
}

/// Bytes of an activation `[rows, n]` with padded rows.
#[must_use]
pub fn activation_bytes(rows: u32, n: u32) -> u64 {
    u64::from(rows) * u64::from(stride(n)) * 4
}

/// A table of `rows` rows of one sequence, of which the last `resting` are inactive, as words.
pub(crate) fn test_rows(rows: u32, resting: u32) -> Vec<u32> {
    let table: Vec<Row> =
        (0..rows).map(|row| Row { live: u32::from(row < rows - resting), ..Row::new(0, row, row) }).collect();
    bytemuck::cast_slice(&table).to_vec()
}
