//! Retry policy: number of attempts and waits between them.

use std::time::Duration;

use super::failure::Failure;

/// Waits before each further attempt, as long as none makes progress.
const WAITS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Longest wait that a server may request.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// Longest sum of the waits that a server requests.
const IN_ALL: Duration = Duration::from_secs(15 * 60);

/// State of the retries.
#[derive(Default)]
pub(super) struct Patience {
    used: usize,
    asked: Duration,
}

impl Patience {
    /// Wait after a failure, and its message.
    ///
    /// # Errors
    /// The failure, if another attempt does not help or the attempts are used up.
    pub(super) fn after(&mut self, failure: Failure) -> Result<(Duration, String), Failure> {
        match failure {
            Failure::Busy { text, wait } => {
                let seconds = wait.as_secs();
                if wait > LONGEST || self.asked + wait > IN_ALL {
                    return Err(Failure::Final(format!(
                        "{text}: the server asks to wait for {seconds} s; try again then"
                    )));
                }
                // A wait of zero would allow endless requests.
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

    /// Resets the count after progress.
    pub(super) fn renew(&mut self) {
        self.used = 0;
    }
}

/// Repeats a request until it succeeds, the attempts are used up, or the failure is final. `say` is called before waits of a second or more.
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
