//! States and embeddings that a wavefront carries over to the next round.

use super::{WAVEFRONT, Wavefront, some, some_wavefront};
use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Const, Cost, Kernel, Launch, Noise, Params, Part, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// Moves states and embeddings to the rows of their positions in the next round.
pub static WAVEFRONT_SHIFT: Kernel = Kernel {
    name: "wavefront_shift",
    wgsl: include_str!("shift.wgsl"),
    parts: &[WAVEFRONT, Part::shared(PASTS, &[])],
    bindings: &[
        Binding::read("wavefront", "Wavefront"),
        Binding::read("state", "vec4<f32>"),
        Binding::read("embedding", "vec4<f32>"),
        Binding::read("previous", "vec4<f32>"),
        Binding::write("before", "vec4<f32>"),
        Binding::write("moved", "vec4<f32>"),
        Binding::write("held", "vec4<f32>"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: WavefrontShiftParams::FIELDS,
    params_size: size_of::<WavefrontShiftParams>(),
    reference,
    cases,
    random,
    at,
};

const PASTS: &[Const] = &[
    Const::u32("ALIGNED", Past::Aligned as u32),
    Const::u32("PLACES", Past::Places as u32),
    Const::u32("CHANGES", Past::Changes as u32),
];

params! {
    /// Parameters of [`WAVEFRONT_SHIFT`].
    pub struct WavefrontShiftParams {
        /// Maximum rows of the next round.
        pub rows: u32,
        /// Quads of values per padded row.
        pub quads: u32,
        /// Rows that a wavefront grows by per round.
        pub headway: u32,
        /// Code of the [`Past`].
        pub past: u32,
    }
}

/// Past of the states that is kept for rules on acceleration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Nothing.
    Nothing,
    /// States of the start of the round, in the rows of their positions in the next round.
    Aligned,
    /// States of the start of the round, in the rows where they were.
    Places,
    /// Changes of the states since then, in the rows where they were compared.
    Changes,
}

/// Shape of the launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// Maximum rows of the next round.
    pub rows: u32,
    /// Values per row.
    pub n: u32,
    /// Rows that a wavefront grows by per round.
    pub headway: u32,
    /// Past that is kept.
    pub past: Past,
}

/// Carries states and embeddings over to the next round; to be launched after [`super::freeze()`].
///
/// `moved [rows, n]` receives the states of the rows that remain and, if new rows start from earlier ones, those for the new rows; `held [rows, n]` receives
/// the embeddings of the rows that remain, and `before [rows, n]` the past. Bindings: wavefront, state, embedding, previous, before, moved, held.
#[must_use]
pub fn shift(shift: Shift) -> Launch {
    let Shift { rows, n, headway, past } = shift;
    let (quads, bytes) = (stride(n) / 4, activation_bytes(rows, n));
    Launch {
        kernel: &WAVEFRONT_SHIFT,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(quads, 128)],
        params: bytemuck::bytes_of(&WavefrontShiftParams { rows, quads, headway, past: past as u32 }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![size_of::<Wavefront>() as u64, bytes, bytes, bytes, bytes, bytes, bytes],
        cost: Cost { bytes: if past == Past::Nothing { 4 * bytes } else { 6 * bytes }, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: WavefrontShiftParams = launch.params();
    let wavefront = slots.read::<Wavefront>()[0];
    let (state, embedding, previous) = (slots.read::<f32>(), slots.read::<f32>(), slots.read::<f32>());
    let (before, moved, held) = (slots.write::<f32>(), slots.write::<f32>(), slots.write::<f32>());
    let width = params.quads as usize * 4;
    let of = |row: u32| row as usize * width..(row as usize + 1) * width;
    let past = [Past::Nothing, Past::Aligned, Past::Places, Past::Changes][params.past as usize];
    for row in 0..params.rows {
        let kept = row < wavefront.kept;
        let to = of(row);
        if row < wavefront.fresh {
            let in_front = || wavefront.swept.saturating_sub(params.headway) + row - wavefront.kept;
            let source = if kept { row + wavefront.slip } else { in_front() };
            moved[to.clone()].copy_from_slice(&state[of(source)]);
        }
        if kept {
            held[to.clone()].copy_from_slice(&embedding[of(row + wavefront.slip)]);
        }
        match past {
            Past::Aligned if kept => before[to].copy_from_slice(&previous[of(row + wavefront.slip)]),
            Past::Places if row < wavefront.swept => before[to.clone()].copy_from_slice(&previous[to]),
            Past::Changes if row + wavefront.slip_before < wavefront.swept => {
                let then = &previous[of(row + wavefront.slip_before)];
                let changes = state[to.clone()].iter().zip(then).map(|(now, then)| now - then);
                before[to].iter_mut().zip(changes).for_each(|(before, change)| *before = change);
            }
            _ => {}
        }
    }
}

fn case(rows: u32, n: u32, headway: u32, past: Past, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let mut wavefront = some_wavefront(&mut noise, rows);
    // As after a round: all rows of the round except those dropped at the front are kept, and new rows follow.
    wavefront.swept = 1 + noise.below(rows);
    wavefront.slip = noise.below(wavefront.swept);
    wavefront.kept = wavefront.swept - wavefront.slip;
    wavefront.length = (wavefront.kept + headway).min(rows);
    wavefront.fresh = if noise.below(2) == 0 && wavefront.swept >= headway { wavefront.length } else { wavefront.kept };
    let mut matrix = || noise.matrix(rows, n, stride(n));
    Case {
        name: format!("{past:?} of {rows} rows of {n}, headway {headway}, seed {seed}"),
        launch: shift(Shift { rows, n, headway, past }),
        data: vec![
            bytemuck::cast_slice(&[wavefront]).to_vec(),
            matrix(),
            matrix(),
            matrix(),
            matrix(),
            matrix(),
            matrix(),
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::Skip, Check::F32, Check::Exact, Check::Exact],
    }
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(!seed);
    let past = [Past::Nothing, Past::Aligned, Past::Places, Past::Changes][noise.below(4) as usize];
    case(1 + noise.below(30), 1 + noise.below(700), 1 + noise.below(3), past, seed)
}

fn cases() -> Vec<Case> {
    some(16, random)
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(work.rows, work.n_embd, 1, Past::Nothing, 1)]
}
