//! Kernels that measure the best rates of a device, each doing one thing only. The rates of other kernels are compared with theirs.
//!
//! Like every kernel they have a CPU reference and cases. [`stream`], [`copy`], [`multiply_add`], [`dot_int8`] and [`multiply_matrices`] make launches of any
//! length.

mod products;

pub use products::{DOT_INT8, DotInt8Params, MULTIPLY_MATRICES, MultiplyMatricesParams, dot_int8, multiply_matrices};

use crate::shared::params;
use crate::{Axis, Caps};
use crate::{Binding, Case, Check, Choice, Cost, Data, Kernel, Launch, Noise, Params, Part, Place, Slots, Workload};

/// Reads memory from end to end.
pub static STREAM: Kernel = Kernel {
    name: "stream",
    wgsl: include_str!("stream.wgsl"),
    parts: &[],
    bindings: &[Binding::write("y", "vec4<u32>")],
    axes: &[Axis {
        name: "place",
        options: &[
            Part::new("buffer", include_str!("unit_buffer.wgsl")).with(&[X]),
            Part::new("texture", include_str!("unit_texture.wgsl")).with(&[X.in_texture()]),
        ],
    }],
    overrides: &["WG"],
    params: StreamParams::FIELDS,
    params_size: size_of::<StreamParams>(),
    reference: stream_reference,
    cases: || vec![stream_case(Place::Buffer, 64, 3), stream_case(Place::Texture, 8, 70)],
    random: |seed| {
        let mut noise = Noise::new(seed);
        let place = [Place::Buffer, Place::Texture][seed as usize % 2];
        stream_case(place, 4 << noise.below(5), 1 + noise.below(80))
    },
    at: nowhere,
};

/// Copies memory from one buffer to another.
pub static COPY: Kernel = Kernel {
    name: "copy",
    wgsl: include_str!("copy.wgsl"),
    parts: &[],
    bindings: &[X, Binding::write("y", "vec4<u32>")],
    axes: &[],
    overrides: &["WG"],
    params: CopyParams::FIELDS,
    params_size: size_of::<CopyParams>(),
    reference: copy_reference,
    cases: || vec![copy_case(1), copy_case(7), copy_case(70_000)],
    random: |seed| copy_case(1 + Noise::new(seed).below(500)),
    at: nowhere,
};

/// Computes multiply-adds in registers.
pub static MULTIPLY_ADD: Kernel = Kernel {
    name: "multiply_add",
    wgsl: include_str!("multiply_add.wgsl"),
    parts: &[],
    bindings: &[Binding::write("y", "vec2<f32>")],
    axes: &[Axis {
        name: "number",
        options: &[
            Part::new("f32", include_str!("pair_f32.wgsl")),
            Part::new("f16", include_str!("pair_f16.wgsl")).with_f16(),
        ],
    }],
    overrides: &["WG"],
    params: MultiplyAddParams::FIELDS,
    params_size: size_of::<MultiplyAddParams>(),
    reference: multiply_add_reference,
    cases: || [Number::F32, Number::F16].into_iter().map(|number| multiply_add_case(number, 3, 5)).collect(),
    random: |seed| {
        let mut noise = Noise::new(seed);
        multiply_add_case([Number::F32, Number::F16][seed as usize % 2], 1 + noise.below(9), 1 + noise.below(99))
    },
    at: nowhere,
};

const X: Binding = Binding::read("x", "vec4<u32>");

/// Invocations per workgroup.
const WG: u32 = 64;
/// Loads that an invocation has in flight at a time.
const LOADS: u32 = 16;
/// Rounds of a workgroup in a long launch, enough that the time for its writes is negligible.
const ROUNDS: u64 = 16;
/// Bytes of a unit, one `vec4<u32>`.
const UNIT: u64 = 16;
/// Sums per invocation, and multiply-adds per sum and round.
const SUMS: u32 = 12;
const STEPS: u32 = 7;

params! {
    /// Parameters of [`STREAM`].
    pub struct StreamParams {
        /// Rounds of sixteen loads.
        pub rounds: u32,
        /// Unused.
        pub reserved: u32,
    }
}

params! {
    /// Parameters of [`COPY`].
    pub struct CopyParams {
        /// Workgroups in x.
        pub groups_x: u32,
        /// Unused.
        pub reserved: u32,
    }
}

params! {
    /// Parameters of [`MULTIPLY_ADD`].
    pub struct MultiplyAddParams {
        /// Rounds of seven multiply-adds per sum.
        pub rounds: u32,
        /// Factor by which sums are multiplied.
        pub factor: f32,
        /// Term that is added.
        pub term: f32,
        /// Unused.
        pub reserved: u32,
    }
}

/// Number format of the multiply-adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Pairs of f32.
    F32,
    /// Pairs of f16, which GPUs compute together.
    F16,
}

/// Reads about `bytes` bytes with workgroups of `wg` invocations: at least one round of one workgroup, at most the largest dispatch. Bindings: y, x.
#[must_use]
pub fn stream(caps: &Caps, place: Place, wg: u32, bytes: u64) -> Launch {
    let rounds = ROUNDS.min(bytes / round(wg)).max(1);
    let groups = (bytes / (rounds * round(wg))).clamp(1, caps.max_workgroups.into());
    stream_of(place, wg, groups as u32, rounds as u32)
}

/// Bytes that a workgroup reads in a round.
fn round(wg: u32) -> u64 {
    u64::from(wg * LOADS) * UNIT
}

