//! Execution: encodes a plan's launches and submits them, without creating objects and without waiting.
//!
//! Launches of one submission share one compute pass; wgpu puts the barriers between them. A submission is cut off when the
//! estimated time of its launches reaches a limit. The device's kind sets the limit, or the host does, which then executes the plan piece by piece
//! with an [`Execution`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use crate::buffer::Buffer;
use crate::clock::Instant;
use crate::counters::add;
use crate::device::{Device, Engine};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::pace::{self, Clock, STAMPS};
use crate::plan::{Dispatch, Plan, Prepared};
use crate::readback::{Mapping, ReadBack};
use crate::walk::Walk;

/// See [`Device::execute`].
pub(crate) fn execute(device: &Device, plan: &Plan, counts: &[u32], reads: &[&Buffer]) -> Result<Option<ReadBack>> {
    let mut execution = Execution::new(device, plan, counts, reads)?;
    let _running = plan.acquire()?;
    execution.submit_all()?;
    Ok(execution.results.take())
}

/// See [`Device::begin`].
pub(crate) fn begin(device: &Device, plan: &Plan, counts: &[u32], reads: &[&Buffer]) -> Result<Execution> {
    let mut execution = Execution::new(device, plan, counts, reads)?;
    *plan.acquire()? = true;
    execution.claims = true;
    Ok(execution)
}

/// An execution in pieces, for hosts whose own work shares the device.
///
/// It claims its plan until it is finished or dropped, so no other execution of that plan can start meanwhile. Other plans may run between the pieces.
/// If it is dropped before the end, the remaining launches do not run.
pub struct Execution {
    device: Device,
    plan: Plan,
    counts: Vec<u32>,
    reads: Vec<Buffer>,
    walk: Walk,
    /// Buffer for the results, until the last submission copies them there.
    staging: Option<wgpu::Buffer>,
    results: Option<ReadBack>,
    /// The last submission, until it is known to have finished.
    flight: Option<Flight>,
    submitted: bool,
    /// Whether this execution has claimed the plan and must release it.
    claims: bool,
    fault: Option<Error>,
}

/// A submission that may not have finished yet.
pub(crate) struct Flight {
    since: Instant,
    /// Estimated seconds of its launches.
    assumed: f64,
    done: Done,
}

/// Sign that a submission has finished.
enum Done {
    /// Its timestamps are mapped: used if it has launches and the device has a clock.
    Stamped(Mapping),
    /// A callback has set the flag.
    Told(Arc<AtomicBool>),
}

impl Flight {
    /// Updates the device's pace. The submission has finished, and was known to have by the time `at`.
    pub(crate) fn landed(&self, gpu: &Gpu, at: Instant) -> Result<()> {
        if self.assumed == 0.0 {
            return Ok(());
        }
        let exact = match &self.done {
            Done::Stamped(stamps) => pace::seconds(gpu, &stamps.finish()?.concat()),
            Done::Told(_) => None,
        };
        let elapsed = at.saturating_duration_since(self.since).as_secs_f64();
        gpu.pace.saw(self.assumed, exact.unwrap_or(0.0), exact.unwrap_or(elapsed));
        Ok(())
    }
}

/// Limits of a submission. The first launch is always encoded.
struct Bound<'a> {
    /// Seconds of device time.
    seconds: f64,
    /// Real seconds per estimated second.
    ratio: f64,
    /// End of the host's time for encoding.
    until: Option<Instant>,
    clock: Option<&'a Clock>,
}

impl Execution {
    fn new(device: &Device, plan: &Plan, counts: &[u32], reads: &[&Buffer]) -> Result<Self> {
        plan.check(device, counts)?;
        for buffer in reads {
            device.check_owner(buffer)?;
            if buffer.texels().is_some() {
                return Err(Error::ReadBack(format!("{} is a texture; read it with `Device::read`", buffer.label())));
            }
        }
        let mut staging = None;
        if let Engine::Gpu(gpu) = device.engine() {
            gpu.check()?;
            let total: u64 = reads.iter().map(|buffer| buffer.size()).sum();
            // Allocated before the first launch, so that nothing has run if there is no memory for the results.
            staging = if reads.is_empty() { None } else { Some(gpu.staging.take(device, gpu, total)?) };
        }
        Ok(Self {
            device: device.clone(),
            plan: plan.clone(),
            counts: counts.to_vec(),
            reads: reads.iter().copied().cloned().collect(),
            walk: Walk::default(),
            staging,
            results: None,
            flight: None,
            submitted: false,
            claims: false,
            fault: None,
        })
    }

