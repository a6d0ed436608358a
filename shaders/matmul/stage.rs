//! Layout of x in a texture, which `matmul_lanes` reads fastest when there are many rows: eight rows are interleaved, so that eight lanes with one row each
//! read neighboring texels. Rows are padded with zeros to whole blocks of 32, and with copies of the last row to a multiple of eight rows.

use super::launch::Input;
use super::{CONCAT_IN, X_IN};
use crate::shared::params;
use crate::weight::blocks;
use crate::{Axis, Binding, Case, Check, Choice, Cost, Kernel, Launch, Noise, Params, Part, Slots, Workload, stride};

/// Lays rows out in a texture.
pub static STAGE: Kernel = Kernel {
    name: "stage",
    wgsl: include_str!("stage.wgsl"),
    parts: &[],
    bindings: &[Binding::write("staged", "vec4<u32>").in_texture()],
    axes: &[Axis {
        name: "input",
        options: &[
            Part::new("plain", super::QUADS).with(X_IN),
            Part::new("concat", super::QUADS_OF_TWO).with(CONCAT_IN),
        ],
    }],
    overrides: &["WG"],
    params: StageParams::FIELDS,
    params_size: size_of::<StageParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`STAGE`].
    pub struct StageParams {
        /// Rows of x.
        pub rows: u32,
        /// Chunks of eight per row, over both halves if there are two.
        pub chunks: u32,
        /// Workgroups in x, if they are folded into two dimensions.
        pub groups_x: u32,
    }
}

/// Texels per workgroup: every group of eight rows has a multiple of it.
const TEXELS: u32 = 64;

/// Maximum workgroups in x, which every device supports.
const GROUPS_X: u32 = 32_768;

/// Bytes of a staged x of `rows` rows of `chunks` chunks of eight.
#[must_use]
pub const fn staged_bytes(rows: u32, chunks: u32) -> u64 {
    rows.next_multiple_of(8) as u64 * blocks(chunks) as u64 * 128
}

/// Index of the texel for a quad of a row.
pub(super) const fn staged_texel(row: u32, quad: u32, chunks: u32) -> usize {
    ((row / 8) * 64 * blocks(chunks) + row % 8 + 8 * quad) as usize
}

/// Lays out `rows` rows of `chunks` chunks of eight; with [`Input::Concat`], half of the chunks come from each of two inputs. Bindings: staged, then x, or
/// state and embedding.
///
/// # Panics
/// If the input is neither [`Input::Plain`] nor [`Input::Concat`].
#[must_use]
pub fn stage(rows: u32, chunks: u32, input: Input) -> Launch {
    let mut choice = Choice::default();
    let (parts, option) = match input {
        Input::Plain => (1, 0),
        Input::Concat => (2, 1),
        Input::Normed | Input::Staged | Input::Rounded => panic!("{input:?} rows cannot be staged"),
    };
    choice.0[0] = option;
    let staged = staged_bytes(rows, chunks);
    let read = u64::from(rows) * u64::from(chunks) * 32;
    let groups = u32::try_from(staged / 16 / u64::from(TEXELS)).unwrap_or(u32::MAX);
    let groups_x = groups.min(GROUPS_X);
    let mut sizes = vec![staged];
    sizes.resize(1 + parts, read / parts as u64);
    Launch {
        kernel: &STAGE,
        choice,
        overrides: vec![TEXELS],
        params: bytemuck::bytes_of(&StageParams { rows, chunks, groups_x }).to_vec(),
        workgroups: [groups_x, groups.div_ceil(groups_x), 1],
        sizes,
        cost: Cost { bytes: staged + read, flops: 0 },
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let StageParams { rows, chunks, .. } = launch.params();
    let staged = slots.write::<f32>();
    let halves: Vec<&[f32]> = (0..=launch.option(0)).map(|_| slots.read()).collect();
    let (width, half) = (chunks as usize * 8, chunks as usize * 8 / halves.len());
    for row in 0..rows.next_multiple_of(8) {
        let from = row.min(rows - 1) as usize;
        for quad in 0..8 * blocks(chunks) {
            let at = staged_texel(row, quad, chunks) * 4;
            for (column, out) in (quad as usize * 4..).zip(&mut staged[at..at + 4]) {
                *out = if column < width { halves[column / half][from * half + column % half] } else { 0.0 };
            }
        }
    }
}

fn case(rows: u32, k: u32, input: Input, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let parts = if input == Input::Concat { 2 } else { 1 };
    let launch = stage(rows, parts * stride(k) / 8, input);
    let mut data = vec![vec![0; launch.sizes[0] as usize / 4]];
    data.extend((0..parts).map(|_| noise.matrix(rows, k, stride(k))));
    let mut checks = vec![Check::Skip; data.len()];
    checks[0] = Check::Exact;
    Case { name: format!("{rows} rows of {k}, {input:?}"), launch, data: data.into(), checks }
}

fn cases() -> Vec<Case> {
    let shapes = [(1, 33), (8, 32), (9, 130), (64, 5280), (65, 7), (300, 1056)];
    let all = shapes.iter().flat_map(|&shape| [Input::Plain, Input::Concat].map(|input| (shape, input)));
    all.zip(0..).map(|(((rows, k), input), seed)| case(rows, k, input, seed)).collect()
}

fn random(seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let input = [Input::Plain, Input::Concat][noise.below(2) as usize];
    case(1 + noise.below(100), 1 + noise.below(600), input, seed)
}

fn at(work: &Workload) -> Vec<Case> {
    let Workload { n_embd, hidden, rows, .. } = *work;
    let all = [(n_embd, Input::Concat), (n_embd, Input::Plain), (hidden, Input::Plain)].into_iter().zip(1..);
    let staged = all.filter(|((k, _), _)| work.caps.lanes.is_some() && super::stages(rows, *k));
    staged.map(|((k, input), seed)| case(rows, k, input, seed)).collect()
}
