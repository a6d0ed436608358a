//! Measurements of a device: timed launches, ceilings (the device's best rates), and the overheads of using it.

mod ceilings;
mod costs;
mod indirect;

use std::time::Duration;

use ruminate_shaders::{Case, Launch, Row};

use crate::buffer::Buffer;
use crate::clock::Instant;
use crate::device::Device;
use crate::error::Result;
use crate::gates::LoopWay;
use crate::graph::{Count, Graph};
use crate::plan::Plan;

pub use ceilings::{Ceiling, Ceilings};
pub use costs::Costs;
pub(crate) use costs::chain;

/// Bytes of the buffer that is read back to wait for the device.
const MARK: u64 = 16;
/// Time after which a sample takes no more measurements.
const PATIENCE: Duration = Duration::from_secs(10);

/// A plan of consecutive launches that can be timed.
#[derive(Debug)]
pub struct Bench {
    device: Device,
    plan: Plan,
    launches: u32,
    mark: Buffer,
}

/// Repeated measurements of one time, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// In ascending order; at least one.
    seconds: Vec<f64>,
}

impl Sample {
    /// Creates a sample from seconds in any order.
    ///
    /// # Panics
    /// If `seconds` is empty.
    #[must_use]
    pub fn new(mut seconds: Vec<f64>) -> Self {
        assert!(!seconds.is_empty(), "a sample has at least one time");
        seconds.sort_by(f64::total_cmp);
        Self { seconds }
    }

    /// Median; of an even number of times, the mean of the middle two.
    #[must_use]
    pub fn median(&self) -> f64 {
        let (low, high) = ((self.seconds.len() - 1) / 2, self.seconds.len() / 2);
        f64::midpoint(self.seconds[low], self.seconds[high])
    }

    /// Shortest time.
    #[must_use]
    pub fn least(&self) -> f64 {
        self.seconds[0]
    }

    /// Longest time.
    #[must_use]
    pub fn most(&self) -> f64 {
        self.seconds[self.seconds.len() - 1]
    }

    /// Number of measurements.
    #[must_use]
    pub fn repetitions(&self) -> usize {
        self.seconds.len()
    }

    /// Multiplies every time by a factor.
    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        Self::new(self.seconds.iter().map(|seconds| seconds * factor).collect())
    }
}

impl Bench {
    /// Prepares launches, each with its buffers, to run in order.
    ///
    /// # Errors
    /// As [`Device::plan`].
    pub fn new(device: &Device, launches: &[(Launch, Vec<Buffer>)]) -> Result<Self> {
        let mut graph = Graph::new("bench");
        record(&mut graph, launches)?;
        Self::of_plan(device, device.plan(graph)?, launches.len())
    }

    /// Prepares launches inside a loop with one active row, launched in the given way.
    pub(crate) fn in_loop(device: &Device, launches: &[(Launch, Vec<Buffer>)], way: LoopWay) -> Result<Self> {
        let rows = [Row::new(0, 0, 0)];
        let table = device.buffer("rows", size_of_val(&rows) as u64)?;
        device.write(&table, 0, bytemuck::cast_slice(&rows))?;
        let mut graph = Graph::new("bench");
        let table = graph.import(&table);
        graph.repeat_while_live(Count::from(1), table, 1, |graph| record(graph, launches))?;
        Self::of_plan(device, Plan::new(device, &graph, way)?, launches.len())
    }

    fn of_plan(device: &Device, plan: Plan, launches: usize) -> Result<Self> {
        let launches = u32::try_from(launches).unwrap_or(u32::MAX);
        let bench = Self { device: device.clone(), plan, launches, mark: device.buffer("mark", MARK)? };
        // Drivers may finish compiling at the first dispatch.
        bench.time(1)?;
        Ok(bench)
    }

    /// Prepares `launches` launches of a case that cycle through `copies` copies of its data, so that a launch does not find its data in a cache.
    ///
    /// # Errors
    /// As [`Device::plan`]; a case can be larger than the device's limits.
    pub fn case(device: &Device, case: &Case, launches: u32, copies: u32) -> Result<Self> {
        let copies = (0..copies.max(1)).map(|_| upload(device, case)).collect::<Result<Vec<_>>>()?;
        let turns = copies.iter().cycle().take(launches as usize);
        let launches: Vec<_> = turns.map(|buffers| (case.launch.clone(), buffers.clone())).collect();
        Self::new(device, &launches)
    }

    /// Measures the time of `rounds` executions, from the first submission until the device has finished the last. It includes one wait for the
    /// device, for any number of executions.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn time(&self, rounds: u64) -> Result<Duration> {
        let start = Instant::now();
        for _ in 1..rounds {
            self.device.execute(&self.plan, &[], &[])?;
        }
        if let Some(ticket) = self.device.execute(&self.plan, &[], &[&self.mark])? {
            ticket.wait()?;
        }
        Ok(start.elapsed())
    }

    /// Measures the time of one launch `repetitions` times, each over enough executions to take at least `least`. If all would take longer than
    /// ten seconds, there are fewer measurements, but at least two unless only one is requested.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn sample(&self, repetitions: u32, least: Duration) -> Result<Sample> {
        let once = self.time(1)?.max(Duration::from_nanos(1));
        let rounds = u32::try_from(least.as_nanos().div_ceil(once.as_nanos())).unwrap_or(u32::MAX).max(1);
        let affordable = PATIENCE.as_secs_f64() / (once.as_secs_f64() * f64::from(rounds));
        let per_launch = 1.0 / (f64::from(rounds) * f64::from(self.launches));
        let mut seconds = Vec::new();
        while seconds.len() < repetitions.max(1) as usize && (seconds.len() < 2 || (seconds.len() as f64) < affordable)
        {
            seconds.push(self.time(rounds.into())?.as_secs_f64() * per_launch);
        }
        Ok(Sample::new(seconds))
    }
}

/// Records launches with their buffers.
fn record(graph: &mut Graph, launches: &[(Launch, Vec<Buffer>)]) -> Result<()> {
    launches.iter().try_for_each(|(launch, buffers)| {
        let tensors: Vec<_> = buffers.iter().map(|buffer| graph.import(buffer)).collect();
        graph.launch(launch.clone(), &tensors)
    })
}

/// Creates memory for each binding of a case, and writes the case's data.
pub(crate) fn upload(device: &Device, case: &Case) -> Result<Vec<Buffer>> {
    let bindings = case.launch.kernel.bindings_of(case.launch.choice);
    let upload = |(data, binding): (&Vec<u32>, _)| {
        let buffer = device.memory_for(&binding, data.len() as u64 * 4)?;
        device.write(&buffer, 0, bytemuck::cast_slice(data))?;
        Ok(buffer)
    };
    case.data.iter().zip(bindings).map(upload).collect()
}

/// Creates memory of zeros for each binding of a launch.
fn blank(device: &Device, launch: &Launch) -> Result<Vec<Buffer>> {
    let bindings = launch.kernel.bindings_of(launch.choice);
    bindings.zip(&launch.sizes).map(|(binding, &bytes)| device.memory_for(&binding, bytes)).collect()
}
