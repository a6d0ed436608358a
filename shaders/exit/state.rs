//! Exit criteria on the state: how far it has moved.

use super::params::{EXIT_PARAMS, spread};
use super::{Criterion, ExitParams, KEPT_VALUES, MEMO, Memo, memo_bytes, value_bytes};
use crate::shared::params;
use crate::{Binding, Caps, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// Compares states with those of the last check.
pub static EXIT_STATE: Kernel = Kernel {
    name: "exit_state",
    wgsl: include_str!("exit_state.wgsl"),
    parts: &[ROW, MEMO, EXIT_PARAMS],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("exit_params", "ExitParams"),
        Binding::read("state", "vec4<f32>"),
        Binding::write("previous", "vec4<f32>"),
        Binding::write("memo", "Memo"),
        Binding::write("values", "f32"),
    ],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: ExitStateParams::FIELDS,
    params_size: size_of::<ExitStateParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`EXIT_STATE`].
    pub struct ExitStateParams {
        /// Rows of the table.
        pub rows: u32,
        /// Quads from row to row.
        pub quads: u32,
    }
}

/// Compares `state [rows, n]` with `previous`, and copies it there, for rows whose criterion compares states and whose current step is checked. Bindings: rows,
/// exit_params `[sequences]`, state, previous, memo `[rows]`, values `[rows, KEPT_VALUES]`.
#[must_use]
pub fn exit_state(caps: &Caps, rows: u32, sequences: u32, n: u32) -> Launch {
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let (bytes, quads) = (activation_bytes(rows, n), stride(n) / 4);
    Launch {
        kernel: &EXIT_STATE,
        choice,
        overrides: vec![reduce::lanes_over(caps, quads)],
        params: bytemuck::bytes_of(&ExitStateParams { rows, quads }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![
            u64::from(rows) * size_of::<Row>() as u64,
            u64::from(sequences) * size_of::<ExitParams>() as u64,
            bytes,
            bytes,
            memo_bytes(rows),
            value_bytes(rows),
        ],
        cost: Cost { bytes: 3 * bytes, flops: 8 * u64::from(rows) * u64::from(n) },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: ExitStateParams = launch.params();
    let (rows, exit_params, state) = (slots.read::<Row>(), slots.read::<ExitParams>(), slots.read::<f32>());
    let previous = slots.write::<f32>();
    let (memo, values) = (slots.write::<Memo>(), slots.write::<f32>());
    let width = 4 * params.quads as usize;
    for row in (0..params.rows as usize).filter(|&row| rows[row].live != 0) {
        let due = exit_params[rows[row].sequence as usize].due(&rows[row]);
        let own = |criterion: &Criterion| !criterion.reads_out() && *criterion != Criterion::Gate;
        let Some(criterion) = due.filter(own) else { continue };
        let (now, before) = (&state[row * width..][..width], &mut previous[row * width..][..width]);
        let total = |of: fn(f64, f64) -> f64| -> f64 {
            now.iter().zip(&*before).map(|(&now, &before)| of(f64::from(now), f64::from(before))).sum()
        };
        let value = if criterion == Criterion::Cosine {
            let norms = total(|now, _| now * now).sqrt() * total(|_, before| before * before).sqrt();
            1.0 - total(|now, before| now * before) / norms.max(1e-8)
        } else {
            let moved = total(|now, before| (now - before) * (now - before)).sqrt();
            moved / total(|now, _| now * now).sqrt().max(1e-30)
        };
        before.copy_from_slice(now);
        let memo = &mut memo[row];
        memo.value = value as f32;
        if memo.checks < KEPT_VALUES {
            values[row * KEPT_VALUES as usize + memo.checks as usize] = memo.value;
        }
        memo.checks += 1;
    }
}

fn case(caps: &Caps, rows: u32, resting: u32, n: u32, criterion: Criterion, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = exit_state(caps, rows, 3, n);
    let mut table: Vec<Row> = bytemuck::cast_slice(&crate::row::test_rows(rows, resting)).to_vec();
    spread(&mut table, &mut noise);
    let memo: Vec<Memo> = (0..rows).map(|row| Memo { checks: row % 70, ..Memo::default() }).collect();
    Case {
        name: format!("{}, {rows} rows of {n}, {resting} resting", criterion.name()),
        data: vec![
            bytemuck::cast_slice(&table).to_vec(),
            bytemuck::cast_slice(&ExitParams::test(criterion, 0.5)).to_vec(),
            noise.matrix(rows, n, stride(n)),
            noise.matrix(rows, n, stride(n)),
            bytemuck::cast_slice(&memo).to_vec(),
            vec![0; launch.sizes[5] as usize / 4],
        ]
        .into(),
        // The memo mixes whole numbers and floats, so it is skipped; its value is also among the values.
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::Exact, Check::Skip, Check::F32],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let caps = &Caps::default();
    let (diff, cosine) = (Criterion::LatentDiff, Criterion::Cosine);
    vec![case(caps, 1, 0, 96, diff, 1), case(caps, 66, 3, 130, cosine, 2), case(caps, 2, 0, 5280, diff, 3)]
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(&work.caps, work.rows, 0, work.n_embd, Criterion::LatentDiff, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(40);
    let criterion = [Criterion::LatentDiff, Criterion::Cosine][noise.below(2) as usize];
    case(&Caps::default(), rows, noise.below(rows), 1 + noise.below(700), criterion, seed)
}
