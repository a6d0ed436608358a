//! States of a wavefront at the start of a round: carried over from the last round, with a share of noise.

use super::{Mark, SOME_SEQUENCES, WAVEFRONT, Wavefront, some, some_wavefront};
use crate::recur::{NORMAL, SEQUENCE, THREEFRY, Threefry, WITHIN, normals_within};
use crate::shared::params;
use crate::{
    Binding, Case, Check, Choice, Const, Cost, Kernel, Launch, Noise, Params, Part, ROW, Sequence, Slots, Workload,
};
use crate::{activation_bytes, reduce, stride};

/// Carries states over, and mixes random ones into them.
pub static WAVEFRONT_MIX: Kernel = Kernel {
    name: "wavefront_mix",
    wgsl: include_str!("mix.wgsl"),
    parts: &[WAVEFRONT, ROW, SEQUENCE, THREEFRY, NORMAL, Part::shared(&[Const::u32("STREAM", STREAM)], &[])],
    bindings: &[
        Binding::read("wavefront", "Wavefront"),
        Binding::read("marks", "Mark"),
        Binding::read("sequences", "Sequence"),
        Binding::read("given", "vec4<f32>"),
        Binding::read("moved", "vec4<f32>"),
        Binding::write("state", "vec4<f32>"),
        Binding::write("previous", "vec4<f32>"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: WavefrontMixParams::FIELDS,
    params_size: size_of::<WavefrontMixParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`WAVEFRONT_MIX`].
    pub struct WavefrontMixParams {
        /// Rows of the table.
        pub rows: u32,
        /// Values per row.
        pub n: u32,
        /// Quads of values per padded row.
        pub quads: u32,
        /// Share of the random state.
        pub share: f32,
        /// 1 if the share is divided by one plus the number of steps that the row has taken.
        pub dampened: u32,
        /// 1 if the factors are the square roots of the shares, which keeps the variance.
        pub root: u32,
        /// 1 if new and random states are given instead of drawn.
        pub given: u32,
    }
}

/// Noise that is mixed into a state at the start of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// Share of a random state, 0 to 1.
    pub share: f32,
    /// Whether the share is divided by one plus the number of steps that the row has taken.
    pub dampened: bool,
    /// Whether the factors are the square roots of the shares, which keeps the variance.
    pub sqrt: bool,
}

/// Writes the states of a round's rows to `state [rows, n]` and, without the noise, to `previous [rows, n]`.
///
/// Row i < `fresh` comes from `moved [rows, n]`. Later rows have already been drawn, or are row i - fresh of `given [rows, n]`. The noise consists of states
/// distributed like initial ones, or of row i of `given`. Bindings: wavefront, marks `[rows]`, sequences `[sequences]`, given, moved, state, previous.
#[must_use]
pub fn mix(rows: u32, n: u32, mix: Mix, (sequences, given): (u32, bool)) -> Launch {
    let (quads, bytes) = (stride(n) / 4, activation_bytes(rows, n));
    let Mix { share, dampened, sqrt } = mix;
    let (dampened, root, given) = (u32::from(dampened), u32::from(sqrt), u32::from(given));
    Launch {
        kernel: &WAVEFRONT_MIX,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(quads, 128)],
        params: bytemuck::bytes_of(&WavefrontMixParams { rows, n, quads, share, dampened, root, given }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![
            size_of::<Wavefront>() as u64,
            u64::from(rows) * size_of::<Mark>() as u64,
            u64::from(sequences) * size_of::<Sequence>() as u64,
            if given == 1 { bytes } else { 16 },
            bytes,
            bytes,
            bytes,
        ],
        cost: Cost { bytes: 3 * bytes, flops: u64::from(rows) * u64::from(n) * if share > 0.0 { 70 } else { 1 } },
    }
}

/// Stream of random numbers; not 0, so that they differ from those of initial states and samples.
const STREAM: u32 = 0x7761_7665;

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: WavefrontMixParams = launch.params();
    let (wavefront, marks, sequences) = (slots.read::<Wavefront>()[0], slots.read::<Mark>(), slots.read::<Sequence>());
    let sequence = sequences[wavefront.sequence as usize];
    let (given, moved) = (slots.read::<f32>(), slots.read::<f32>());
    let (state, previous) = (slots.write::<f32>(), slots.write::<f32>());
    let (n, width) = (params.n as usize, params.quads as usize * 4);
    let [low, high] = sequence.seed;
    for row in 0..wavefront.length as usize {
        let at = row * width..(row + 1) * width;
        if row < wavefront.fresh as usize {
            state[at.clone()].copy_from_slice(&moved[at.clone()]);
        } else if params.given != 0 {
            state[at.clone()].copy_from_slice(&given[(row - wavefront.fresh as usize) * width..][..width]);
        }
        previous[at.clone()].copy_from_slice(&state[at.clone()]);
        let mut share = f64::from(params.share);
        if params.dampened != 0 {
            share /= f64::from(1 + marks[row].steps);
        }
        if share == 0.0 {
            continue;
        }
        let key = Threefry::from_words([low, high ^ STREAM]).block([wavefront.first + row as u32, wavefront.round]);
        let deviation = f64::from(sequence.state_std);
        let drawn = normals_within(WITHIN, key).take(n).map(|x| x * deviation).chain(std::iter::repeat(0.0));
        for (i, (s, drawn)) in at.clone().zip(state[at].iter_mut().zip(drawn)) {
            let other = if params.given != 0 { f64::from(given[i]) } else { drawn };
            let (own, others) =
                if params.root != 0 { ((1.0 - share).max(0.0).sqrt(), share.sqrt()) } else { (1.0 - share, share) };
            *s = (f64::from(*s) * own + other * others) as f32;
        }
    }
}

fn case(rows: u32, n: u32, how: Mix, given: bool, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let wavefront = some_wavefront(&mut noise, rows);
    let marks: Vec<Mark> = (0..rows).map(|_| Mark { steps: noise.below(20), ..Mark::default() }).collect();
    let sequences = (0..SOME_SEQUENCES).map(|index| Sequence {
        seed: [seed as u32, 7 + index],
        state_seed: [0; 2],
        state_std: 0.6 + index as f32,
        steps: 0,
        reserved: [0; 2],
    });
    let sequences: Vec<Sequence> = sequences.collect();
    let mut matrix = || noise.matrix(rows, n, stride(n));
    let Mix { share, dampened, sqrt } = how;
    Case {
        name: format!("{share} of {rows} rows of {n}, dampened {dampened}, root {sqrt}, given {given}, seed {seed}"),
        launch: mix(rows, n, how, (SOME_SEQUENCES, given)),
        data: vec![
            bytemuck::cast_slice(&[wavefront]).to_vec(),
            bytemuck::cast_slice(&marks).to_vec(),
            bytemuck::cast_slice(&sequences).to_vec(),
            if given { matrix() } else { vec![0; 4] },
            matrix(),
            matrix(),
            matrix(),
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::Skip, Check::Skip, Check::F32, Check::F32],
    }
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(!seed);
    let mut even = || noise.below(2) == 0;
    let (dampened, sqrt, given, none) = (even(), even(), even(), even());
    let share = if none { 0.0 } else { noise.signed().abs() };
    case(1 + noise.below(30), 1 + noise.below(700), Mix { share, dampened, sqrt }, given, seed)
}

fn cases() -> Vec<Case> {
    some(12, random)
}

fn at(work: &Workload) -> Vec<Case> {
    let how = Mix { share: 0.5, dampened: true, sqrt: false };
    vec![case(work.rows, work.n_embd, how, false, 1)]
}
