//! Whose turn it is behind the loop.

use crate::kernel::params;
use crate::reduce;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, WAITS, Workload};

/// Wakes rows that have left the loop, and lets the others wait.
pub static TURN: Kernel = Kernel {
    name: "turn",
    wgsl: include_str!("turn.wgsl"),
    parts: &[ROW],
    bindings: &[Binding::write("rows", "Row")],
    axes: &[],
    overrides: &["WG"],
    params: TurnParams::FIELDS,
    params_size: size_of::<TurnParams>(),
    reference,
    cases: || vec![case(1, 1), case(33, 2), case(4000, 3)],
    random: |seed| case(1 + Noise::new(seed).below(300), seed),
    at: |work: &Workload| vec![case(work.rows, 1)],
};

params! {
    /// Parameters of [`TURN`].
    pub struct TurnParams {
        /// Rows of the table.
        pub rows: u32,
    }
}

/// Makes every row of the table active that has left the loop; rows that are still under way rest, marked as [`WAITS`]. Bindings: rows.
#[must_use]
pub fn turn(rows: u32) -> Launch {
    let lanes = reduce::lanes(rows, 64);
    let bytes = u64::from(rows) * size_of::<Row>() as u64;
    Launch {
        kernel: &TURN,
        choice: Choice::default(),
        overrides: vec![lanes],
        params: bytemuck::bytes_of(&TurnParams { rows }).to_vec(),
        workgroups: [rows.div_ceil(lanes), 1, 1],
        sizes: vec![bytes],
        cost: Cost { bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: TurnParams = launch.params();
    for row in slots.write::<Row>().iter_mut().take(params.rows as usize) {
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
            Row { live, exited, ..Row::new(0, i, 1) }
        })
        .collect();
    Case {
        name: format!("{rows} rows"),
        launch: turn(rows),
        data: vec![bytemuck::cast_slice(&table).to_vec()],
        checks: vec![Check::Exact],
    }
}
