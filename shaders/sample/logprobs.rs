//! Log-probabilities of the chosen token and of the most likely ones, from a softmax over the model's unmodified logits.

use crate::shared::params;
use crate::{
    Binding, Caps, Case, Check, Choice, Const, Cost, Kernel, Launch, Noise, Params, Part, ROW, Row, Slots, Workload,
};
use crate::{activation_bytes, reduce, stride};

/// Ranks tokens and computes their log-probabilities.
pub static LOGPROBS: Kernel = Kernel {
    name: "logprobs",
    wgsl: include_str!("logprobs.wgsl"),
    parts: &[ROW, Part::shared(&[Const::f32("MOST", MOST)], &[])],
    bindings: &[
        Binding::read("picked", "Row"),
        Binding::read("logits", "f32"),
        Binding::read("chosen", "u32"),
        Binding::write("ranked", "u32"),
        Binding::write("logprobs", "f32"),
    ],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: LogprobsParams::FIELDS,
    params_size: size_of::<LogprobsParams>(),
    reference,
    cases,
    random,
    at,
};

/// Bound on logits, larger than any that a model computes, so that sums and differences stay finite.
const MOST: f32 = 1e38;

params! {
    /// Parameters of [`LOGPROBS`].
    pub struct LogprobsParams {
        /// Read-outs.
        pub outputs: u32,
        /// Logits per read-out.
        pub vocab: u32,
        /// Floats from read-out to read-out.
        pub stride: u32,
        /// Tokens that are ranked.
        pub count: u32,
    }
}

/// Ranks the `count` most likely tokens of `logits [outputs, vocab]`, at most `vocab`; of equal ones, the lower token first. `ranked` and `logprobs` `[outputs,
/// 1 + count]` begin with the chosen token. Bindings: picked, logits, chosen `[outputs]`, ranked, logprobs.
#[must_use]
pub fn logprobs(caps: &Caps, outputs: u32, vocab: u32, count: u32) -> Launch {
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let bytes = activation_bytes(outputs, vocab);
    let params = LogprobsParams { outputs, vocab, stride: stride(vocab), count: count.min(vocab) };
    let ranked = ranked_bytes(outputs, params.count);
    Launch {
        kernel: &LOGPROBS,
        choice,
        overrides: vec![reduce::lanes_over(caps, vocab)],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [outputs, 1, 1],
        sizes: vec![u64::from(outputs) * size_of::<Row>() as u64, bytes, u64::from(outputs) * 4, ranked, ranked],
        cost: Cost { bytes: 2 * bytes, flops: u64::from(outputs) * u64::from(vocab) * 4 },
    }
}

/// Bytes of `count` ranked tokens and the chosen one, per read-out, or of their log-probabilities.
#[must_use]
pub const fn ranked_bytes(outputs: u32, count: u32) -> u64 {
    outputs as u64 * (count as u64 + 1) * 4
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: LogprobsParams = launch.params();
    let (picked, logits, chosen) = (slots.read::<Row>(), slots.read::<f32>(), slots.read::<u32>());
    let (ranked, logprobs) = (slots.write::<u32>(), slots.write::<f32>());
    let places = params.count as usize + 1;
    let found = ranked.chunks_mut(places).zip(logprobs.chunks_mut(places));
    let read_outs = logits.chunks(params.stride as usize).zip(found).take(params.outputs as usize);
    for (output, (logits, (ranked, logprobs))) in read_outs.enumerate().filter(|(at, _)| picked[*at].live != 0) {
        let sane = |logit: f32| if logit.is_nan() { -MOST } else { logit.clamp(-MOST, MOST) };
        let logits: Vec<f32> = logits[..params.vocab as usize].iter().map(|&logit| sane(logit)).collect();
        let largest = logits.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(largest)).exp()).sum();
        let mut order: Vec<u32> = (0..params.vocab).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        let first = chosen[output].min(params.vocab - 1);
        let tokens = std::iter::once(first).chain(order);
        for ((ranked, logprob), token) in ranked.iter_mut().zip(logprobs).zip(tokens) {
            *ranked = token;
            *logprob = (f64::from(logits[token as usize]) - f64::from(largest) - total.ln()) as f32;
        }
    }
}

fn case(caps: &Caps, (outputs, vocab, count): (u32, u32, u32), levels: u32, wild: bool, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = logprobs(caps, outputs, vocab, count);
    let mut logits = noise.matrix(outputs, vocab, stride(vocab));
    for (i, bits) in logits.iter_mut().enumerate() {
        // Few distinct values make many ties.
        let value = if levels > 0 { (*bits % levels) as f32 } else { f32::from_bits(*bits) * 12.0 };
        let strange = [f32::NAN, f32::NEG_INFINITY, -3e38][i % 3];
        *bits = if wild && i % 4 == 1 { strange } else { value }.to_bits();
    }
    let chosen = (0..outputs).map(|_| if wild { 4 * noise.below(vocab / 4) } else { noise.below(vocab) }).collect();
    let words = launch.sizes[3] as usize / 4;
    Case {
        name: format!("{count} and one of {vocab}, {outputs} read-outs, {levels} levels, wild {wild}"),
        data: vec![
            crate::row::test_rows(outputs, u32::from(outputs > 3)),
            logits,
            chosen,
            vec![0; words],
            vec![0; words],
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::Exact, Check::F32],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let shapes = [
        ((1, 448, 0), 0, false),
        ((1, 1, 20), 0, false),
        ((5, 777, 20), 3, false),
        ((2, 65_536, 20), 0, false),
        ((1, 131_072, 5), 7, false),
        ((3, 19, 20), 2, false),
        ((4, 500, 9), 0, true),
    ];
    let caps = &Caps::default();
    shapes.into_iter().zip(1..).map(|((shape, levels, wild), seed)| case(caps, shape, levels, wild, seed)).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    // A few sequences with one output each, however many rows there are.
    vec![case(&work.caps, (work.rows.min(8), work.vocab, 10), 0, false, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let shape = (1 + noise.below(6), 1 + noise.below(5000), noise.below(21));
    case(&Caps::default(), shape, noise.below(9), false, seed)
}
