//! Effects of checks on the row table: rows that meet their criterion exit, and become active again after the loop.

use super::params::{EXIT_PARAMS, spread};
use super::{Criterion, ExitParams, MEMO, Memo, memo_bytes};
use crate::shared::params;
use crate::{
    Binding, Case, Check, Choice, Const, Cost, Kernel, Launch, Noise, Params, Part, ROW, Row, Slots, TABLE_ROWS,
    Workload,
};
use crate::{activation_bytes, reduce, stride};

/// Clears earlier checks and keeps the initial states.
pub static EXIT_BEGIN: Kernel = Kernel {
    name: "exit_begin",
    wgsl: include_str!("exit_begin.wgsl"),
    parts: &[ROW, MEMO],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("state", "vec4<f32>"),
        Binding::write("previous", "vec4<f32>"),
        Binding::write("memo", "Memo"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: ExitBeginParams::FIELDS,
    params_size: size_of::<ExitBeginParams>(),
    reference: begin_reference,
    cases: || vec![begin_case(1, 0, 96, true), begin_case(35, 2, 130, true), begin_case(3, 0, 40, false)],
    random: |seed| {
        let mut noise = Noise::new(seed);
        let rows = 1 + noise.below(40);
        begin_case(rows, noise.below(rows), 1 + noise.below(300), noise.below(2) == 0)
    },
    at: |work: &Workload| vec![begin_case(work.rows, 0, work.n_embd, true)],
};

params! {
    /// Parameters of [`EXIT_BEGIN`].
    pub struct ExitBeginParams {
        /// Rows of the table.
        pub rows: u32,
        /// Quads from row to row; 0 if no states are kept.
        pub quads: u32,
    }
}

/// Clears the memos of all rows except active ones past step 0, and copies `state [rows, n]` to `previous` if states are compared. Bindings: rows, state,
/// previous, memo `[rows]`.
#[must_use]
pub fn exit_begin(rows: u32, n: u32, keeps_states: bool) -> Launch {
    let bytes = if keeps_states { activation_bytes(rows, n) } else { 16 };
    let quads = if keeps_states { stride(n) / 4 } else { 0 };
    Launch {
        kernel: &EXIT_BEGIN,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(quads, 64)],
        params: bytemuck::bytes_of(&ExitBeginParams { rows, quads }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![u64::from(rows) * size_of::<Row>() as u64, bytes, bytes, memo_bytes(rows)],
        cost: Cost { bytes: 2 * bytes, flops: 0 },
    }
}

fn begin_reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: ExitBeginParams = launch.params();
    let (rows, state) = (slots.read::<Row>(), slots.read::<f32>());
    let (previous, memo) = (slots.write::<f32>(), slots.write::<Memo>());
    let width = 4 * params.quads as usize;
    for row in 0..params.rows as usize {
        if rows[row].live != 0 && rows[row].step > 0 {
            continue;
        }
        memo[row] = Memo::default();
        if rows[row].live != 0 {
            previous[row * width..][..width].copy_from_slice(&state[row * width..][..width]);
        }
    }
}

fn begin_case(rows: u32, resting: u32, n: u32, keeps_states: bool) -> Case {
    let mut noise = Noise::new(u64::from(rows + n));
    let launch = exit_begin(rows, n, keeps_states);
    // Every fourth row is past step 0.
    let mut table: Vec<Row> = bytemuck::cast_slice(&crate::row::test_rows(rows, resting)).to_vec();
    table.iter_mut().skip(1).step_by(4).for_each(|row| row.step = 3);
    let words = |binding: usize| launch.sizes[binding] as usize / 4;
    Case {
        name: format!("{rows} rows of {n}, {resting} resting, states {keeps_states}"),
        data: vec![
            bytemuck::cast_slice(&table).to_vec(),
            (0..words(1)).map(|_| noise.signed().to_bits()).collect(),
            vec![0; words(2)],
            vec![7; words(3)],
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::Exact, Check::Exact],
        launch,
    }
}

/// Rule that decides from checks which rows exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Each row's own check decides.
    Alone,
    /// The mean over all rows of the pass decides: all exit together.
    Mean,
    /// The first read-out decides: all exit together.
    First,
    /// No row exits early: all steps are taken, and the states at which rows would have exited are kept ([`exit_keep`](super::exit_keep)).
    Never,
}

