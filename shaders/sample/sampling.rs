//! Sampling: temperature, top-k, top-p, min-p and the draw itself. Penalties are applied before, by [`super::penalize`].

use super::reference::{STREAM, reference};
use crate::recur::{SEQUENCE, THREEFRY};
use crate::shared::{params, table};
use crate::variants::{class_of_rows, of_reduction};
use crate::{
    Binding, Caps, Case, Check, Choice, Const, Cost, Kernel, Launch, Noise, Params, Part, ROW, Row, Sequence, Workload,
};
use crate::{Trial, Variants, activation_bytes, reduce, stride};

/// Draws tokens. The logits become the probabilities from which the tokens are drawn.
pub static SAMPLE: Kernel = Kernel {
    name: "sample",
    wgsl: include_str!("sample.wgsl"),
    parts: &[
        ROW,
        SEQUENCE,
        THREEFRY,
        Part::new("threshold", include_str!("threshold.wgsl"))
            .with_structs(&[Sampler::TABLE])
            .with_consts(&[Const::u32("STREAM", STREAM), Const::u32("BINS", BINS)]),
    ],
    bindings: &[
        Binding::read("picked", "Row"),
        Binding::read("sequences", "Sequence"),
        Binding::read("samplers", "Sampler"),
        Binding::write("probs", "vec4<f32>"),
        Binding::write("chosen", "u32"),
    ],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: SampleParams::FIELDS,
    params_size: size_of::<SampleParams>(),
    reference,
    cases,
    random,
    at,
};

/// Bins of a level in the search for thresholds: 8 bits.
const BINS: u32 = 256;

/// Bytes of workgroup memory of the search for thresholds: three tables of bins, and five scalars.
const SEARCH_MEMORY: u32 = (3 * BINS + 5) * 4;

params! {
    /// Parameters of [`SAMPLE`].
    pub struct SampleParams {
        /// Read-outs.
        pub outputs: u32,
        /// Logits per read-out.
        pub vocab: u32,
        /// Floats from read-out to read-out.
        pub stride: u32,
    }
}

table! {
    /// Sampling parameters of a sequence.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Sampler {
        /// Divides the logits; 0 chooses the most likely token.
        pub temperature: f32,
        /// Keeps the most likely tokens that together reach this probability, the crossing one included; 1 keeps all.
        pub top_p: f32,
        /// Keeps tokens of at least this share of the largest probability; 0 keeps all.
        pub min_p: f32,
        /// Keeps the k most likely tokens and all that equal the last of them; 0 keeps all.
        pub top_k: u32,
    }
}

impl Sampler {
    /// Always chooses the most likely token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, min_p: 0.0, top_k: 0 };
}

/// Draws a token for each row of `logits [outputs, vocab]`. Bindings: picked, sequences, samplers, logits, chosen `[outputs]`.
#[must_use]
pub fn sample(caps: &Caps, outputs: u32, vocab: u32, sequences: u32) -> Launch {
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let bytes = activation_bytes(outputs, vocab);
    let params = SampleParams { outputs, vocab, stride: stride(vocab) };
    let count = u64::from(sequences);
    Launch {
        kernel: &SAMPLE,
        choice,
        overrides: vec![reduce::lanes_over(caps, vocab.div_ceil(4))],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [outputs, 1, 1],
        sizes: vec![
            u64::from(outputs) * size_of::<Row>() as u64,
            count * size_of::<Sequence>() as u64,
            count * size_of::<Sampler>() as u64,
            bytes,
            u64::from(outputs) * 4,
        ],
        // Three of four iterations over the vocabulary write it, and the search for thresholds reads it four times more.
        cost: Cost { bytes: 11 * bytes, flops: u64::from(outputs) * u64::from(vocab) * 60 },
    }
}

/// All variants of a launch of [`sample`].
#[must_use]
pub fn sample_variants(caps: &Caps, launch: Launch) -> Variants {
    let SampleParams { outputs, vocab, .. } = launch.params();
    let class = format!("sample vocab={vocab} rows={}", class_of_rows(outputs));
    let fits = |launch: &Launch| reduce::memory(launch.overrides[0]) + SEARCH_MEMORY <= caps.max_workgroup_memory;
    let others: Vec<Launch> = of_reduction(caps, &launch, 0).into_iter().filter(fits).collect();
    Variants::new(class, launch, others)
}

