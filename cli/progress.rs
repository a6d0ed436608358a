//! What is seen of a long prompt while it is computed: a bar with the time left, on a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use ruminate::{Generation, Progress, StopReason};

/// What the device computes of a prompt before somebody looks whether to go on.
const PIECE: Duration = Duration::from_millis(100);
/// Between two looks.
const PAUSE: Duration = Duration::from_micros(500);
/// A prompt that takes less shows no bar.
const PATIENCE: Duration = Duration::from_secs(1);
/// Tokens of a prompt that it may take a while to read.
const LONG: u32 = 64;
/// Parts of the bar.
const PARTS: u32 = 1000;

/// A prompt on its way, computed in pieces, between which it can be interrupted.
pub(crate) struct Prefill {
    start: Instant,
    bar: ProgressBar,
    shown: bool,
}

impl Prefill {
    /// Begins to watch.
    pub(crate) fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        Self { start: Instant::now(), bar: ProgressBar::hidden(), shown }
    }

    /// The next token, waited for; but as long as there is none, and somebody may want to see how far a long prompt is, only a piece of that.
    pub(crate) fn next(&mut self, generation: &mut Generation<'_>) -> Result<Progress> {
        let statistics = generation.statistics();
        if self.shown && statistics.prompt_tokens > LONG && statistics.tokens == 0 {
            return self.step(generation);
        }
        Ok(match generation.next() {
            Some(piece) => Progress::Token(piece?),
            None => Progress::Done(generation.stop_reason().unwrap_or(StopReason::Failed)),
        })
    }

    /// Goes on by a piece, until the first token is there.
    pub(crate) fn step(&mut self, generation: &mut Generation<'_>) -> Result<Progress> {
        let progress = generation.step(PIECE)?;
        if progress != Progress::Working {
            self.bar.finish_and_clear();
            return Ok(progress);
        }
        if self.shown && self.start.elapsed() > PATIENCE {
            if self.bar.is_hidden() {
                self.bar = ProgressBar::new(PARTS.into()).with_elapsed(self.start.elapsed());
                self.bar
                    .set_style(ProgressStyle::with_template("reading the prompt {bar:30} {percent:>3} %, {eta} left")?);
            }
            let part = (generation.prefilled() * f64::from(PARTS)) as i64;
            self.bar.set_position(part.unsigned_abs());
        }
        std::thread::sleep(PAUSE);
        Ok(progress)
    }
}

impl Drop for Prefill {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