    /// Submits the next piece: the work that the device does in about `budget`, but at least one launch. A piece is one submission, and is submitted
    /// only after the previous one has finished, so the host's own work waits for at most one piece. `budget` also limits the time for
    /// encoding. On the CPU reference, the launches run within the call.
    ///
    /// Returns true when the device has finished everything; the ticket of [`Self::finish`] is ready then. Never waits.
    ///
    /// # Errors
    /// A fault of the device, which every later call returns again.
    pub fn advance(&mut self, budget: Duration) -> Result<bool> {
        self.fault.clone().map_or(Ok(()), Err)?;
        self.go_on(budget).inspect_err(|error| self.fault = Some(error.clone()))
    }

    /// Whether everything has been submitted, so that [`Self::finish`] submits nothing more. The device may still be working.
    #[must_use]
    pub const fn is_submitted(&self) -> bool {
        self.submitted
    }

    /// Fraction of the launches submitted so far, 0 to 1.
    #[must_use]
    pub fn progress(&self) -> f64 {
        let all = self.plan.launches(&self.counts).max(1);
        (self.walk.passed() as f64 / all as f64).min(1.0)
    }

    /// Submits the remaining launches, as [`Device::execute`] does. Returns a ticket if results were requested. Never waits.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn finish(mut self) -> Result<Option<ReadBack>> {
        self.fault.take().map_or(Ok(()), Err)?;
        self.submit_all()?;
        let (results, flight) = (self.results.take(), self.flight.take());
        Ok(results.map(|results| results.of(flight)))
    }

    fn go_on(&mut self, budget: Duration) -> Result<bool> {
        let until = Instant::now().checked_add(budget);
        let device = self.device.clone();
        match device.engine() {
            Engine::Cpu(_) => {
                while !self.submitted {
                    self.call()?;
                    if until.is_some_and(|until| Instant::now() >= until) {
                        break;
                    }
                }
                Ok(self.submitted)
            }
            Engine::Gpu(gpu) => {
                if self.caught_up(gpu)? && !self.submitted {
                    let clock = gpu.pace.clock(gpu, device.tally())?;
                    let bound = Bound { seconds: budget.as_secs_f64(), ratio: gpu.pace.ratio(), until, clock };
                    self.submit(gpu, &bound)?;
                }
                Ok(self.submitted && self.flight.is_none())
            }
        }
    }

    fn submit_all(&mut self) -> Result<()> {
        let device = self.device.clone();
        while !self.submitted {
            match device.engine() {
                Engine::Cpu(_) => self.call()?,
                Engine::Gpu(gpu) => {
                    let seconds = gpu.rates.submission_seconds;
                    self.submit(gpu, &Bound { seconds, ratio: 1.0, until: None, clock: None })?;
                }
            }
        }
        Ok(())
    }

    /// Runs the next launch's CPU reference, or after the last one, copies the results.
    fn call(&mut self) -> Result<()> {
        let plan = self.plan.prepared();
        if let (Some(index), Engine::Cpu(cpu)) = (self.walk.peek(&plan.program, &self.counts), self.device.engine()) {
            cpu.call(self.device.tally(), &plan.calls[index])?;
            self.walk.pass();
            return Ok(());
        }
        if !self.reads.is_empty() {
            let results = self.reads.iter().map(|buffer| self.device.content(buffer)).collect();
            self.results = Some(ReadBack::ready_now(&self.device, results));
        }
        self.submitted = true;
        Ok(())
    }

    /// Submits launches up to a bound, and the copies of the results after the last launch.
    fn submit(&mut self, gpu: &Gpu, bound: &Bound<'_>) -> Result<()> {
        let Self { device, plan, counts, reads, walk, staging, .. } = self;
        let plan = plan.prepared();
        let tally = device.tally();
        let first = walk.peek(&plan.program, counts);
        if first.is_none() && reads.is_empty() {
            self.submitted = true;
            return Ok(());
        }
        let clock = bound.clock.filter(|_| first.is_some());
        let stamps = clock.map(|_| gpu.staging.take(device, gpu, STAMPS)).transpose()?;
        let (mut launches, mut assumed, mut last) = (0, 0.0, false);
        let since = Instant::now();
        // Encoding is inside the error scopes of the submission, because wgpu reports faults of a pass when the pass ends.
        let submission = gpu.submit(tally, || {
            let begun = Instant::now();
            let mut encoder =
                gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("ruminate") });
            if first.is_some() {
                (launches, assumed) = encode_piece(&mut encoder, plan, counts, walk, bound);
            }
            if let (Some(clock), Some(stamps)) = (clock, &stamps) {
                clock.copy(&mut encoder, stamps);
            }
            last = walk.peek(&plan.program, counts).is_none();
            if let (true, Some(staging)) = (last, &*staging) {
                let mut offset = 0;
                for source in reads.iter().filter_map(Buffer::wgpu) {
                    encoder.copy_buffer_to_buffer(source, 0, staging, offset, source.size());
                    offset += source.size();
                }
            }
            let commands = encoder.finish();
            add(&tally.encoding_nanos, u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            Some(commands)
        })?;
        gpu.watchdog.estimate(assumed);
        add(&tally.launches, launches);
        let done = match stamps {
            Some(stamps) => Done::Stamped(Mapping::start(device, gpu, stamps, vec![STAMPS], submission.clone())?),
            None => Done::Told(gpu.done()),
        };
        if last {
            self.submitted = true;
            if let Some(staging) = staging.take() {
                let sizes = reads.iter().map(Buffer::size).collect();
                self.results = Some(ReadBack::start(device, gpu, staging, sizes, submission)?);
            }
        }
        self.flight = Some(Flight { since, assumed, done });
        Ok(())
    }

    /// Whether the last submission has finished. Updates the device's pace from the time that it took.
    fn caught_up(&mut self, gpu: &Gpu) -> Result<bool> {
        let Some(flight) = &self.flight else { return Ok(true) };
        let done = match &flight.done {
            Done::Stamped(stamps) => stamps.ready(),
            Done::Told(told) => {
                gpu.poll()?;
                told.load(Acquire)
            }
        };
        // Another thread's poll may be about to hand over the results.
        if done && self.results.as_ref().is_none_or(ReadBack::ready) {
            flight.landed(gpu, Instant::now())?;
            self.flight = None;
            return Ok(true);
        }
        if flight.assumed > 0.0 && matches!(flight.done, Done::Told(_)) {
            gpu.pace.saw(flight.assumed, flight.since.elapsed().as_secs_f64(), f64::INFINITY);
        }
        Ok(false)
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if self.claims {
            self.plan.release();
        }
    }
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Execution of {:?}, {}", self.plan, if self.submitted { "submitted" } else { "under way" })
    }
}

