//! Shield against control tokens in user input that a chat template mixes with its own.
//!
//! Before a template is rendered, the first character of every special token spelled in a message is replaced by a private-use character that occurs nowhere
//! else, its stand-in. The template handles the text as usual (it trims, splits and compares), the tokenizer finds no control token in it, and the characters
//! are restored before the text is split.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};

/// First private-use character (Supplementary Private Use Area-B).
const PRIVATE: char = '\u{100000}';

/// Stand-ins for the first characters of special tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shield {
    /// Stand-in, and the character that it replaces.
    pairs: Vec<(char, char)>,
}

impl Shield {
    /// Chooses stand-ins for the first characters of special tokens that occur in none of the texts.
    pub(crate) fn new<'a>(special: &[String], texts: &(impl Iterator<Item = &'a str> + Clone)) -> Self {
        let mut firsts: Vec<char> = special.iter().filter_map(|token| token.chars().next()).collect();
        firsts.sort_unstable();
        firsts.dedup();
        let free = (PRIVATE..char::MAX).filter(|c| !texts.clone().any(|text| text.contains(*c)));
        let pairs = if texts.clone().any(|text| firsts.iter().any(|first| text.contains(*first))) {
            free.zip(firsts).collect()
        } else {
            Vec::new()
        };
        Self { pairs }
    }

    /// Replaces characters by stand-ins where a special token begins, and at the end of the text where one may begin that later text completes.
    pub(crate) fn cover(&self, text: &str, special: &[String]) -> String {
        let mut builder = AhoCorasick::builder();
        let finder = builder.match_kind(MatchKind::LeftmostLongest).build(special);
        let mut starts: Vec<usize> =
            finder.iter().flat_map(|finder| finder.find_iter(text)).map(|at| at.start()).collect();
        let body = text.trim_end();
        let open = |(at, _): &(usize, char)| special.iter().any(|token| token.starts_with(&body[*at..]));
        starts.extend(body.char_indices().filter(open).map(|(at, _)| at));
        let stand_in = |(at, c): (usize, char)| {
            let pair = self.pairs.iter().find(|(_, first)| *first == c).filter(|_| starts.contains(&at));
            pair.map_or(c, |(stand_in, _)| *stand_in)
        };
        text.char_indices().map(stand_in).collect()
    }

    /// Restores the original characters; borrows the text if nothing was replaced.
    pub(crate) fn restore<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let own = |c: char| self.pairs.iter().find(|(stand_in, _)| *stand_in == c).map_or(c, |(_, first)| *first);
        match text.chars().any(|c| own(c) != c) {
            true => Cow::Owned(text.chars().map(own).collect()),
            false => Cow::Borrowed(text),
        }
    }
}
