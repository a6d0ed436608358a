//! Wakes rows that have exited the loop for their read-out, in the order of their positions.

use crate::reduce;
use crate::shared::params;
use crate::{
    Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, TABLE_ROWS, WAITS, Workload,
};

/// Wakes rows that have exited the loop, and makes the others wait.
pub static BATCH_WAKE: Kernel = Kernel {
    name: "batch_wake",
    wgsl: include_str!("wake.wgsl"),
    parts: &[ROW, TABLE_ROWS],
    bindings: &[Binding::write("rows", "Row")],
    axes: &[],
    overrides: &["WG"],
    params: BatchWakeParams::FIELDS,
    params_size: size_of::<BatchWakeParams>(),
    reference,
    cases: || vec![case(1, 1), case(33, 2), case(256, 3)],
    random: |seed| case(1 + Noise::new(seed).below(BATCH_ROWS), seed),
    at: |work: &Workload| vec![case(work.rows.min(BATCH_ROWS), 1)],
};

params! {
    /// Parameters of [`BATCH_WAKE`].
    pub struct BatchWakeParams {
        /// Rows of the table.
        pub rows: u32,
    }
}

/// Maximum rows of a table: one workgroup reads all of them.
pub const BATCH_ROWS: u32 = 256;

/// Activates every row that has exited the loop, unless an earlier row of its sequence is still in the loop: the read-out attends to earlier rows.
///
/// Rows still in the loop become inactive, marked with [`WAITS`]. At most [`BATCH_ROWS`] rows. Bindings: rows.
#[must_use]
pub fn batch_wake(rows: u32) -> Launch {
    let lanes = reduce::lanes(rows, BATCH_ROWS);
    let bytes = u64::from(rows) * size_of::<Row>() as u64;
    Launch {
        kernel: &BATCH_WAKE,
        choice: Choice::default(),
        overrides: vec![lanes],
        params: bytemuck::bytes_of(&BatchWakeParams { rows }).to_vec(),
        workgroups: [1, 1, 1],
        sizes: vec![bytes],
        cost: Cost { bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: BatchWakeParams = launch.params();
    let rows = &mut slots.write::<Row>()[..params.rows as usize];
    let before = rows.to_vec();
    let waits = |row: &Row| {
        let mut earlier = before.iter().filter(|other| other.sequence == row.sequence && other.position < row.position);
        earlier.any(|other| other.live != 0)
    };
    for row in rows {
        if row.exited == 1 && waits(row) {
            continue;
        }
        if row.exited == 1 {
            row.live = 1;
        } else if row.live != 0 {
            (row.live, row.exited) = (0, WAITS);
        }
    }
}

fn case(rows: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let states = [(0, 0), (1, 0), (0, 1)];
    let table: Vec<Row> = (0..rows)
        .map(|i| {
            let (live, exited) = states[noise.below(3) as usize];
            Row { live, exited, ..Row::new(noise.below(1 + rows / 3), i, 1) }
        })
        .collect();
    Case {
        name: format!("{rows} rows"),
        launch: batch_wake(rows),
        data: vec![bytemuck::cast_slice(&table).to_vec()].into(),
        checks: vec![Check::Exact],
    }
}
