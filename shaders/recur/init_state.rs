//! Initial states: a normal distribution truncated at ±3 standard deviations (model card of Huginn-0125, `state_init` "like-init"). A counter-based generator
//! draws them, so that, unlike with the authors' code, runs can be repeated.

use super::normal::{NORMAL, WITHIN, normal_within};
use super::{SEQUENCE, THREEFRY, Threefry};
use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Sequence, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// Random initial states.
pub static INIT_STATE: Kernel = Kernel {
    name: "init_state",
    wgsl: include_str!("init_state.wgsl"),
    parts: &[ROW, SEQUENCE, THREEFRY, NORMAL],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("sequences", "Sequence"),
        Binding::write("state", "vec2<f32>"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: InitStateParams::FIELDS,
    params_size: size_of::<InitStateParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`INIT_STATE`].
    pub struct InitStateParams {
        /// Rows of the table.
        pub rows: u32,
        /// Values per row.
        pub n: u32,
        /// Quads of values per padded row.
        pub quads: u32,
    }
}

/// Draws `state [rows, n]` for active rows at step 0 whose [`Row::draw`] is set. Bindings: rows, sequences, state.
#[must_use]
pub fn init_state(rows: u32, sequences: u32, n: u32) -> Launch {
    let quads = stride(n) / 4;
    let bytes = activation_bytes(rows, n);
    let table = u64::from(rows) * size_of::<Row>() as u64;
    Launch {
        kernel: &INIT_STATE,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(2 * quads, 128)],
        params: bytemuck::bytes_of(&InitStateParams { rows, n, quads }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![table, u64::from(sequences) * size_of::<Sequence>() as u64, bytes],
        cost: Cost { bytes, flops: u64::from(rows) * u64::from(n) * 60 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: InitStateParams = launch.params();
    let (rows, sequences, state) = (slots.read::<Row>(), slots.read::<Sequence>(), slots.write::<f32>());
    let width = params.quads as usize * 4;
    for (row, state) in rows.iter().zip(state.chunks_mut(width)).take(params.rows as usize) {
        if row.live == 0 || row.draw == 0 || row.step > 0 {
            continue;
        }
        let sequence = sequences[row.sequence as usize];
        let generator = Threefry::from_words(sequence.state_seed);
        for (pair, values) in (0..).zip(state.chunks_mut(2)) {
            let block = generator.block([row.position, pair]);
            for (i, (value, bits)) in values.iter_mut().zip(block).enumerate() {
                let normal = normal_within(WITHIN, bits);
                let real = pair * 2 + (i as u32) < params.n;
                *value = if real { (normal * f64::from(sequence.state_std)) as f32 } else { 0.0 };
            }
        }
    }
}

fn case(rows: u32, n: u32, std: f32, seed: u64) -> Case {
    let launch = init_state(rows, 2, n);
    let table: Vec<Row> = (0..rows)
        .map(|row| Row {
            draw: u32::from(row % 5 != 4),
            step: u32::from(row % 7 == 3),
            ..Row::new(row % 2, row * 3, 0)
        })
        .collect();
    let sequences = [1, 2].map(|i| Sequence {
        seed: [0; 2],
        state_seed: [seed as u32, i],
        state_std: std,
        steps: 0,
        reserved: [0; 2],
    });
    Case {
        name: format!("{rows} rows of {n}, standard deviation {std}"),
        data: vec![
            bytemuck::cast_slice(&table).to_vec(),
            bytemuck::cast_slice(&sequences).to_vec(),
            vec![1.0_f32.to_bits(); launch.sizes[2] as usize / 4],
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::F32],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 33, 0.5), (7, 130, 1.0), (2, 96, 0.0), (3, 5280, 0.4472), (4000, 8, 2.0)];
    shapes.into_iter().zip(1..).map(|((rows, n, std), seed)| case(rows, n, std, seed)).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    // sqrt(2 / (5 n)) · sqrt(n), the same for every n.
    vec![case(work.rows, work.n_embd, 0.632_455_5, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    case(1 + noise.below(30), 1 + noise.below(900), noise.signed().abs(), seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that draw have mean 0, the variance of a normal truncated at ±3 (0.9733), and no value beyond 3.
    #[test]
    fn states_follow_the_truncated_normal() {
        let case = case(5, 100_000, 1.0, 42);
        let mut data = case.data.to_vec();
        let (inputs, state) = data.split_at_mut(2);
        let slots =
            vec![crate::Slot::Read(&inputs[0]), crate::Slot::Read(&inputs[1]), crate::Slot::Write(&mut state[0])];
        reference(&case.launch, Slots::new(slots));
        let values: Vec<f64> = state[0][..300_000].iter().map(|&w| f64::from(f32::from_bits(w))).collect();
        let mean = values.iter().sum::<f64>() / 300_000.0;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 300_000.0;
        let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((variance - 0.9733).abs() < 0.01, "variance {variance}");
        assert!(largest < 3.0001 && largest > 2.9, "largest {largest}");
    }
}
