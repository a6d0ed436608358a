//! Signal handling. While a text is being generated, the first Ctrl-C (SIGINT) stops the text; any other Ctrl-C ends the program. SIGTERM and
//! SIGHUP always end the program. A signal that the parent process ignores, as `nohup` and shells do for background jobs, stays ignored.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Result;

/// State: nothing is being generated, so Ctrl-C ends the program.
const IDLE: u8 = 0;
/// State: a text is being generated, so Ctrl-C stops it.
const GENERATING: u8 = 1;
/// State: the text is being stopped, so Ctrl-C ends the program.
const STOPPED: u8 = 2;
/// State: work whose parts take long is being done, so Ctrl-C stops it after this part.
const WORKING: u8 = 3;

/// Signal number of Ctrl-C.
const SIGINT: i32 = 2;

/// Time for a command to finish its files after a signal that ends the program.
const GRACE: Duration = Duration::from_millis(700);

/// Signal that ends the program; 0 before one has arrived.
static ENDING: AtomicI32 = AtomicI32::new(0);

/// Watches for signals.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Installs the signal handlers. Can be called once per process.
    pub(crate) fn watch() -> Result<Self> {
        let state = Arc::new(AtomicU8::new(IDLE));
        let seen = Arc::clone(&state);
        system::watch(move |signal| heard(&seen, signal))?;
        Ok(Self(state))
    }

    /// As [`Self::generating`], for work that looks at [`Generating::stopped`] only between parts that may take long: Ctrl-C is answered with a note.
    pub(crate) fn working(&self) -> Generating<'_> {
        self.0.store(WORKING, Ordering::SeqCst);
        Generating(&self.0)
    }

    /// Until the returned value is dropped, the first Ctrl-C only makes [`Generating::stopped`] true.
    pub(crate) fn generating(&self) -> Generating<'_> {
        self.0.store(GENERATING, Ordering::SeqCst);
        Generating(&self.0)
    }
}

/// Calls `heard` for every signal, on a separate thread. Can be called once per process, and not together with [`Interrupt::watch`].
///
/// # Errors
/// If the handlers cannot be installed.
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

/// Whether a signal that ends the program has arrived.
pub(crate) fn ending() -> bool {
    ENDING.load(Ordering::SeqCst) != 0
}

/// Exit code of an interrupted program: 128 plus the signal number, as in shells.
pub(crate) fn code() -> u8 {
    let signal = ENDING.load(Ordering::SeqCst);
    128 + u8::try_from(if signal == 0 { SIGINT } else { signal }).unwrap_or_default()
}

/// Handles a signal.
fn heard(state: &AtomicU8, signal: i32) {
    let ends = |what| state.compare_exchange(what, STOPPED, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    let stops = || ends(GENERATING) || ends(WORKING);
    if signal == SIGINT {
        if ends(WORKING) {
            remark!("stopping after this part; press Ctrl-C again to end at once");
        } else if !ends(GENERATING) {
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

/// Ends the program immediately.
fn leave() -> ! {
    system::restore_terminal();
    std::process::exit(code().into());
}

/// Guard: a text is being generated.
pub(crate) struct Generating<'a>(&'a AtomicU8);

impl Generating<'_> {
    /// Whether the text must stop.
    pub(crate) fn stopped(&self) -> bool {
        self.0.load(Ordering::SeqCst) == STOPPED || ending()
    }
}

impl Drop for Generating<'_> {
    fn drop(&mut self) {
        // While the program is ending, the grace period also covers the work after a text (a file, a report).
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

    /// Original terminal settings, which the line editor changes.
    static TERMINAL: OnceLock<Termios> = OnceLock::new();

    /// Calls `heard` on a separate thread for every signal.
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
            // The line editor had enabled bracketed paste; disable it.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), b"\x1b[?2004l\r\n");
        }
    }

    /// Whether the parent process set a signal to be ignored.
    fn is_ignored(signal: i32) -> bool {
        let mut found = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a null new action changes nothing, and `found` has room for the current one.
        let asked = unsafe { libc::sigaction(signal, std::ptr::null(), found.as_mut_ptr()) };
        // SAFETY: `found` was filled by the call, or is all zeros, which is a valid action.
        asked == 0 && unsafe { found.assume_init() }.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
mod system {
    use anyhow::{Context, Result};

    /// Calls `heard` on a separate thread for every Ctrl-C.
    pub(super) fn watch(heard: impl Fn(i32) + Send + 'static) -> Result<()> {
        ctrlc::set_handler(move || heard(super::SIGINT)).context("cannot watch for Ctrl-C")
    }

    pub(super) fn restore_terminal() {}
}
