//! What Ctrl-C does: while a text is being generated the first one stops the text; any other leaves the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};

use crate::exit::INTERRUPTED;

/// Nothing is being generated: Ctrl-C leaves.
const IDLE: u8 = 0;
/// A text is being generated: Ctrl-C stops it.
const GENERATING: u8 = 1;
/// The text is to stop: Ctrl-C leaves.
const STOPPED: u8 = 2;

/// Watches for Ctrl-C.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Begins to watch. A program can do so once.
    pub(crate) fn watch() -> Result<Self> {
        let state = Arc::new(AtomicU8::new(IDLE));
        let seen = Arc::clone(&state);
        ctrlc::set_handler(move || {
            if seen.compare_exchange(GENERATING, STOPPED, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                std::process::exit(INTERRUPTED.into());
            }
        })
        .context("cannot watch for Ctrl-C")?;
        Ok(Self(state))
    }

    /// Until the value that is returned goes, the first Ctrl-C only makes [`Generating::stopped`] true.
    pub(crate) fn generating(&self) -> Generating<'_> {
        self.0.store(GENERATING, Ordering::SeqCst);
        Generating(&self.0)
    }
}

/// A text is being generated.
pub(crate) struct Generating<'a>(&'a AtomicU8);

impl Generating<'_> {
    /// Whether the text is to stop.
    pub(crate) fn stopped(&self) -> bool {
        self.0.load(Ordering::SeqCst) == STOPPED
    }
}

impl Drop for Generating<'_> {
    fn drop(&mut self) {
        self.0.store(IDLE, Ordering::SeqCst);
    }
}
