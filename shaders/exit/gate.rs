//! Numbers of workgroups for the launches of a loop with early exit: zero once all rows have exited.

use crate::row::test_rows;
use crate::shared::params;
use crate::{
    Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, TABLE_ROWS, Workload, reduce,
};

/// Enables or disables launches.
pub static GATE: Kernel = Kernel {
    name: "gate",
    wgsl: include_str!("gate.wgsl"),
    parts: &[ROW, TABLE_ROWS],
    bindings: &[Binding::read("rows", "Row"), Binding::read("all", "u32"), Binding::write("groups", "u32")],
    axes: &[],
    overrides: &["WG"],
    params: GateParams::FIELDS,
    params_size: size_of::<GateParams>(),
    reference,
    cases: || vec![case(1, 0, 27), case(1, 1, 27), case(70, 69, 40), case(70, 70, 3)],
    random: |seed| {
        let mut noise = Noise::new(seed);
        let rows = 1 + noise.below(300);
        let resting = if noise.below(2) == 0 { rows } else { noise.below(rows) };
        case(rows, resting, 1 + noise.below(60))
    },
    at: |work: &Workload| vec![case(work.rows, 0, 27)],
};

params! {
    /// Parameters of [`GATE`].
    pub struct GateParams {
        /// Rows of the table.
        pub rows: u32,
        /// Words in the list of workgroup counts: three per launch.
        pub words: u32,
    }
}

/// Copies the workgroup counts of `launches` launches if any row is active, else writes zeros. Bindings: rows, all `[launches, 3]`, groups `[launches, 3]`.
#[must_use]
pub fn gate(rows: u32, launches: u32) -> Launch {
    let words = 3 * launches;
    let (table, bytes) = (u64::from(rows) * size_of::<Row>() as u64, u64::from(words) * 4);
    Launch {
        kernel: &GATE,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(words, 64)],
        params: bytemuck::bytes_of(&GateParams { rows, words }).to_vec(),
        workgroups: [1, 1, 1],
        sizes: vec![table, bytes, bytes],
        cost: Cost { bytes: table + 2 * bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: GateParams = launch.params();
    let (rows, all, groups) = (slots.read::<Row>(), slots.read::<u32>(), slots.write::<u32>());
    let words = params.words as usize;
    if rows[..params.rows as usize].iter().any(|row| row.live != 0) {
        groups[..words].copy_from_slice(&all[..words]);
    } else {
        groups[..words].fill(0);
    }
}

fn case(rows: u32, resting: u32, launches: u32) -> Case {
    let mut noise = Noise::new(u64::from(rows + launches));
    let all: Vec<u32> = (0..3 * launches).map(|_| 1 + noise.below(60_000)).collect();
    Case {
        name: format!("{rows} rows, {resting} resting, {launches} launches"),
        launch: gate(rows, launches),
        data: vec![test_rows(rows, resting), all.clone(), vec![7; all.len()]].into(),
        checks: vec![Check::Skip, Check::Skip, Check::Exact],
    }
}
