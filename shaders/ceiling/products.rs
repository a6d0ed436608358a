//! Kernels that measure the rates of int8 products, four at once, and of cooperative matrices.

use crate::shared::params;
use crate::{
    Binding, Caps, Case, Choice, Const, Cooperative, Cost, Data, Kernel, Launch, Noise, Params, Part, Slots, matmul,
};

use super::{case, nowhere};

/// Multiplies bytes, four at once, and adds the products in registers.
pub static DOT_INT8: Kernel = Kernel {
    name: "dot_int8",
    wgsl: include_str!("dot_int8.wgsl"),
    parts: &[Part::shared(&[], &[]).with_bytes()],
    bindings: &[Binding::write("y", "vec4<i32>")],
    axes: &[],
    overrides: &["WG"],
    params: DotInt8Params::FIELDS,
    params_size: size_of::<DotInt8Params>(),
    reference: dot_reference,
    cases: || vec![dot_case(3, 5), dot_case(1, 300)],
    random: |seed| {
        let mut noise = Noise::new(seed);
        dot_case(1 + noise.below(9), 1 + noise.below(99))
    },
    at: nowhere,
};

/// Multiplies and adds cooperative matrices in registers of subgroups.
pub static MULTIPLY_MATRICES: Kernel = Kernel {
    name: "multiply_matrices",
    wgsl: include_str!("multiply_matrices.wgsl"),
    parts: &[Part::shared(&[Const::u32("TASKS", TASKS)], &[])],
    bindings: &[Binding::read("x", "f32"), Binding::write("y", "f32")],
    axes: &[matmul::MATRICES],
    overrides: &["WG"],
    params: MultiplyMatricesParams::FIELDS,
    params_size: size_of::<MultiplyMatricesParams>(),
    reference: matrices_reference,
    cases: || Cooperative::ALL.into_iter().map(|kind| matrices_case(kind, 3, 5)).collect(),
    random: |seed| {
        let mut noise = Noise::new(seed);
        let kind = Cooperative::ALL[seed as usize % Cooperative::ALL.len()];
        matrices_case(kind, 1 + noise.below(5), 1 + noise.below(99))
    },
    at: nowhere,
};

/// Invocations per workgroup of [`DOT_INT8`] and of the cases of [`MULTIPLY_MATRICES`]: multiples of every usual subgroup size.
const WG: u32 = 64;
const CASE_WG: u32 = 128;
/// Sums per invocation, and steps per round.
const SUMS: u64 = 12;
const STEPS: u64 = 4;
/// Four bytes by which the bytes of the sums are multiplied, and the term that is added.
const FACTOR: u32 = 0x7f85_2dd3;
const TERM: u32 = 0x0101_4d2b;
/// Maximum number of subgroups per workgroup that have work, and sums of each.
const TASKS: u32 = 4;
const SUMS_OF_TASK: u32 = 4;

params! {
    /// Parameters of [`DOT_INT8`].
    pub struct DotInt8Params {
        /// Rounds of four steps.
        pub rounds: u32,
        /// Four bytes by which the bytes of the sums are multiplied.
        pub factor: u32,
        /// Term that is added.
        pub term: u32,
        /// Unused.
        pub reserved: u32,
    }
}

params! {
    /// Parameters of [`MULTIPLY_MATRICES`].
    pub struct MultiplyMatricesParams {
        /// Products per sum.
        pub rounds: u32,
        /// Unused.
        pub reserved: u32,
    }
}

/// Multiplies four bytes at once for `rounds` rounds in every invocation of `groups` workgroups. Binding: y.
#[must_use]
pub fn dot_int8(groups: u32, rounds: u32) -> Launch {
    let invocations = u64::from(groups * WG);
    Launch {
        kernel: &DOT_INT8,
        choice: Choice::default(),
        overrides: vec![WG],
        params: bytemuck::bytes_of(&DotInt8Params { rounds, factor: FACTOR, term: TERM, reserved: 0 }).to_vec(),
        workgroups: [groups, 1, 1],
        sizes: vec![invocations * 16],
        // Four multiply-adds per product of four bytes.
        cost: Cost { bytes: invocations * 16, flops: invocations * u64::from(rounds) * STEPS * SUMS * 8 },
    }
}

