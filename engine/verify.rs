//! Verification of a device: a case runs on it and on the CPU reference, and every output is compared.
//!
//! On a GPU, guard words follow the content of every binding that the kernel writes, and must keep their value. They are part of the bound range, because
//! writes beyond it never happen: wgpu drops them, or moves them to the last word. Kernels cannot distinguish them from neighbors in a scratch buffer. The reference
//! needs no guard words: it panics at the end of its slices.

use std::fmt;
use std::time::Duration;

use ruminate_shaders::{Access, Binding, Case, Check, Slot, Slots};

use crate::buffer::Buffer;
use crate::device::Device;
use crate::error::Result;
use crate::graph::Graph;

/// Comparison of one output of a kernel with the reference's.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Name of the binding.
    pub binding: &'static str,
    /// Rule by which the output was compared.
    pub check: Check,
    /// Normalized mean square error of floats; the share of differing words if words must be equal. Infinite if a value is not finite.
    pub error: f64,
    /// Largest error that passes.
    pub bound: f64,
    /// Index of the largest difference, the device's value there, and the reference's.
    pub worst: Option<(usize, f64, f64)>,
}

impl Comparison {
    /// Whether the output is correct.
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
            _ => write!(f, "`{binding}`: normalized mean square error {error:.1e}, at most {bound:.0e}")?,
        }
        if let (false, Some((at, found, expected))) = (self.passed(), self.worst) {
            write!(f, "; worst at {at}: {found} instead of {expected}")?;
        }
        Ok(())
    }
}

/// Guard words after the content of a binding, 4 bytes each: 4 KiB, a row of an activation of a small model.
const GUARD: usize = 1024;

/// Value of a guard word: NaN as a float, far beyond every table as an index.
const PATTERN: u32 = 0xffc0_dead;

/// A write past the end of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// Name of the binding.
    pub binding: &'static str,
    /// Length of its content, in words.
    pub length: usize,
    /// Index of the first changed word after the content; `length` is that of the first guard word.
    pub word: usize,
    /// Number of changed guard words.
    pub count: usize,
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { binding, length, word, count } = self;
        write!(f, "`{binding}` has {length} words; {count} past its end were written, the first at {word}")
    }
}

/// Result of a case on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Label of the kernel variant.
    pub kernel: String,
    /// Name of the case.
    pub case: String,
    /// The compared outputs.
    pub outputs: Vec<Comparison>,
    /// Bindings that were written past their end.
    pub overruns: Vec<Overrun>,
    /// Time of one launch.
    pub time: Duration,
}

impl Verdict {
    /// Whether all outputs are correct and nothing else was written.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.overruns.is_empty() && self.outputs.iter().all(Comparison::passed)
    }

    /// The largest error of the outputs, as a multiple of its bound. Exact outputs that differ, and writes past the end, count as infinite.
    #[must_use]
    pub fn error(&self) -> f64 {
        if !self.overruns.is_empty() {
            return f64::INFINITY;
        }
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
        self.outputs.iter().filter(|output| !output.passed()).try_for_each(|output| write!(f, ": {output}"))?;
        self.overruns.iter().try_for_each(|overrun| write!(f, ": {overrun}"))
    }
}

/// Implements [`Device::verify`].
pub(crate) fn verify(device: &Device, case: &Case) -> Result<Verdict> {
    let launch = &case.launch;
    let mut graph = Graph::new(&case.name);
    let bindings: Vec<Binding> = launch.kernel.bindings_of(launch.choice).collect();
    let bound = upload(device, case, &bindings)?;
    let tensors: Vec<_> = bound.iter().map(|buffer| graph.import(buffer)).collect();
    graph.launch(launch.clone(), &tensors)?;
    let plan = device.plan(graph)?;
    device.execute(&plan, &[], &[])?;
    let expected = reference(case);
    let (mut outputs, mut overruns) = (Vec::new(), Vec::new());
    for (((binding, &check), buffer), expected) in bindings.iter().zip(&case.checks).zip(&bound).zip(&expected) {
        let end = expected.len() as u64 * 4;
        if check != Check::Skip {
            outputs.push(compare(binding.name, check, &words(&device.read(buffer, 0..end)?), expected));
        }
        if guarded(device, binding) {
            overruns.extend(overrun(binding.name, expected.len(), &words(&device.read(buffer, end..buffer.size())?)));
        }
    }
    // Once more for the time: everything that the first dispatch compiles is ready now.
    let time = device.profile(&plan, &[])?.total;
    Ok(Verdict { kernel: launch.kernel.label(launch.choice), case: case.name.clone(), outputs, overruns, time })
}

/// Whether guard words follow the content of a binding.
fn guarded(device: &Device, binding: &Binding) -> bool {
    binding.access == Access::Write && !device.is_cpu()
}

/// Memory with the data of a case, one for each binding, with guard words after those that the kernel writes.
fn upload(device: &Device, case: &Case, bindings: &[Binding]) -> Result<Vec<Buffer>> {
    let upload = |(binding, data): (&Binding, &Vec<u32>)| {
        let guard = if guarded(device, binding) { GUARD } else { 0 };
        let buffer = device.memory_for(binding, (data.len() + guard) as u64 * 4)?;
        device.write(&buffer, 0, bytemuck::cast_slice(data))?;
        if guard > 0 {
            let end = data.len() as u64 * 4;
            // A texture ends with a whole line.
            let words = vec![PATTERN; usize::try_from((buffer.size() - end) / 4).unwrap_or(guard)];
            device.write(&buffer, end, bytemuck::cast_slice(&words))?;
        }
        Ok(buffer)
    };
    bindings.iter().zip(case.data.iter()).map(upload).collect()
}

/// The overrun past `length` words, if guard words changed.
fn overrun(binding: &'static str, length: usize, guard: &[u32]) -> Option<Overrun> {
    let first = guard.iter().position(|&word| word != PATTERN)?;
    let count = guard.iter().filter(|&&word| word != PATTERN).count();
    Some(Overrun { binding, length, word: length + first, count })
}

/// Outputs of the reference for a case.
fn reference(case: &Case) -> Vec<Vec<u32>> {
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
