//! Early exit in hindsight: all steps are computed, then each row continues with the state at which it would have exited (as the authors of Ouro do).

use super::params::{EXIT_PARAMS, spread};
use super::{Criterion, ExitParams, MEMO, Memo, memo_bytes};
use crate::shared::params;
use crate::{
    Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload, activation_bytes,
    reduce, stride,
};

/// Keeps the states at which rows would have exited, and restores them.
pub static EXIT_KEEP: Kernel = Kernel {
    name: "exit_keep",
    wgsl: include_str!("exit_keep.wgsl"),
    parts: &[ROW, MEMO, EXIT_PARAMS],
    bindings: &[
        Binding::write("rows", "Row"),
        Binding::read("exit_params", "ExitParams"),
        Binding::write("state", "vec4<f32>"),
        Binding::write("kept", "vec4<f32>"),
        Binding::write("memo", "Memo"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: ExitKeepParams::FIELDS,
    params_size: size_of::<ExitKeepParams>(),
    reference,
    cases: || {
        vec![case(1, 0, 96, false, 1), case(35, 2, 130, false, 2), case(35, 2, 130, true, 3), case(3, 0, 40, true, 4)]
    },
    random: |seed| {
        let mut noise = Noise::new(seed);
        let rows = 1 + noise.below(40);
        case(rows, noise.below(rows), 1 + noise.below(300), noise.below(2) == 0, seed)
    },
    at: |work: &Workload| vec![case(work.rows, 0, work.n_embd, false, 1), case(work.rows, 0, work.n_embd, true, 2)],
};

params! {
    /// Parameters of [`EXIT_KEEP`].
    pub struct ExitKeepParams {
        /// Rows of the table.
        pub rows: u32,
        /// Quads from row to row.
        pub quads: u32,
        /// 1 to restore states, 0 to keep them.
        pub restore: u32,
    }
}

/// Keeps the states at which rows would have exited, or restores them.
///
/// Without `restore`, copies `state [rows, n]` to `kept [rows, n]` for the rows whose check reaches the threshold for the first time; to be launched once per
/// step, before [`exit_leave`](super::exit_leave). With `restore`, after the loop, copies the kept states back and sets the rows' steps to those at which the
/// states were kept. Only for criteria with [`Criterion::at_least`]. Bindings: rows, exit_params `[sequences]`, state, kept, memo `[rows]`.
#[must_use]
pub fn exit_keep(rows: u32, sequences: u32, n: u32, restore: bool) -> Launch {
    let (bytes, quads) = (activation_bytes(rows, n), stride(n) / 4);
    Launch {
        kernel: &EXIT_KEEP,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(quads, 64)],
        params: bytemuck::bytes_of(&ExitKeepParams { rows, quads, restore: u32::from(restore) }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![
            u64::from(rows) * size_of::<Row>() as u64,
            u64::from(sequences) * size_of::<ExitParams>() as u64,
            bytes,
            bytes,
            memo_bytes(rows),
        ],
        cost: Cost { bytes: 2 * bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: ExitKeepParams = launch.params();
    let (rows, exit_params) = (slots.write::<Row>(), slots.read::<ExitParams>());
    let (state, kept, memo) = (slots.write::<f32>(), slots.write::<f32>(), slots.write::<Memo>());
    let width = 4 * params.quads as usize;
    for (index, row) in rows.iter_mut().enumerate().take(params.rows as usize).filter(|(_, row)| row.live != 0) {
        let values = index * width..(index + 1) * width;
        let step = memo[index].count;
        if params.restore != 0 {
            if step > 0 {
                state[values.clone()].copy_from_slice(&kept[values]);
                row.step = step;
            }
            continue;
        }
        let exit_params = exit_params[row.sequence as usize];
        if step == 0 && exit_params.due(row).is_some() && memo[index].value >= exit_params.threshold {
            kept[values.clone()].copy_from_slice(&state[values]);
            memo[index].count = row.step + 1;
        }
    }
}

fn case(rows: u32, resting: u32, n: u32, restore: bool, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = exit_keep(rows, 3, n, restore);
    let mut table: Vec<Row> = bytemuck::cast_slice(&crate::row::test_rows(rows, resting)).to_vec();
    spread(&mut table, &mut noise);
    let memo = |row: u32| Memo {
        checks: 1,
        count: if row % 3 == 1 { 2 } else { 0 },
        value: noise.signed(),
        ..Memo::default()
    };
    let memo: Vec<Memo> = (0..rows).map(memo).collect();
    let (state, kept) = (noise.matrix(rows, n, stride(n)), noise.matrix(rows, n, stride(n)));
    Case {
        name: format!("{rows} rows of {n}, {resting} resting, {}", if restore { "put back" } else { "kept" }),
        data: vec![
            bytemuck::cast_slice(&table).to_vec(),
            bytemuck::cast_slice(&ExitParams::test(Criterion::Gate, 0.1)).to_vec(),
            state,
            kept,
            bytemuck::cast_slice(&memo).to_vec(),
        ]
        .into(),
        checks: vec![Check::Exact, Check::Skip, Check::Exact, Check::Exact, Check::Exact],
        launch,
    }
}
