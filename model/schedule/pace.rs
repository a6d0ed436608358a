//! How many rows a pass may have while somebody waits for a token.

use std::collections::BTreeMap;
use std::time::Duration;

/// What others wait for a prompt's pass, about.
const PATIENCE: Duration = Duration::from_millis(100);

/// Fewer rows would cost a prompt more than they spare the others: the rows of those that decode are in each of its passes.
const LEAST_ROWS: u32 = 64;

/// How much of a new measurement is believed at once.
const TRUST: f64 = 0.3;

/// The pace of passes, by their rows.
pub(super) struct Pace {
    asked: Option<u32>,
    most: u32,
    /// Seconds per step of passes of so many rows.
    seconds: BTreeMap<u32, f64>,
}

impl Pace {
    /// Of passes of at most so many rows; `asked` is a limit that somebody set.
    pub(super) const fn new(asked: Option<u32>, most: u32) -> Self {
        Self { asked, most, seconds: BTreeMap::new() }
    }

    /// Rows of a pass for `steps` steps while somebody waits for it.
    pub(super) fn rows(&self, steps: u32) -> u32 {
        if let Some(asked) = self.asked {
            return asked.min(self.most);
        }
        let mut rows = self.most;
        while rows > LEAST_ROWS && self.expected(rows) * f64::from(steps) > PATIENCE.as_secs_f64() {
            rows /= 2;
        }
        rows.min(self.most)
    }

    /// Seconds that a step takes with so many rows, by the measurement that is nearest; before the first one, long.
    fn expected(&self, rows: u32) -> f64 {
        let above = self.seconds.range(rows..).next();
        let below = self.seconds.range(..rows).next_back().map(|(known, time)| (*known, *time));
        let scaled = below.map(|(known, time)| time * f64::from(rows) / f64::from(known));
        match (above, scaled) {
            (Some((_, &above)), Some(scaled)) => above.min(scaled),
            (Some((_, &above)), None) => above,
            (None, Some(scaled)) => scaled,
            (None, None) => f64::INFINITY,
        }
    }

    /// Takes note of what `steps` steps of passes of so many rows took.
    pub(super) fn saw(&mut self, rows: u32, steps: u32, time: Duration) {
        let new = time.as_secs_f64() / f64::from(steps.max(1));
        self.seconds.entry(rows).and_modify(|known| *known += TRUST * (new - *known)).or_insert(new);
    }
}
