//! Noise between the steps of the recurrence, as the authors' code adds it at test time: before every step, a standard normal replaces a share of the state,
//! and the result may be normed as the core block norms its output. Unlike there, runs can be repeated: a counter-based generator, keyed with seed, position
//! and step, draws the numbers.

use super::normal::{NORMAL, normals_within};
use super::{SEQUENCE, THREEFRY, Threefry, unit};
use crate::shared::{params, table};
use crate::{
    Binding, Caps, Case, Check, Choice, Const, Cost, Kernel, Launch, NONE, Noise, Params, Part, ROW, Row, Sequence,
};
use crate::{Slots, Workload, activation_bytes, reduce, stride};

/// Mixes noise into states.
pub static NOISE: Kernel = Kernel {
    name: "noise",
    wgsl: include_str!("noise.wgsl"),
    parts: &[ROW, SEQUENCE, THREEFRY, NORMAL, Part::shared(CONSTS, &[SequenceNoise::TABLE])],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("sequences", "Sequence"),
        Binding::read("sequence_noise", "SequenceNoise"),
        Binding::read("w", "vec4<f32>"),
        Binding::write("state", "vec4<f32>"),
    ],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: NoiseParams::FIELDS,
    params_size: size_of::<NoiseParams>(),
    reference,
    cases,
    random,
    at,
};

const CONSTS: &[Const] = &[
    Const::u32("FIXED", NoiseKind::Fixed as u32),
    Const::u32("GEOM", NoiseKind::Geom as u32),
    Const::u32("SQRT", NoiseKind::Sqrt as u32),
    Const::u32("LINE", NoiseKind::Line as u32),
    Const::u32("STREAM", STREAM),
];

params! {
    /// Parameters of [`NOISE`].
    pub struct NoiseParams {
        /// Rows of the table.
        pub rows: u32,
        /// Values per row.
        pub n: u32,
        /// Quads of values per padded row.
        pub quads: u32,
        /// Added to the mean square.
        pub eps: f32,
    }
}

/// Schedule of the noise: the share of the state that it replaces before step i, from 0, given an amount a.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum NoiseKind {
    /// a.
    Fixed,
    /// a / (i + 1).
    Geom,
    /// a / √(i + 1).
    Sqrt,
    /// (R - i) / R, but at least a, where R is the model's mean recurrence: the first state is pure noise.
    Line,
    /// Between 0 and 2·a, at random for each position and step.
    Chi,
}

impl NoiseKind {
    /// All schedules, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Fixed, Self::Geom, Self::Sqrt, Self::Line, Self::Chi];

    /// Name in the authors' code.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Geom => "geom",
            Self::Sqrt => "sqrt",
            Self::Line => "line",
            Self::Chi => "chi",
        }
    }

    /// Share before a step; `chance` is between 0 and 1.
    fn share(self, amount: f64, step: u32, steps: f64, chance: f64) -> f64 {
        let i = f64::from(step);
        match self {
            Self::Fixed => amount,
            Self::Geom => amount / (i + 1.0),
            Self::Sqrt => amount / (i + 1.0).sqrt(),
            Self::Line => amount.max((steps - i) / steps),
            Self::Chi => 2.0 * chance * amount,
        }
    }
}

/// Noise that is mixed into the states of a sequence before every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseRule {
    /// Schedule.
    pub kind: NoiseKind,
    /// Amount from which the share is computed.
    pub amount: f32,
    /// Steps over which [`NoiseKind::Line`] falls.
    pub steps: u32,
    /// Whether the state is normed after mixing.
    pub renorm: bool,
}

table! {
    /// Entry of the noise table: the [`NoiseRule`] of a sequence, or none.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct SequenceNoise {
        /// Code of the [`NoiseKind`], or [`NONE`] for no noise.
        pub kind: u32,
        /// Amount from which the share is computed.
        pub amount: f32,
        /// Steps over which [`NoiseKind::Line`] falls.
        pub steps: f32,
        /// 1 if the state is normed after mixing.
        pub renorm: u32,
    }
}

impl SequenceNoise {
    /// No noise.
    pub const NOTHING: Self = Self { kind: NONE, amount: 0.0, steps: 1.0, renorm: 0 };
}

impl From<NoiseRule> for SequenceNoise {
    fn from(NoiseRule { kind, amount, steps, renorm }: NoiseRule) -> Self {
        Self { kind: kind as u32, amount, steps: steps as f32, renorm: u32::from(renorm) }
    }
}

/// Mixes noise into `state [rows, n]` of active rows whose sequences have a rule. `eps` is added to the mean square of a state that is normed. Bindings: rows,
/// sequences, sequence_noise `[sequences]`, w `[n]` (weights of the norm), state.
#[must_use]
pub fn noise(caps: &Caps, rows: u32, sequences: u32, n: u32, eps: f32) -> Launch {
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let (quads, bytes) = (stride(n) / 4, activation_bytes(rows, n));
    let params = NoiseParams { rows, n, quads, eps };
    Launch {
        kernel: &NOISE,
        choice,
        overrides: vec![reduce::lanes(quads, 128)],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![
            u64::from(rows) * size_of::<Row>() as u64,
            u64::from(sequences) * size_of::<Sequence>() as u64,
            u64::from(sequences) * size_of::<SequenceNoise>() as u64,
            activation_bytes(1, n),
            bytes,
        ],
        cost: Cost { bytes: 2 * bytes, flops: u64::from(rows) * u64::from(n) * 120 },
    }
}

