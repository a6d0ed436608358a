//! The matmuls by Ruminate: the kernel registry's launches for this device, as the model records them.

use anyhow::{Context, Result};
use ruminate_engine::{Buffer, Device, Graph, OpenOptions, Tensor};
use ruminate_shaders::matmul::{Arithmetic, Input, Matmul, Output, matmul};
use ruminate_shaders::weight::{self, Form, Held, InTurn, RandomWeight, Resident, pack};
use ruminate_shaders::{Dtype, Row, activation_bytes};

use crate::cell::Cell;
use crate::compare::Figure;
use crate::pool;

/// Rows of a part of a matrix are a multiple of this, as in the model.
const ROW_GROUP: u32 = 16;

/// Bytes of f32 that are generated at a time on their way into a matrix.
const BLOCK: u64 = 8 << 20;

/// A matrix in as many parts as the device's limits require.
struct Matrix {
    parts: Vec<(u32, u32, Buffer)>,
}

/// Finds a dtype by its name.
pub fn dtype(name: &str) -> Result<Dtype> {
    Dtype::ALL.into_iter().find(|dtype| dtype.name() == name).with_context(|| format!("unknown dtype `{name}` (expected f32, f16, bf16, q8, q4 or q4_1)"))
}

/// Prints a figure for every cell.
pub fn measure(name: &str, cells: &[Cell]) -> Result<()> {
    let device = Device::open(&OpenOptions::default())?;
    let form = Form::preferred(&device.caps(), dtype(name)?);
    let mut held: Option<([u32; 2], Vec<Matrix>)> = None;
    for &cell in cells {
        let shape = cell.shape()?;
        let bytes = resident(form, shape[0], shape[1]).bytes();
        let count = pool::matrices(cell, bytes)? as usize;
        if held.as_ref().is_none_or(|(of, matrices)| *of != shape || matrices.len() < count) {
            // Makes room for the next matrices.
            drop(held.take());
            let matrices = (0..count).map(|_| Matrix::random(&device, shape, form)).collect::<Result<_>>()?;
            held = Some((shape, matrices));
        }
        let matrices = held.as_ref().map_or(&[][..], |(_, matrices)| &matrices[..count]);
        let seconds = time(&device, cell, form, matrices)?;
        Figure::matmul(cell, seconds / count as f64, bytes).print();
    }
    Ok(())
}

/// Seconds of a pass over the matrices.
fn time(device: &Device, cell: Cell, form: Form, matrices: &[Matrix]) -> Result<f64> {
    let [n, k] = cell.shape()?;
    let table: Vec<Row> = (0..cell.rows).map(|row| Row::new(0, row, 0)).collect();
    let rows = device.buffer("rows", size_of_val(&table[..]) as u64)?;
    device.write(&rows, 0, bytemuck::cast_slice(&table))?;
    let x = device.buffer("x", activation_bytes(cell.rows, k))?;
    let values: Vec<f32> = (0..x.size() / 4).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    device.write(&x, 0, bytemuck::cast_slice(&values))?;
    let mark = device.buffer("mark", 16)?;

    let mut graph = Graph::new("peers");
    let (rows, x) = (graph.import(&rows), graph.import(&x));
    for matrix in matrices {
        // Each product has its own output, so that none waits for another; outputs are kept, so that none is left out.
        let y = graph.scratch("y", activation_bytes(cell.rows, n));
        graph.keep(y);
        matrix.apply(&mut graph, device, [rows, x, y], (cell.rows, k, n), form)?;
    }
    let plan = device.plan(graph)?;
    let pass = || {
        let ticket = device.execute(&plan, &[], &[&mark])?.context("the mark is read back")?;
        ticket.wait()?;
        Ok(())
    };
    Ok(pool::time(pass)?.as_secs_f64())
}

impl Matrix {
    fn random(device: &Device, [n, k]: [u32; 2], form: Form) -> Result<Self> {
        let caps = device.caps();
        let most = if form.in_texture() { caps.max_texture } else { caps.max_binding };
        let grain = form.group().max(ROW_GROUP);
        let most = u32::try_from(most / resident(form, grain, k).bytes())? * grain;
        let block = u32::try_from(BLOCK / resident(form, 1, k).f32_bytes())?.next_multiple_of(grain).min(most);
        let staging = device.buffer("rows to round", resident(form, block, k).f32_bytes())?;
        let weight = RandomWeight { seed: 1, k, std: 0.02 };
        // The same rows are repeated: their values do not matter, only that they are at different addresses.
        let fill = weight.fill(Held { first: 0, count: block, halves: 1, rows: InTurn::NONE });
        run(device, |graph| {
            let staging = graph.import(&staging);
            Ok(graph.launch(fill.clone(), &[staging])?)
        })?;
        let mut parts = Vec::new();
        for first in (0..n).step_by(most as usize) {
            let count = most.min(n - first);
            let part = resident(form, count, k);
            let bytes = part.bytes();
            let buffer = if form.in_texture() { device.texels("w", bytes)? } else { device.buffer("w", bytes)? };
            run(device, |graph| {
                let (x, w) = (graph.import(&staging), graph.import(&buffer));
                for start in (0..count).step_by(block as usize) {
                    graph.launch(pack(part, start, block.min(count - start)), &[x, w])?;
                }
                Ok(())
            })?;
            // Waits, so that loading is complete before the clock starts.
            device.read(&buffer, 0..16)?;
            parts.push((first, count, buffer));
        }
        Ok(Self { parts })
    }

    fn apply(
        &self,
        graph: &mut Graph,
        device: &Device,
        [rows, x, y]: [Tensor; 3],
        (count, k, n): (u32, u32, u32),
        form: Form,
    ) -> Result<()> {
        for (first, part, buffer) in &self.parts {
            let (input, output) = (Input::Plain, Output::Store);
            let shape = Matmul {
                rows: count,
                k,
                n,
                first: *first,
                count: *part,
                form,
                input,
                output,
                normed: None,
                arithmetic: Arithmetic::F32,
            };
            let w = graph.import(buffer);
            graph.launch(matmul(&device.caps(), shape), &[rows, w, x, y])?;
        }
        Ok(())
    }
}

fn run(device: &Device, record: impl FnOnce(&mut Graph) -> Result<()>) -> Result<()> {
    let mut graph = Graph::new("load");
    record(&mut graph)?;
    device.execute(&device.plan(graph)?, &[], &[])?;
    Ok(())
}

fn resident(form: Form, rows: u32, k: u32) -> Resident {
    Resident { form, rows, chunks: weight::chunks(k) }
}
