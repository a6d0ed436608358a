//! Keeps what users write from acting as control tokens, although a template mixes it with its own.
//!
//! Before a template is rendered, the first character of every special token that a message spells is exchanged for one of private use that
//! occurs nowhere else. The template works on the text as ever (it trims, splits and compares), the tokenizer finds no control token there, and
//! the characters are changed back before the text is split.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};

/// Where characters of private use begin (Supplementary Private Use Area-B).
const PRIVATE: char = '\u{100000}';

/// Characters that stand for others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shield {
    /// Stand-in, and what it stands for.
    pairs: Vec<(char, char)>,
}

impl Shield {
    /// A shield for special tokens that begin with these characters, among texts that have no stand-in in them.
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

    /// The text with stand-ins where special tokens begin; also at its end where one may begin that what follows completes.
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

    /// The text with its own characters; borrowed if none was exchanged.
    pub(crate) fn restore<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let own = |c: char| self.pairs.iter().find(|(stand_in, _)| *stand_in == c).map_or(c, |(_, first)| *first);
        match text.chars().any(|c| own(c) != c) {
            true => Cow::Owned(text.chars().map(own).collect()),
            false => Cow::Borrowed(text),
        }
    }
}
