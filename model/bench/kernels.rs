//! Times kernels at the shapes of a model.

use std::time::Duration;

use ruminate_engine::bench::{Bench, Sample};
use ruminate_engine::{Device, Error};
use ruminate_shaders::{Cost, Kernel};

use crate::arch::Spec;
use crate::precision::Dtypes;

/// Maximum rows of a weight matrix in a case. They have all their columns, so the arithmetic of a row is the model's, but the data is made quickly.
const WEIGHT_ROWS: u32 = 2048;
/// Positions that attention reads.
const POSITIONS: u32 = 512;
/// Maximum bytes of all copies of a case. Launches cycle through the copies, so that no cache holds the data of the next launch.
const COPIES: u64 = 1 << 30;
/// Divisor of the free memory: the copies may take a quarter.
const SHARE: u64 = 4;
/// Maximum number of copies. Data so small that it would need more stays in a cache in a real model, too.
const MOST_COPIES: u64 = 64;
/// Launches timed together, so that the cost of a submission is small in comparison.
const LAUNCHES: u32 = 32;
/// Launches timed together if each takes long.
const LONG_LAUNCHES: u32 = 1;
/// Operations above which a launch counts as long.
const LONG: u64 = 200_000_000;
/// Minimum time of one measurement.
const LEAST: Duration = Duration::from_millis(50);

/// Time of a kernel in one case.
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
    /// Bytes and operations of a launch.
    pub cost: Cost,
    /// Seconds per launch.
    pub time: Sample,
}

/// Returns the names of those kernels in `kernels` that a model with this `spec` launches on the device, in passes of `rows` rows.
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

/// Times every launch of `kernels` that a model with this `spec` makes in passes of `rows` rows. `done` gets each timing, or the error that prevented it. If it
/// returns false, no more launches are timed.
///
/// # Errors
/// If the device is lost or hangs.
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
    // In a real model, weights do not stay in caches, unless the whole model fits.
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
