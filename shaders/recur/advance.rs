//! The step counter is data: one launch per step moves every active row to its next step.

use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload, reduce};

/// Moves active rows to their next step.
pub static ADVANCE: Kernel = Kernel {
    name: "advance",
    wgsl: include_str!("advance.wgsl"),
    parts: &[ROW],
    bindings: &[Binding::write("rows", "Row")],
    axes: &[],
    overrides: &["WG"],
    params: AdvanceParams::FIELDS,
    params_size: size_of::<AdvanceParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`ADVANCE`].
    pub struct AdvanceParams {
        /// Rows of the table.
        pub rows: u32,
    }
}

/// Adds 1 to the step of every active row. Bindings: rows.
#[must_use]
pub fn advance(rows: u32) -> Launch {
    let lanes = reduce::lanes(rows, 64);
    let bytes = u64::from(rows) * size_of::<Row>() as u64;
    Launch {
        kernel: &ADVANCE,
        choice: Choice::default(),
        overrides: vec![lanes],
        params: bytemuck::bytes_of(&AdvanceParams { rows }).to_vec(),
        workgroups: [rows.div_ceil(lanes), 1, 1],
        sizes: vec![bytes],
        cost: Cost { bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: AdvanceParams = launch.params();
    for row in slots.write::<Row>().iter_mut().take(params.rows as usize) {
        row.step += row.live;
    }
}

fn case(rows: u32, resting: u32) -> Case {
    Case {
        name: format!("{rows} rows, {resting} resting"),
        launch: advance(rows),
        data: vec![crate::row::test_rows(rows, resting)].into(),
        checks: vec![Check::Exact],
    }
}

fn cases() -> Vec<Case> {
    [(1, 0), (33, 5), (4000, 1)].map(|(rows, resting)| case(rows, resting)).to_vec()
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(work.rows, 0)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(500);
    case(rows, noise.below(rows))
}
