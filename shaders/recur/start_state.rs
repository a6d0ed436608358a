//! Initial states of models that loop over all layers, such as Ouro (arXiv 2510.25741): the initial state is the embedding.
//!
//! It applies to the rows for which [`init_state()`](super::init_state()) would draw a state.

use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, ROW, Row, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// Copies embeddings into initial states.
pub static START_STATE: Kernel = Kernel {
    name: "start_state",
    wgsl: include_str!("start_state.wgsl"),
    parts: &[ROW],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("embedding", "vec4<f32>"),
        Binding::write("state", "vec4<f32>"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: StartStateParams::FIELDS,
    params_size: size_of::<StartStateParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`START_STATE`].
    pub struct StartStateParams {
        /// Rows of the table.
        pub rows: u32,
        /// Quads of values per padded row.
        pub quads: u32,
    }
}

/// Copies `embedding [rows, n]` to `state [rows, n]` for active rows at step 0 whose [`Row::draw`] is set. Bindings: rows, embedding, state.
#[must_use]
pub fn start_state(rows: u32, n: u32) -> Launch {
    let (quads, bytes) = (stride(n) / 4, activation_bytes(rows, n));
    Launch {
        kernel: &START_STATE,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(quads, 128)],
        params: bytemuck::bytes_of(&StartStateParams { rows, quads }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![u64::from(rows) * size_of::<Row>() as u64, bytes, bytes],
        cost: Cost { bytes: 2 * bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: StartStateParams = launch.params();
    let (rows, embedding, state) = (slots.read::<Row>(), slots.read::<f32>(), slots.write::<f32>());
    let width = params.quads as usize * 4;
    let rows = rows.iter().zip(embedding.chunks(width).zip(state.chunks_mut(width))).take(params.rows as usize);
    for (_, (embedding, state)) in rows.filter(|(row, _)| row.live != 0 && row.draw != 0 && row.step == 0) {
        state.copy_from_slice(embedding);
    }
}

fn case(rows: u32, n: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let table: Vec<Row> = (0..rows)
        .map(|row| Row {
            live: u32::from(row % 6 != 5),
            draw: u32::from(row % 5 != 4),
            step: u32::from(row % 7 == 3),
            ..Row::new(row % 2, row * 3, 0)
        })
        .collect();
    Case {
        name: format!("{rows} rows of {n}"),
        launch: start_state(rows, n),
        data: vec![
            bytemuck::cast_slice(&table).to_vec(),
            noise.matrix(rows, n, stride(n)),
            noise.matrix(rows, n, stride(n)),
        ]
        .into(),
        checks: vec![Check::Skip, Check::Skip, Check::Exact],
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 33), (7, 130), (12, 96), (3, 5280), (4000, 8)];
    shapes.into_iter().zip(1..).map(|((rows, n), seed)| case(rows, n, seed)).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(work.rows, work.n_embd, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    case(1 + noise.below(30), 1 + noise.below(900), seed)
}
