//! Load of the machine by other programs while a peer is measured. If a third process uses part of two cores, figures mean nothing: threads that wait for each
//! other also wait for it, those of the peers more than those of lavapipe.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Share of the processors that other programs may use during a measurement.
const OTHERS: f64 = 0.06;

/// Maximum wait for an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Maximum attempts, of which the least disturbed one counts.
pub const ATTEMPTS: u32 = 3;

/// Processor time so far, in ticks.
struct Ticks {
    /// Time of everything that ran.
    busy: f64,
    /// Time in all, idle or not.
    all: f64,
    /// Time of this process's children that have ended.
    children: f64,
}

/// Start of a measurement.
pub struct Watch(Option<Ticks>);

impl Watch {
    /// Starts watching.
    pub fn start() -> Self {
        Self(ticks())
    }

    /// Share of the processors that other programs have used since; 0 if the system does not report it.
    pub fn others(&self) -> f64 {
        let Some((before, now)) = self.0.as_ref().zip(ticks()) else { return 0.0 };
        let others = (now.busy - before.busy) - (now.children - before.children);
        others.max(0.0) / (now.all - before.all).max(1.0)
    }

    /// Whether other programs used more than they may.
    pub fn disturbed(&self) -> bool {
        self.others() > OTHERS
    }
}

/// Waits until the machine is idle, for at most [`PATIENCE`].
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
    // user, nice, system, idle, iowait, irq, softirq, steal; later fields are contained in the first.
    let fields: Vec<f64> = system.lines().next()?.split_whitespace().skip(1).take(8).filter_map(|it| it.parse().ok()).collect();
    let all: f64 = fields.iter().sum();
    let idle = fields.get(3)? + fields.get(4)?;
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name in parentheses: cutime and cstime are fields 16 and 17 of the line.
    let fields: Vec<f64> = own.rsplit(')').next()?.split_whitespace().map(|it| it.parse().unwrap_or(0.0)).collect();
    Some(Ticks { busy: all - idle, all, children: fields.get(13)? + fields.get(14)? })
}
