//! CPU reference of all matmuls, and their cases.

use rayon::prelude::*;

use super::launch::{
    FLOWS, Input, Matmul, Output, ROUNDED_FLOWS, ROUNDED_WITHOUT_FUSED, ROW_IN_UNIFORM, WITH_FUSED, WITHOUT_FUSED,
    cooperative, lanes, matvec, tiled,
};
use super::many::Matrices;
use super::round::{decode_row, test_rounded};
use super::stage::{staged_bytes, staged_texel};
use super::variants::shapes;
use super::{Arithmetic, FusedSums, MATMUL_LANES, MATMUL_TILED_INT8, MATVEC_INT8, MatmulParams, Normed};
use crate::weight::{self, Dtype, Form, INT_DTYPES, Order, Resident, TEST_LANES};
use crate::{Caps, Case, Check, Cooperative, Data, Launch, Noise, Row, Slots, Workload, mlp, stride};

/// Computes the matmul with sums in f64.
pub(super) fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: MatmulParams = launch.params();
    let of_ints = [MATVEC_INT8.name, MATMUL_TILED_INT8.name].contains(&launch.kernel.name);
    let (dtypes, flows) = if of_ints { (&INT_DTYPES[..], &ROUNDED_FLOWS[..]) } else { (&Dtype::ALL[..], &FLOWS[..]) };
    let lanes = launch.kernel.name == MATMUL_LANES.name;
    let order = if lanes { Order::Lanes(launch.overrides[0]) } else { Order::Rows };
    let form = Form { dtype: dtypes[launch.option(0)], order };
    let (input, output) = flows[launch.option(1)];
    let held = Resident { form, rows: params.n, chunks: params.chunks };
    let (rows, w) = (slots.read::<Row>(), slots.read::<u32>());
    let (width, y_stride) = (params.chunks as usize * 8, params.y_stride as usize);
    let numbers: &[u32] = if input == Input::Rounded { slots.read() } else { &[] };
    let x = slots.read::<f32>();
    let second: &[f32] = if input == Input::Concat { slots.read() } else { &[] };
    let residual: &[f32] = if matches!(output, Output::Residual | Output::Sum) { slots.read() } else { &[] };
    let norms: &[f32] = if matches!(output, Output::First | Output::Sum) { slots.read() } else { &[] };
    let y = slots.write::<f32>();

    let active: Vec<usize> = (0..params.rows as usize).filter(|&row| rows[row].live != 0).collect();
    let norm_factors =
        |squares: &[f32]| norm_factors(squares, (params.parts, params.width), params.eps, params.outer != 0);
    let inputs: Vec<Vec<f64>> = active
        .iter()
        .map(|&row| {
            let half = if input == Input::Concat { width / 2 } else { width };
            let (values, factor): (Vec<f32>, f64) = match input {
                Input::Plain => (x[row * half..][..half].to_vec(), 1.0),
                Input::Staged => {
                    let texel = |quad| staged_texel(row as u32, quad, params.chunks) * 4;
                    ((0..2 * params.chunks).flat_map(|quad| x[texel(quad)..][..4].to_vec()).collect(), 1.0)
                }
                Input::Concat => ([&x[row * half..][..half], &second[row * half..][..half]].concat(), 1.0),
                Input::Normed => {
                    let fused = &x[row * params.fused as usize..][..params.fused as usize];
                    let (outer, inner) = norm_factors(&fused[2 * width..]);
                    (fused[width..2 * width].to_vec(), outer * inner)
                }
                Input::Rounded => return decode_row(numbers, x, (row, params.chunks), form.dtype),
            };
            values.into_iter().map(|v| f64::from(v) * factor).collect()
        })
        .collect();
    let all = sums(&inputs, held, w);
    for (place, &row) in active.iter().enumerate() {
        let sum = |n: usize| if n < held.rows as usize { all[n / ABREAST][place][n % ABREAST] } else { 0.0 };
        let (first, last) = (params.first as usize, params.n_padded as usize);
        match output {
            Output::Store | Output::Residual => {
                for n in 0..last {
                    let added = residual.get(row * params.fused as usize + first + n);
                    y[row * y_stride + first + n] = (sum(n) + added.map_or(0.0, |&v| f64::from(v))) as f32;
                }
            }
            Output::GateUp => {
                for n in (0..last).step_by(2) {
                    y[row * y_stride + (first + n) / 2] = (mlp::silu(sum(n)) * sum(n + 1)) as f32;
                }
            }
            Output::First | Output::Sum => {
                let fused = &mut y[row * params.made as usize..][..params.made as usize];
                let taken = residual.get(row * params.fused as usize..).unwrap_or_default();
                let outer = if taken.is_empty() { 0.0 } else { norm_factors(&taken[2 * y_stride..]).0 };
                let mut squares = vec![(0.0, 0.0); fused.len()];
                let grain = FusedSums::of(params.n, form).grain as usize;
                for n in 0..last {
                    let at = first + n;
                    let norm = |which: usize| f64::from(norms[which * y_stride + at]);
                    let weight = if params.outer != 0 { norm(0) } else { 1.0 };
                    let t = sum(n) + taken.get(at).map_or(0.0, |&v| outer * f64::from(v) * weight);
                    let (outer, both) = if output == Output::Sum { (norm(1), norm(2)) } else { (1.0, norm(0)) };
                    fused[at] = t as f32;
                    fused[y_stride + at] = (t * both) as f32;
                    let sums: &mut (f64, f64) = &mut squares[at / grain];
                    *sums = (sums.0 + t * t, sums.1 + (t * outer).powi(2));
                }
                for group in first / grain..(first + last).div_ceil(grain) {
                    fused[2 * y_stride + 2 * group] = squares[group].0 as f32;
                    fused[2 * y_stride + 2 * group + 1] = squares[group].1 as f32;
                }
            }
        }
    }
}

