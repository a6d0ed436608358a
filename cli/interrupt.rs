//! Signals. Ctrl-C (SIGINT): while a text is being generated the first one stops the text; any other leaves the program. SIGTERM and SIGHUP end the program
//! whatever it does. A signal that the parent has set to be ignored, as `nohup` and shells do for jobs in the background, stays ignored.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Result;

/// Nothing is being generated: Ctrl-C leaves.
const IDLE: u8 = 0;
/// A text is being generated: Ctrl-C stops it.
const GENERATING: u8 = 1;
/// The text is to stop: Ctrl-C leaves.
const STOPPED: u8 = 2;

/// Number of Ctrl-C's signal.
const SIGINT: i32 = 2;

/// Time for a verb to end by itself, files and all, after a signal that ends the program.
const GRACE: Duration = Duration::from_millis(700);

/// The signal that ends the program; 0 if none has come.
static ENDING: AtomicI32 = AtomicI32::new(0);

/// Watches for signals.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Begins to watch. A program can do so once.
    pub(crate) fn watch() -> Result<Self> {
        let state = Arc::new(AtomicU8::new(IDLE));
        let seen = Arc::clone(&state);
        system::watch(move |signal| heard(&seen, signal))?;
        Ok(Self(state))
    }

    /// Until the value that is returned goes, the first Ctrl-C only makes [`Generating::stopped`] true.
    pub(crate) fn generating(&self) -> Generating<'_> {
        self.0.store(GENERATING, Ordering::SeqCst);
        Generating(&self.0)
    }
}

/// Calls `heard` for every signal instead, on a thread of its own. A program can do so once, and then not watch.
///
/// # Errors
/// If the system does not let it.
#[cfg(feature = "serve")]
pub(crate) fn on_signal(heard: impl Fn(i32) + Send + 'static) -> Result<()> {
    system::watch(heard)
}

/// Ends the program because of a signal.
#[cfg(feature = "serve")]
pub(crate) fn leave_by(signal: i32) -> ! {
    ENDING.store(signal, Ordering::SeqCst);
    leave()
}

/// Whether a signal has come that ends the program.
pub(crate) fn ending() -> bool {
    ENDING.load(Ordering::SeqCst) != 0
}

/// Exit code of a program that was interrupted: 128 and the number of the signal, as shells have it.
pub(crate) fn code() -> u8 {
    let signal = ENDING.load(Ordering::SeqCst);
    128 + u8::try_from(if signal == 0 { SIGINT } else { signal }).unwrap_or_default()
}

/// Does what a signal asks for.
fn heard(state: &AtomicU8, signal: i32) {
    let stops = || state.compare_exchange(GENERATING, STOPPED, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    if signal == SIGINT {
        if !stops() {
            leave();
        }
        return;
    }
    ENDING.store(signal, Ordering::SeqCst);
    if stops() || state.load(Ordering::SeqCst) == STOPPED {
        std::thread::sleep(GRACE);
    }
    leave();
}

/// Ends the program, whatever it does.
fn leave() -> ! {
    system::restore_terminal();
    std::process::exit(code().into());
}

/// A text is being generated.
pub(crate) struct Generating<'a>(&'a AtomicU8);

impl Generating<'_> {
    /// Whether the text is to stop.
    pub(crate) fn stopped(&self) -> bool {
        self.0.load(Ordering::SeqCst) == STOPPED || ending()
    }
}

impl Drop for Generating<'_> {
    fn drop(&mut self) {
        // While the program ends, what follows a text (a file, a report) has its time too.
        if !ending() {
            self.0.store(IDLE, Ordering::SeqCst);
        }
    }
}

#[cfg(unix)]
mod system {
    use std::sync::OnceLock;

    use anyhow::{Context, Result};
    use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    /// The terminal as it was: reading lines with editing changes it.
    static TERMINAL: OnceLock<Termios> = OnceLock::new();

    /// Calls `heard` on a thread of its own for every signal.
    pub(super) fn watch(heard: impl Fn(i32) + Send + 'static) -> Result<()> {
        if let Ok(terminal) = tcgetattr(std::io::stdin()) {
            let _ = TERMINAL.set(terminal);
        }
        let taken = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| !is_ignored(signal));
        let mut signals = Signals::new(taken).context("cannot watch for signals")?;
        let listen = move || signals.forever().for_each(heard);
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context("cannot watch for signals")?;
        Ok(())
    }

    pub(super) fn restore_terminal() {
        let stdin = std::io::stdin();
        let (Some(terminal), Ok(now)) = (TERMINAL.get(), tcgetattr(&stdin)) else { return };
        if now.local_modes != terminal.local_modes {
            let _ = tcsetattr(&stdin, OptionalActions::Now, terminal);
            // A line was being edited, for which pasted text is told from typed text.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), b"\x1b[?2004l\r\n");
        }
    }

    /// Whether whoever started the program wants a signal to be ignored.
    fn is_ignored(signal: i32) -> bool {
        let mut found = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action nothing is changed, and `found` has room for the present one.
        let asked = unsafe { libc::sigaction(signal, std::ptr::null(), found.as_mut_ptr()) };
        // SAFETY: it was filled, or is all zeros, which is an action too.
        asked == 0 && unsafe { found.assume_init() }.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
mod system {
    use anyhow::{Context, Result};

    /// Calls `heard` on a thread of its own for every Ctrl-C.
    pub(super) fn watch(heard: impl Fn(i32) + Send + 'static) -> Result<()> {
        ctrlc::set_handler(move || heard(super::SIGINT)).context("cannot watch for Ctrl-C")
    }

    pub(super) fn restore_terminal() {}
}
