//! Profiles: the time of every kernel variant in an execution, and its work according to its launches.
//!
//! With timestamps, each launch gets a pass of its own, and the device records the time at both ends. Without them, each launch is a submission that the host
//! waits for, so its time includes some 100 µs of driver work. On the CPU, the reference is timed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;
use crate::counters::add;
use crate::device::{Device, Engine};
use crate::error::Result;
use crate::exec::encode;
use crate::gpu::Gpu;
use crate::plan::{Plan, Prepared};
use crate::readback;
use crate::walk::Walk;

/// Time and work of one kernel variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileEntry {
    /// Label of the variant.
    pub label: String,
    /// Number of launches.
    pub launches: u64,
    /// Total time of the launches.
    pub time: Duration,
    /// Bytes moved, according to the launches.
    pub bytes: u64,
    /// Floating-point operations, according to the launches.
    pub flops: u64,
}

/// Time of an execution by kernel variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// One entry per kernel variant, the most expensive first.
    pub entries: Vec<ProfileEntry>,
    /// Sum of the entries' times.
    pub total: Duration,
}

/// Launches per query set: each takes two of the 4,096 queries that a set may have.
const LAUNCHES_PER_SET: usize = 2048;
/// Bytes of a timestamp.
const STAMP: u64 = 8;

/// Implements [`Device::profile`].
pub(crate) fn profile(device: &Device, plan: &Plan, counts: &[u32]) -> Result<Profile> {
    plan.check(device, counts)?;
    let _running = plan.acquire()?;
    let plan = plan.prepared();
    let mut walk = Walk::default();
    let next = || walk.peek(&plan.program, counts).inspect(|_| walk.pass());
    let order: Vec<usize> = std::iter::from_fn(next).collect();
    let times = match device.engine() {
        Engine::Cpu(cpu) => order.iter().map(|&index| timed(|| cpu.call(device.tally(), &plan.calls[index]))).collect(),
        Engine::Gpu(gpu) if gpu.timestamps => {
            let mut times = Vec::with_capacity(order.len());
            let mut rest = order.as_slice();
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at(submission(gpu, plan, rest));
                times.extend(stamped(device, gpu, plan, chunk)?);
                rest = behind;
            }
            Ok(times)
        }
        Engine::Gpu(gpu) => order.iter().map(|&index| timed(|| alone(device, gpu, plan, index))).collect(),
    }?;
    Ok(summarize(plan, &order, &times))
}

/// Number of these launches that fit into one submission.
fn submission(gpu: &Gpu, plan: &Prepared, launches: &[usize]) -> usize {
    let mut seconds = 0.0;
    let fits = launches.iter().take(LAUNCHES_PER_SET).take_while(|&&index| {
        seconds += plan.dispatches[index].seconds;
        seconds <= gpu.rates.submission_seconds
    });
    fits.count().max(1)
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    run().map(|()| start.elapsed())
}

/// Runs one launch and waits for it.
fn alone(device: &Device, gpu: &Gpu, plan: &Prepared, index: usize) -> Result<()> {
    let submission = gpu.submit(device.tally(), || {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()), &plan.dispatches[index]);
        Some(encoder.finish())
    })?;
    gpu.watchdog.estimate(plan.dispatches[index].seconds);
    add(&device.tally().launches, 1);
    gpu.wait(device.tally(), &submission)
}

/// Runs launches in one submission, each in a pass with two timestamps.
fn stamped(device: &Device, gpu: &Gpu, plan: &Prepared, launches: &[usize]) -> Result<Vec<Duration>> {
    let queries = u32::try_from(launches.len() * 2).unwrap_or(u32::MAX);
    let bytes = u64::from(queries) * STAMP;
    let (set, resolved) = gpu.guard(
        || "timestamp queries".to_owned(),
        || {
            let set = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("profile"),
                ty: wgpu::QueryType::Timestamp,
                count: queries,
            });
            let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("profile"),
                size: bytes,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            (set, resolved)
        },
    )?;
    add(&device.tally().buffers, 1);
    gpu.submit(device.tally(), || {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (pass, &index) in (0..).zip(launches) {
            let stamps = wgpu::ComputePassTimestampWrites {
                query_set: &set,
                beginning_of_pass_write_index: Some(2 * pass),
                end_of_pass_write_index: Some(2 * pass + 1),
            };
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(stamps) };
            encode(&mut encoder.begin_compute_pass(&descriptor), &plan.dispatches[index]);
        }
        encoder.resolve_query_set(&set, 0..queries, &resolved, 0);
        Some(encoder.finish())
    })?;
    gpu.watchdog.estimate(launches.iter().map(|&index| plan.dispatches[index].seconds).sum());
    add(&device.tally().launches, launches.len() as u64);
    let stamps = readback::read(device, gpu, &resolved, 0..bytes)?;
    let tick = f64::from(gpu.queue.get_timestamp_period());
    let stamp = |bytes: &[u8]| bytes.iter().rev().fold(0, |value: u64, &byte| value << 8 | u64::from(byte));
    let (width, both) = (8, 16);
    #[expect(clippy::cast_precision_loss, reason = "differences of timestamps are small")]
    let time = |pair: &[u8]| {
        let ticks = stamp(&pair[width..]).saturating_sub(stamp(&pair[..width])) as f64;
        Duration::from_secs_f64(ticks * tick / 1e9)
    };
    Ok(stamps.chunks_exact(both).map(time).collect())
}

fn summarize(plan: &Prepared, order: &[usize], times: &[Duration]) -> Profile {
    let mut entries = BTreeMap::<&str, ProfileEntry>::new();
    for (&index, &time) in order.iter().zip(times) {
        let call = &plan.calls[index];
        let entry = entries.entry(&call.label).or_insert_with(|| ProfileEntry {
            label: call.label.clone(),
            launches: 0,
            time: Duration::ZERO,
            bytes: 0,
            flops: 0,
        });
        entry.launches += 1;
        entry.time += time;
        entry.bytes = entry.bytes.saturating_add(call.launch.cost.bytes);
        entry.flops = entry.flops.saturating_add(call.launch.cost.flops);
    }
    let mut entries: Vec<_> = entries.into_values().collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.time));
    Profile { total: entries.iter().map(|entry| entry.time).sum(), entries }
}
