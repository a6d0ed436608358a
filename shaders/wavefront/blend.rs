//! Embeddings of a wavefront, averaged with those of the round before.

use super::{WAVEFRONT, Wavefront, some, some_wavefront};
use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// Exponential moving average of embeddings over rounds.
pub static WAVEFRONT_BLEND: Kernel = Kernel {
    name: "wavefront_blend",
    wgsl: include_str!("blend.wgsl"),
    parts: &[WAVEFRONT],
    bindings: &[
        Binding::read("wavefront", "Wavefront"),
        Binding::read("before", "vec4<f32>"),
        Binding::write("embedding", "vec4<f32>"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: WavefrontBlendParams::FIELDS,
    params_size: size_of::<WavefrontBlendParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`WAVEFRONT_BLEND`].
    pub struct WavefrontBlendParams {
        /// Rows of the table.
        pub rows: u32,
        /// Quads of values per padded row.
        pub quads: u32,
        /// Share of the previous round's embedding.
        pub share: f32,
        /// 1 if an embedding without a previous one is scaled as if that had been zero, as in the authors' code.
        pub scaled: u32,
    }
}

/// Sets `embedding [rows, n]` to the mean of itself and the previous round's, which has the weight `share`. Bindings: wavefront, before `[rows, n]`, embedding.
#[must_use]
pub fn blend(rows: u32, n: u32, share: f32, scaled: bool) -> Launch {
    let (quads, bytes) = (stride(n) / 4, activation_bytes(rows, n));
    Launch {
        kernel: &WAVEFRONT_BLEND,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(quads, 128)],
        params: bytemuck::bytes_of(&WavefrontBlendParams { rows, quads, share, scaled: u32::from(scaled) }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![size_of::<Wavefront>() as u64, bytes, bytes],
        cost: Cost { bytes: 3 * bytes, flops: 3 * u64::from(rows) * u64::from(n) },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: WavefrontBlendParams = launch.params();
    let (wavefront, before, embedding) = (slots.read::<Wavefront>()[0], slots.read::<f32>(), slots.write::<f32>());
    if wavefront.round == 0 {
        return;
    }
    let width = params.quads as usize * 4;
    for (row, (e, before)) in (0..wavefront.length).zip(embedding.chunks_mut(width).zip(before.chunks(width))) {
        let held = row < wavefront.kept;
        if !held && params.scaled == 0 {
            continue;
        }
        for (e, &before) in e.iter_mut().zip(before) {
            let before = if held { before * params.share } else { 0.0 };
            *e = *e * (1.0 - params.share) + before;
        }
    }
}

fn case(rows: u32, n: u32, scaled: bool, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let wavefront = some_wavefront(&mut noise, rows);
    Case {
        name: format!("{rows} rows of {n}, scaled {scaled}, seed {seed}"),
        launch: blend(rows, n, 0.1 + noise.signed().abs() / 2.0, scaled),
        data: vec![
            bytemuck::cast_slice(&[wavefront]).to_vec(),
            noise.matrix(rows, n, stride(n)),
            noise.matrix(rows, n, stride(n)),
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::F32],
    }
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(!seed);
    case(1 + noise.below(30), 1 + noise.below(700), noise.below(2) == 0, seed)
}

fn cases() -> Vec<Case> {
    some(8, random)
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(work.rows, work.n_embd, false, 1)]
}