/// Encodes launches into one pass, up to a bound. Returns their number and their estimated seconds.
fn encode_piece(
    encoder: &mut wgpu::CommandEncoder,
    plan: &Prepared,
    counts: &[u32],
    walk: &mut Walk,
    bound: &Bound<'_>,
) -> (u64, f64) {
    let descriptor =
        wgpu::ComputePassDescriptor { label: Some("ruminate"), timestamp_writes: bound.clock.map(Clock::writes) };
    let mut pass = encoder.begin_compute_pass(&descriptor);
    let (mut launches, mut assumed) = (0, 0.0);
    while let Some(index) = walk.peek(&plan.program, counts) {
        let dispatch = &plan.dispatches[index];
        let full = (assumed + dispatch.seconds) * bound.ratio > bound.seconds;
        if launches > 0 && (full || bound.until.is_some_and(|until| Instant::now() >= until)) {
            break;
        }
        encode(&mut pass, dispatch);
        walk.pass();
        launches += 1;
        assumed += dispatch.seconds;
    }
    (launches, assumed)
}

/// Encodes one launch into a pass.
pub(crate) fn encode(pass: &mut wgpu::ComputePass<'_>, dispatch: &Dispatch) {
    pass.set_pipeline(&dispatch.pipeline.pipeline);
    pass.set_bind_group(0, &dispatch.bind_group, &[]);
    match (&dispatch.groups, dispatch.workgroups) {
        (Some((buffer, offset)), _) => pass.dispatch_workgroups_indirect(buffer, *offset),
        (None, [x, y, z]) => pass.dispatch_workgroups(x, y, z),
    }
}
