//! Choosing tokens: sampling options and their form on the device.

use std::collections::HashMap;

use ruminate_shaders::sample::Sampler;
use ruminate_shaders::sample::penalize::{DRY_LONGEST_ALLOWED, Penalties, breaker_words};

use crate::constraint::{Mask, Matching};
use crate::error::Error;
use crate::options::GenerateOptions;
use crate::rules::Rules;
use crate::tokenizer::{Specials, Tokenizer};

/// Maximum number of tokens, besides the chosen one, that log-probabilities can be requested for.
pub const MAX_LOGPROBS: u32 = 20;

/// Default texts that end a passage for DRY, as in llama.cpp and text-generation-webui.
pub(crate) const DRY_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// Offset that is added to or subtracted from the logit of a forced or banned token: large, but finite.
pub(crate) const FAR: f32 = 1e30;

/// Temperatures below this are greedy. They would be anyway, since two logits of any model are either equal or differ by far more. Logits divided by such a
/// temperature would overflow `f32` and become equal.
const LEAST_TEMPERATURE: f32 = 1e-30;

/// Sampling options. They apply in this order: [`GenerateOptions::logit_bias`], repetition penalty, DRY, temperature, top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Sampling {
    /// Divides the logits; 0, or any value below 1e-30, chooses the most likely token.
    pub temperature: f32,
    /// Keeps the k most likely tokens, and those equal to the last of them; 0 keeps all.
    pub top_k: u32,
    /// Keeps the most likely tokens whose probabilities add up to this value, including the one that crosses it; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens with at least this fraction of the largest probability; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens that occurred before; 1 disables it.
    pub repeat_penalty: f32,
    /// Number of last tokens, including the prompt's, that the repetition penalty considers; 0 for all.
    pub penalty_window: u32,
    /// Penalty for repeating passages.
    pub dry: Dry,
}

/// DRY ("don't repeat yourself"): penalizes tokens that would continue a repeated passage.
///
/// Let n be the length of the longest sequence of last tokens that occurred in the text before. If n is at least `allowed_length`, `multiplier · base^(n -
/// allowed_length)` is subtracted from the logit of the token that followed that sequence there.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Dry {
    /// Penalty for a match of `allowed_length` tokens, 0 to a million; 0 turns DRY off.
    pub multiplier: f32,
    /// Factor for each further token of a match, 1 to a million.
    pub base: f32,
    /// Length of the shortest match that is penalized, 1 to 1024 tokens. Matches count up to 256 tokens beyond it.
    pub allowed_length: u32,
    /// Number of last tokens, including the prompt's, that are searched; 0 for all.
    pub range: u32,
}

impl Dry {
    /// No penalty.
    pub const OFF: Self = Self { multiplier: 0.0, ..Self::ON };

    /// Values recommended by its authors.
    pub const ON: Self = Self { multiplier: 0.8, base: 1.75, allowed_length: 2, range: 0 };
}

impl Default for Dry {
    /// [`Self::OFF`].
    fn default() -> Self {
        Self::OFF
    }
}

