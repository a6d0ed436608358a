//! Replaces each row that was read out by the row of the token chosen after it.

use crate::exit::{EXIT_PARAMS, ExitParams};
use crate::shared::{params, table};
use crate::{
    Binding, Case, Check, Choice, Cost, Kernel, Launch, NONE, Noise, Params, Part, ROW, Row, Slots, WAITS, Workload,
};

/// Moves every sequence on to its chosen token.
pub static FOLLOW: Kernel = Kernel {
    name: "follow",
    wgsl: include_str!("follow.wgsl"),
    parts: &[ROW, EXIT_PARAMS, Part::shared(&[], &[RowResult::TABLE])],
    bindings: &[
        Binding::read("exit_params", "ExitParams"),
        Binding::read("chosen", "u32"),
        Binding::write("rows", "Row"),
        Binding::write("history", "u32"),
        Binding::write("results", "RowResult"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: FollowParams::FIELDS,
    params_size: size_of::<FollowParams>(),
    reference,
    cases: || vec![case(1, 40, 1), case(8, 40, 2), case(130, 4, 3)],
    random: |seed| {
        let mut noise = Noise::new(seed);
        case(1 + noise.below(100), 1 + noise.below(50), seed)
    },
    at: |work: &Workload| vec![case(work.rows.min(64), 64, 1)],
};

params! {
    /// Parameters of [`FOLLOW`].
    pub struct FollowParams {
        /// Rows of the table.
        pub rows: u32,
        /// Positions per sequence.
        pub context: u32,
    }
}

table! {
    /// Result of a row in a pass.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RowResult {
        /// Token chosen after the row, or [`NONE`].
        pub token: u32,
        /// Steps that the row took, or 0 if it is inactive or waits.
        pub steps: u32,
    }
}

/// Turns each active row that was read out into the row of the token chosen after it, and stores that token in `results [rows]`.
///
/// The index of a row is also that of its output. The new row is inactive if its sequence parks or the context is full. An active row that is not read out
/// becomes inactive, and only its steps are stored. Rows marked with [`WAITS`] become active again. Bindings: exit_params `[sequences]`, chosen `[outputs]`,
/// rows, history `[sequences, context]`, results.
#[must_use]
pub fn follow((rows, outputs): (u32, u32), (sequences, context): (u32, u32)) -> Launch {
    let bytes = u64::from(rows) * size_of::<Row>() as u64;
    Launch {
        kernel: &FOLLOW,
        choice: Choice::default(),
        overrides: vec![32],
        params: bytemuck::bytes_of(&FollowParams { rows, context }).to_vec(),
        workgroups: [rows.div_ceil(32), 1, 1],
        sizes: vec![
            u64::from(sequences) * size_of::<ExitParams>() as u64,
            u64::from(outputs) * 4,
            bytes,
            u64::from(sequences) * u64::from(context) * 4,
            u64::from(rows) * size_of::<RowResult>() as u64,
        ],
        cost: Cost { bytes: 2 * bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: FollowParams = launch.params();
    let (exit_params, chosen, rows) = (slots.read::<ExitParams>(), slots.read::<u32>(), slots.write::<Row>());
    let (history, results) = (slots.write::<u32>(), slots.write::<RowResult>());
    for place in 0..params.rows as usize {
        results[place] = RowResult { token: NONE, steps: 0 };
        let row = rows[place];
        if row.exited == WAITS {
            (rows[place].live, rows[place].exited) = (1, 0);
        } else if row.live != 0 && row.output == NONE {
            (rows[place].live, rows[place].exited) = (0, 0);
            results[place].steps = row.step;
        } else if row.live != 0 {
            let (token, position) = (chosen[place], row.position + 1);
            results[place] = RowResult { token, steps: row.step };
            let room = position < params.context;
            if room {
                history[(row.sequence * params.context + position) as usize] = token;
            }
            let next = Row::new(row.sequence, position, token);
            let asked = exit_params[row.sequence as usize];
            let draw = u32::from(asked.continuous == NONE);
            rows[place] = Row { output: place as u32, live: u32::from(room && asked.parks == 0), draw, ..next };
        }
    }
}

fn case(rows: u32, context: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = follow((rows, rows), (rows, context));
    let states = [(0, 0), (1, 1), (0, WAITS)];
    let table: Vec<Row> = (0..rows)
        .map(|i| {
            let (live, exited) = states[noise.below(3) as usize];
            let output = if noise.below(3) == 0 { NONE } else { i };
            Row { live, exited, output, step: noise.below(9), ..Row::new(i, noise.below(context), 5) }
        })
        .collect();
    let exit_params: Vec<ExitParams> = (0..rows)
        .map(|i| ExitParams {
            continuous: [NONE, 0, 1][i as usize % 3],
            parks: u32::from(i % 5 == 2),
            ..ExitParams::fixed(4)
        })
        .collect();
    let words = |binding: usize, fill: u32| vec![fill; launch.sizes[binding] as usize / 4];
    Case {
        name: format!("{rows} rows, context {context}"),
        data: vec![
            bytemuck::cast_slice(&exit_params).to_vec(),
            (0..rows).map(|_| noise.below(500)).collect(),
            bytemuck::cast_slice(&table).to_vec(),
            words(3, 77),
            words(4, 1),
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::Exact, Check::Exact, Check::Exact],
        launch,
    }
}
