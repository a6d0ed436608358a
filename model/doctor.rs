//! Checks of a device: every kernel, as the engine would launch it there, against its CPU reference.

pub mod report;

use std::time::Duration;

use ruminate_engine::clock::Instant;
use ruminate_engine::{Device, Verdict};
use ruminate_shaders::{Case, Dtype, Kernel};

use crate::arch::Spec;
use crate::error::Error;
use crate::options::{LoadOptions, SessionOptions, State};
use crate::{Model, demo};

/// Rows per pass in the checks of kernels: decoding, a short prompt, and a long one.
const ROWS: [u32; 3] = [1, 8, 64];

/// Rows of a weight matrix in a check. They have all their columns, so the arithmetic of a row is the model's, but the data is small.
const WEIGHT_ROWS: u32 = 512;

/// Positions that attention reads.
const POSITIONS: u32 = 512;

/// Result of one case.
#[derive(Debug)]
pub struct Finding {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Label of the variant.
    pub variant: String,
    /// Name of the case.
    pub case: String,
    /// Rows of the pass for a case at the model's shapes; `None` for the kernel's own cases.
    pub rows: Option<u32>,
    /// Bytes that the launch moves, by its stated cost.
    pub bytes: u64,
    /// The comparison, or the error that prevented it.
    pub outcome: Result<Verdict, ruminate_engine::Error>,
}

impl Finding {
    /// Whether the device computed the case correctly.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Verdict::passed)
    }
}

/// Runs every case that the device supports, of each kernel in `kernels`, and every launch of these kernels in a model with this `spec`, on the device and on
/// the CPU reference. A kernel's own cases are one group, and its cases for each number of rows are one more; after each case, `done` gets the finding, the number
/// of its group (from 1) and the number of groups.
///
/// Stops if the device is lost. The last finding then holds the error.
pub fn examine(
    device: &Device,
    kernels: &[&'static Kernel],
    spec: &Spec,
    dtype: Dtype,
    done: &mut dyn FnMut(&Finding, usize, usize),
) -> Vec<Finding> {
    // The cases are made group by group, because each holds its data.
    type Make = Box<dyn Fn() -> Vec<Case>>;
    let mut jobs: Vec<(&'static Kernel, Option<u32>, Make)> = Vec::new();
    let caps = device.caps();
    for &kernel in kernels {
        jobs.push((kernel, None, Box::new(move || kernel.cases_for(&caps))));
        for rows in ROWS {
            let work = spec.workload(dtype, rows, POSITIONS, WEIGHT_ROWS, device.caps());
            jobs.push((kernel, Some(rows), Box::new(move || (kernel.at)(&work))));
        }
    }
    let mut findings = Vec::new();
    let total = jobs.len();
    for (index, (kernel, rows, make)) in jobs.into_iter().enumerate() {
        for case in make().into_iter().filter(|case| device.lacks(&case.launch).is_none()) {
            let variant = kernel.label(case.launch.choice);
            let outcome = device.verify(&case);
            let lost = device.check().is_err();
            let bytes = case.launch.cost.bytes;
            let finding = Finding { kernel: kernel.name, variant, case: case.name, rows, bytes, outcome };
            done(&finding, index + 1, total);
            findings.push(finding);
            if lost {
                return findings;
            }
        }
    }
    findings
}

/// Comparison of a whole model on the device and on the CPU reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Whole {
    /// Normalized mean square error of the logits.
    pub error: f64,
    /// Largest error that passes. It is above 0 because the CPU reference sums in f64, and rounding errors grow through the layers.
    pub bound: f64,
}

/// Maximum normalized mean square error of logits that passes. Keys and values are rounded to bf16: if a sum differs in its last digit, one of them may be
/// rounded to the neighboring value, 0.4 % away, and random weights may amplify this (4.5e-6 was seen). Kernels have tighter bounds of their own; a wrong
/// kernel causes errors near 1.
pub(crate) const LOGITS: f64 = 1e-4;

impl Whole {
    /// Whether the error is within the bound.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

/// Computes the demo's first prompt at 16 steps on the device and on the CPU reference, and compares the logits of every position.
///
/// # Errors
/// A fault of the device.
pub fn examine_demo(device: &Device) -> Result<Whole, Error> {
    let logits = |device: &Device| -> Result<Vec<f32>, Error> {
        let model = Model::demo(device, LoadOptions::default())?;
        let tokens = model.tokenizer().encode(demo::PROMPTS[0].0, crate::Specials::Bos)?;
        model.session(SessionOptions::default())?.forward(&tokens, 16, State::Seeded, true)
    };
    let (found, expected) = (logits(device)?, logits(&Device::cpu())?);
    let pairs = || found.iter().zip(&expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let difference: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
    let power: f64 = pairs().map(|(_, b)| b * b).sum();
    let error = difference / power;
    Ok(Whole { error: if error.is_nan() { f64::INFINITY } else { error }, bound: LOGITS })
}

/// Measures the median time of writing four bytes to the device and reading them back, the minimum cost of every wait.
///
/// # Errors
/// A fault of the device.
pub fn round_trip(device: &Device) -> Result<Duration, Error> {
    let buffer = device.buffer("round trip", 16)?;
    let mut times = Vec::new();
    for _ in 0..11 {
        let start = Instant::now();
        device.write(&buffer, 0, &[1, 2, 3, 4])?;
        device.read(&buffer, 0..4)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
