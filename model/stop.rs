//! Stop strings, matched whole across token borders.

use crate::error::{Error, Result};

/// Watches streamed text for stop strings, and holds back only what may still become one.
#[derive(Clone, Debug)]
pub struct StopStrings {
    strings: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopStrings {
    /// Watches for any of these strings.
    ///
    /// # Errors
    /// [`Error::Option`] for an empty string, which would stop everything at once.
    pub fn new(strings: Vec<String>) -> Result<Self> {
        if strings.iter().any(String::is_empty) {
            let allowed = "at least one character";
            return Err(Error::Option { name: "stop string", value: "empty".to_owned(), allowed });
        }
        Ok(Self { strings, held: String::new(), stopped: false })
    }

    /// Takes more text; gives what is certain not to belong to a stop string, and whether one has appeared. What comes before the
    /// stop string is given out, the stop string and what follows never. Of several, the one that is complete first counts, and of
    /// those that end together the longest: so the outcome does not depend on how the text is cut into pieces.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        if self.stopped {
            return (String::new(), true);
        }
        self.held.push_str(text);
        let found = self.strings.iter().filter_map(|stop| self.held.find(stop).map(|at| (at + stop.len(), at)));
        if let Some((_, at)) = found.min() {
            self.held.truncate(at);
            self.stopped = true;
            return (std::mem::take(&mut self.held), true);
        }
        let open = self.strings.iter().map(|stop| open_length(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - open);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Gives what was held back: the text has ended, so no stop string can follow.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `text` that are a beginning of `stop`.
fn open_length(text: &str, stop: &str) -> usize {
    let beginnings = stop.char_indices().map(|(at, _)| at).skip(1);
    beginnings.filter(|&length| text.ends_with(&stop[..length])).max().unwrap_or(0)
}