fn stream_of(place: Place, wg: u32, groups: u32, rounds: u32) -> Launch {
    let read = u64::from(groups) * u64::from(rounds) * round(wg);
    let written = u64::from(groups * wg) * UNIT;
    let mut choice = Choice::default();
    choice.0[0] = u8::from(place == Place::Texture);
    Launch {
        kernel: &STREAM,
        choice,
        overrides: vec![wg],
        params: bytemuck::bytes_of(&StreamParams { rounds, reserved: 0 }).to_vec(),
        workgroups: [groups, 1, 1],
        sizes: vec![written, read],
        cost: Cost { bytes: read + written, flops: 0 },
    }
}

/// Copies about `bytes` bytes, at least those of one workgroup. Bindings: x, y.
#[must_use]
pub fn copy(caps: &Caps, bytes: u64) -> Launch {
    let groups = u32::try_from(bytes / (u64::from(WG) * UNIT)).unwrap_or(u32::MAX).max(1);
    let lines = groups.div_ceil(caps.max_workgroups);
    let groups_x = groups / lines;
    let bytes = u64::from(groups_x) * u64::from(lines) * u64::from(WG) * UNIT;
    Launch {
        kernel: &COPY,
        choice: Choice::default(),
        overrides: vec![WG],
        params: bytemuck::bytes_of(&CopyParams { groups_x, reserved: 0 }).to_vec(),
        workgroups: [groups_x, lines, 1],
        sizes: vec![bytes, bytes],
        cost: Cost { bytes: 2 * bytes, flops: 0 },
    }
}

/// Computes `rounds` rounds of multiply-adds in every invocation of `groups` workgroups. Binding: y.
#[must_use]
pub fn multiply_add(number: Number, groups: u32, rounds: u32) -> Launch {
    let mut choice = Choice::default();
    choice.0[0] = u8::from(number == Number::F16);
    let invocations = u64::from(groups * WG);
    Launch {
        kernel: &MULTIPLY_ADD,
        choice,
        overrides: vec![WG],
        params: bytemuck::bytes_of(&MultiplyAddParams { rounds, factor: -1.0, term: 1.5, reserved: 0 }).to_vec(),
        workgroups: [groups, 1, 1],
        sizes: vec![invocations * 8],
        cost: Cost { bytes: invocations * 8, flops: invocations * u64::from(rounds * STEPS * SUMS) * 2 },
    }
}

fn stream_reference(launch: &Launch, mut slots: Slots<'_>) {
    let (y, x) = (slots.write::<[u32; 4]>(), slots.read::<[u32; 4]>());
    let wg = launch.overrides[0] as usize;
    for (group, y) in x.chunks_exact(x.len() / launch.workgroups[0] as usize).zip(y.chunks_exact_mut(wg)) {
        y.fill([0; 4]);
        for units in group.chunks_exact(wg) {
            for (y, unit) in y.iter_mut().zip(units) {
                y.iter_mut().zip(unit).for_each(|(y, word)| *y ^= word);
            }
        }
    }
}

fn copy_reference(_: &Launch, mut slots: Slots<'_>) {
    let (x, y) = (slots.read::<u32>(), slots.write::<u32>());
    y.copy_from_slice(x);
}

fn multiply_add_reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: MultiplyAddParams = launch.params();
    let y = slots.write::<[f32; 2]>();
    for (y, lane) in y.iter_mut().zip((0..32_u8).cycle()) {
        for (y, half) in y.iter_mut().zip([0.0, 0.5]) {
            let last = |sum: u8| {
                let start = 0.25 * f32::from(lane) + f32::from(sum) + half;
                (0..params.rounds * STEPS).fold(start, |sum, _| sum.mul_add(params.factor, params.term))
            };
            *y = (0..6).map(last).sum();
        }
    }
}

fn case(name: String, launch: Launch, outputs: usize, data: Data) -> Case {
    let checks = (0..launch.sizes.len()).map(|at| if at == outputs { Check::Exact } else { Check::Skip }).collect();
    Case { name, launch, data, checks }
}

/// Returns random words for a binding of `bytes` bytes.
fn words(bytes: u64, seed: u64) -> Vec<u32> {
    let mut noise = Noise::new(seed);
    (0..bytes / 4).map(|_| noise.bits()).collect()
}

fn stream_case(place: Place, wg: u32, rounds: u32) -> Case {
    let launch = stream_of(place, wg, 3, rounds);
    let sizes = launch.sizes.clone();
    let data = Data::new(move || vec![vec![1; sizes[0] as usize / 4], words(sizes[1], 1)]);
    case(format!("3 workgroups of {wg}, {rounds} rounds, from a {place:?}"), launch, 0, data)
}

fn copy_case(groups: u32) -> Case {
    let launch = copy(&Caps::WEBGPU, u64::from(groups * WG) * UNIT);
    let sizes = launch.sizes.clone();
    let data = Data::new(move || vec![words(sizes[0], 1), vec![1; sizes[1] as usize / 4]]);
    case(format!("{groups} workgroups"), launch, 1, data)
}

fn multiply_add_case(number: Number, groups: u32, rounds: u32) -> Case {
    let launch = multiply_add(number, groups, rounds);
    let data = vec![vec![1; launch.sizes[0] as usize / 4]].into();
    case(format!("{groups} workgroups, {rounds} rounds of {number:?}"), launch, 0, data)
}

/// Returns no cases, because no model runs these kernels.
fn nowhere(_: &Workload) -> Vec<Case> {
    Vec::new()
}
