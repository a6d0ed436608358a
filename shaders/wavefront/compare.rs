//! Change of a wavefront's states in a round.

use super::{FreezeRule, Mark, UNJUDGED, WAVEFRONT, Wavefront, some, some_wavefront};
use crate::shared::params;
use crate::{Binding, Caps, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// Compares states with earlier ones.
pub static WAVEFRONT_COMPARE: Kernel = Kernel {
    name: "wavefront_compare",
    wgsl: include_str!("compare.wgsl"),
    parts: &[WAVEFRONT],
    bindings: &[
        Binding::read("wavefront", "Wavefront"),
        Binding::read("state", "vec4<f32>"),
        Binding::read("previous", "vec4<f32>"),
        Binding::read("before", "vec4<f32>"),
        Binding::write("marks", "Mark"),
    ],
    axes: &[reduce::REDUCE],
    overrides: &["WG"],
    params: WavefrontCompareParams::FIELDS,
    params_size: size_of::<WavefrontCompareParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`WAVEFRONT_COMPARE`].
    pub struct WavefrontCompareParams {
        /// Rows of the table.
        pub rows: u32,
        /// Quads of values per padded row.
        pub quads: u32,
        /// Code of the [`FreezeRule`].
        pub rule: u32,
        /// 1 to compare a row with a later one if the last round dropped rows at the front, as the authors' code does.
        pub authors: u32,
    }
}

/// Stores in `marks [rows]` how far each row's `state [rows, n]` has moved, as a share of the state's norm.
///
/// The state is compared with `previous [rows, n]`, that of the start of the round. Rules on acceleration compare its change with that in the round before, for
/// which [`super::shift()`] keeps `before [rows, n]`. Bindings: wavefront, state, previous, before, marks.
#[must_use]
pub fn compare(caps: &Caps, rows: u32, n: u32, rule: FreezeRule, authors: bool) -> Launch {
    let mut choice = Choice::default();
    choice.0[0] = reduce::preferred(caps);
    let (quads, bytes) = (stride(n) / 4, activation_bytes(rows, n));
    let params = WavefrontCompareParams { rows, quads, rule: rule as u32, authors: u32::from(authors) };
    Launch {
        kernel: &WAVEFRONT_COMPARE,
        choice,
        overrides: vec![reduce::lanes(quads, 128)],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![size_of::<Wavefront>() as u64, bytes, bytes, bytes, u64::from(rows) * size_of::<Mark>() as u64],
        cost: Cost { bytes: 3 * bytes, flops: 6 * u64::from(rows) * u64::from(n) },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: WavefrontCompareParams = launch.params();
    let wavefront = slots.read::<Wavefront>()[0];
    let (state, previous, before) = (slots.read::<f32>(), slots.read::<f32>(), slots.read::<f32>());
    let marks = slots.write::<Mark>();
    let width = params.quads as usize * 4;
    let (rule, authors) = (FreezeRule::ALL[params.rule as usize], params.authors != 0);
    let of = |states: &[f32], row: u32| -> Vec<f64> {
        states[row as usize * width..][..width].iter().map(|&x| f64::from(x)).collect()
    };
    let less = |a: Vec<f64>, b: Vec<f64>| -> Vec<f64> { a.into_iter().zip(b).map(|(a, b)| a - b).collect() };
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    for row in 0..wavefront.length {
        let behind = row + if authors { wavefront.slip } else { 0 };
        let earlier = behind + wavefront.slip_before;
        let judged = behind < wavefront.length
            && match rule {
                FreezeRule::LatentAcceleration2 if authors => earlier < wavefront.swept,
                FreezeRule::LatentDiff => true,
                _ => row < wavefront.changes,
            };
        let mark = &mut marks[row as usize];
        mark.value = UNJUDGED;
        if !judged {
            continue;
        }
        let (s, last) = (of(state, row), of(previous, behind));
        let change = less(s.clone(), last.clone());
        let change = match rule {
            FreezeRule::LatentDiff => change,
            FreezeRule::LatentAcceleration1 if authors => less(change, of(before, row)),
            _ => less(change, less(last, of(before, if authors { earlier } else { row }))),
        };
        let floor = if rule == FreezeRule::LatentAcceleration2 { 1e-6 } else { 0.0 };
        mark.value = (norm(&change) / (norm(&s) + floor)) as f32;
    }
}

fn case(caps: &Caps, rows: u32, n: u32, (rule, authors): (FreezeRule, bool), seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let wavefront = some_wavefront(&mut noise, rows);
    let wavefront = Wavefront { swept: wavefront.swept.min(rows), ..wavefront };
    let marks = vec![Mark { steps: 3, stable: 2, ..Mark::default() }; rows as usize];
    let mut matrix = || noise.matrix(rows, n, stride(n));
    Case {
        name: format!("{}, {rows} rows of {n}, authors {authors}, seed {seed}", rule.name()),
        launch: compare(caps, rows, n, rule, authors),
        data: vec![
            bytemuck::cast_slice(&[wavefront]).to_vec(),
            matrix(),
            matrix(),
            matrix(),
            bytemuck::cast_slice(&marks).to_vec(),
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::Skip, Check::Skip, Check::F32],
    }
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(!seed);
    let rule = (FreezeRule::ALL[noise.below(3) as usize], noise.below(2) == 0);
    case(&Caps::default(), 1 + noise.below(30), 1 + noise.below(700), rule, seed)
}

fn cases() -> Vec<Case> {
    some(12, random)
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(&work.caps, work.rows, work.n_embd, (FreezeRule::LatentDiff, false), 1)]
}
