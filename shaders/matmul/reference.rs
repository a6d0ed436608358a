//! The CPU twin of all matmuls, and their cases.

use rayon::prelude::*;

use super::launch::{Input, Matmul, Output, lanes, matvec, tiled};
use super::{INPUT, MATMUL_LANES, MatmulParams};
use crate::weight::{self, Dtype, Form, Resident, TEST_LANES};
use crate::{Caps, Case, Check, Launch, Noise, Row, Slots, Workload, mlp, stride};

/// Sums in f64, one row of W after the other.
pub(super) fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: MatmulParams = launch.params();
    let form = if launch.kernel.name == MATMUL_LANES.name {
        weight::lanes_form(launch.option(0), launch.overrides[0])
    } else {
        Dtype::ALL[launch.option(0)].into()
    };
    let w_of = Resident { form, rows: params.n, chunks: params.chunks };
    let concat = INPUT.options[launch.option(1)].name == "concat";
    let (rows, w) = (slots.read::<Row>(), slots.read::<u32>());
    let width = params.chunks as usize * 8;
    let half = if concat { width / 2 } else { width };
    let x = slots.read::<f32>();
    let second: &[f32] = if concat { slots.read() } else { &[] };
    let residual: Option<&[f32]> = (launch.option(2) == 1).then(|| slots.read());
    let gate_up = launch.option(2) == 2;
    let y = slots.write::<f32>();

    let active: Vec<usize> = (0..params.rows as usize).filter(|&row| rows[row].live != 0).collect();
    let inputs: Vec<Vec<f64>> = active
        .iter()
        .map(|&row| {
            let first = x[row * half..][..half].iter();
            let second = if concat { &second[row * half..][..half] } else { second };
            first.chain(second).map(|&v| f64::from(v)).collect()
        })
        .collect();
    let sums = |n: u32| -> Vec<f64> {
        let row: Vec<f64> = (0..width as u32).map(|k| f64::from(w_of.decode(w, n, k))).collect();
        inputs.iter().map(|x| x.iter().zip(&row).map(|(x, w)| x * w).sum()).collect()
    };
    let all: Vec<Vec<f64>> = (0..params.n).into_par_iter().map(sums).collect();
    let y_stride = params.y_stride as usize;
    for (place, &row) in active.iter().enumerate() {
        let sum = |n: usize| all.get(n).map_or(0.0, |sums| sums[place]);
        let step = if gate_up { 2 } else { 1 };
        for n in (0..params.n_padded as usize).step_by(step) {
            let at = row * y_stride + (params.first as usize + n) / step;
            let added = residual.map_or(0.0, |residual| f64::from(residual[at]));
            let value = if gate_up { mlp::silu(sum(n)) * sum(n + 1) } else { sum(n) + added };
            y[at] = value as f32;
        }
    }
}

fn case(shape: Matmul, launch: Launch, resting: u32, seed: u64) -> Case {
    let mut noise = Noise::new(seed);
    let Matmul { rows, k, n, count, form, .. } = shape;
    let width = shape.width();
    let table = crate::row::test_rows(rows, resting);
    let halves = if shape.input == Input::Concat { vec![k, k] } else { vec![k] };
    let w = weight::test_matrix(&mut noise, form, count, &halves);
    let mut data = vec![table, w];
    data.extend(halves.iter().map(|_| noise.matrix(rows, k, stride(k))));
    if shape.output == Output::Residual {
        data.push(noise.matrix(rows, width, stride(width)));
    }
    let mut checks = vec![Check::Skip; data.len()];
    data.push(vec![0; (rows * stride(width)) as usize]);
    checks.push(Check::F32);
    let first = shape.first;
    let (input, output) = (shape.input, shape.output);
    let name = format!("{rows} rows of {k} by {first}+{count} of {n}, {}, {input:?}, {output:?}", form.name());
    Case { name, launch, data, checks }
}

/// Which kernel a case is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Matvec,
    Tiled,
    Lanes,
}

impl Family {
    fn options(self) -> Vec<(Form, Input, Output)> {
        let forms: Vec<Form> = match self {
            Self::Matvec | Self::Tiled => Dtype::ALL.map(Form::from).to_vec(),
            Self::Lanes => (0..4).map(|option| weight::lanes_form(option, TEST_LANES)).collect(),
        };
        let inputs = [Input::Plain, Input::Concat];
        let outputs = [Output::Store, Output::Residual, Output::GateUp];
        let pairs = inputs.into_iter().flat_map(|input| outputs.map(|output| (input, output)));
        forms.into_iter().flat_map(|form| pairs.clone().map(move |(input, output)| (form, input, output))).collect()
    }

    fn build(self, shape: Matmul, resting: u32, seed: u64) -> Case {
        let option = (seed % 3) as u8;
        let launch = match self {
            Self::Matvec => matvec(&Caps::default(), shape, option),
            Self::Tiled => tiled(shape),
            Self::Lanes => lanes(shape, option),
        };
        case(shape, launch, resting, seed)
    }
}

/// Each shape `(rows, k, n)` in every form, input and output, with every number of rows per workgroup in turn.
pub(super) fn cases(shapes: &[(u32, u32, u32)], family: Family) -> Vec<Case> {
    let all = shapes.iter().flat_map(|&shape| family.options().into_iter().map(move |option| (shape, option)));
    let all = all.filter(|((_, _, n), (_, _, output))| *output != Output::GateUp || n % 2 == 0);
    all.zip(0_u64..)
        .map(|(((rows, k, n), (form, input, output)), seed)| {
            let shape = Matmul { input, output, ..Matmul::whole(rows, k, n, form) };
            // Another option for the same input and output in the next shape.
            family.build(shape, u32::from(rows > 2 && seed % 2 == 0), seed + seed / 6)
        })
        .collect()
}

/// A random shape, now and then one part of a larger matrix.
pub(super) fn random(seed: u64, family: Family) -> Case {
    let mut noise = Noise::new(seed);
    let rows = 1 + noise.below(if family == Family::Matvec { 20 } else { 150 });
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

/// The matrices of a model that meet `kernel` at this number of rows, each cut to its first rows.
pub(super) fn at(work: &Workload, kernel: &crate::Kernel) -> Vec<Case> {
    let Workload { n_embd: n, heads, kv_heads, head_dim, hidden, vocab, dtype, rows, .. } = *work;
    let form = Form::preferred(&work.caps, dtype);
    let shapes = [
        (n, n, Input::Concat, Output::Store),
        (n, (heads + 2 * kv_heads) * head_dim, Input::Plain, Output::Store),
        (heads * head_dim, n, Input::Plain, Output::Residual),
        (n, 2 * hidden, Input::Plain, Output::GateUp),
        (hidden, n, Input::Plain, Output::Residual),
        (n, vocab, Input::Plain, Output::Store),
    ];
    let cut = shapes.map(|(k, n, input, output)| {
        let grain = form.group().max(16);
        let count = if n > work.most_weight_rows { work.most_weight_rows / grain * grain } else { n };
        Matmul { input, output, count, ..Matmul::whole(rows, k, n, form) }
    });
    let all = cut.into_iter().map(|shape| (shape, super::launch::matmul(&work.caps, shape)));
    let met = all.filter(|(_, launch)| launch.kernel.name == kernel.name);
    met.zip(1..).map(|((shape, launch), seed)| case(shape, launch, 0, seed)).collect()
}
