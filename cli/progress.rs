//! The tokens of a generation, so that somebody who waits for one sees how far it is, and can end it: a bar with the time left, on a terminal, for long prompts.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
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
            self.bar = ProgressBar::new(PARTS.into()).with_elapsed(self.since.elapsed());
            self.bar.set_style(ProgressStyle::with_template("reading the prompt {bar:30} {percent:>3} %, {eta} left")?);
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
