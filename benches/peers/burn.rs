//! The matmuls by burn on wgpu, with tensors of its default backend, fusion and autotuning.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow, bail};
use burn_tensor::backend::Backend;
use burn_tensor::{Distribution, Tensor};
use burn_wgpu::{FloatElement, Wgpu, WgpuDevice};

use crate::cell::Cell;
use crate::compare::Figure;
use crate::pool;

/// Maximum bytes of one tensor: those of a storage binding on lavapipe. Larger matrices are split along n, as by the other peers.
const BINDING: u64 = 128 << 20;

/// Prints a figure for every cell.
pub fn measure(dtype: &str, cells: &[Cell]) -> Result<()> {
    match dtype {
        "f32" => all::<f32>(4, cells),
        "f16" => all::<half::f16>(2, cells),
        _ => bail!("burn is measured in f32 and f16"),
    }
}

fn all<F: FloatElement>(bytes_per_value: u64, cells: &[Cell]) -> Result<()> {
    for &cell in cells {
        let [n, k] = cell.shape()?;
        let bytes = u64::from(n) * u64::from(k) * bytes_per_value;
        let count = pool::matrices(cell, bytes)?;
        // burn panics if the device rejects something.
        let attempt = |transposed| {
            let outcome = catch_unwind(AssertUnwindSafe(|| time::<Wgpu<F>>(cell, count, bytes, transposed)));
            outcome.unwrap_or_else(|_| Err(anyhow!("panicked")))
        };
        // Weights as [k, n] and as [n, k]; the better result counts.
        match (attempt(false), attempt(true)) {
            (Ok(one), Ok(other)) => Figure::matmul(cell, one.min(other) / f64::from(count), bytes).print(),
            (Ok(seconds), Err(_)) | (Err(_), Ok(seconds)) => {
                Figure::matmul(cell, seconds / f64::from(count), bytes).print();
            }
            (Err(error), Err(_)) => Figure::failed(&cell.to_string(), &error.to_string()).print(),
        }
    }
    Ok(())
}

/// Seconds of a pass over `count` matrices.
fn time<B: Backend<Device = WgpuDevice>>(cell: Cell, count: u32, bytes: u64, transposed: bool) -> Result<f64> {
    let [n, k] = cell.shape()?.map(|size| size as usize);
    let device = WgpuDevice::default();
    let pieces = usize::try_from(bytes.div_ceil(BINDING))?;
    let width = n.div_ceil(pieces).next_multiple_of(32);
    let random = |shape| Tensor::<B, 2>::random(shape, Distribution::Uniform(-0.02, 0.02), &device);
    let x = random([cell.rows as usize, k]);
    let weights: Vec<Vec<Tensor<B, 2>>> = (0..count)
        .map(|_| {
            let widths = (0..n).step_by(width).map(|first| width.min(n - first));
            widths.map(|width| if transposed { random([width, k]).transpose() } else { random([k, width]) }).collect()
        })
        .collect();
    B::sync(&device).map_err(|error| anyhow!("{error:?}"))?;
    let pass = || {
        // Results are kept until the end of the pass: dropped one by one, they would be optimized away or wait for each other.
        let results: Vec<_> = weights.iter().flatten().map(|w| x.clone().matmul(w.clone())).collect();
        B::sync(&device).map_err(|error| anyhow!("{error:?}"))?;
        drop(results);
        Ok(())
    };
    Ok(pool::time(pass)?.as_secs_f64())
}
