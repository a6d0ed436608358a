//! Kernels at the shapes of a model.

use std::time::Duration;

use ruminate_engine::bench::{Bench, Sample};
use ruminate_engine::{Device, Error};
use ruminate_shaders::{Cost, Kernel};

use crate::arch::Spec;
use crate::precision::Dtypes;

/// Rows of a weight matrix that a case has at most: all columns, so a row's arithmetic is the model's, but data that is quickly made.
const WEIGHT_ROWS: u32 = 2048;
/// Positions that attention looks at.
const POSITIONS: u32 = 512;
/// Bytes of copies of the same case, used in turn, so that no cache holds what the next launch reads.
const COPIES: u64 = 1 << 30;
/// Share of the free memory that they may take.
const SHARE: u64 = 4;
/// Copies at most: what is so small that more would be needed stays in a cache in a model too.
const MOST_COPIES: u64 = 64;
/// Launches that are timed together, so that a submission's own cost counts little.
const LAUNCHES: u32 = 32;
/// The same for launches of many rows, which take long.
const LONG_LAUNCHES: u32 = 1;
/// Operations from which a launch takes long.
const LONG: u64 = 200_000_000;
/// How long one measurement takes at least.
const LEAST: Duration = Duration::from_millis(50);

/// What a kernel took.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTiming {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Label of the variant.
    pub variant: String,
    /// Name of the case.
    pub case: String,
    /// Rows of the pass.
    pub rows: u32,
    /// Work of a launch.
    pub cost: Cost,
    /// Seconds per launch.
    pub time: Sample,
}

/// Which of some kernels a model of this configuration launches on the device, in passes of so many rows.
#[must_use]
pub fn launched(
    device: &Device,
    kernels: &[&'static Kernel],
    spec: &Spec,
    dtypes: Dtypes,
    rows: &[u32],
) -> Vec<&'static str> {
    let launches = |kernel: &Kernel, rows: u32| {
        let work = spec.workload(dtypes, rows, POSITIONS, WEIGHT_ROWS, device.caps());
        (kernel.at)(&work).iter().any(|case| device.lacks(&case.launch).is_none())
    };
    let met = kernels.iter().filter(|kernel| rows.iter().any(|&rows| launches(kernel, rows)));
    met.map(|kernel| kernel.name).collect()
}

/// Times every launch of some kernels that a model of this configuration makes in passes of so many rows. `done` hears of each, or why there is
/// no time for it; it ends the work by `false`.
///
/// # Errors
/// A device that is lost.
pub fn kernels(
    device: &Device,
    kernels: &[&'static Kernel],
    spec: &Spec,
    dtypes: Dtypes,
    rows: &[u32],
    repetitions: u32,
    done: &mut dyn FnMut(Result<KernelTiming, Error>) -> bool,
) -> Result<(), Error> {
    let free = device.memory().available.map_or(COPIES, |free| free / SHARE);
    // Weights are what does not stay in caches, unless the model is so small that all of it does.
    let most = COPIES.min(free).min(spec.weight_bytes(dtypes));
    for &rows in rows {
        let work = spec.workload(dtypes, rows, POSITIONS, WEIGHT_ROWS, device.caps());
        for kernel in kernels {
            for case in (kernel.at)(&work) {
                if device.lacks(&case.launch).is_some() {
                    continue;
                }
                let cost = case.launch.cost;
                let bytes: u64 = case.data.iter().map(|words| words.len() as u64 * 4).sum();
                let copies = (most / bytes.max(1)).clamp(1, MOST_COPIES) as u32;
                let launches = copies.max(if cost.flops > LONG { LONG_LAUNCHES } else { LAUNCHES });
                let timed = Bench::case(device, &case, launches, copies);
                let timed = timed.and_then(|bench| bench.sample(repetitions, LEAST)).map(|time| KernelTiming {
                    kernel: kernel.name,
                    variant: kernel.label(case.launch.choice),
                    case: case.name,
                    rows,
                    cost,
                    time,
                });
                if let Err(error @ (Error::Lost(_) | Error::Timeout { .. })) = timed {
                    return Err(error);
                }
                if !done(timed) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
