//! Examining a device before it is trusted: every kernel, as the engine would launch it there, against its CPU twin.

pub mod report;

use std::time::Duration;

use ruminate_engine::clock::Instant;
use ruminate_engine::{Device, Verdict};
use ruminate_shaders::{Case, Dtype, Kernel};

use crate::arch::Spec;
use crate::error::Error;
use crate::options::{LoadOptions, SessionOptions, State};
use crate::{Model, demo};

/// Rows of the passes that kernels are examined with: decoding, a short prompt, a long one.
const ROWS: [u32; 3] = [1, 8, 64];

/// Rows of a weight matrix that are examined: all columns, so a row's arithmetic is the model's, but not gigabytes.
const WEIGHT_ROWS: u32 = 512;

/// Positions that attention looks at.
const POSITIONS: u32 = 512;

/// What became of one case.
#[derive(Debug)]
pub struct Finding {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Label of the variant.
    pub variant: String,
    /// Name of the case.
    pub case: String,
    /// Rows of the pass at a real shape; none for the cases that the kernel brings along.
    pub rows: Option<u32>,
    /// Bytes that the launch states to move.
    pub bytes: u64,
    /// The comparison, or why there is none.
    pub outcome: Result<Verdict, ruminate_engine::Error>,
}

impl Finding {
    /// Whether the device computed it, and rightly.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Verdict::passed)
    }
}

/// Runs every case of every kernel that can run on the device, and every launch that a model of this configuration makes, on the device and on its twin. `done`
/// hears of each finding: how many there have been, how many there will be.
///
/// It stops at a lost device, with the finding that says so as the last one.
pub fn examine(
    device: &Device,
    kernels: &[&'static Kernel],
    spec: &Spec,
    dtype: Dtype,
    done: &mut dyn FnMut(&Finding, usize, usize),
) -> Vec<Finding> {
    // The cases are made one at a time, because each holds its data.
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

/// A whole model on the device and on the twins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Whole {
    /// Normalized mean square error of the logits.
    pub error: f64,
    /// Largest error that passes: the twins sum in f64, and rounding errors grow through the layers.
    pub bound: f64,
}

impl Whole {
    /// Whether the device is right.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

/// Computes the demo's first prompt at 16 steps on the device and on the twins, and compares the logits of every position.
///
/// # Errors
/// The device's.
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
    Ok(Whole { error: if error.is_nan() { f64::INFINITY } else { error }, bound: 1e-6 })
}

/// The median time of writing four bytes to the device and reading them back: what every wait costs at least.
///
/// # Errors
/// The device's.
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