impl Sampling {
    /// Always the most likely token.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        penalty_window: 0,
        dry: Dry::OFF,
    };

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Option`] for the first invalid value.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |name, value: f32, allowed| Err(Error::Option { name, value: value.to_string(), allowed });
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return wrong("temperature", self.temperature, "a number of at least 0");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p", self.top_p, "a number above 0 and at most 1");
        }
        if !(self.min_p >= 0.0 && self.min_p <= 1.0) {
            return wrong("min_p", self.min_p, "a number between 0 and 1");
        }
        if !self.repeat_penalty.is_finite() || self.repeat_penalty <= 0.0 {
            return wrong("repeat_penalty", self.repeat_penalty, "a number above 0");
        }
        let Dry { multiplier, base, allowed_length, .. } = self.dry;
        if !(0.0..=1e6).contains(&multiplier) {
            return wrong("dry multiplier", multiplier, "a number between 0 and 1000000");
        }
        if !(1.0..=1e6).contains(&base) {
            return wrong("dry base", base, "a number between 1 and 1000000");
        }
        if !(1..=DRY_LONGEST_ALLOWED).contains(&allowed_length) {
            let value = allowed_length.to_string();
            return Err(Error::Option { name: "dry allowed_length", value, allowed: "from 1 to 1024" });
        }
        Ok(())
    }
}

impl Default for Sampling {
    /// llama.cpp's defaults, except for its repetition window.
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, ..Self::GREEDY }
    }
}

/// Validated sampling options, in terms of token ids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choosing {
    sampling: Sampling,
    bias: Vec<(u32, f32)>,
    breakers: Vec<u32>,
    pub(crate) logprobs: Option<u32>,
    pub(crate) rules: Rules,
    /// Edits of logits by the rules for the next token.
    now: Vec<(u32, f32)>,
    /// Tokens that the grammar allows next.
    mask: Option<Mask>,
}

impl Choosing {
    /// Validates the options for a model of `vocab` tokens.
    pub(crate) fn new(options: &GenerateOptions, tokenizer: &Tokenizer, vocab: u32) -> Result<Self, Error> {
        let GenerateOptions { sampling, logit_bias, dry_breakers, logprobs, .. } = options;
        sampling.validate()?;
        check_bias(logit_bias, vocab)?;
        if let Some(count) = logprobs.filter(|&count| count > MAX_LOGPROBS) {
            return Err(Error::Option { name: "logprobs", value: count.to_string(), allowed: "from 0 to 20" });
        }
        let mut breakers = Vec::new();
        // The default breakers only matter with DRY.
        for text in dry_breakers.iter().filter(|_| sampling.dry.multiplier > 0.0) {
            breakers.extend(breaking(text, tokenizer, vocab)?);
        }
        breakers.sort_unstable();
        breakers.dedup();
        let logprobs = logprobs.map(|count| count.min(vocab));
        let mut sampling = *sampling;
        if let Some(length) = options.no_repeat_ngram {
            if sampling.dry.multiplier > 0.0 {
                let why = "both use the same penalty, which supports one rule at a time";
                return Err(Error::Together { one: "no_repeat_ngram", other: "dry multiplier", why });
            }
            if !(2..=DRY_LONGEST_ALLOWED).contains(&length) {
                let value = length.to_string();
                return Err(Error::Option { name: "no_repeat_ngram", value, allowed: "from 2 to 1024" });
            }
            // The penalty is so large that a token that would repeat such a sequence is never chosen.
            sampling.dry = Dry { multiplier: 1e6, base: 1.0, allowed_length: length - 1, range: 0 };
        }
        let bias = logit_bias.clone();
        Ok(Self { sampling, bias, breakers, logprobs, rules: Rules::default(), now: Vec::new(), mask: None })
    }

    /// Sets the rules; the first token is generated after those of `said`.
    pub(crate) fn follow(&mut self, rules: Rules, said: &[u32]) {
        self.rules = rules;
        self.look(0, said);
    }

    /// Updates the rules' edits for token `place` of the generated text, counted from 0, after the tokens of `said`.
    pub(crate) fn look(&mut self, place: u32, said: &[u32]) {
        self.now = self.rules.at(place, said);
    }

    /// Restricts the next token to those that the grammar allows. Call it after [`Self::look`].
    ///
    /// # Errors
    /// [`Error::Unconstrainable`] if every allowed token is banned.
    pub(crate) fn constrain(&mut self, matching: &mut Matching) -> Result<(), Error> {
        let mask = matching.mask()?;
        // If a token occurs several times, its last value applies.
        let edits: HashMap<u32, f32> = self.bias.iter().chain(&self.now).copied().collect();
        if mask.tokens().all(|token| edits.get(&token).is_some_and(|&value| value <= -FAR)) {
            return Err(matching.all_banned());
        }
        self.mask = Some(mask);
        Ok(())
    }

    /// Sampling options alone, without bias, rules and breakers.
    pub(crate) fn plain(sampling: Sampling) -> Result<Self, Error> {
        sampling.validate()?;
        let (bias, breakers, now) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { sampling, bias, breakers, logprobs: None, rules: Rules::default(), now, mask: None })
    }

    /// Whether the most likely token is chosen without a random draw.
    pub(crate) fn is_greedy(&self) -> bool {
        self.sampling.temperature < LEAST_TEMPERATURE
    }

    /// Whether penalties or biases edit the logits.
    fn penalizes(&self) -> bool {
        self.sampling.repeat_penalty != 1.0 || self.sampling.dry.multiplier > 0.0 || self.biases()
    }

    /// Whether any token's logit is biased, now or later.
    fn biases(&self) -> bool {
        !self.bias.is_empty() || !self.rules.is_empty()
    }

    /// Whether tokens are chosen from a copy of the logits: if they are edited, or if sampling would overwrite logits that log-probabilities need.
    pub(crate) fn edits(&self) -> bool {
        self.penalizes() || (self.logprobs.is_some() && !self.is_greedy())
    }

    pub(crate) fn sampler(&self) -> Sampler {
        let Sampling { temperature, top_p, min_p, top_k, .. } = self.sampling;
        Sampler { temperature: if self.is_greedy() { 0.0 } else { temperature }, top_p, min_p, top_k }
    }

    pub(crate) fn penalties(&self) -> Penalties {
        let Sampling { repeat_penalty, penalty_window, dry, .. } = self.sampling;
        let biased = u32::from(self.biases());
        let rule = Penalties { repeat_penalty, repeat_window: penalty_window, biased, ..Penalties::NONE };
        if dry.multiplier == 0.0 {
            return rule;
        }
        rule.with_dry(dry.multiplier, dry.base, dry.allowed_length, dry.range)
    }

    /// Bias of every token.
    pub(crate) fn bias(&self, vocab: u32) -> Vec<f32> {
        let mut all = vec![0.0; vocab as usize];
        for &(token, value) in self.bias.iter().chain(&self.now) {
            all[token as usize] = value.clamp(-FAR, FAR);
        }
        if let Some(mask) = &self.mask {
            let values = all.iter_mut().zip(0..);
            values.filter(|(_, token)| !mask.allows(*token)).for_each(|(value, _)| *value = -FAR);
        }
        all
    }

    /// One bit per token, set for tokens that end a passage.
    pub(crate) fn breakers(&self, vocab: u32) -> Vec<u32> {
        let mut bits = vec![0; breaker_words(vocab) as usize];
        for &token in &self.breakers {
            bits[token as usize / 32] |= 1 << (token % 32);
        }
        bits
    }
}

fn check_bias(bias: &[(u32, f32)], vocab: u32) -> Result<(), Error> {
    let wrong = |value: String, allowed| Err(Error::Option { name: "logit_bias", value, allowed });
    let mut tokens: Vec<u32> = bias.iter().map(|&(token, _)| token).collect();
    if let Some(&token) = tokens.iter().find(|&&token| token >= vocab) {
        return Err(Error::option_of_token("logit_bias", token, vocab));
    }
    if let Some((token, value)) = bias.iter().find(|(_, value)| value.is_nan()) {
        return wrong(format!("{value} for token {token}"), "a number, or minus infinity to ban the token");
    }
    tokens.sort_unstable();
    if let Some(twice) = tokens.windows(2).find(|pair| pair[0] == pair[1]) {
        return wrong(format!("given twice for token {}", twice[0]), "one value for each token");
    }
    if bias.iter().filter(|(_, value)| *value <= -FAR).count() == vocab as usize {
        return wrong("a ban of all tokens".to_owned(), "at least one token that may be chosen");
    }
    Ok(())
}

/// Tokens for a DRY breaker: all that contain it, as in llama.cpp; if there is none, the last token of its text, as in text-generation-webui.
fn breaking(text: &str, tokenizer: &Tokenizer, vocab: u32) -> Result<Vec<u32>, Error> {
    if text.is_empty() {
        return Err(Error::Option {
            name: "dry_breakers",
            value: "\"\"".to_owned(),
            allowed: "texts that are not empty",
        });
    }
    let holding = tokenizer.holding(text);
    if !holding.is_empty() {
        return Ok(holding);
    }
    let tokens = tokenizer.encode(text, Specials::Continue)?;
    Ok(tokens.last().copied().filter(|&token| token < vocab).into_iter().collect())
}
