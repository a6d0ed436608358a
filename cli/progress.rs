//! Progress bars with the time left, and interruptible token generation.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use ruminate::{Generation, Progress, StopReason};

/// Device time between two checks for Ctrl-C.
const PIECE: Duration = Duration::from_millis(100);
/// Sleep between two polls of the device.
const PAUSE: Duration = Duration::from_micros(500);
/// Minimum time of a prompt for a bar to be shown, and of a token for the next one to be computed in pieces.
const PATIENCE: Duration = Duration::from_secs(1);
/// Prompt length from which a bar may be shown, in tokens.
const LONG: u32 = 64;
/// Length of the bar, in units of progress.
const PARTS: u32 = 1000;

/// Elapsed time before the time left is estimated, unless a tenth of the work is done already.
const TRIAL: Duration = Duration::from_secs(3);

/// Progress bar on stderr, or a hidden one. `{left}` in the template is the time left, once it can be estimated.
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

/// Estimates the time left from the speed so far. Returns `None` if nothing is done, or less than a tenth within [`TRIAL`].
fn left(done: u64, all: u64, elapsed: Duration) -> Option<Duration> {
    if done == 0 || done > all || (elapsed < TRIAL && done < all / 10) {
        return None;
    }
    Some(elapsed.mul_f64((all - done) as f64 / done as f64))
}

/// Tokens of a generation. The first token, and tokens after a slow one, are computed in pieces, so that they can be interrupted; the rest run at full
/// speed.
pub(crate) struct Tokens {
    /// Time of the last token.
    since: Instant,
    in_pieces: bool,
    bar: ProgressBar,
    shown: bool,
}

impl Tokens {
    /// Starts the clock of the first token.
    pub(crate) fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        Self { since: Instant::now(), in_pieces: true, bar: ProgressBar::hidden(), shown }
    }

    /// Waits for the next token, or for a piece of its work.
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

    /// Shows the progress of a long prompt.
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
    fn time_left_extrapolates_the_speed_so_far() {
        let seconds = Duration::from_secs;
        assert_eq!(left(25, 100, seconds(10)), Some(seconds(30)));
        assert_eq!(left(100, 100, seconds(10)), Some(seconds(0)));
        // Half of the work in a short time is enough for an estimate.
        assert_eq!(left(50, 100, seconds(1)), Some(seconds(1)));
    }

    #[test]
    fn time_left_is_unknown_before_enough_work_is_done() {
        assert_eq!(left(0, 100, Duration::from_secs(60)), None);
        assert_eq!(left(1, 100, Duration::from_millis(50)), None);
        assert_eq!([left(0, 0, Duration::ZERO), left(3, 2, Duration::from_secs(9))], [None, None]);
    }
}
