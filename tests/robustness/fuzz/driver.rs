//! Runs the cases of a target one after another. A case must not panic, take longer than [`PATIENCE`], or use more memory than its target allows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use peak_alloc::PeakAlloc;

use crate::targets::{Kind, Verdict};

/// Timeout of a case. The slowest valid case is a template that uses up its instruction budget.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stack size in bytes: the default of threads, which is smaller than that of the main thread.
const STACK: usize = 2 << 20;

/// Cases per thread. A stack overflow ends the program and prints the thread's name.
const BATCH: u64 = 1000;

/// Range of cases to run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    /// Number of the first case.
    pub(crate) from: u64,
    pub(crate) cases: u64,
    /// Whether to keep the files of the last case.
    pub(crate) keep: bool,
}

/// Statistics, for the watchdog and the report.
#[derive(Default)]
struct Seen {
    /// Number of the running case.
    case: AtomicU64,
    accepted: AtomicU64,
    most_bytes: AtomicU64,
    longest_us: AtomicU64,
    /// Number of the slowest case.
    longest: AtomicU64,
}

/// Runs a plan. Returns a line of figures, or the failure with a command that reproduces it.
pub(crate) fn run(plan: &Plan, memory: &'static PeakAlloc) -> Result<String, String> {
    let start = Instant::now();
    let said = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&said);
    std::panic::set_hook(Box::new(move |panic| {
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
    let seen = Arc::new(Seen::default());
    let mut from = plan.from;
    let end = plan.from + plan.cases;
    let mut outcome = Ok(());
    while outcome.is_ok() && from < end {
        let batch = from..end.min(from + BATCH);
        from = batch.end;
        let (plan, seen, said) = (*plan, Arc::clone(&seen), Arc::clone(&said));
        let name = format!("{} cases {} to {} of seed {}", plan.kind.name(), batch.start, batch.end - 1, plan.seed);
        let watch = Arc::clone(&seen);
        outcome = watched(&plan, name, &watch, move || cases(&plan, batch, memory, &seen, &said));
    }
    let _ = std::panic::take_hook();
    outcome.map(|()| {
        let rate = plan.cases as f64 / start.elapsed().as_secs_f64();
        format!(
            "{:<9} {:>7} cases, {:>3.0} % accepted, {rate:>7.0} cases/s, longest {:>5} ms (case {}), most memory {:>5.1} MiB of {}",
            plan.kind.name(),
            plan.cases,
            100.0 * seen.accepted.load(Ordering::Relaxed) as f64 / plan.cases.max(1) as f64,
            seen.longest_us.load(Ordering::Relaxed) / 1000,
            seen.longest.load(Ordering::Relaxed),
            seen.most_bytes.load(Ordering::Relaxed) as f64 / f64::from(1 << 20),
            plan.kind.most_bytes() >> 20,
        )
    })
}

/// Runs a batch on a separate thread, and ends the program if a case hangs, because threads cannot be killed.
fn watched(
    plan: &Plan,
    name: String,
    seen: &Seen,
    batch: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let thread = std::thread::Builder::new().name(name).stack_size(STACK).spawn(batch);
    let thread = thread.map_err(|error| format!("no thread: {error}"))?;
    let (mut case, mut since) = (u64::MAX, Instant::now());
    while !thread.is_finished() {
        let now = seen.case.load(Ordering::Relaxed);
        if now != case {
            (case, since) = (now, Instant::now());
        }
        if since.elapsed() > PATIENCE {
            println!("{}", again(plan, case, &format!("takes longer than {} s", PATIENCE.as_secs())));
            std::process::exit(1);
        }
        std::thread::sleep(Duration::from_millis(if since.elapsed().as_millis() < 100 { 1 } else { 20 }));
    }
    thread.join().unwrap_or_else(|_| Err("the fuzzer itself failed".to_owned()))
}

fn cases(
    plan: &Plan,
    batch: std::ops::Range<u64>,
    memory: &PeakAlloc,
    seen: &Seen,
    said: &Mutex<String>,
) -> Result<(), String> {
    let mut target = plan.kind.target().map_err(|error| format!("{}: {error:#}", plan.kind.name()))?;
    for case in batch {
        seen.case.store(case, Ordering::Relaxed);
        // Consecutive seeds would give similar random sequences.
        let mut rng =
            Rng::with_seed(plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ case.wrapping_mul(0xd134_2543_de82_ef95));
        target.prepare(&mut rng).map_err(|error| format!("{}: {error:#}", plan.kind.name()))?;
        let before = memory.current_usage();
        memory.reset_peak_usage();
        let start = Instant::now();
        let verdict = catch_unwind(AssertUnwindSafe(|| target.run()));
        let time = start.elapsed();
        let held = memory.peak_usage().saturating_sub(before) as u64;
        let time = time.as_micros() as u64;
        if seen.longest_us.fetch_max(time, Ordering::Relaxed) < time {
            seen.longest.store(case, Ordering::Relaxed);
        }
        seen.most_bytes.fetch_max(held, Ordering::Relaxed);
        let problem = match verdict {
            Err(_) => format!("panics: {}", said.lock().unwrap_or_else(PoisonError::into_inner)),
            Ok(Verdict::Wrong(problem)) => problem,
            _ if held > plan.kind.most_bytes() => format!("takes {} MiB", held >> 20),
            Ok(verdict) => {
                seen.accepted.fetch_add(u64::from(matches!(verdict, Verdict::Accepted)), Ordering::Relaxed);
                if plan.keep && case + 1 == plan.from + plan.cases {
                    println!("{}", target.keep());
                }
                continue;
            }
        };
        let kept = target.keep();
        return Err(again(plan, case, &format!("{problem}\n  its files: {kept}")));
    }
    Ok(())
}

/// Describes a failure, with a command that reproduces it.
fn again(plan: &Plan, case: u64, problem: &str) -> String {
    let (name, seed) = (plan.kind.name(), plan.seed);
    format!(
        "{name} case {case} {problem}\n  again: cargo run --release -p ruminate-tests --bin fuzz -- --target {name} --seed {seed} \
         --from {case} --cases 1"
    )
}
