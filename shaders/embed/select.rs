//! Gathers the rows to read out into a dense block, so that only they go through the head.

use crate::shared::params;
use crate::{Binding, Case, Check, Choice, Cost, Kernel, Launch, NONE, Noise, Params, ROW, Row, Slots, Workload};
use crate::{activation_bytes, reduce, stride};

/// Gathers the rows that are read out.
pub static SELECT: Kernel = Kernel {
    name: "select",
    wgsl: include_str!("select.wgsl"),
    parts: &[ROW],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("x", "vec4<f32>"),
        Binding::write("y", "vec4<f32>"),
        Binding::write("picked", "Row"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: SelectParams::FIELDS,
    params_size: size_of::<SelectParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`SELECT`].
    pub struct SelectParams {
        /// Rows of the table.
        pub rows: u32,
        /// Number of read-outs.
        pub outputs: u32,
        /// Quads of values per padded row.
        pub quads: u32,
    }
}

/// Copies each active row of `x [rows, n]` that is read out to its place in `y [outputs, n]`, and its table entry to `picked`. For an inactive row, only the
/// entry in `picked` becomes inactive. Bindings: rows, x, y, picked.
#[must_use]
pub fn select(rows: u32, outputs: u32, n: u32) -> Launch {
    let quads = stride(n) / 4;
    let bytes = activation_bytes(outputs, n);
    let row = size_of::<Row>() as u64;
    Launch {
        kernel: &SELECT,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(quads, 128)],
        params: bytemuck::bytes_of(&SelectParams { rows, outputs, quads }).to_vec(),
        workgroups: [rows, 1, 1],
        sizes: vec![u64::from(rows) * row, activation_bytes(rows, n), bytes, u64::from(outputs) * row],
        cost: Cost { bytes: 2 * bytes, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: SelectParams = launch.params();
    let (rows, x) = (slots.read::<Row>(), slots.read::<f32>());
    let (y, picked) = (slots.write::<f32>(), slots.write::<Row>());
    let width = params.quads as usize * 4;
    for (row, x) in rows.iter().zip(x.chunks(width)).take(params.rows as usize) {
        let place = row.output as usize;
        if row.output >= params.outputs {
            continue;
        }
        if row.live == 0 {
            picked[place].live = 0;
        } else {
            y[place * width..][..width].copy_from_slice(x);
            picked[place] = *row;
        }
    }
}

fn case(rows: u32, outputs: u32, n: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let launch = select(rows, outputs, n);
    let step = (rows / outputs).max(1);
    let output = |row: u32| if row.is_multiple_of(step) && row / step < outputs { row / step } else { NONE };
    // Some rows are inactive: their entries in `picked` must become inactive, whatever they held before.
    let live = |row: u32| u32::from(row % 5 != 3);
    let table: Vec<Row> =
        (0..rows).map(|row| Row { output: output(row), live: live(row), ..Row::new(1, row, 7) }).collect();
    let words = |binding: usize| vec![1; launch.sizes[binding] as usize / 4];
    Case {
        name: format!("{outputs} of {rows} rows of {n}"),
        data: vec![bytemuck::cast_slice(&table).to_vec(), noise.matrix(rows, n, stride(n)), words(2), words(3)].into(),
        checks: vec![Check::Skip, Check::Skip, Check::Exact, Check::Exact],
        launch,
    }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 1, 96), (13, 1, 130), (64, 7, 33), (4000, 4000, 8), (512, 3, 5280)];
    shapes.into_iter().zip(1..).map(|((rows, outputs, n), seed)| case(rows, outputs, n, seed)).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    vec![case(work.rows, 1, work.n_embd, 1)]
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(100);
    case(rows, 1 + noise.below(rows), 1 + noise.below(700), seed)
}
