//! Continuation of sequences from the normed states of their last tokens.

use crate::exit::{Continuous, EXIT_PARAMS, ExitParams};
use crate::row::test_rows;
use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, NONE, Noise, Params, ROW, Row, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// Copies normed states into the recurrent states.
pub static CARRY: Kernel = Kernel {
    name: "carry",
    wgsl: include_str!("carry.wgsl"),
    parts: &[ROW, EXIT_PARAMS],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("exit_params", "ExitParams"),
        Binding::read("normed", "vec4<f32>"),
        Binding::write("state", "vec4<f32>"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: CarryParams::FIELDS,
    params_size: size_of::<CarryParams>(),
    reference,
    cases: || vec![case(1, 96, 1), case(40, 130, 2), case(3, 5280, 3)],
    random: |seed| {
        let mut noise = Noise::new(seed);
        case(1 + noise.below(60), 1 + noise.below(600), seed)
    },
    at: |work: &Workload| vec![case(work.rows, work.n_embd, 1)],
};

params! {
    /// Parameters of [`CARRY`].
    pub struct CarryParams {
        /// Rows of the table.
        pub rows: u32,
        /// Quads of values per padded row.
        pub quads: u32,
    }
}

/// Sets `state [rows, n]` to `normed [rows, n]` for active rows that are read out and whose sequence uses [`Continuous::Normed`]. Bindings: rows, exit_params
/// `[sequences]`, normed, state.
#[must_use]
pub fn carry(rows: u32, sequences: u32, n: u32) -> Launch {
    let (quads, bytes) = (stride(n) / 4, activation_bytes(rows, n));
    Launch {
        kernel: &CARRY,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(quads, 128)],
        params: bytemuck::bytes_of(&CarryParams { rows, quads }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![
            u64::from(rows) * size_of::<Row>() as u64,
            u64::from(sequences) * size_of::<ExitParams>() as u64,
            bytes,
            bytes,
        ],
        cost: Cost { bytes: 2 * bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: CarryParams = launch.params();
    let (rows, exit_params) = (slots.read::<Row>(), slots.read::<ExitParams>());
    let (normed, state) = (slots.read::<f32>(), slots.write::<f32>());
    let width = params.quads as usize * 4;
    let states = state.chunks_mut(width).zip(normed.chunks(width));
    for (row, (state, normed)) in rows.iter().zip(states).take(params.rows as usize) {
        let continuous = exit_params[row.sequence as usize].continuous;
        if row.live != 0 && row.output != NONE && continuous == Continuous::Normed as u32 {
            state.copy_from_slice(normed);
        }
    }
}

fn case(rows: u32, n: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let mut table: Vec<Row> = bytemuck::cast_slice(&test_rows(rows, rows / 4)).to_vec();
    for row in &mut table {
        row.sequence = noise.below(3);
        row.output = [NONE, row.position][noise.below(2) as usize];
    }
    let ways = [Continuous::Normed as u32, NONE, Continuous::Raw as u32];
    let exit_params = ways.map(|continuous| ExitParams { continuous, ..ExitParams::fixed(4) });
    Case {
        name: format!("{rows} rows of {n}, seed {seed}"),
        data: vec![
            bytemuck::cast_slice(&table).to_vec(),
            bytemuck::cast_slice(&exit_params).to_vec(),
            noise.matrix(rows, n, stride(n)),
            noise.matrix(rows, n, stride(n)),
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::Exact],
        launch: carry(rows, 3, n),
    }
}
