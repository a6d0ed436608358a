//! Exit criteria on the read-out: how far the distribution of the next token has moved.

use super::params::{EXIT_PARAMS, spread};
use super::{Criterion, ExitParams, KEPT_VALUES, MEMO, Memo, memo_bytes, value_bytes};
use crate::shared::params;
use crate::{
    Binding, Caps, Case, Check, Choice, Const, Cost, Kernel, Launch, Noise, Params, Part, ROW, Row, Slots, Workload,
};
use crate::{activation_bytes, reduce, stride};

/// Compares read-outs with those of the last check.
pub static EXIT_READOUT: Kernel = Kernel {
    name: "exit_readout",
    wgsl: include_str!("exit_readout.wgsl"),
    parts: &[ROW, MEMO, EXIT_PARAMS, Part::shared(&[Const::f32("SHARE", SHARE)], &[])],
    bindings: &[
        Binding::read("picked", "Row"),
        Binding::read("exit_params", "ExitParams"),
        Binding::read("logits", "f32"),
        Binding::write("previous", "f32"),
        Binding::write("memo", "Memo"),
        Binding::write("values", "f32"),
    ],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: ExitReadoutParams::FIELDS,
    params_size: size_of::<ExitReadoutParams>(),
    reference,
    cases,
    random,
    at,
};

/// Min-p: tokens with less than this share of the largest probability count as equally unlikely.
const SHARE: f32 = 0.1;

params! {
    /// Parameters of [`EXIT_READOUT`].
    pub struct ExitReadoutParams {
        /// Read-outs.
        pub outputs: u32,
        /// Logits per read-out.
        pub vocab: u32,
        /// Floats from read-out to read-out.
        pub stride: u32,
    }
}