/// Moves rows to their next step, and lets those exit that meet their criterion.
pub static EXIT_LEAVE: Kernel = Kernel {
    name: "exit_leave",
    wgsl: include_str!("exit_leave.wgsl"),
    parts: &[
        ROW,
        TABLE_ROWS,
        MEMO,
        EXIT_PARAMS,
        Part::shared(
            &[
                Const::u32("ALONE", Rule::Alone as u32),
                Const::u32("MEAN", Rule::Mean as u32),
                Const::u32("NEVER", Rule::Never as u32),
            ],
            &[],
        ),
    ],
    bindings: &[
        Binding::write("rows", "Row"),
        Binding::read("exit_params", "ExitParams"),
        Binding::read("memo", "Memo"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: ExitLeaveParams::FIELDS,
    params_size: size_of::<ExitLeaveParams>(),
    reference: leave_reference,
    cases: leave_cases,
    random: |seed| {
        let mut noise = Noise::new(seed);
        let rows = 1 + noise.below(300);
        let criterion = Criterion::ALL[noise.below(Criterion::ALL.len() as u32) as usize];
        let rule = [Rule::Alone, Rule::Mean, Rule::First, Rule::Never][noise.below(4) as usize];
        leave_case(rows, noise.below(rows), criterion, rule, noise.signed().abs())
    },
    at: |work: &Workload| vec![leave_case(work.rows, 0, Criterion::LatentDiff, Rule::Alone, 0.5)],
};

params! {
    /// Parameters of [`EXIT_LEAVE`].
    pub struct ExitLeaveParams {
        /// Rows of the table.
        pub rows: u32,
        /// A [`Rule`].
        pub rule: u32,
    }
}

/// Adds 1 to the step of every active row, and makes rows inactive that exit.
///
/// A row exits if this step is checked and its criterion is met, or if it has taken all its steps; it is marked as exited. Memos belong to read-outs if the
/// criterion compares read-outs, else to rows. Bindings: rows, exit_params `[sequences]`, memo `[rows]`.
#[must_use]
pub fn exit_leave(rows: u32, sequences: u32, rule: Rule) -> Launch {
    let lanes = reduce::lanes(rows, 64);
    let params = ExitLeaveParams { rows, rule: rule as u32 };
    let bytes = u64::from(rows) * size_of::<Row>() as u64;
    Launch {
        kernel: &EXIT_LEAVE,
        choice: Choice::default(),
        overrides: vec![lanes],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [rows.div_ceil(lanes), 1, 1],
        sizes: vec![bytes, u64::from(sequences) * size_of::<ExitParams>() as u64, memo_bytes(rows)],
        cost: Cost { bytes: bytes + memo_bytes(rows), flops: 0 },
    }
}

fn leave_reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: ExitLeaveParams = launch.params();
    let (rows, exit_params, memo) = (slots.write::<Row>(), slots.read::<ExitParams>(), slots.read::<Memo>());
    let rows = &mut rows[..params.rows as usize];
    let checked = || memo[..params.rows as usize].iter().filter(|memo| memo.checks > 0);
    let mean = checked().map(|memo| f64::from(memo.value)).sum::<f64>() / checked().count() as f64;
    for (index, row) in (0..).zip(rows).filter(|(_, row)| row.live != 0) {
        let exit_params = exit_params[row.sequence as usize];
        let settled = params.rule != Rule::Never as u32
            && exit_params.due(row).is_some_and(|criterion| {
                let own = if criterion.reads_out() { row.output } else { index };
                let value = match params.rule {
                    rule if rule == Rule::Mean as u32 => Some(mean),
                    rule if rule == Rule::First as u32 => Some(f64::from(memo[0].value)),
                    _ => memo[..params.rows as usize].get(own as usize).map(|memo| f64::from(memo.value)),
                };
                let threshold = f64::from(exit_params.threshold);
                value.is_some_and(|value| if criterion.at_least() { value >= threshold } else { value < threshold })
            });
        row.step += 1;
        if settled || row.step >= exit_params.steps {
            (row.live, row.exited) = (0, 1);
        }
    }
}

fn leave_case(rows: u32, resting: u32, criterion: Criterion, rule: Rule, threshold: f32) -> Case {
    let mut noise = Noise::new(u64::from(rows));
    let mut table: Vec<Row> = bytemuck::cast_slice(&crate::row::test_rows(rows, resting)).to_vec();
    // Every third row is read out.
    table.iter_mut().step_by(3).zip(0..).for_each(|(row, output)| row.output = output);
    spread(&mut table, &mut noise);
    // Multiples of a tenth, and a threshold between them, so that rounding never decides, not even for the mean of many.
    let memo = |row: u32, noise: &mut Noise| {
        let live = row < rows - resting;
        let value = if live { noise.below(10) as f32 / 10.0 } else { 0.0 };
        Memo { checks: u32::from(live), value, ..Memo::default() }
    };
    let memo: Vec<Memo> = (0..rows).map(|row| memo(row, &mut noise)).collect();
    let threshold = (threshold * 10.0).floor() / 10.0 + 0.0517;
    Case {
        name: format!("{}, {rule:?}, {rows} rows, {resting} resting, below {threshold}", criterion.name()),
        launch: exit_leave(rows, 3, rule),
        data: vec![
            bytemuck::cast_slice(&table).to_vec(),
            bytemuck::cast_slice(&ExitParams::test(criterion, threshold)).to_vec(),
            bytemuck::cast_slice(&memo).to_vec(),
        ]
        .into(),
        checks: vec![Check::Exact, Check::Skip, Check::Skip],
    }
}

fn leave_cases() -> Vec<Case> {
    let (diff, kl, argmax) = (Criterion::LatentDiff, Criterion::Kl, Criterion::ArgmaxStability);
    let gate = Criterion::Gate;
    vec![
        leave_case(1, 0, diff, Rule::Alone, 0.9),
        leave_case(70, 4, diff, Rule::Alone, 0.4),
        leave_case(70, 4, diff, Rule::Mean, 0.9),
        leave_case(70, 4, diff, Rule::Mean, 0.1),
        leave_case(70, 4, kl, Rule::Alone, 0.5),
        leave_case(70, 4, kl, Rule::First, 0.9),
        leave_case(33, 0, argmax, Rule::Alone, 0.5),
        leave_case(33, 0, argmax, Rule::First, 0.0),
        leave_case(70, 4, gate, Rule::Alone, 0.6),
        leave_case(70, 4, gate, Rule::Mean, 0.3),
        leave_case(70, 4, gate, Rule::Never, 0.3),
    ]
}

/// Makes rows active again that have exited.
pub static EXIT_WAKE: Kernel = Kernel {
    name: "exit_wake",
    wgsl: include_str!("exit_wake.wgsl"),
    parts: &[ROW],
    bindings: &[Binding::write("rows", "Row")],
    axes: &[],
    overrides: &["WG"],
    params: ExitWakeParams::FIELDS,
    params_size: size_of::<ExitWakeParams>(),
    reference: wake_reference,
    cases: || vec![wake_case(1), wake_case(300)],
    random: |seed| wake_case(1 + Noise::new(seed).below(500)),
    at: |work: &Workload| vec![wake_case(work.rows)],
};

params! {
    /// Parameters of [`EXIT_WAKE`].
    pub struct ExitWakeParams {
        /// Rows of the table.
        pub rows: u32,
    }
}

/// Makes rows active again that have exited. Bindings: rows.
#[must_use]
pub fn exit_wake(rows: u32) -> Launch {
    let lanes = reduce::lanes(rows, 64);
    let bytes = u64::from(rows) * size_of::<Row>() as u64;
    Launch {
        kernel: &EXIT_WAKE,
        choice: Choice::default(),
        overrides: vec![lanes],
        params: bytemuck::bytes_of(&ExitWakeParams { rows }).to_vec(),
        workgroups: [rows.div_ceil(lanes), 1, 1],
        sizes: vec![bytes],
        cost: Cost { bytes, flops: 0 },
    }
}

fn wake_reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: ExitWakeParams = launch.params();
    let rows = slots.write::<Row>().iter_mut().take(params.rows as usize);
    rows.filter(|row| row.exited != 0).for_each(|row| row.live = 1);
}

fn wake_case(rows: u32) -> Case {
    let mut noise = Noise::new(u64::from(rows));
    let row = |i: u32, noise: &mut Noise| {
        let state = noise.below(3);
        Row { live: u32::from(state == 0), exited: u32::from(state == 1), ..Row::new(0, i, i) }
    };
    let table: Vec<Row> = (0..rows).map(|i| row(i, &mut noise)).collect();
    Case {
        name: format!("{rows} rows"),
        launch: exit_wake(rows),
        data: vec![bytemuck::cast_slice(&table).to_vec()].into(),
        checks: vec![Check::Exact],
    }
}
