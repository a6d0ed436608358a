//! Adds a drafted row to the rows to verify.

use super::MOST_TIMED;
use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload};

/// Adds a drafted row after the row of the last known token.
pub static ENLIST: Kernel = Kernel {
    name: "enlist",
    wgsl: include_str!("enlist.wgsl"),
    parts: &[ROW],
    bindings: &[Binding::read("next", "Row"), Binding::write("table", "Row")],
    axes: &[],
    overrides: &[],
    params: EnlistParams::FIELDS,
    params_size: size_of::<EnlistParams>(),
    reference,
    cases,
    random,
    at: |work: &Workload| {
        let rows = work.rows.min(MOST_TIMED);
        vec![case(rows, rows - 1, 1)]
    },
};

params! {
    /// Parameters of [`ENLIST`].
    pub struct EnlistParams {
        /// Rows of the table to verify.
        pub rows: u32,
    }
}

/// Copies the row `next` into `table [rows]`, at the index given by its position, as a row that is read out. Bindings: next, table.
#[must_use]
pub fn enlist(rows: u32) -> Launch {
    let row = size_of::<Row>() as u64;
    Launch {
        kernel: &ENLIST,
        choice: Choice::default(),
        overrides: vec![],
        params: bytemuck::bytes_of(&EnlistParams { rows }).to_vec(),
        workgroups: [1, 1, 1],
        sizes: vec![row, u64::from(rows) * row],
        cost: Cost { bytes: 2 * row, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: EnlistParams = launch.params();
    let (next, table) = (slots.read::<Row>(), slots.write::<Row>());
    let row = next[0];
    let place = row.position.wrapping_sub(table[0].position);
    if place < params.rows {
        let fresh = Row::new(row.sequence, row.position, row.token);
        table[place as usize] = Row { live: row.live, output: place, ..fresh };
    }
}

fn case(rows: u32, place: u32, live: u32) -> Case {
    let launch = enlist(rows);
    let base = 40;
    let drafted = Row { live, step: 3, output: 0, exited: 1, ..Row::new(2, base + place, 11) };
    let mut table = vec![Row::RESTING; rows as usize];
    table[0] = Row { output: 0, ..Row::new(2, base, 5) };
    Case {
        name: format!("place {place} of {rows}, live {live}"),
        data: vec![bytemuck::cast_slice(&[drafted]).to_vec(), bytemuck::cast_slice(&table).to_vec()].into(),
        checks: vec![Check::Skip, Check::Exact],
        launch,
    }
}

fn cases() -> Vec<Case> {
    // The last case has no space for the row, as with one draft too many.
    [(1, 0, 1), (9, 3, 1), (9, 8, 0), (4, 4, 1)].map(|(rows, place, live)| case(rows, place, live)).to_vec()
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(60);
    case(rows, noise.below(rows + 2), noise.below(2))
}
