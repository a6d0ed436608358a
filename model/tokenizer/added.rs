//! Added tokens: texts that are whole tokens, found before text is split.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use regex_syntax::is_word_character;
use tokenizers::AddedToken;

use super::normalize::Normalizers;
use super::pattern::Work;

/// A segment of a text: an added token, or the text between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Token(u32),
    Text(Range<usize>),
}

/// Added tokens that are searched for together.
#[derive(Debug)]
pub(super) struct Finder {
    automaton: AhoCorasick,
    tokens: Vec<(u32, AddedToken)>,
}

/// All added tokens.
#[derive(Debug)]
pub(super) struct Added {
    /// Tokens found in the original text.
    pub(super) literal: Finder,
    /// Tokens found in the normalized text.
    pub(super) normalized: Finder,
}

impl Added {
    pub(super) fn new(mut tokens: Vec<(u32, AddedToken)>, normalizers: &Normalizers) -> Result<Self, String> {
        tokens.sort_by_key(|(id, _)| *id);
        let (normalized, literal): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|(_, token)| token.normalized);
        let spelled = |(id, token): (u32, AddedToken)| {
            let text = normalizers.apply(&token.content, false, &mut Work::for_text(&token.content))?;
            Ok::<_, String>((text, id, token))
        };
        let normalized = normalized.into_iter().map(spelled).collect::<Result<Vec<_>, _>>()?;
        let literal = literal.into_iter().map(|(id, token)| (token.content.clone(), id, token)).collect();
        Ok(Self { literal: Finder::new(literal)?, normalized: Finder::new(normalized)? })
    }

    /// Whether a token includes white space next to it.
    pub(super) fn takes_blanks(&self) -> bool {
        let mut all = self.literal.tokens.iter().chain(&self.normalized.tokens);
        all.any(|(_, token)| token.lstrip || token.rstrip)
    }

    /// Texts of the special tokens.
    pub(super) fn special(&self) -> impl Iterator<Item = &str> {
        let all = self.literal.tokens.iter().chain(&self.normalized.tokens);
        all.filter(|(_, token)| token.special).map(|(_, token)| token.content.as_str())
    }
}

impl Finder {
    fn new(tokens: Vec<(String, u32, AddedToken)>) -> Result<Self, String> {
        if let Some((_, _, token)) = tokens.iter().find(|(text, ..)| text.is_empty()) {
            return Err(format!("`added_tokens`: the normalizer leaves nothing of {:?}", token.content));
        }
        let mut builder = AhoCorasick::builder();
        let automaton = builder.match_kind(MatchKind::LeftmostLongest).build(tokens.iter().map(|(text, ..)| text));
        let automaton = automaton.map_err(|error| format!("`added_tokens`: {error}"))?;
        Ok(Self { automaton, tokens: tokens.into_iter().map(|(_, id, token)| (id, token)).collect() })
    }

    /// Cuts a text at its added tokens; special ones only if `special` is set.
    pub(super) fn cut(&self, text: &str, special: bool) -> Vec<Segment> {
        let mut segments = Vec::new();
        let mut done = 0;
        for found in self.automaton.find_iter(text) {
            let (id, token) = &self.tokens[found.pattern().as_usize()];
            let (before, behind) = (&text[..found.start()], &text[found.end()..]);
            let inside = before.ends_with(is_word_character) || behind.starts_with(is_word_character);
            if (token.special && !special) || (token.single_word && inside) {
                continue;
            }
            let blanks = if token.rstrip { behind.len() - behind.trim_start().len() } else { 0 };
            let end = found.end() + blanks;
            let start = if token.lstrip { before.trim_end().len().max(done) } else { found.start() };
            if start > done {
                segments.push(Segment::Text(done..start));
            }
            // A token whose text is all included in the white space of the previous one is skipped.
            if start < end {
                segments.push(Segment::Token(*id));
            }
            done = done.max(end);
        }
        if done < text.len() {
            segments.push(Segment::Text(done..text.len()));
        }
        segments
    }
}
