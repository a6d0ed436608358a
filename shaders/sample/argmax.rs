//! Greedy choice of tokens.

use crate::shared::params;
use crate::variants::{class_of_rows, of_reduction};
use crate::{Binding, Caps, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload};
use crate::{Trial, Variants, activation_bytes, reduce, stride};

/// Chooses the token with the largest logit.
pub static ARGMAX: Kernel = Kernel {
    name: "argmax",
    wgsl: include_str!("argmax.wgsl"),
    parts: &[ROW],
    bindings: &[Binding::read("picked", "Row"), Binding::read("logits", "f32"), Binding::write("chosen", "u32")],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: ArgmaxParams::FIELDS,
    params_size: size_of::<ArgmaxParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`ARGMAX`].
    pub struct ArgmaxParams {
        /// Read-outs.
        pub outputs: u32,
        /// Logits per read-out.
        pub vocab: u32,
        /// Floats from read-out to read-out.
        pub stride: u32,
    }
}

/// Chooses a token for each row of `logits [outputs, vocab]`. Bindings: picked, logits, chosen `[outputs]`.
#[must_use]
pub fn argmax(caps: &Caps, outputs: u32, vocab: u32) -> Launch {
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let bytes = activation_bytes(outputs, vocab);
    Launch {
        kernel: &ARGMAX,
        choice,
        overrides: vec![reduce::lanes_over(caps, vocab)],
        params: bytemuck::bytes_of(&ArgmaxParams { outputs, vocab, stride: stride(vocab) }).to_vec(),
        workgroups: [outputs, 1, 1],
        sizes: vec![u64::from(outputs) * size_of::<Row>() as u64, bytes, u64::from(outputs) * 4],
        cost: Cost { bytes, flops: u64::from(outputs) * u64::from(vocab) },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: ArgmaxParams = launch.params();
    let (picked, logits, chosen) = (slots.read::<Row>(), slots.read::<f32>(), slots.write::<u32>());
    for (output, logits) in logits.chunks(params.stride as usize).enumerate().take(params.outputs as usize) {
        if picked[output].live != 0 {
            let better =
                |(v, best): (u32, f32), (w, &logit): (u32, &f32)| if logit > best { (w, logit) } else { (v, best) };
            let logits = &logits[..params.vocab as usize];
            chosen[output] = (0..).zip(logits).fold((0, f32::NEG_INFINITY), better).0;
        }
    }
}

fn case(caps: &Caps, outputs: u32, vocab: u32, levels: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = argmax(caps, outputs, vocab);
    let mut logits = noise.matrix(outputs, vocab, stride(vocab));
    if levels > 0 {
        // Few distinct values make many ties.
        logits.iter_mut().for_each(|bits| *bits = ((*bits % levels) as f32).to_bits());
    }
    Case {
        name: format!("{outputs} of {vocab}, {levels} levels"),
        launch,
        data: vec![crate::row::test_rows(outputs, u32::from(outputs > 3)), logits, vec![0; outputs as usize]].into(),
        checks: vec![Check::Skip, Check::Skip, Check::Exact],
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 448, 0), (1, 777, 3), (5, 1, 0), (3, 65536, 0), (4, 65536, 7), (70, 33, 2)];
    shapes
        .into_iter()
        .zip(1..)
        .map(|((outputs, vocab, levels), seed)| case(&Caps::default(), outputs, vocab, levels, seed))
        .collect()
}

/// All variants of a launch of [`argmax`].
#[must_use]
pub fn argmax_variants(caps: &Caps, launch: Launch) -> Variants {
    let ArgmaxParams { outputs, vocab, .. } = launch.params();
    let class = format!("argmax vocab={vocab} rows={}", class_of_rows(outputs));
    let others = of_reduction(caps, &launch, 0);
    Variants::new(class, launch, others)
}

pub(super) fn trials(work: &Workload) -> Vec<Trial> {
    let cases = at(work).into_iter();
    cases.map(|case| Trial { variants: argmax_variants(&work.caps, case.launch.clone()), case }).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    // A few sequences with one output each, however many rows there are.
    vec![case(&work.caps, work.rows.min(8), work.vocab, 0, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    case(&Caps::default(), 1 + noise.below(9), 1 + noise.below(5000), noise.below(9), seed)
}
