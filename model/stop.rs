//! Stop strings, matched across token boundaries.

use crate::error::{Error, Result};

/// Searches streamed text for stop strings, and holds back only text that may still become one.
///
/// Special tokens come between pieces of text without being part of it. A stop string is searched both in the text with special tokens and in the text without
/// them. With them, it contains each special token either whole or not at all.
#[derive(Clone, Debug)]
pub struct StopStrings {
    strings: Vec<Vec<char>>,
    held: Vec<Said>,
    stopped: bool,
}

/// A character of the stream.
#[derive(Clone, Copy, Debug)]
struct Said {
    c: char,
    /// Whether it is part of the text rather than of a special token.
    shown: bool,
    /// Whether a stop string may begin here.
    begins: bool,
    /// Whether a stop string may end here.
    ends: bool,
}

impl StopStrings {
    /// Creates a search for any of these strings.
    ///
    /// # Errors
    /// [`Error::Option`] for an empty string, which would stop the text at once.
    pub fn new(strings: Vec<String>) -> Result<Self> {
        if strings.iter().any(String::is_empty) {
            let allowed = "at least one character";
            return Err(Error::Option { name: "stop string", value: "empty".to_owned(), allowed });
        }
        let strings = strings.into_iter().map(|text| text.chars().collect()).collect();
        Ok(Self { strings, held: Vec::new(), stopped: false })
    }

    /// Takes more text. Returns the text that cannot belong to a stop string, and whether one has appeared.
    ///
    /// Text before the stop string is returned; the stop string and everything after it are not. If there are several, the one that is complete first counts,
    /// and the longest of those that end together. So the result does not depend on how the text is split into pieces.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        for c in text.chars() {
            if self.take(Said { c, shown: true, begins: true, ends: true }) {
                break;
            }
        }
        (self.release(), self.stopped)
    }

    /// Takes a special token, which is never returned; otherwise as [`Self::push`].
    pub fn push_hidden(&mut self, token: &str) -> (String, bool) {
        let length = token.chars().count();
        for (place, c) in token.chars().enumerate() {
            if self.take(Said { c, shown: false, begins: place == 0, ends: place + 1 == length }) {
                break;
            }
        }
        (self.release(), self.stopped)
    }

    /// Returns the text held back, after the text has ended and no stop string can follow.
    pub fn flush(&mut self) -> String {
        shown(&std::mem::take(&mut self.held))
    }

    /// Takes a character. Returns whether a stop string has ended.
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

    /// Returns the text in which no stop string can begin any more.
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
        // Apart from special tokens, no more is held back than a stop string has characters.
        let from =
            if self.stopped { self.held.len() } else { (0..self.held.len()).find(open).unwrap_or(self.held.len()) };
        let rest = self.held.split_off(from);
        shown(&std::mem::replace(&mut self.held, rest))
    }
}

/// Start of a stop string that ends with the last character.
fn ending<'a>(said: impl DoubleEndedIterator<Item = (usize, &'a Said)>, stop: &[char]) -> Option<usize> {
    let mut said = said.rev();
    let mut last = None;
    for c in stop.iter().rev() {
        last = Some(said.next().filter(|(_, said)| said.c == *c)?);
    }
    last.filter(|(_, said)| said.begins).map(|(place, _)| place)
}

/// Whether the characters are a proper prefix of a stop string.
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