/// Rows of W that are multiplied side by side. A sum is a chain of additions that wait for each other, so a single one would leave the CPU idle.
const ABREAST: usize = 8;

/// Multiply-adds below which it does not pay to wake other threads.
const FEW: usize = 1 << 16;

/// Products of each input with the rows of W, in groups of [`ABREAST`] rows.
fn sums(inputs: &[Vec<f64>], held: Resident, w: &[u32]) -> Vec<Vec<[f64; ABREAST]>> {
    let (width, rows) = (held.chunks as usize * 8, held.rows as usize);
    let of = |group: usize| -> Vec<[f64; ABREAST]> {
        let first = group * ABREAST;
        let mut values = vec![0.0_f32; width * ABREAST];
        for (row, values) in (first..rows).zip(values.chunks_exact_mut(width)) {
            held.decode_row(w, row as u32, values);
        }
        let mut sums = vec![[-0.0; ABREAST]; inputs.len()];
        // As many columns as stay in the nearest cache while every input uses them.
        let mut columns = [[0.0; ABREAST]; 256];
        for start in (0..width).step_by(columns.len()) {
            let end = width.min(start + columns.len());
            for (i, values) in values.chunks_exact(width).enumerate() {
                columns.iter_mut().zip(&values[start..end]).for_each(|(column, &w)| column[i] = f64::from(w));
            }
            for (x, sums) in inputs.iter().zip(&mut sums) {
                let mut so_far = *sums;
                for (x, column) in x[start..end].iter().zip(&columns) {
                    so_far.iter_mut().zip(column).for_each(|(sum, w)| *sum += x * w);
                }
                *sums = so_far;
            }
        }
        sums
    };
    let groups = rows.div_ceil(ABREAST);
    if inputs.len() * width * rows < FEW {
        (0..groups).map(of).collect()
    } else {
        (0..groups).into_par_iter().map(of).collect()
    }
}

/// Factors of the outer and the inner norm, from the sums of squares of fused sums in `parts` groups, over `width` values.
pub(super) fn norm_factors(squares: &[f32], (parts, width): (u32, u32), eps: f32, outer: bool) -> (f64, f64) {
    let of = |which: usize| -> f64 {
        let all = squares.iter().skip(which).step_by(2).take(parts as usize);
        all.map(|&v| f64::from(v)).sum::<f64>() / f64::from(width)
    };
    let eps = f64::from(eps);
    let outer = if outer { (of(0) + eps).sqrt().recip() } else { 1.0 };
    (outer, (outer * outer * of(1) + eps).sqrt().recip())
}