/// Stream of random numbers; not 0, so that they differ from those of initial states and samples.
const STREAM: u32 = 0x6e6f_6973;

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: NoiseParams = launch.params();
    let (rows, sequences, sequence_noise) =
        (slots.read::<Row>(), slots.read::<Sequence>(), slots.read::<SequenceNoise>());
    let (w, state) = (slots.read::<f32>(), slots.write::<f32>());
    let (n, width) = (params.n as usize, params.quads as usize * 4);
    for (row, state) in rows.iter().zip(state.chunks_mut(width)).take(params.rows as usize) {
        let entry = sequence_noise[row.sequence as usize];
        let Some(kind) = NoiseKind::ALL.get(entry.kind as usize).filter(|_| row.live != 0) else { continue };
        let [low, high] = sequences[row.sequence as usize].seed;
        let key = Threefry::from_words([low, high ^ STREAM]).block([row.position, row.step]);
        let chance = unit(Threefry::from_words(key).block([0, 1])[0]);
        let share = kind.share(f64::from(entry.amount), row.step, f64::from(entry.steps), chance);
        let drawn = normals_within(1.0, key);
        let mixed: Vec<f64> =
            state[..n].iter().zip(drawn).map(|(&x, drawn)| f64::from(x) * (1.0 - share) + drawn * share).collect();
        let squares: f64 = mixed.iter().map(|x| x * x).sum();
        let scale = 1.0 / (squares / n as f64 + f64::from(params.eps)).sqrt();
        for ((x, mixed), &w) in state.iter_mut().zip(mixed).zip(w) {
            *x = (if entry.renorm == 0 { mixed } else { mixed * scale * f64::from(w) }) as f32;
        }
    }
}

/// Rows of three sequences: one with the rule, one with another rule, one without noise.
fn case(caps: &Caps, rows: u32, n: u32, rule: NoiseRule, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = self::noise(caps, rows, 3, n, 1e-6);
    let other = NoiseRule { kind: NoiseKind::Sqrt, renorm: !rule.renorm, ..rule };
    let sequence_noise = [SequenceNoise::from(rule), SequenceNoise::from(other), SequenceNoise::NOTHING];
    let table: Vec<Row> = (0..rows)
        .map(|row| Row {
            step: if row < 3 { row } else { noise.below(50) },
            live: u32::from(row % 5 != 4),
            ..Row::new(row % 3, noise.below(5000), 0)
        })
        .collect();
    let sequences = [1, 2, 3].map(|i| Sequence {
        seed: [seed as u32, i],
        state_seed: [0; 2],
        state_std: 1.0,
        steps: 0,
        reserved: [0; 2],
    });
    let NoiseRule { kind, amount, renorm, .. } = rule;
    Case {
        name: format!("{}={amount}, {rows} rows of {n}, normed {renorm}, seed {seed}", kind.name()),
        data: vec![
            bytemuck::cast_slice(&table).to_vec(),
            bytemuck::cast_slice(&sequences).to_vec(),
            bytemuck::cast_slice(&sequence_noise).to_vec(),
            noise.matrix(1, n, stride(n)),
            noise.matrix(rows, n, stride(n)),
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::Skip, Check::F32],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let caps = &Caps::default();
    let rule = |kind, amount, renorm| NoiseRule { kind, amount, steps: 32, renorm };
    let mut all: Vec<Case> = NoiseKind::ALL
        .into_iter()
        .zip(1..)
        .flat_map(|(kind, seed)| {
            [(7, 130, false), (9, 96, true)].map(|(rows, n, renorm)| case(caps, rows, n, rule(kind, 0.1, renorm), seed))
        })
        .collect();
    all.push(case(caps, 3, 5280, rule(NoiseKind::Geom, 0.4472, true), 9));
    all.push(case(caps, 1, 1, rule(NoiseKind::Fixed, 1.0, true), 10));
    all.push(case(caps, 4000, 8, rule(NoiseKind::Chi, 0.5, false), 11));
    all
}

fn at(work: &Workload) -> Vec<Case> {
    let rule = NoiseRule { kind: NoiseKind::Geom, amount: 0.1, steps: 32, renorm: true };
    vec![case(&work.caps, work.rows, work.n_embd, rule, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rule = NoiseRule {
        kind: NoiseKind::ALL[noise.below(5) as usize],
        amount: noise.signed().abs(),
        steps: 1 + noise.below(40),
        renorm: noise.below(2) == 0,
    };
    case(&Caps::default(), 1 + noise.below(30), 1 + noise.below(900), rule, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the whole state replaced: mean 0, variance 1, a tail beyond 3, and different numbers at every position and step.
    #[test]
    fn noise_follows_the_normal() {
        let rule = NoiseRule { kind: NoiseKind::Fixed, amount: 1.0, steps: 32, renorm: false };
        let case = case(&Caps::default(), 4, 100_000, rule, 42);
        let mut data = case.data.to_vec();
        data[2] = bytemuck::cast_slice(&[SequenceNoise::from(rule); 3]).to_vec();
        let (inputs, state) = data.split_at_mut(4);
        let mut slots: Vec<crate::Slot<'_>> = inputs.iter().map(|words| crate::Slot::Read(words)).collect();
        slots.push(crate::Slot::Write(&mut state[0]));
        reference(&case.launch, Slots::new(slots));
        let values: Vec<f64> = state[0].iter().map(|&w| f64::from(f32::from_bits(w))).collect();
        let mean = values.iter().sum::<f64>() / 400_000.0;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 400_000.0;
        let far = values.iter().filter(|v| v.abs() > 3.0).count();
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.01, "variance {variance}");
        assert!((900..1300).contains(&far), "{far} beyond 3, expected 1080");
        let product: f64 = values[..100_000].iter().zip(&values[100_000..]).map(|(a, b)| a * b).sum();
        assert!((product / 100_000.0).abs() < 0.02, "rows are alike: {product}");
    }
}
