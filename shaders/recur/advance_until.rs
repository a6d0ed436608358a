//! Step counter for passes with rows of different depths: each row exits after its own number of steps.

use super::SEQUENCE;
use crate::reduce;
use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Sequence, Slots, Workload};

/// Moves active rows to their next step, and out of the loop after their last one.
pub static ADVANCE_UNTIL: Kernel = Kernel {
    name: "advance_until",
    wgsl: include_str!("advance_until.wgsl"),
    parts: &[ROW, SEQUENCE],
    bindings: &[Binding::write("rows", "Row"), Binding::read("sequences", "Sequence")],
    axes: &[],
    overrides: &["WG"],
    params: AdvanceUntilParams::FIELDS,
    params_size: size_of::<AdvanceUntilParams>(),
    reference,
    cases,
    random,
    at: |work: &Workload| vec![case(work.rows, 0, 1)],
};

params! {
    /// Parameters of [`ADVANCE_UNTIL`].
    pub struct AdvanceUntilParams {
        /// Rows of the table.
        pub rows: u32,
    }
}

/// Adds 1 to the step of every active row. A row that has taken all steps of its sequence becomes inactive, marked as exited. Bindings: rows, sequences.
#[must_use]
pub fn advance_until(rows: u32, sequences: u32) -> Launch {
    let lanes = reduce::lanes(rows, 64);
    let bytes = u64::from(rows) * size_of::<Row>() as u64;
    Launch {
        kernel: &ADVANCE_UNTIL,
        choice: Choice::default(),
        overrides: vec![lanes],
        params: bytemuck::bytes_of(&AdvanceUntilParams { rows }).to_vec(),
        workgroups: [rows.div_ceil(lanes), 1, 1],
        sizes: vec![bytes, u64::from(sequences) * size_of::<Sequence>() as u64],
        cost: Cost { bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: AdvanceUntilParams = launch.params();
    let (rows, sequences) = (slots.write::<Row>(), slots.read::<Sequence>());
    for row in rows.iter_mut().take(params.rows as usize).filter(|row| row.live != 0) {
        row.step += 1;
        if row.step >= sequences[row.sequence as usize].steps {
            (row.live, row.exited) = (0, 1);
        }
    }
}

fn case(rows: u32, resting: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let sequences: Vec<Sequence> = [5, 1, 9]
        .map(|steps| Sequence { seed: [0; 2], state_seed: [0; 2], state_std: 1.0, steps, reserved: [0; 2] })
        .to_vec();
    let table: Vec<Row> = (0..rows)
        .map(|i| {
            let sequence = noise.below(3);
            let step = noise.below(sequences[sequence as usize].steps);
            Row { step, live: u32::from(i < rows - resting), ..Row::new(sequence, i, 1) }
        })
        .collect();
    Case {
        name: format!("{rows} rows, {resting} resting"),
        launch: advance_until(rows, 3),
        data: vec![bytemuck::cast_slice(&table).to_vec(), bytemuck::cast_slice(&sequences).to_vec()].into(),
        checks: vec![Check::Exact, Check::Skip],
    }
}

fn cases() -> Vec<Case> {
    vec![case(1, 0, 1), case(33, 5, 2), case(4000, 1, 3)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(500);
    case(rows, noise.below(rows), seed)
}
