//! What else the machine does while a peer is measured. Two cores that a third process wants part of are no measure of anything: threads that
//! wait for each other wait for it too, the peers' more than lavapipe's.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Share of the processors that others may take during a measurement.
const OTHERS: f64 = 0.06;

/// How long to wait for the machine before going on as it is.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measurements of which the best undisturbed one is taken.
pub const ATTEMPTS: u32 = 3;

/// Processor time so far, in ticks.
struct Ticks {
    /// Of everything that ran.
    busy: f64,
    /// Of everything, idle or not.
    all: f64,
    /// Of this process's children that have ended.
    children: f64,
}

/// Where a measurement began.
pub struct Watch(Option<Ticks>);

impl Watch {
    /// From now on.
    pub fn start() -> Self {
        Self(ticks())
    }

    /// The share of the processors that others took since; 0 where the system does not say.
    pub fn others(&self) -> f64 {
        let Some((before, now)) = self.0.as_ref().zip(ticks()) else { return 0.0 };
        let others = (now.busy - before.busy) - (now.children - before.children);
        others.max(0.0) / (now.all - before.all).max(1.0)
    }

    /// Whether others took more than their share.
    pub fn disturbed(&self) -> bool {
        self.others() > OTHERS
    }
}

/// Waits until the machine is idle, but not for ever.
pub fn wait() {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let watch = Watch::start();
        sleep(Duration::from_millis(500));
        if !watch.disturbed() {
            return;
        }
    }
}

fn ticks() -> Option<Ticks> {
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is contained in the first.
    let fields: Vec<f64> = system.lines().next()?.split_whitespace().skip(1).take(8).filter_map(|it| it.parse().ok()).collect();
    let all: f64 = fields.iter().sum();
    let idle = fields.get(3)? + fields.get(4)?;
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name in parentheses: cutime and cstime are fields 16 and 17 of the line.
    let fields: Vec<f64> = own.rsplit(')').next()?.split_whitespace().map(|it| it.parse().unwrap_or(0.0)).collect();
    Some(Ticks { busy: all - idle, all, children: fields.get(13)? + fields.get(14)? })
}