pub(super) fn case(shape: Matmul, launch: Launch, resting: u32, seed: u64) -> Case {
    let Matmul { rows, k, n, first, count, form, input, output, .. } = shape;
    let mut checks = vec![Check::Skip; launch.sizes.len() - 1];
    let rounded = launch.kernel.needs_f16(launch.choice);
    checks.push(if rounded { Check::F16 } else { Check::F32 });
    let products = shape.arithmetic.said();
    let of_fused = if output == Output::Residual && shape.normed.is_some() { " of fused sums" } else { "" };
    let flow = format!("{input:?}, {output:?}{of_fused}");
    let name = format!("{rows} rows of {k} by {first}+{count} of {n}, {}{products}, {flow}", form.name());
    let y = *launch.sizes.last().expect("a product has an output");
    let data = Data::new(move || {
        let mut data = inputs(shape, resting, seed);
        data.push(vec![0; y as usize / 4]);
        data
    });
    Case { name, launch, data, checks }
}

/// Inputs of a case: the row table, W, x, and what is added to the output.
fn inputs(shape: Matmul, resting: u32, seed: u64) -> Vec<Vec<u32>> {
    let mut noise = Noise::new(seed);
    let Matmul { rows, k, count, form, input, output, normed, .. } = shape;
    let width = shape.width();
    let halves = if input == Input::Concat { vec![k, k] } else { vec![k] };
    let w = weight::test_matrix(&mut noise, form, count, &halves);
    let mut data = vec![crate::row::test_rows(rows, resting), w];
    match (input, normed) {
        (Input::Normed, Some(normed)) => data.push(test_fused_sums(&mut noise, rows, normed.fused)),
        (Input::Staged, _) => data.push(test_staged(&mut noise, rows, k, shape.chunks())),
        (Input::Rounded, _) => data.extend(test_rounded(&mut noise, (rows, k), form.dtype)),
        _ => data.extend(halves.iter().map(|_| noise.matrix(rows, k, stride(k)))),
    }
    match (output, normed) {
        (Output::Residual, None) => data.push(noise.matrix(rows, width, stride(width))),
        (Output::Residual, Some(normed)) => data.push(test_fused_sums(&mut noise, rows, normed.fused)),
        (Output::Sum, Some(normed)) => {
            data.push(test_fused_sums(&mut noise, rows, normed.fused));
            let mut norms = noise.matrix(3, width, stride(width));
            if !normed.outer && seed.is_multiple_of(2) {
                // Pre-norms only: the new fused sums have no outer norm either.
                norms[stride(width) as usize..][..width as usize].fill(1_f32.to_bits());
            }
            data.push(norms);
        }
        (Output::First, _) => data.push(noise.matrix(1, width, stride(width))),
        _ => {}
    }
    data
}

/// Staged rows of x, in words.
fn test_staged(noise: &mut Noise, rows: u32, k: u32, chunks: u32) -> Vec<u32> {
    let (x, stride) = (noise.matrix(rows, k, stride(k)), stride(k) as usize);
    let mut words = vec![0; staged_bytes(rows, chunks) as usize / 4];
    for (row, values) in (0..).zip(x.chunks_exact(stride)) {
        for (quad, four) in (0..).zip(values.chunks_exact(4)) {
            words[staged_texel(row, quad, chunks) * 4..][..4].copy_from_slice(four);
        }
    }
    words
}

/// Rows of fused sums, as words.
pub(super) fn test_fused_sums(noise: &mut Noise, rows: u32, fused: FusedSums) -> Vec<u32> {
    let padded = stride(fused.width);
    let mut words = Vec::new();
    for _ in 0..rows {
        let end = words.len() + fused.floats() as usize;
        words.extend(noise.matrix(2, fused.width, padded));
        words.extend((0..2 * fused.parts()).map(|_| (noise.signed().abs() * 10.0).to_bits()));
        // Nothing reads the padding of the last pair.
        words.resize(end, 1e9_f32.to_bits());
    }
    words
}

/// Kernel that a case is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Matvec,
    MatvecInt8,
    Tiled,
    TiledInt8,
    Cooperative,
    Lanes,
}

/// Workgroup sizes that are tried with cooperative matrices: depending on the device, they form more, fewer, or as many subgroups as a tile needs.
const COOPERATIVE_LANES: [u32; 3] = [16, 64, 256];

impl Family {
    fn options(self) -> Vec<(Form, Input, Output)> {
        let forms: Vec<Form> = match self {
            Self::Matvec | Self::Tiled | Self::Cooperative => Dtype::ALL.map(Form::from).to_vec(),
            Self::MatvecInt8 | Self::TiledInt8 => INT_DTYPES.map(Form::from).to_vec(),
            Self::Lanes => Dtype::ALL.map(|dtype| Form { dtype, order: Order::Lanes(TEST_LANES) }).to_vec(),
        };
        let flows = match self {
            Self::Tiled | Self::Cooperative => &FLOWS[..WITHOUT_FUSED],
            Self::Matvec => &FLOWS[..WITH_FUSED],
            Self::MatvecInt8 => &ROUNDED_FLOWS,
            Self::TiledInt8 => &ROUNDED_FLOWS[..ROUNDED_WITHOUT_FUSED],
            Self::Lanes => &FLOWS,
        };
        forms.into_iter().flat_map(|form| flows.iter().map(move |&(input, output)| (form, input, output))).collect()
    }

