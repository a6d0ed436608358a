//! How far work is, for somebody who waits for it: bars with the time left, and the tokens of a generation, which can be ended between two pieces of work.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use ruminate::{Generation, Progress, StopReason};

/// What the device computes before somebody looks whether to go on.
const PIECE: Duration = Duration::from_millis(100);
/// Between two looks.
const PAUSE: Duration = Duration::from_micros(500);
/// A prompt that takes less shows no bar, and behind a token that took less the next one is computed in one piece.
const PATIENCE: Duration = Duration::from_secs(1);
/// Tokens of a prompt that it may take a while to read.
const LONG: u32 = 64;
/// Parts of the bar.
const PARTS: u32 = 1000;

/// Time that must have passed before the time left is estimated, unless much is done already.
const TRIAL: Duration = Duration::from_secs(3);

/// A bar on stderr, if it is shown. `{left}` in its template is the time left, if that can be told.
pub(crate) fn bar(shown: bool, length: u64, template: &str) -> Result<ProgressBar> {
    let bar = if shown { ProgressBar::new(length) } else { ProgressBar::hidden() };
    let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        if let Some(left) = left(state.pos(), state.len().unwrap_or(0), state.elapsed()) {
            let _ = write!(out, ", {:#} left", HumanDuration(left));
        }
    };
    bar.set_style(ProgressStyle::with_template(template)?.with_key("left", left));
    Ok(bar)
}

/// The time left if work goes on as fast as until now; none as long as little is known: nothing is done, or less than a tenth in a short time.
fn left(done: u64, all: u64, elapsed: Duration) -> Option<Duration> {
    if done == 0 || done > all || (elapsed < TRIAL && done < all / 10) {
        return None;
    }
    Some(elapsed.mul_f64((all - done) as f64 / done as f64))
}

/// The tokens of a generation: the first one and those that take long come in pieces, between which it can be interrupted, the others at full speed.
pub(crate) struct Tokens {
    /// When the last one came.
    since: Instant,
    in_pieces: bool,
    bar: ProgressBar,
    shown: bool,
}

impl Tokens {
    /// Begins to watch.
    pub(crate) fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        Self { since: Instant::now(), in_pieces: true, bar: ProgressBar::hidden(), shown }
    }

    /// The next token, waited for, or a piece of the work for it.
    pub(crate) fn next(&mut self, generation: &mut Generation<'_>) -> Result<Progress> {
        let progress = if self.in_pieces {
            generation.step(PIECE)?
        } else {
            match generation.next() {
                Some(piece) => Progress::Token(piece?),
                None => Progress::Done(generation.stop_reason().unwrap_or(StopReason::Failed)),
            }
        };
        if progress == Progress::Working {
            self.show(generation)?;
            std::thread::sleep(PAUSE);
        } else {
            self.bar.finish_and_clear();
            self.in_pieces = self.since.elapsed() > PATIENCE;
            self.since = Instant::now();
        }
        Ok(progress)
    }

    /// How far a prompt is that takes long.
    fn show(&mut self, generation: &Generation<'_>) -> Result<()> {
        let statistics = generation.statistics();
        let long = statistics.prompt_tokens > LONG && self.since.elapsed() > PATIENCE;
        if !self.shown || statistics.tokens > 0 || !long {
            return Ok(());
        }
        if self.bar.is_hidden() {
            self.bar = bar(true, PARTS.into(), "reading the prompt {bar:30} {percent:>3} %{left}")?
                .with_elapsed(self.since.elapsed());
        }
        let part = (generation.prefilled() * f64::from(PARTS)) as i64;
        self.bar.set_position(part.unsigned_abs());
        Ok(())
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::left;
    use std::time::Duration;

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done() {
        let seconds = Duration::from_secs;
        assert_eq!(left(25, 100, seconds(10)), Some(seconds(30)));
        assert_eq!(left(100, 100, seconds(10)), Some(seconds(0)));
        // Much in a short time is a rate, too.
        assert_eq!(left(50, 100, seconds(1)), Some(seconds(1)));
    }

    #[test]
    fn nothing_is_said_before_something_is_known() {
        assert_eq!(left(0, 100, Duration::from_secs(60)), None);
        assert_eq!(left(1, 100, Duration::from_millis(50)), None);
        assert_eq!([left(0, 0, Duration::ZERO), left(3, 2, Duration::from_secs(9))], [None, None]);
    }
}