/// Compares `logits [outputs, vocab]` with the log-probabilities in `previous`, and replaces these by the current ones, for rows whose criterion compares
/// read-outs and whose current step is checked. Bindings: picked, exit_params `[sequences]`, logits, previous, memo `[outputs]`, values `[outputs,
/// KEPT_VALUES]`.
#[must_use]
pub fn exit_readout(caps: &Caps, outputs: u32, sequences: u32, vocab: u32) -> Launch {
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let bytes = activation_bytes(outputs, vocab);
    let params = ExitReadoutParams { outputs, vocab, stride: stride(vocab) };
    let table = u64::from(outputs) * size_of::<Row>() as u64;
    Launch {
        kernel: &EXIT_READOUT,
        choice,
        overrides: vec![reduce::lanes_over(caps, vocab)],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [outputs, 1, 1],
        sizes: vec![
            table,
            u64::from(sequences) * size_of::<ExitParams>() as u64,
            bytes,
            bytes,
            memo_bytes(outputs),
            value_bytes(outputs),
        ],
        cost: Cost { bytes: 5 * bytes, flops: u64::from(outputs) * u64::from(vocab) * 30 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: ExitReadoutParams = launch.params();
    let (picked, exit_params, logits) = (slots.read::<Row>(), slots.read::<ExitParams>(), slots.read::<f32>());
    let previous = slots.write::<f32>();
    let (memo, values) = (slots.write::<Memo>(), slots.write::<f32>());
    let (stride, vocab) = (params.stride as usize, params.vocab as usize);
    for output in (0..params.outputs as usize).filter(|&output| picked[output].live != 0) {
        let due = exit_params[picked[output].sequence as usize].due(&picked[output]);
        let Some(criterion) = due.filter(|criterion| criterion.reads_out()) else { continue };
        let logits = &logits[output * stride..][..vocab];
        let last = memo[output];
        let previous = &mut previous[output * stride..][..vocab];
        let (token, now) = compare(criterion, logits, last, previous);
        let (value, entropy, count) = now;
        memo[output] = Memo { checks: last.checks + 1, token, count, entropy, value: value as f32, ..Memo::default() };
        if last.checks < KEPT_VALUES {
            values[output * KEPT_VALUES as usize + last.checks as usize] = value as f32;
        }
    }
}

/// Returns the most likely token, and value, entropy and count.
fn compare(criterion: Criterion, logits: &[f32], last: Memo, previous: &mut [f32]) -> (u32, (f64, f32, u32)) {
    let best = |(v, best): (u32, f32), (w, &logit): (u32, &f32)| if logit > best { (w, logit) } else { (v, best) };
    let (token, largest) = (0..).zip(logits).fold((0, f32::NEG_INFINITY), best);
    if criterion == Criterion::ArgmaxStability {
        let count = if last.checks > 0 && last.token == token { last.count + 1 } else { 0 };
        return (token, (f64::from(count), 0.0, count));
    }
    let largest = f64::from(largest);
    let level = largest + logits.iter().map(|&l| (f64::from(l) - largest).exp()).sum::<f64>().ln();
    let mut now: Vec<f64> = logits.iter().map(|&l| f64::from(l) - level).collect();
    if criterion == Criterion::EntropyDiff {
        let entropy: f64 = now.iter().map(|l| -l.exp() * (l.exp() + 1e-10).ln()).sum();
        let before = if last.checks > 0 { f64::from(last.entropy) } else { 100.0 };
        return (token, ((entropy - before).abs(), entropy as f32, 0));
    }
    let uniform = -(logits.len() as f64).ln();
    if criterion == Criterion::MinPKl {
        let floor = largest - level + f64::from(SHARE).ln();
        now.iter_mut().filter(|l| **l < floor).for_each(|l| *l = uniform);
        let norm = now.iter().map(|l| l.exp()).sum::<f64>().ln();
        now.iter_mut().for_each(|l| *l -= norm);
    }
    let mut value = 0.0;
    for (before, now) in previous.iter_mut().zip(now) {
        let then = if last.checks > 0 { f64::from(*before) } else { uniform };
        value += then.exp() * (then - now);
        *before = now as f32;
    }
    (token, (value, 0.0, 0))
}

fn case(caps: &Caps, outputs: u32, resting: u32, vocab: u32, criterion: Criterion, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = exit_readout(caps, outputs, 3, vocab);
    let mut table: Vec<Row> = bytemuck::cast_slice(&crate::row::test_rows(outputs, resting)).to_vec();
    spread(&mut table, &mut noise);
    let scaled = |words: Vec<u32>| words.into_iter().map(|bits| (f32::from_bits(bits) * 6.0).to_bits()).collect();
    let mut logits: Vec<u32> = scaled(noise.matrix(outputs, vocab, stride(vocab)));
    let mut previous: Vec<u32> = Vec::new();
    for row in scaled(noise.matrix(outputs, vocab, stride(vocab))).chunks_mut(stride(vocab) as usize) {
        let values = || row[..vocab as usize].iter().map(|&bits| f64::from(f32::from_bits(bits)));
        let level = values().map(f64::exp).sum::<f64>().ln();
        previous.extend(values().map(|l| ((l - level) as f32).to_bits()));
        previous.resize(previous.len() + (stride(vocab) - vocab) as usize, 0);
    }
    let memo: Vec<Memo> = (0..outputs)
        .map(|i| Memo { checks: i % 70, token: noise.below(vocab), count: 3, entropy: 2.5, ..Memo::default() })
        .collect();
    // Every other read-out chooses the same token as before.
    for (i, memo) in memo.iter().enumerate().step_by(2) {
        logits[i * stride(vocab) as usize + memo.token as usize] = 50_f32.to_bits();
    }
    Case {
        name: format!("{}, {outputs} of {vocab}, {resting} resting", criterion.name()),
        data: vec![
            bytemuck::cast_slice(&table).to_vec(),
            bytemuck::cast_slice(&ExitParams::test(criterion, 0.5)).to_vec(),
            logits,
            previous,
            bytemuck::cast_slice(&memo).to_vec(),
            vec![0; launch.sizes[5] as usize / 4],
        ]
        .into(),
        // The memo mixes whole numbers and floats, so it is skipped; its value is also among the values.
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::F32, Check::Skip, Check::F32],
        launch,
    }
}

const CRITERIA: [Criterion; 4] = [Criterion::EntropyDiff, Criterion::Kl, Criterion::MinPKl, Criterion::ArgmaxStability];

fn cases() -> Vec<Case> {
    let caps = &Caps::default();
    let shapes = [(1, 0, 448), (5, 1, 777), (2, 0, 65_536)];
    let each = CRITERIA.into_iter().zip(1..).flat_map(|(criterion, seed)| {
        shapes.map(|(outputs, resting, vocab)| case(caps, outputs, resting, vocab, criterion, seed))
    });
    each.collect()
}

fn at(work: &Workload) -> Vec<Case> {
    // A few sequences with one output each, however many rows there are.
    vec![case(&work.caps, work.rows.min(8), 0, work.vocab, Criterion::Kl, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let outputs = 1 + noise.below(6);
    let criterion = CRITERIA[noise.below(4) as usize];
    case(&Caps::default(), outputs, noise.below(outputs), 1 + noise.below(3000), criterion, seed)
}
