//! What is seen of a download: a bar per file on a terminal, else a line per file.

use std::io::IsTerminal;

use anyhow::Result;
use indicatif::{DecimalBytes, HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::visible;

/// How to show progress.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    quiet: bool,
}

/// One file on its way.
pub(super) struct Bar {
    bar: ProgressBar,
    progress: Progress,
    name: String,
}

impl Progress {
    /// Shows nothing if `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Says something, unless quiet.
    pub(super) fn say(self, text: &str) {
        if !self.quiet {
            remark!("{}", visible::lines(text));
        }
    }

    /// Begins with a file of so many bytes.
    pub(super) fn file(self, name: &str, size: u64) -> Result<Bar> {
        let shown = !self.quiet && std::io::stderr().is_terminal();
        let bar = if shown { ProgressBar::new(size) } else { ProgressBar::hidden() };
        let template =
            "{msg:<34} {wide_bar} {decimal_bytes:>9}/{decimal_total_bytes:<9} {decimal_bytes_per_sec:>11} {left:>4}";
        // Before anything has come there is no rate, and no end in sight.
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
    /// So many bytes are there.
    pub(super) fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Forgets the speed so far: what was read from disk says nothing of the network's.
    pub(super) fn restart(&self) {
        // Updates are skipped when they come fast; the next one would count what was skipped.
        self.bar.tick();
        self.bar.reset_eta();
    }

    /// Says something above the bar.
    pub(super) fn say(&self, text: &str) {
        self.bar.suspend(|| self.progress.say(text));
    }

    /// The file is there.
    pub(super) fn done(self, size: u64) {
        self.bar.finish_and_clear();
        self.progress.say(&format!("{:<34} {}", self.name, DecimalBytes(size)));
    }
}