pub(super) fn trials(work: &Workload) -> Vec<Trial> {
    let cases = at(work).into_iter();
    cases.map(|case| Trial { variants: sample_variants(&work.caps, case.launch.clone()), case }).collect()
}

fn case(caps: &Caps, outputs: u32, vocab: u32, samplers: &[Sampler], levels: Option<f32>, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let sequences = samplers.len() as u32;
    let launch = sample(caps, outputs, vocab, sequences);
    let row = |i: u32, noise: &mut Noise| Row::new(i % sequences, noise.below(50), 0);
    let picked: Vec<Row> = (0..outputs).map(|i| row(i, &mut noise)).collect();
    let seeds: Vec<Sequence> = (0..sequences)
        .map(|i| Sequence { seed: [seed as u32, i], state_seed: [0; 2], state_std: 1.0, steps: 0, reserved: [0; 2] })
        .collect();
    let mut logits = noise.matrix(outputs, vocab, stride(vocab));
    for bits in &mut logits {
        let value = f32::from_bits(*bits) * 6.0;
        *bits = levels.map_or(value, |levels| (value * levels / 6.0).round()).to_bits();
    }
    Case {
        name: format!("{outputs} of {vocab}, levels {levels:?}, seed {seed}, {} samplers", samplers.len()),
        data: vec![
            bytemuck::cast_slice(&picked).to_vec(),
            bytemuck::cast_slice(&seeds).to_vec(),
            bytemuck::cast_slice(samplers).to_vec(),
            logits,
            vec![0; outputs as usize],
        ]
        .into(),
        checks: [Check::Skip; 3].into_iter().chain([Check::F32, Check::Exact]).collect(),
        launch,
    }
}

fn cases() -> Vec<Case> {
    let caps = &Caps::default();
    let plain = Sampler { temperature: 1.0, ..Sampler::GREEDY };
    let settings = [
        plain,
        Sampler::GREEDY,
        Sampler { temperature: 0.7, ..plain },
        Sampler { top_k: 40, ..plain },
        Sampler { top_k: 1, ..plain },
        Sampler { top_p: 0.9, ..plain },
        Sampler { top_p: 0.001, ..plain },
        Sampler { min_p: 0.05, ..plain },
        Sampler { temperature: 1e-35, ..plain },
        Sampler { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05 },
    ];
    let tied = [settings[3], Sampler { top_p: 0.49, ..plain }, settings[1], settings[9]];
    vec![
        case(caps, 10, 777, &settings, None, 1),
        case(caps, 1, 65_536, &settings[9..], None, 2),
        // All logits equal: top-k keeps every tie, top-p exactly as many as it needs, from the lowest token on.
        case(caps, 4, 64, &tied, Some(0.0), 3),
        case(caps, 1, 1, &settings[..1], None, 4),
        // Few distinct logits: thresholds fall on ties.
        case(caps, 4, 5000, &tied, Some(4.0), 5),
        // Nanbeige's vocabulary, with all filters, with few, and with a top-k larger than the number of tokens whose weight is not 0.
        case(
            caps,
            3,
            166_144,
            &[settings[9], settings[5], Sampler { temperature: 0.01, top_k: 90_000, ..plain }],
            None,
            6,
        ),
    ]
}

fn at(work: &Workload) -> Vec<Case> {
    let usual = Sampler { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05 };
    // A few sequences with one output each, however many rows there are.
    vec![case(&work.caps, work.rows.min(8), work.vocab, &[usual], None, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let samplers: Vec<Sampler> = (0..1 + noise.below(4))
        .map(|_| Sampler {
            temperature: 0.3 + noise.signed().abs(),
            top_p: if noise.below(2) == 0 { 1.0 } else { 0.1 + 0.9 * noise.signed().abs() },
            min_p: if noise.below(2) == 0 { 0.0 } else { 0.2 * noise.signed().abs() },
            top_k: noise.below(100),
        })
        .collect();
    case(&Caps::default(), 1 + noise.below(6), 1 + noise.below(3000), &samplers, None, seed)
}