    fn build(self, mut shape: Matmul, resting: u32, seed: u64) -> Case {
        // Fused sums with groups of different sizes, with and without an outer norm.
        let width = if shape.input == Input::Normed { shape.k } else { shape.n };
        let grain = [4, 32, width.next_multiple_of(8)][(seed % 3) as usize];
        let normed = Normed { fused: FusedSums { width, grain }, outer: seed % 5 > 1, eps: 1e-6 };
        // Residuals of both kinds.
        shape.normed = Some(normed).filter(|_| shape.output != Output::Residual || seed % 7 < 3);
        let option = (seed % 3) as u8;
        shape.uniform = true;
        shape.arithmetic = match self {
            Self::Tiled if seed % 2 == 1 => Arithmetic::F16,
            Self::Cooperative => Arithmetic::Cooperative,
            _ => Arithmetic::F32,
        };
        let launch = match self {
            Self::Matvec | Self::MatvecInt8 => matvec(&Caps::default(), shape, option),
            Self::Tiled | Self::TiledInt8 => tiled(shape, (seed / 2 % 2) as u8),
            Self::Cooperative => {
                let lanes = COOPERATIVE_LANES[(seed / 3 % 3) as usize];
                // Two slices need at least 128 lanes.
                let buffers = if lanes >= 128 { 1 + (seed / 9 % 2) as u32 } else { 1 };
                cooperative(shape, Matrices { kind: Cooperative::ALL[usize::from(option)], lanes, buffers })
            }
            Self::Lanes if seed.is_multiple_of(4) && shape.fits_uniform(&Caps::default()) => {
                lanes(shape, ROW_IN_UNIFORM)
            }
            Self::Lanes => lanes(shape, option),
        };
        case(shape, launch, resting, seed)
    }
}

/// Each shape `(rows, k, n)` in every form, input and output, cycling through the numbers of rows per workgroup.
pub(super) fn cases(shapes: &[(u32, u32, u32)], family: Family) -> Vec<Case> {
    let options = family.options();
    let all = shapes.iter().flat_map(|&shape| options.iter().map(move |&option| (shape, option)));
    let all = all.filter(|((_, _, n), (_, _, output))| *output != Output::GateUp || n % 2 == 0);
    all.zip(0_u64..)
        .map(|(((rows, k, n), (form, input, output)), seed)| {
            let shape = Matmul { input, output, ..Matmul::whole(rows, k, n, form) };
            // Changes the option of a flow from shape to shape.
            let turn = seed + seed / 8 + seed / options.len() as u64;
            family.build(shape, u32::from(rows > 2 && seed % 2 == 0), turn)
        })
        .collect()
}

/// A random shape, sometimes one part of a larger matrix.
pub(super) fn random(seed: u64, family: Family) -> Case {
    let mut noise = Noise::new(seed);
    let few = matches!(family, Family::Matvec | Family::MatvecInt8);
    let rows = 1 + noise.below(if few { 20 } else { 150 });
    let options = family.options();
    let (form, input, output) = options[noise.below(options.len() as u32) as usize];
    let n = 2 * (1 + noise.below(150));
    let mut shape = Matmul { input, output, ..Matmul::whole(rows, 1 + noise.below(500), n, form) };
    let grain = form.group().max(16);
    if n > grain && noise.below(2) == 0 {
        shape.first = grain * (1 + noise.below((n - 1) / grain));
        shape.count = n - shape.first;
    }
    family.build(shape, noise.below(rows), seed)
}

/// Cases of a model's matrices that `kernel` multiplies at this number of rows.
pub(super) fn at(work: &Workload, kernel: &crate::Kernel) -> Vec<Case> {
    let all = shapes(work).into_iter().map(|shape| (shape, super::launch::matmul(&work.caps, shape)));
    let met = all.filter(|(_, launch)| launch.kernel.name == kernel.name);
    met.zip(1..).map(|((shape, launch), seed)| case(shape, launch, 0, seed)).collect()
}
