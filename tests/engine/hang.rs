//! A device that hangs: every way of waiting returns an error in time, and nothing waits for the device afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ruminate_engine::{Buffer, Device, Error, Graph, OpenOptions, Plan, Result, Select};
use ruminate_shaders::ceiling::{Number, multiply_add};
use ruminate_tests::trial;

use crate::Outcome;
use crate::execution::adder;

/// Approximate seconds of the device's work: long enough to detect code that waits for its end.
const BUSY: f64 = 8.0;
/// Time limit of a submission.
const LIMIT: Duration = Duration::from_millis(300);
/// Time within which the host must be free, long before the device is.
const FREE: Duration = Duration::from_secs(4);

/// Opens a separate device on the same adapter, for which nothing waits at the end of the test.
fn another(device: &Device) -> anyhow::Result<Device> {
    let index = device.summary().context("a GPU has a summary")?.index;
    Ok(Device::open(&OpenOptions { select: Select::Index(index), ..OpenOptions::default() })?)
}

/// Makes a plan of one launch, and its output buffer.
fn single(device: &Device, groups: u32, rounds: u32) -> Result<(Plan, Buffer)> {
    let launch = multiply_add(Number::F32, groups, rounds);
    let y = device.buffer("y", launch.sizes[0])?;
    let mut graph = Graph::new("busy");
    let bound = [graph.import(&y)];
    graph.launch(launch, &bound)?;
    Ok((device.plan(graph)?, y))
}

/// Makes a plan of one launch that takes about `seconds` seconds, estimated by timing shorter ones.
fn busy(device: &Device, seconds: f64) -> Result<(Plan, Buffer)> {
    let (mut groups, mut rounds) = (16, 16);
    loop {
        let (plan, _) = single(device, groups, rounds)?;
        // The first run may compile, so it is not timed. Of the others the shortest counts, because other work may disturb them.
        device.profile(&plan, &[])?;
        let times = (0..3).map(|_| Ok(device.profile(&plan, &[])?.total.as_secs_f64()));
        let took = times.collect::<Result<Vec<_>>>()?.into_iter().fold(f64::INFINITY, f64::min);
        if took > 0.05 || (groups, rounds) == (1 << 15, 1 << 15) {
            let factor = seconds / took.max(1e-6);
            // A loop of a software driver ends after 65,535 rounds.
            let more = (f64::from(rounds) * factor).clamp(1.0, 60_000.0);
            let rest = f64::from(groups) * (f64::from(rounds) * factor / more);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both are clamped")]
            return single(device, rest.clamp(1.0, 65_535.0) as u32, more as u32);
        }
        if rounds < 1 << 15 { rounds *= 2 } else { groups *= 2 }
    }
}

fn is_timeout<T: std::fmt::Debug>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Timeout { limit }) if *limit == LIMIT)
}

#[trial(adapters, full)]
fn hung_device_is_an_error_that_stays(device: &Device) -> Outcome {
    let device = another(device)?;
    let ((plan, y), (quick, small)) = (busy(&device, BUSY)?, adder(&device)?);
    let later = device.execute(&quick, &[2], &[&small])?.context("results were asked for")?;
    device.wait_idle()?;
    device.set_timeout(Some(LIMIT));
    let start = Instant::now();
    let ticket = device.execute(&plan, &[], &[&y])?.context("results were asked for")?;
    let outcome = ticket.wait();
    ensure!(is_timeout(&outcome), "{:?}", outcome.map(|results| results.len()));
    let message = outcome.expect_err("it is one").to_string();
    ensure!(message.starts_with("the device did not answer for 300ms"), "{message}");
    // No call waits a second time, not even for work that had finished before the hang.
    ensure!(later.ready() && is_timeout(&later.wait()));
    ensure!(is_timeout(&device.read(&small, 0..16)));
    ensure!(is_timeout(&device.write(&small, 0, &[0; 16])));
    ensure!(is_timeout(&device.buffer("after", 16)));
    ensure!(is_timeout(&device.execute(&quick, &[1], &[])));
    ensure!(is_timeout(&device.wait_idle()));
    ensure!(is_timeout(&device.check()));
    // Dropping everything does not wait, either.
    drop((plan, y, quick, small, device));
    ensure!(start.elapsed() < FREE, "it took {:?}", start.elapsed());
    Ok(())
}

#[trial(adapters, full)]
fn host_that_only_polls_notices_a_hung_device(device: &Device) -> Outcome {
    let device = another(device)?;
    let (plan, y) = busy(&device, BUSY)?;
    device.set_timeout(Some(LIMIT));
    let start = Instant::now();
    let mut execution = device.begin(&plan, &[], &[&y])?;
    let outcome = loop {
        match execution.advance(Duration::from_millis(5)) {
            Ok(false) => std::thread::sleep(Duration::from_millis(5)),
            outcome => break outcome,
        }
    };
    ensure!(is_timeout(&outcome), "{outcome:?}");
    drop((execution, plan, y, device));
    ensure!(start.elapsed() < FREE, "it took {:?}", start.elapsed());
    Ok(())
}

/// Mesa's software driver blocks the second submission until the first has finished.
#[trial(adapters, full)]
fn submission_that_blocks_its_thread_is_noticed_by_another(device: &Device) -> Outcome {
    let device = another(device)?;
    let ((plan, _), (quick, _)) = (busy(&device, BUSY)?, adder(&device)?);
    device.set_timeout(Some(LIMIT));
    let start = Instant::now();
    let submitting = {
        let device = device.clone();
        std::thread::spawn(move || {
            device.execute(&plan, &[], &[])?;
            device.execute(&quick, &[2], &[])?;
            device.wait_idle()
        })
    };
    let outcome = loop {
        std::thread::sleep(device.look_interval());
        if let outcome @ Err(_) = device.look() {
            break outcome;
        }
        ensure!(start.elapsed() < FREE, "nothing was noticed");
    };
    ensure!(is_timeout(&outcome), "{outcome:?}");
    // When the driver lets the thread return, its call returns the same error.
    let outcome = submitting.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?;
    ensure!(is_timeout(&outcome), "{outcome:?}");
    Ok(())
}

/// Waker that records that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[trial(adapters, full)]
fn waker_is_woken_when_the_device_hangs(device: &Device) -> Outcome {
    let device = another(device)?;
    let (plan, _) = busy(&device, BUSY)?;
    device.set_timeout(Some(LIMIT));
    let start = Instant::now();
    device.execute(&plan, &[], &[])?;
    let woken = Arc::new(Woken::default());
    device.wake_when_done(&Waker::from(Arc::clone(&woken)))?;
    while !woken.0.load(Ordering::Acquire) {
        ensure!(start.elapsed() < FREE, "the waker was not woken");
        std::thread::sleep(Duration::from_millis(5));
    }
    ensure!(is_timeout(&device.check()));
    Ok(())
}

/// Long work in short submissions is not a hang, even if its total time exceeds the limit.
#[trial(adapters, full)]
fn slow_device_that_makes_progress_is_waited_for(device: &Device) -> Outcome {
    let device = another(device)?;
    let (plan, y) = busy(&device, 0.1)?;
    // A busy machine may take several times as long for a submission.
    let limit = Duration::from_millis(1500);
    device.set_timeout(Some(limit));
    let start = Instant::now();
    let mut last = None;
    for _ in 0..40 {
        last = device.execute(&plan, &[], &[&y])?;
    }
    last.context("results were asked for")?.wait()?;
    ensure!(start.elapsed() > limit, "the work took {:?}, too short to prove anything", start.elapsed());
    Ok(())
}
