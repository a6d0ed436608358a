//! How often a request is repeated, and after what time.

use std::time::Duration;

use super::failure::Failure;

/// Waits before another attempt, as long as none brings anything.
const WAITS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Longest wait that a server may ask for, and the sum of all such waits.
const LONGEST: Duration = Duration::from_secs(5 * 60);
const IN_ALL: Duration = Duration::from_secs(15 * 60);

/// Attempts that are left.
#[derive(Default)]
pub(super) struct Patience {
    used: usize,
    asked: Duration,
}

impl Patience {
    /// How long to wait after a failure, and what to say of it.
    ///
    /// # Errors
    /// The failure, if another attempt does not help or enough were made.
    pub(super) fn after(&mut self, failure: Failure) -> Result<(Duration, String), Failure> {
        match failure {
            Failure::Busy { text, wait } => {
                let seconds = wait.as_secs();
                if wait > LONGEST || self.asked + wait > IN_ALL {
                    return Err(Failure::Final(format!("{text}: it asks to wait for {seconds} s; try again then")));
                }
                // A wait of nothing would be a way to be asked without end.
                let wait = wait.max(Duration::from_secs(1));
                self.asked += wait;
                Ok((wait, text))
            }
            Failure::Passing(text) => match WAITS.get(self.used) {
                Some(&wait) => {
                    self.used += 1;
                    Ok((wait, text))
                }
                None => Err(Failure::Passing(text)),
            },
            failure => Err(failure),
        }
    }

    /// Begins to count anew, because something has come.
    pub(super) fn renew(&mut self) {
        self.used = 0;
    }
}

/// Repeats a request until it succeeds, waits do not help any more, or the failure is final. `say` hears of longer waits.
pub(super) fn patiently<T>(mut request: impl FnMut() -> Result<T, Failure>, say: impl Fn(&str)) -> Result<T, Failure> {
    let mut patience = Patience::default();
    loop {
        match request() {
            Ok(done) => return Ok(done),
            Err(failure) => {
                let (wait, text) = patience.after(failure)?;
                if wait >= Duration::from_secs(1) {
                    say(&format!("{text}; asking again in {} s", wait.as_secs()));
                }
                std::thread::sleep(wait);
            }
        }
    }
}
