//! How tokens are chosen: what a caller can ask for, and what becomes of it on the device.

use std::collections::HashMap;

use ruminate_shaders::sample::Sampler;
use ruminate_shaders::sample::penalise::{DRY_LONGEST_ALLOWED, Penalties, breaker_words};

use crate::constraint::{Mask, Matching};
use crate::error::Error;
use crate::options::GenerateOptions;
use crate::rules::Rules;
use crate::tokenizer::{Specials, Tokenizer};

/// Tokens that log-probabilities can be asked for, beside the chosen one.
pub const MAX_LOGPROBS: u32 = 20;

/// Where passages end, as llama.cpp and text-generation-webui have it.
pub(crate) const DRY_BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// What a banned or a forced token's logit is moved by: far, but finite.
pub(crate) const FAR: f32 = 1e30;

/// Temperatures below this take the most likely token. They would do so anyway: two logits of any model differ by far more, or not at all. Divided by them, the
/// logits would leave the range of f32 and become equal.
const LEAST_TEMPERATURE: f32 = 1e-30;

/// How tokens are chosen. In this order: [`GenerateOptions::logit_bias`], repetition penalty, DRY, temperature, top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Sampling {
    /// Divides the logits; 0, or a value below 1e-30, takes the most likely token.
    pub temperature: f32,
    /// Keeps the k most likely tokens, and all that equal the last of them; 0 keeps all.
    pub top_k: u32,
    /// Keeps the most likely tokens that together reach this probability, the crossing one included; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens of at least this share of the largest probability; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen before; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many of the last tokens, the prompt's included, that penalty sees; 0 for all.
    pub penalty_window: u32,
    /// Keeps the text from repeating its own passages.
    pub dry: Dry,
}

/// DRY, "don't repeat yourself": if the last n tokens stood in the text before, for the longest such n, the token that followed them there loses
/// `multiplier · base^(n - allowed_length)` of its logit, where n is at least `allowed_length`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Dry {
    /// Penalty of a match of the allowed length, 0 to a million; 0 turns DRY off.
    pub multiplier: f32,
    /// Factor for each further token of a match, 1 to a million.
    pub base: f32,
    /// Tokens of the shortest match that is penalised, 1 to 1024; up to 256 more are counted.
    pub allowed_length: u32,
    /// How many of the last tokens, the prompt's included, are looked at; 0 for all.
    pub range: u32,
}

impl Dry {
    /// No penalty.
    pub const OFF: Self = Self { multiplier: 0.0, ..Self::ON };

    /// The authors' values.
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
    /// [`Error::Option`] names the first value that makes no sense.
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
    /// llama.cpp's defaults, but for its repetition window.
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, ..Self::GREEDY }
    }
}

/// How tokens are chosen, checked and in terms of tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choosing {
    sampling: Sampling,
    bias: Vec<(u32, f32)>,
    breakers: Vec<u32>,
    pub(crate) logprobs: Option<u32>,
    pub(crate) rules: Rules,
    /// What the rules say of the token that is chosen next.
    now: Vec<(u32, f32)>,
    /// The tokens that a grammar allows next.
    mask: Option<Mask>,
}

impl Choosing {
    /// What options ask for, of a model with so many tokens.
    pub(crate) fn new(options: &GenerateOptions, tokenizer: &Tokenizer, vocab: u32) -> Result<Self, Error> {
        let GenerateOptions { sampling, logit_bias, dry_breakers, logprobs, .. } = options;
        sampling.validate()?;
        check_bias(logit_bias, vocab)?;
        if let Some(count) = logprobs.filter(|&count| count > MAX_LOGPROBS) {
            return Err(Error::Option { name: "logprobs", value: count.to_string(), allowed: "from 0 to 20" });
        }
        let mut breakers = Vec::new();
        // Nobody asks for them without DRY, but they are there by default.
        for text in dry_breakers.iter().filter(|_| sampling.dry.multiplier > 0.0) {
            breakers.extend(breaking(text, tokenizer, vocab)?);
        }
        breakers.sort_unstable();
        breakers.dedup();
        let logprobs = logprobs.map(|count| count.min(vocab));
        let mut sampling = *sampling;
        if let Some(length) = options.no_repeat_ngram {
            if sampling.dry.multiplier > 0.0 {
                let why = "both are carried out by the same penalty, which knows one rule at a time";
                return Err(Error::Together { one: "no_repeat_ngram", other: "dry multiplier", why });
            }
            if !(2..=DRY_LONGEST_ALLOWED).contains(&length) {
                let value = length.to_string();
                return Err(Error::Option { name: "no_repeat_ngram", value, allowed: "from 2 to 1024" });
            }
            // A token that would complete such a sequence again loses so much that it is never chosen.
            sampling.dry = Dry { multiplier: 1e6, base: 1.0, allowed_length: length - 1, range: 0 };
        }
        let bias = logit_bias.clone();
        Ok(Self { sampling, bias, breakers, logprobs, rules: Rules::default(), now: Vec::new(), mask: None })
    }

    /// Follows rules from the first token on, which comes behind those of a text.
    pub(crate) fn follow(&mut self, rules: Rules, said: &[u32]) {
        self.rules = rules;
        self.look(0, said);
    }

    /// Sets what the rules say of the token at a place of the text, counted from 0, behind what was said.
    pub(crate) fn look(&mut self, place: u32, said: &[u32]) {
        self.now = self.rules.at(place, said);
    }

    /// Has the next token be one that a grammar allows. To be called after [`Self::look`].
    ///
    /// # Errors
    /// [`Error::Unconstrainable`] if there is none that is not banned.
    pub(crate) fn constrain(&mut self, matching: &mut Matching) -> Result<(), Error> {
        let mask = matching.mask()?;
        // The last value of a token counts.
        let edits: HashMap<u32, f32> = self.bias.iter().chain(&self.now).copied().collect();
        if mask.tokens().all(|token| edits.get(&token).is_some_and(|&value| value <= -FAR)) {
            return Err(matching.all_banned());
        }
        self.mask = Some(mask);
        Ok(())
    }

    /// Plain numbers, without lists.
    pub(crate) fn plain(sampling: Sampling) -> Result<Self, Error> {
        sampling.validate()?;
        let (bias, breakers, now) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { sampling, bias, breakers, logprobs: None, rules: Rules::default(), now, mask: None })
    }

    /// Whether the most likely token is taken, so that nothing is drawn.
    pub(crate) fn is_greedy(&self) -> bool {
        self.sampling.temperature < LEAST_TEMPERATURE
    }

    /// Whether logits are edited before the choice.
    fn penalises(&self) -> bool {
        self.sampling.repeat_penalty != 1.0 || self.sampling.dry.multiplier > 0.0 || self.biases()
    }

    /// Whether some token's logit is moved, perhaps later.
    fn biases(&self) -> bool {
        !self.bias.is_empty() || !self.rules.is_empty()
    }

    /// Whether the choice is among a copy of the logits: where they are edited, and where a draw would leave nothing of those that are asked for.
    pub(crate) fn edits(&self) -> bool {
        self.penalises() || (self.logprobs.is_some() && !self.is_greedy())
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

    /// The bias of every token.
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

    /// A bit for each token, set for those that end a passage.
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
        return Err(Error::Token { token, vocab });
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

/// The tokens that a breaker stands for: all that hold it, as in llama.cpp; if none does, the last one of its text, as in text-generation-webui.
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
