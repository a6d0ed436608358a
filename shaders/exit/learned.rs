//! Learned gate: a probability of exiting at each step, given the state (Ouro, arXiv 2510.25741, section 3).
//!
//! `λ = sigmoid(w·s + b)` is the probability that a row exits at a step if it has not exited before. The probability that it exits at this step is `λ` times
//! that of its survival, `∏ (1 − λ)` over the steps before. The sum of these probabilities so far is compared with the threshold.

use super::params::{EXIT_PARAMS, spread};
use super::{Criterion, ExitParams, KEPT_VALUES, MEMO, Memo, memo_bytes, value_bytes};
use crate::shared::params;
use crate::{Binding, Caps, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// Sums a learned gate's exit probabilities.
pub static EXIT_GATE: Kernel = Kernel {
    name: "exit_gate",
    wgsl: include_str!("exit_gate.wgsl"),
    parts: &[ROW, MEMO, EXIT_PARAMS],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("exit_params", "ExitParams"),
        Binding::read("state", "vec4<f32>"),
        Binding::read("w", "vec4<f32>"),
        Binding::write("memo", "Memo"),
        Binding::write("values", "f32"),
    ],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: ExitGateParams::FIELDS,
    params_size: size_of::<ExitGateParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`EXIT_GATE`].
    pub struct ExitGateParams {
        /// Rows of the table.
        pub rows: u32,
        /// Quads from row to row of the state.
        pub quads: u32,
    }
}

/// Bytes of a gate's weights: `[n]`, padded like an activation, then four words, the first of which is the bias.
#[must_use]
pub fn gate_bytes(n: u32) -> u64 {
    activation_bytes(1, n) + 16
}

/// Evaluates the gate on `state [rows, n]` for every active row whose criterion is [`Criterion::Gate`], whether or not this step is checked.
///
/// To be launched once per step, before [`exit_leave`](super::exit_leave). Bindings: rows, exit_params `[sequences]`, state, w ([`gate_bytes`]), memo `[rows]`,
/// values `[rows, KEPT_VALUES]`.
#[must_use]
pub fn exit_gate(caps: &Caps, rows: u32, sequences: u32, n: u32) -> Launch {
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let (bytes, quads) = (activation_bytes(rows, n), stride(n) / 4);
    Launch {
        kernel: &EXIT_GATE,
        choice,
        overrides: vec![reduce::lanes_over(caps, quads)],
        params: bytemuck::bytes_of(&ExitGateParams { rows, quads }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![
            u64::from(rows) * size_of::<Row>() as u64,
            u64::from(sequences) * size_of::<ExitParams>() as u64,
            bytes,
            gate_bytes(n),
            memo_bytes(rows),
            value_bytes(rows),
        ],
        cost: Cost { bytes, flops: 2 * u64::from(rows) * u64::from(n) },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: ExitGateParams = launch.params();
    let (rows, exit_params, state) = (slots.read::<Row>(), slots.read::<ExitParams>(), slots.read::<f32>());
    let w = slots.read::<f32>();
    let (memo, values) = (slots.write::<Memo>(), slots.write::<f32>());
    let width = 4 * params.quads as usize;
    for row in (0..params.rows as usize).filter(|&row| rows[row].live != 0) {
        if exit_params[rows[row].sequence as usize].criterion() != Some(Criterion::Gate) {
            continue;
        }
        let products = state[row * width..][..width].iter().zip(w).map(|(&s, &w)| f64::from(s) * f64::from(w));
        let leaves = 1.0 / (1.0 + (-(products.sum::<f64>() + f64::from(w[width]))).exp());
        let last = memo[row];
        let (survival, left) =
            if last.checks > 0 { (f64::from(last.survival), f64::from(last.value)) } else { (1.0, 0.0) };
        let value = (left + leaves * survival) as f32;
        memo[row] = Memo { checks: last.checks + 1, survival: (survival * (1.0 - leaves)) as f32, value, ..last };
        if last.checks < KEPT_VALUES {
            values[row * KEPT_VALUES as usize + last.checks as usize] = value;
        }
    }
}

fn case(caps: &Caps, rows: u32, resting: u32, n: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = exit_gate(caps, rows, 3, n);
    let mut table: Vec<Row> = bytemuck::cast_slice(&crate::row::test_rows(rows, resting)).to_vec();
    spread(&mut table, &mut noise);
    // Some memos have had no check: the rest of their content must not count.
    let memo = |row: u32, noise: &mut Noise| {
        let (survival, value) = (noise.signed().abs(), noise.signed().abs());
        Memo { checks: row % 70, survival, value, ..Memo::default() }
    };
    let memo: Vec<Memo> = (0..rows).map(|row| memo(row, &mut noise)).collect();
    let mut w = noise.matrix(1, n, stride(n));
    w.extend([noise.signed(), 1e9, 1e9, 1e9].map(f32::to_bits));
    Case {
        name: format!("{rows} rows of {n}, {resting} resting"),
        data: vec![
            bytemuck::cast_slice(&table).to_vec(),
            bytemuck::cast_slice(&ExitParams::test(Criterion::Gate, 0.5)).to_vec(),
            noise.matrix(rows, n, stride(n)),
            w,
            bytemuck::cast_slice(&memo).to_vec(),
            vec![0; launch.sizes[5] as usize / 4],
        ]
        .into(),
        // The memo is compared as f32: survival and value are computed like the values, and the other fields are whole numbers.
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::Skip, Check::F32, Check::F32],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let caps = &Caps::default();
    vec![case(caps, 1, 0, 1, 1), case(caps, 66, 3, 130, 2), case(caps, 9, 1, 96, 3), case(caps, 2, 0, 5280, 4)]
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(&work.caps, work.rows, 0, work.n_embd, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(40);
    case(&Caps::default(), rows, noise.below(rows), 1 + noise.below(700), seed)
}
