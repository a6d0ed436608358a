//! Cases: histories that repeat themselves in various ways, biases, and logits that are not finite.

use super::{Penalties, breaker_words, penalize};
use crate::{Case, Check, Noise, Row, Workload, stride};

/// Parameters of a case.
struct Setting<'a> {
    outputs: u32,
    vocab: u32,
    /// Positions per sequence.
    context: u32,
    rules: &'a [Penalties],
    /// Token at a position.
    past: &'a dyn Fn(&mut Noise, u32) -> u32,
    /// One in this many tokens is a breaker; 0 for none.
    breakers: u32,
    /// Whether some logits are not finite, and some biases extreme.
    wild: bool,
    /// Whether rows are at the end of the context instead of anywhere.
    full: bool,
}

fn case(name: &str, setting: &Setting<'_>, seed: u64) -> Case {
    let &Setting { outputs, vocab, context, rules, past, breakers, wild, full } = setting;
    let mut noise = Noise::new(seed);
    let sequences = rules.len() as u32;
    let launch = penalize(outputs, vocab, sequences, context);
    let row = |i: u32, noise: &mut Noise| Row {
        live: u32::from(i % 5 != 4),
        ..Row::new(i % sequences, if full { context - 1 } else { noise.below(context) }, 0)
    };
    let picked: Vec<Row> = (0..outputs).map(|i| row(i, &mut noise)).collect();
    let history = (0..sequences * context).map(|i| past(&mut noise, i % context)).collect();
    let mut logits = noise.matrix(outputs, vocab, stride(vocab));
    logits.iter_mut().for_each(|bits| *bits = (f32::from_bits(*bits) * 8.0).to_bits());
    let mut bias = noise.matrix(sequences, vocab, vocab);
    if wild {
        for (i, bits) in logits.iter_mut().enumerate().filter(|(i, _)| i % 5 == 0) {
            *bits = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN, 3e38][i / 5 % 5].to_bits();
        }
        for (i, bits) in bias.iter_mut().enumerate().filter(|(i, _)| i % 7 == 0) {
            *bits = [-1e30, 1e30_f32][i / 7 % 2].to_bits();
        }
    }
    let word = |noise: &mut Noise| (0..32).fold(0, |bits, i| bits | u32::from(noise.below(breakers) == 0) << i);
    let words = sequences * breaker_words(vocab);
    let breaker_bits = (0..words).map(|_| if breakers == 0 { 0 } else { word(&mut noise) }).collect();
    // Values differ so much in magnitude that only the largest would count in a mean.
    let check = if wild { Check::Exact } else { Check::F32 };
    Case {
        name: format!("{name}, {outputs} of {vocab} after at most {context}, {sequences} rules, seed {seed}"),
        data: vec![
            bytemuck::cast_slice(&picked).to_vec(),
            bytemuck::cast_slice(rules).to_vec(),
            history,
            bias,
            breaker_bits,
            logits,
            vec![7; launch.sizes[6] as usize / 4],
            vec![0; launch.sizes[7] as usize / 4],
        ]
        .into(),
        checks: [Check::Skip; 7].into_iter().chain([check]).collect(),
        launch,
    }
}

pub(super) fn cases() -> Vec<Case> {
    let none = Penalties::NONE;
    let dry = none.with_dry(0.8, 1.75, 2, 0);
    let all = Penalties { repeat_penalty: 1.3, repeat_window: 8, biased: 1, ..dry };
    let rules = [
        none,
        dry,
        all,
        Penalties { repeat_penalty: 1.3, ..none },
        Penalties { repeat_penalty: 0.7, repeat_window: 1, ..none },
        Penalties { biased: 1, ..none },
        none.with_dry(2.0, 1.2, 1, 9),
        none.with_dry(0.5, 1.0, 3, 0),
    ];
    let few = |noise: &mut Noise, _| noise.below(3);
    let plain = Setting {
        outputs: 16,
        vocab: 777,
        context: 60,
        rules: &rules,
        past: &few,
        breakers: 0,
        wild: false,
        full: false,
    };
    let gentle = [none.with_dry(0.1, 1.05, 2, 0), none.with_dry(0.1, 1.2, 40, 0)];
    // Nothing but matches, up to the longest.
    let endless = [none.with_dry(0.1, 1.0005, 1024, 0)];
    let same = |_: &mut Noise, _| 5;
    let rising = |_: &mut Noise, position| position;
    vec![
        case("few tokens", &plain, 1),
        case("few tokens, many breakers", &Setting { breakers: 3, ..plain }, 2),
        case("no match", &Setting { past: &rising, full: true, ..plain }, 3),
        case("all the same", &Setting { rules: &gentle, outputs: 2, past: &same, full: true, ..plain }, 4),
        case("one token", &Setting { context: 1, ..plain }, 5),
        case("one token there is", &Setting { vocab: 1, rules: &rules[..1], outputs: 1, ..plain }, 6),
        case(
            "the largest vocabulary",
            &Setting { vocab: 131_072, rules: &rules[2..3], outputs: 1, full: true, ..plain },
            7,
        ),
        case(
            "a long past",
            &Setting { context: 4096, rules: &endless, outputs: 1, past: &same, full: true, ..plain },
            8,
        ),
        case("wild values", &Setting { wild: true, rules: &[none, rules[5]], outputs: 4, ..plain }, 9),
        case(
            "tokens that the model does not have",
            &Setting { vocab: 33, past: &|noise, _| noise.below(40), ..plain },
            10,
        ),
    ]
}

pub(super) fn at(work: &Workload) -> Vec<Case> {
    let rules = [Penalties { repeat_penalty: 1.1, biased: 1, ..Penalties::NONE }.with_dry(0.8, 1.75, 2, 0)];
    let past = |noise: &mut Noise, _| noise.below(work.vocab);
    let setting = Setting {
        // A few sequences with one output each, however many rows there are.
        outputs: work.rows.min(8),
        vocab: work.vocab,
        context: work.positions,
        rules: &rules,
        past: &past,
        breakers: 0,
        wild: false,
        full: true,
    };
    vec![case("the usual", &setting, 1)]
}

pub(super) fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let vocab = 1 + noise.below(3000);
    let tokens = 1 + noise.below(vocab.min(6));
    let rule = |noise: &mut Noise| {
        let (multiplier, base) = (noise.signed().abs(), 1.0 + 0.1 * noise.signed().abs());
        let rule = Penalties {
            repeat_penalty: if noise.below(2) == 0 { 1.0 } else { 1.2 },
            repeat_window: noise.below(20),
            biased: noise.below(2),
            ..Penalties::NONE
        };
        if noise.below(3) == 0 { rule } else { rule.with_dry(multiplier, base, 1 + noise.below(4), noise.below(50)) }
    };
    let rules: Vec<Penalties> = (0..1 + noise.below(4)).map(|_| rule(&mut noise)).collect();
    let past = move |noise: &mut Noise, _| noise.below(tokens);
    let setting = Setting {
        outputs: 1 + noise.below(9),
        vocab,
        context: 1 + noise.below(200),
        rules: &rules,
        past: &past,
        breakers: noise.below(5),
        wild: false,
        full: noise.below(2) == 0,
    };
    case("anything", &setting, seed)
}