/// Multiplies the device's best kind of cooperative matrices for `rounds` rounds in `groups` workgroups. `None` if the device has none, or its limits are too
/// low for this kernel. Bindings: x, y.
#[must_use]
pub fn multiply_matrices(caps: &Caps, groups: u32, rounds: u32) -> Option<Launch> {
    let (kind, (_, most)) = caps.matrices().zip(caps.subgroups)?;
    let launch = matrices(kind, TASKS * most, groups, rounds);
    (TASKS * most <= caps.max_invocations && memory(kind) <= caps.max_workgroup_memory).then_some(launch)
}

/// Bytes of workgroup memory that [`MULTIPLY_MATRICES`] takes.
const fn memory(kind: Cooperative) -> u32 {
    let value = if kind.rounds() { 2 } else { 4 };
    kind.side().pow(2) * ((SUMS_OF_TASK + 1) * value + TASKS * 4)
}

fn matrices(kind: Cooperative, wg: u32, groups: u32, rounds: u32) -> Launch {
    let cells = u64::from(kind.side().pow(2));
    let sums = u64::from(groups * TASKS * SUMS_OF_TASK);
    let mut choice = Choice::default();
    choice.0[0] = kind as u8;
    Launch {
        kernel: &MULTIPLY_MATRICES,
        choice,
        overrides: vec![wg],
        params: bytemuck::bytes_of(&MultiplyMatricesParams { rounds, reserved: 0 }).to_vec(),
        workgroups: [groups, 1, 1],
        sizes: vec![u64::from(SUMS_OF_TASK + 1) * cells * 4, sums * cells * 4],
        cost: Cost { bytes: sums * cells * 4, flops: sums * u64::from(rounds) * 2 * cells * u64::from(kind.side()) },
    }
}

fn dot_reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: DotInt8Params = launch.params();
    let step = |sum: i32| {
        let products = sum.to_le_bytes().into_iter().zip(params.factor.to_le_bytes());
        let sum: i32 = products.map(|(a, b)| i32::from(a.cast_signed()) * i32::from(b.cast_signed())).sum();
        sum.wrapping_add_unsigned(params.term)
    };
    let last = |start: i32| (0..u64::from(params.rounds) * STEPS).fold(start, |sum, _| step(sum));
    for (y, lane) in slots.write::<[i32; 4]>().iter_mut().zip((0..WG.cast_signed()).map(|lane| lane % 32).cycle()) {
        for (y, at) in y.iter_mut().zip(0..) {
            *y = [0, 4, 8].into_iter().map(|sum| last(lane + at + sum)).fold(0, i32::wrapping_add);
        }
    }
}

fn matrices_reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: MultiplyMatricesParams = launch.params();
    let side = Cooperative::ALL[launch.option(0)].side() as usize;
    let (x, y) = (slots.read::<f32>(), slots.write::<f32>());
    let (lefts, right) = x.split_at(SUMS_OF_TASK as usize * side * side);
    for (sum, left) in y.chunks_exact_mut(side * side).zip(lefts.chunks_exact(side * side).cycle()) {
        for (row, sums) in left.chunks_exact(side).zip(sum.chunks_exact_mut(side)) {
            for (column, y) in right.chunks_exact(side).zip(sums) {
                let product: f64 = row.iter().zip(column).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                *y = (product * f64::from(params.rounds)) as f32;
            }
        }
    }
}

fn dot_case(groups: u32, rounds: u32) -> Case {
    let launch = dot_int8(groups, rounds);
    let data = vec![vec![1; launch.sizes[0] as usize / 4]].into();
    case(format!("{groups} workgroups, {rounds} rounds"), launch, 0, data)
}

/// A case with integers from -1 to 1, whose sums are exact in every format.
fn matrices_case(kind: Cooperative, groups: u32, rounds: u32) -> Case {
    let launch = matrices(kind, CASE_WG, groups, rounds);
    let sizes = launch.sizes.clone();
    let data = Data::new(move || {
        let mut noise = Noise::new(1);
        let x = (0..sizes[0] / 4).map(|_| (f32::from(noise.below(3) as u8) - 1.0).to_bits()).collect();
        vec![x, vec![1; sizes[1] as usize / 4]]
    });
    case(format!("{groups} workgroups, {rounds} rounds of {kind:?}"), launch, 1, data)
}
