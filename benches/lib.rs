//! What the benchmarks share: the device, and a kernel's case made ready to run again and again.
//!
//! `RUMINATE_BENCH_GPU` names an adapter, `cpu` the CPU twins of the kernels; by default it is the best GPU, and the twins where there
//! is none. The twins are written to be read, not to be fast, and criterion does not know which device its last run was on: keep the
//! figures of each device apart with `--save-baseline` and `--baseline`.

use std::time::{Duration, Instant};

use ruminate_engine::{Buffer, Device, Error, Graph, OpenOptions, Plan, Select};
use ruminate_shaders::Case;

/// Bytes of the buffer that is read back to learn that the device is done.
const MARK: u64 = 16;

/// The device to measure.
#[must_use]
pub fn device() -> Device {
    let select = match std::env::var("RUMINATE_BENCH_GPU") {
        Ok(name) if name == "cpu" => return Device::cpu(),
        Ok(name) => Select::Name(name),
        Err(_) => Select::Best,
    };
    Device::open(&OpenOptions { select, ..OpenOptions::default() }).unwrap_or_else(|_| Device::cpu())
}

/// Says on which device the figures were taken.
#[expect(clippy::print_stderr, reason = "figures without their device mean nothing, and criterion has no place for it")]
pub fn announce(device: &Device) {
    let kind = device.summary().map_or_else(|| "no GPU was opened".to_owned(), |summary| format!("{:?}", summary.kind));
    eprintln!("device: {} ({kind})", device.name());
}

/// A kernel's case with its plan and buffers.
#[derive(Debug)]
pub struct Run {
    device: Device,
    plan: Plan,
    mark: Buffer,
}

impl Run {
    /// Uploads the inputs of a case and plans its launch, with subgroup operations on a device that has them.
    ///
    /// # Errors
    /// What the device says: a case can be larger than its limits.
    pub fn new(device: &Device, case: &Case) -> Result<Self, Error> {
        let mut graph = Graph::new(&case.name);
        let mut launch = case.launch.clone();
        let reduce = launch.kernel.axes.iter().position(|axis| axis.name == "reduce");
        if let (Some(axis), Some(_)) = (reduce, device.caps().subgroups) {
            launch.choice.0[axis] = 1;
        }
        let mut tensors = Vec::new();
        for (data, binding) in case.data.iter().zip(launch.kernel.bindings_of(launch.choice)) {
            let buffer = device.memory_for(&binding, data.len() as u64 * 4)?;
            let bytes: Vec<u8> = data.iter().flat_map(|word| word.to_le_bytes()).collect();
            device.write(&buffer, 0, &bytes)?;
            tensors.push(graph.import(&buffer));
        }
        graph.launch(launch, &tensors)?;
        let plan = device.plan(graph)?;
        let run = Self { device: device.clone(), plan, mark: device.buffer("mark", MARK)? };
        // Drivers finish their compilation at the first dispatch.
        run.time(1)?;
        Ok(run)
    }

    /// The time of `rounds` executions, from the first submission until the device has finished the last. The wait for the
    /// device is paid once, however many executions there are.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn time(&self, rounds: u64) -> Result<Duration, Error> {
        let start = Instant::now();
        for _ in 1..rounds {
            self.device.execute(&self.plan, &[], &[])?;
        }
        if let Some(ticket) = self.device.execute(&self.plan, &[], &[&self.mark])? {
            ticket.wait()?;
        }
        Ok(start.elapsed())
    }
}
