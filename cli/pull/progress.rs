//! Progress of a download: a bar per file on a terminal, else a line per file.

use std::io::IsTerminal;

use anyhow::Result;
use indicatif::{DecimalBytes, HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::visible;

/// Settings of the progress output.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    quiet: bool,
}

/// Progress bar of one file.
pub(super) struct Bar {
    bar: ProgressBar,
    progress: Progress,
    name: String,
}

impl Progress {
    /// Creates the progress output; `quiet` silences it.
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Prints a message, unless quiet.
    pub(super) fn say(self, text: &str) {
        if !self.quiet {
            remark!("{}", visible::lines(text));
        }
    }

    /// Starts the bar of a file of `size` bytes.
    pub(super) fn file(self, name: &str, size: u64) -> Result<Bar> {
        let shown = !self.quiet && std::io::stderr().is_terminal();
        let bar = if shown { ProgressBar::new(size) } else { ProgressBar::hidden() };
        let template =
            "{msg:<34} {wide_bar} {decimal_bytes:>9}/{decimal_total_bytes:<9} {decimal_bytes_per_sec:>11} {left:>4}";
        // Before the first bytes arrive, there is no rate to estimate from.
        let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            if state.per_sec() > 0.0 {
                let _ = write!(out, "{:#}", HumanDuration(state.eta()));
            }
        };
        bar.set_style(ProgressStyle::with_template(template)?.with_key("left", left));
        bar.set_message(name.to_owned());
        Ok(Bar { bar, progress: self, name: name.to_owned() })
    }
}

impl Bar {
    /// Sets the number of bytes present.
    pub(super) fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Resets the speed estimate: bytes that were read from disk say nothing about the network.
    pub(super) fn restart(&self) {
        // Frequent updates are skipped; without this tick, the next one would count the skipped bytes.
        self.bar.tick();
        self.bar.reset_eta();
    }

    /// Prints a message above the bar.
    pub(super) fn say(&self, text: &str) {
        self.bar.suspend(|| self.progress.say(text));
    }

    /// Replaces the bar by a line for the complete file.
    pub(super) fn done(self, size: u64) {
        self.bar.finish_and_clear();
        self.progress.say(&format!("{:<34} {}", self.name, DecimalBytes(size)));
    }
}
