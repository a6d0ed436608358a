//! Bans and forced tokens that depend on how far a text is, or on what was said.

use crate::error::Error;
use crate::options::GenerateOptions;
use crate::sampling::FAR;

/// What a generation may not choose, or must, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rules {
    /// Tokens that are not the first one.
    begin: Vec<u32>,
    /// Tokens that are none of the first `least` ones.
    ends: Vec<u32>,
    least: u32,
    /// Sequences that are never completed.
    words: Vec<Vec<u32>>,
    /// The first token.
    first: Option<u32>,
    /// The tokens of which the one at a place is one.
    last: Option<(u32, Vec<u32>)>,
    /// Whether a grammar says which tokens may come: see [`crate::constraint::Matching`].
    constrained: bool,
}

impl Rules {
    /// The rules of a text behind so many tokens, of which there are `wanted` at most.
    pub(crate) fn new(
        options: &GenerateOptions,
        ends: &[u32],
        behind: u32,
        wanted: Option<u32>,
        vocab: u32,
    ) -> Result<Self, Error> {
        let least =
            options.min_length.map_or(0, |least| least.saturating_sub(behind)).max(options.min_tokens.unwrap_or(0));
        let last =
            wanted.filter(|_| !options.forced_end.is_empty()).map(|wanted| (wanted - 1, options.forced_end.clone()));
        let rules = Self {
            begin: options.begin_suppress.clone(),
            ends: if least > 0 { ends.to_vec() } else { Vec::new() },
            least,
            words: options.bad_words.clone(),
            // As in transformers: only where there is nothing but a begin token.
            first: options.forced_begin.filter(|_| behind == 1),
            last,
            constrained: options.constraint.is_some(),
        };
        let named = rules.begin.iter().chain(&rules.ends).chain(rules.words.iter().flatten()).chain(&rules.first);
        let named = named.chain(rules.last.iter().flat_map(|(_, tokens)| tokens));
        if let Some(&token) = named.into_iter().find(|&&token| token >= vocab) {
            return Err(Error::Token { token, vocab });
        }
        match rules.words.iter().any(Vec::is_empty) {
            true => Err(Error::Option { name: "bad_words", value: "empty".to_owned(), allowed: "at least one token" }),
            false => Ok(rules),
        }
    }

    /// The option that asks for the first of them, if there is one.
    pub(crate) fn named(options: &GenerateOptions) -> Option<&'static str> {
        let asked = [
            ("begin_suppress", !options.begin_suppress.is_empty()),
            ("min_tokens", options.min_tokens.is_some()),
            ("min_length", options.min_length.is_some()),
            ("bad_words", !options.bad_words.is_empty()),
            ("forced_begin", options.forced_begin.is_some()),
            ("constraint", options.constraint.is_some()),
            ("forced_end", !options.forced_end.is_empty()),
        ];
        asked.into_iter().find(|(_, asked)| *asked).map(|(name, _)| name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the tokens before one must be known.
    pub(crate) fn look_back(&self) -> bool {
        !self.words.is_empty() || self.constrained
    }

    /// What the logits of the token at a place become, behind the tokens of a text.
    pub(crate) fn at(&self, place: u32, said: &[u32]) -> Vec<(u32, f32)> {
        let mut bans: Vec<u32> = Vec::new();
        bans.extend(self.begin.iter().filter(|_| place == 0));
        bans.extend(self.ends.iter().filter(|_| place < self.least));
        let completed = self.words.iter().filter_map(|word| word.split_last());
        bans.extend(completed.filter(|(_, before)| said.ends_with(before)).map(|(last, _)| last));
        let mut edits: Vec<_> = bans.into_iter().map(|token| (token, -FAR)).collect();
        edits.extend(self.first.filter(|_| place == 0).map(|token| (token, FAR)));
        let last = self.last.iter().filter(|(last, _)| *last == place).flat_map(|(_, tokens)| tokens);
        edits.extend(last.map(|&token| (token, FAR)));
        edits
    }
}

/// Tokens that options allow behind so many of them; none if there is no limit.
pub(crate) fn most_tokens(options: &GenerateOptions, behind: u32) -> Result<Option<u32>, Error> {
    let Some(length) = options.max_length else { return Ok(options.max_tokens) };
    let left = length.checked_sub(behind).filter(|&left| left > 0).ok_or_else(|| Error::Option {
        name: "max_length",
        value: format!("{length}, and {behind} tokens come before the text"),
        allowed: "more than those; shorten the prompt, or limit the tokens of the text (max_tokens)",
    })?;
    Ok(Some(options.max_tokens.map_or(left, |most| most.min(left))))
}
