//! Bans and forced tokens that depend on the length of the text or on its tokens.

use crate::error::Error;
use crate::options::GenerateOptions;
use crate::sampling::FAR;

/// Tokens that a generation must not or must choose, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rules {
    /// Tokens banned as the first one.
    begin: Vec<u32>,
    /// Tokens banned among the first `least` ones.
    ends: Vec<u32>,
    least: u32,
    /// Sequences of tokens that must not be completed.
    words: Vec<Vec<u32>>,
    /// Forced first token.
    first: Option<u32>,
    /// Position and candidates of the forced last token.
    last: Option<(u32, Vec<u32>)>,
    /// Whether a grammar restricts the tokens: see [`crate::constraint::Matching`].
    constrained: bool,
}

impl Rules {
    /// Creates the rules for a text of at most `wanted` tokens, with `before` tokens before it.
    pub(crate) fn new(
        options: &GenerateOptions,
        ends: &[u32],
        before: u32,
        wanted: Option<u32>,
        vocab: u32,
    ) -> Result<Self, Error> {
        let least =
            options.min_length.map_or(0, |least| least.saturating_sub(before)).max(options.min_tokens.unwrap_or(0));
        let last =
            wanted.filter(|_| !options.forced_end.is_empty()).map(|wanted| (wanted - 1, options.forced_end.clone()));
        let rules = Self {
            begin: options.begin_suppress.clone(),
            ends: if least > 0 { ends.to_vec() } else { Vec::new() },
            least,
            words: options.bad_words.clone(),
            // As in transformers: only if nothing but a begin token comes before.
            first: options.forced_begin.filter(|_| before == 1),
            last,
            constrained: options.constraint.is_some(),
        };
        let words: Vec<u32> = rules.words.concat();
        let named: [(&str, &[u32]); 5] = [
            ("begin_suppress", &rules.begin),
            ("end_tokens", &rules.ends),
            ("bad_words", &words),
            ("forced_begin", rules.first.as_slice()),
            ("forced_end", rules.last.as_ref().map_or(&[][..], |(_, tokens)| tokens.as_slice())),
        ];
        for (name, tokens) in named {
            if let Some(&token) = tokens.iter().find(|&&token| token >= vocab) {
                return Err(Error::option_of_token(name, token, vocab));
            }
        }
        match rules.words.iter().any(Vec::is_empty) {
            true => Err(Error::Option { name: "bad_words", value: "empty".to_owned(), allowed: "at least one token" }),
            false => Ok(rules),
        }
    }

    /// Name of the first option that sets a rule, if any.
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

    /// Whether the tokens before the next one must be known.
    pub(crate) fn look_back(&self) -> bool {
        !self.words.is_empty() || self.constrained
    }

    /// Edits of logits for token `place` of the text, after the tokens of `said`.
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

/// Maximum number of tokens that the options allow for a text with `before` tokens before it; none without a limit.
pub(crate) fn most_tokens(options: &GenerateOptions, before: u32) -> Result<Option<u32>, Error> {
    let Some(length) = options.max_length else { return Ok(options.max_tokens) };
    let left = length.checked_sub(before).filter(|&left| left > 0).ok_or_else(|| Error::Option {
        name: "max_length",
        value: format!("{length}, but {before} tokens come before the text"),
        allowed: "larger than that; shorten the prompt, or use max_tokens, which does not count the prompt",
    })?;
    Ok(Some(options.max_tokens.map_or(left, |most| most.min(left))))
}
