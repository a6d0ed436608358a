//! Stop strings, matched whole across token borders.

use crate::error::{Error, Result};

/// Watches streamed text for stop strings, and holds back only what may still become one.
///
/// Special tokens come between pieces of text without being part of it. A stop string is found both in what is said with them and in what is said
/// without them; with them, it takes each of them whole or not at all.
#[derive(Clone, Debug)]
pub struct StopStrings {
    strings: Vec<Vec<char>>,
    held: Vec<Said>,
    stopped: bool,
}

/// A character that was said.
#[derive(Clone, Copy, Debug)]
struct Said {
    c: char,
    /// Whether it is part of the text, not of a special token.
    shown: bool,
    /// Whether a stop string may begin here.
    begins: bool,
    /// Whether one may end here.
    ends: bool,
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
        let strings = strings.into_iter().map(|text| text.chars().collect()).collect();
        Ok(Self { strings, held: Vec::new(), stopped: false })
    }

    /// Takes more text; gives what is certain not to belong to a stop string, and whether one has appeared. What comes before the
    /// stop string is given out, the stop string and what follows never. Of several, the one that is complete first counts, and of
    /// those that end together the longest: so the outcome does not depend on how the text is cut into pieces.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        for c in text.chars() {
            if self.take(Said { c, shown: true, begins: true, ends: true }) {
                break;
            }
        }
        (self.release(), self.stopped)
    }

    /// Takes a special token, which is never given out; as [`Self::push`] else.
    pub fn push_hidden(&mut self, token: &str) -> (String, bool) {
        let length = token.chars().count();
        for (place, c) in token.chars().enumerate() {
            if self.take(Said { c, shown: false, begins: place == 0, ends: place + 1 == length }) {
                break;
            }
        }
        (self.release(), self.stopped)
    }

    /// Gives what was held back: the text has ended, so no stop string can follow.
    pub fn flush(&mut self) -> String {
        shown(&std::mem::take(&mut self.held))
    }

    /// Takes a character; whether a stop string ends with it or ended before.
    fn take(&mut self, said: Said) -> bool {
        if self.stopped {
            return true;
        }
        self.held.push(said);
        let starts = self.strings.iter().flat_map(|stop| {
            let whole = ending(self.held.iter().enumerate(), stop).filter(|_| said.ends);
            let text = self.held.iter().enumerate().filter(|(_, said)| said.shown);
            [whole, ending(text, stop).filter(|_| said.shown)]
        });
        if let Some(start) = starts.flatten().min() {
            self.held.truncate(start);
            self.stopped = true;
        }
        self.stopped
    }

    /// Gives out what no stop string can begin in.
    fn release(&mut self) -> String {
        let open = |start: &usize| {
            let rest = || self.held[*start..].iter();
            let begins = |stop: &Vec<char>| {
                let whole = rest().map(|said| said.c);
                let text = rest().filter(|said| said.shown).map(|said| said.c);
                let first = self.held[*start];
                first.begins && is_beginning(whole, stop) || first.shown && is_beginning(text, stop)
            };
            self.strings.iter().any(begins)
        };
        // Nothing longer than a stop string can be the beginning of one, special tokens aside.
        let from =
            if self.stopped { self.held.len() } else { (0..self.held.len()).find(open).unwrap_or(self.held.len()) };
        let rest = self.held.split_off(from);
        shown(&std::mem::replace(&mut self.held, rest))
    }
}

/// Where a stop string begins that ends at the end of what was said.
fn ending<'a>(said: impl DoubleEndedIterator<Item = (usize, &'a Said)>, stop: &[char]) -> Option<usize> {
    let mut said = said.rev();
    let mut last = None;
    for c in stop.iter().rev() {
        last = Some(said.next().filter(|(_, said)| said.c == *c)?);
    }
    last.filter(|(_, said)| said.begins).map(|(place, _)| place)
}

/// Whether characters are the beginning of a stop string, but not the whole.
fn is_beginning(mut said: impl Iterator<Item = char>, stop: &[char]) -> bool {
    let mut stop = stop.iter();
    loop {
        match (said.next(), stop.next()) {
            (None, rest) => return rest.is_some(),
            (Some(c), Some(expected)) if c == *expected => {}
            _ => return false,
        }
    }
}

fn shown(said: &[Said]) -> String {
    said.iter().filter(|said| said.shown).map(|said| said.c).collect()
}
