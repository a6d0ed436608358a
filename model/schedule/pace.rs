//! Limits the rows of a pass while a sequence waits for a token.

use std::collections::BTreeMap;
use std::time::Duration;

/// Approximate time that other sequences may wait for a pass with prompt rows.
const PATIENCE: Duration = Duration::from_millis(100);

/// Approximate time limit of a round: a sequence that arrives or is canceled waits for the end of a round.
const LONGEST_ROUND: Duration = Duration::from_millis(500);

/// Maximum steps of a round: sequences join and leave only between rounds.
pub(super) const MOST_STEPS: u32 = 64;

/// Device time of a submission, where passes are submitted in pieces: rounds with more than [`MOST_STEPS`] steps, and all that an asynchronous task submits.
pub(crate) const PIECE: Duration = Duration::from_millis(100);

/// Minimum rows of a pass: fewer would slow the prompt more than they help other sequences, because every pass also carries the rows that decode.
const LEAST_ROWS: u32 = 64;

/// Weight of a new measurement in the moving average.
const TRUST: f64 = 0.3;

/// Measured time of passes, by their rows.
pub(super) struct Pace {
    asked: Option<u32>,
    most: u32,
    /// Seconds per step, by rows of the pass.
    seconds: BTreeMap<u32, f64>,
}

impl Pace {
    /// Creates the limits for passes of at most `most` rows; `asked` is the user's limit.
    pub(super) const fn new(asked: Option<u32>, most: u32) -> Self {
        Self { asked, most, seconds: BTreeMap::new() }
    }

    /// Rows of a pass of `steps` steps while a sequence waits.
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

    /// Maximum steps of a round with `rows` rows.
    pub(super) fn steps(&self, rows: u32) -> u32 {
        // There is no expected time before the first measurement.
        let expected = Some(self.expected(rows)).filter(|time| time.is_finite());
        let fits = |steps: &u32| expected.is_none_or(|time| time * f64::from(*steps) <= LONGEST_ROUND.as_secs_f64());
        (1..=MOST_STEPS).rev().find(fits).unwrap_or(1)
    }

    /// Expected seconds per step with `rows` rows, from the nearest measurements; infinite before the first one.
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

    /// Records that `steps` steps with `rows` rows took `time`.
    pub(super) fn saw(&mut self, rows: u32, steps: u32, time: Duration) {
        let new = time.as_secs_f64() / f64::from(steps.max(1));
        self.seconds.entry(rows).and_modify(|known| *known += TRUST * (new - *known)).or_insert(new);
    }
}
