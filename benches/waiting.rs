//! Cost of waiting for an app, on the demo: a text by the iterator, by wakers, and by bounded steps at 60 frames a second; and the first token on a fresh
//! device, cold, warmed up, and with compiled pipelines from an earlier run. Figures are medians; `RUMINATE_BENCH_ROUNDS=N` sets the number of rounds (default
//! 5).
//!
//! ```console
//! $ cargo bench -p ruminate-benches --bench waiting
//! ```

use std::env;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use ruminate::{
    Device, Error, GenerateOptions, LoadOptions, Model, OpenOptions, PipelineCache, Progress, Session, SessionOptions,
    demo,
};
use ruminate_benches::announce;

/// A frame at 60 frames a second.
const FRAME: Duration = Duration::from_millis(16);
/// Budget of generation per frame.
const BUDGET: Duration = Duration::from_millis(8);

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Generates a text, and returns the seconds that it took.
type Way = fn(&mut Session) -> Result<f64, Error>;

fn asked() -> GenerateOptions {
    let end_tokens = Some(Vec::new());
    GenerateOptions { steps: Some(16), max_tokens: Some(64), end_tokens, ..GenerateOptions::default() }
}

fn session(device: &Device) -> Result<Session, Error> {
    Model::demo(device, LoadOptions::default())?.session(SessionOptions { seed: 1, ..SessionOptions::default() })
}

/// Seconds for a text, by the iterator.
fn iterated(session: &mut Session) -> Result<f64, Error> {
    let start = Instant::now();
    session.generate(demo::PROMPTS[0].0, &asked())?.try_for_each(|piece| piece.map(drop))?;
    Ok(start.elapsed().as_secs_f64())
}

fn polled(session: &mut Session) -> Result<f64, Error> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let start = Instant::now();
    let mut generation = session.generate(demo::PROMPTS[0].0, &asked())?;
    loop {
        match generation.poll_next(&mut cx) {
            Poll::Ready(Some(piece)) => drop(piece?),
            Poll::Ready(None) => return Ok(start.elapsed().as_secs_f64()),
            Poll::Pending => std::thread::park(),
        }
    }
}

fn stepped(session: &mut Session) -> Result<f64, Error> {
    let start = Instant::now();
    session.start(demo::PROMPTS[0].0, &asked())?;
    loop {
        match session.step(BUDGET)? {
            Progress::Done(_) => return Ok(start.elapsed().as_secs_f64()),
            _ => std::thread::sleep(FRAME),
        }
    }
}

/// Seconds until the first token on a device that has compiled nothing, and the pipelines to keep. Opening and loading are not counted.
fn first_token(cache: Vec<u8>, warm: bool) -> Result<(f64, Option<Vec<u8>>), Error> {
    let device = Device::open(&OpenOptions { pipeline_cache: PipelineCache::Data(cache), ..OpenOptions::default() })?;
    let mut session = session(&device)?;
    if warm {
        session.warm_up(64, &asked())?;
    }
    let start = Instant::now();
    session.generate(demo::PROMPTS[0].0, &asked())?.next().transpose()?;
    Ok((start.elapsed().as_secs_f64(), device.pipeline_cache()))
}

#[expect(clippy::print_stdout, reason = "these are the figures")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds: usize = env::var("RUMINATE_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let device = Device::open(&OpenOptions::default())?;
    announce(&device);
    let mut times = [const { Vec::new() }; 3];
    for round in 0..=rounds {
        let ways: [Way; 3] = [iterated, polled, stepped];
        for (way, times) in ways.into_iter().zip(&mut times) {
            let mut session = session(&device)?;
            let time = way(&mut session)?;
            // The first round compiles.
            if round > 0 {
                times.push(time);
            }
        }
    }
    for (name, times) in ["iterator", "wakers", "steps with 16 ms sleeps"].into_iter().zip(times) {
        println!("64 tokens, {name:<24} {:>8.1} ms", median(times) * 1e3);
    }

    let kept = first_token(Vec::new(), false)?.1;
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        times[0].push(first_token(Vec::new(), false)?.0);
        times[1].push(first_token(Vec::new(), true)?.0);
        times[2].push(first_token(kept.clone().unwrap_or_default(), false)?.0);
    }
    let bytes = kept.map_or_else(|| "none on this device".to_owned(), |kept| format!("{} bytes", kept.len()));
    let names = ["cold".to_owned(), "warmed up".to_owned(), format!("kept pipelines ({bytes})")];
    for (name, times) in names.into_iter().zip(times) {
        println!("first token, {name:<34} {:>8.1} ms", median(times) * 1e3);
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
