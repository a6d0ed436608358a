//! Verifying a device: a case runs on it and on the CPU twin, and every output is compared.

use std::fmt;
use std::time::Duration;

use ruminate_shaders::{Access, Case, Check, Slot, Slots};

use crate::bench;
use crate::device::Device;
use crate::error::Result;
use crate::graph::Graph;

/// How one output of a kernel compares with the twin's.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Name of the binding.
    pub binding: &'static str,
    /// How it is judged.
    pub check: Check,
    /// Normalised mean square error of floats; the share of words that differ where they have to be equal. Infinite if a value is not finite.
    pub error: f64,
    /// Largest error that passes.
    pub bound: f64,
    /// Where the difference is largest, what the device has there, and what the twin has.
    pub worst: Option<(usize, f64, f64)>,
}

impl Comparison {
    /// Whether the device is right.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { binding, error, bound, .. } = self;
        match self.check {
            Check::Exact => write!(f, "`{binding}`: {:.3} % of the words differ", 100.0 * error)?,
            _ => write!(f, "`{binding}`: normalised mean square error {error:.1e}, at most {bound:.0e}")?,
        }
        if let (false, Some((at, found, expected))) = (self.passed(), self.worst) {
            write!(f, "; worst at {at}: {found} instead of {expected}")?;
        }
        Ok(())
    }
}

/// What a device made of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Label of the kernel variant.
    pub kernel: String,
    /// Name of the case.
    pub case: String,
    /// The outputs.
    pub outputs: Vec<Comparison>,
    /// Time of one launch.
    pub time: Duration,
}

impl Verdict {
    /// Whether all outputs are right.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outputs.iter().all(Comparison::passed)
    }

    /// The largest error of the outputs, as a multiple of its bound; exact outputs that differ are infinitely far off.
    #[must_use]
    pub fn error(&self) -> f64 {
        let ratio = |output: &Comparison| match output.check {
            Check::Exact if output.error > 0.0 => f64::INFINITY,
            Check::Exact | Check::Skip => 0.0,
            Check::F32 | Check::F16 | Check::Bf16 => output.error / output.bound,
        };
        self.outputs.iter().map(ratio).fold(0.0, f64::max)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kernel, self.case)?;
        self.outputs.iter().filter(|output| !output.passed()).try_for_each(|output| write!(f, ": {output}"))
    }
}

/// See [`Device::verify`].
pub(crate) fn verify(device: &Device, case: &Case) -> Result<Verdict> {
    let launch = &case.launch;
    let mut graph = Graph::new(&case.name);
    let bound = bench::upload(device, case)?;
    let tensors: Vec<_> = bound.iter().map(|buffer| graph.import(buffer)).collect();
    graph.launch(launch.clone(), &tensors)?;
    let plan = device.plan(graph)?;
    device.execute(&plan, &[], &[])?;
    let expected = twin(case);
    let bindings = launch.kernel.bindings_of(launch.choice);
    let mut outputs = Vec::new();
    for (((binding, &check), buffer), expected) in bindings.zip(&case.checks).zip(&bound).zip(&expected) {
        if check != Check::Skip {
            let bytes = device.read(buffer, 0..expected.len() as u64 * 4)?;
            outputs.push(compare(binding.name, check, &words(&bytes), expected));
        }
    }
    // Once more for the time: what is compiled at the first dispatch is there now.
    let time = device.profile(&plan, &[])?.total;
    Ok(Verdict { kernel: launch.kernel.label(launch.choice), case: case.name.clone(), outputs, time })
}

/// What the twin makes of a case.
fn twin(case: &Case) -> Vec<Vec<u32>> {
    let mut data = case.data.to_vec();
    let bindings = case.launch.kernel.bindings_of(case.launch.choice);
    let slots = bindings.zip(&mut data).map(|(binding, words)| match binding.access {
        Access::Read => Slot::Read(words),
        Access::Write => Slot::Write(words),
    });
    let slots = Slots::new(slots.collect());
    (case.launch.kernel.reference)(&case.launch, slots);
    data
}

fn compare(binding: &'static str, check: Check, found: &[u32], expected: &[u32]) -> Comparison {
    let floats = |words: &[u32]| -> Vec<f64> {
        match check {
            Check::Bf16 => {
                words.iter().flat_map(|w| [w << 16, w & 0xffff_0000]).map(|w| f32::from_bits(w).into()).collect()
            }
            Check::F32 | Check::F16 => words.iter().map(|&w| f32::from_bits(w).into()).collect(),
            Check::Exact | Check::Skip => words.iter().map(|&w| w.into()).collect(),
        }
    };
    let (found, expected) = (floats(found), floats(expected));
    let pairs = || found.iter().zip(&expected).map(|(&a, &b)| (a, b));
    let distance = |(a, b): (f64, f64)| if a.is_finite() { (a - b).abs() } else { f64::INFINITY };
    let worst = pairs().enumerate().max_by(|(_, a), (_, b)| distance(*a).total_cmp(&distance(*b)));
    let (error, bound) = match check {
        Check::F32 | Check::F16 | Check::Bf16 => {
            let difference: f64 = pairs().map(|pair| distance(pair).powi(2)).sum();
            let power: f64 = expected.iter().map(|b| b * b).sum();
            let bound = match check {
                Check::F32 => 1e-9,
                Check::F16 => 4e-6,
                _ => 1e-6,
            };
            (if power > 0.0 { difference / power } else { difference }, bound)
        }
        Check::Exact | Check::Skip => {
            let differ = pairs().filter(|(a, b)| a != b).count();
            (differ as f64 / found.len().max(1) as f64, 0.0)
        }
    };
    Comparison { binding, check, error, bound, worst: worst.map(|(at, (a, b))| (at, a, b)) }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
