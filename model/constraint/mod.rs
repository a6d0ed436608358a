//! Structured output: a grammar restricts each next token, given the tokens before it.
//!
//! A [`Constraint`] is a grammar, compiled once for a tokenizer and shared by all generations that follow it. Each generation has its own [`Matching`]:
//! [`Matching::mask`] returns the tokens that may come next, and [`Matching::take`] advances by the chosen one. The mask is written to the bias table that the
//! device edits logits with before it samples, so log-probabilities remain the model's own. The next token's mask depends on this token, so a pass begins only
//! once the token before it is known, as with rules that depend on earlier tokens.
//!
//! The `llguidance` crate compiles and matches grammars; it requires the feature `structured`. Without the feature, constraints cannot be created.

#[cfg(feature = "structured")]
mod combined;
#[cfg(feature = "structured")]
mod grammar;
#[cfg(feature = "structured")]
mod vocabulary;
#[cfg(feature = "structured")]
mod weight;

#[cfg(not(feature = "structured"))]
#[path = "absent.rs"]
mod grammar;

use std::fmt;
use std::sync::Arc;

use self::grammar::{Grammar, Matcher};
#[cfg(feature = "structured")]
pub(crate) use self::vocabulary::Vocabulary;
use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// Source of a constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConstraintKind {
    /// A JSON schema.
    JsonSchema,
    /// A regular expression.
    Regex,
    /// A grammar in Lark's notation.
    Grammar,
}

impl fmt::Display for ConstraintKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JsonSchema => "JSON schema",
            Self::Regex => "regular expression",
            Self::Grammar => "grammar",
        })
    }
}

/// Grammar that generated text follows, compiled for one tokenizer: see [`GenerateOptions::constraint`](crate::GenerateOptions::constraint). Clones share it.
///
/// Only tokens that continue the text according to the grammar are chosen. End tokens may be chosen where the grammar allows the text to end. If nothing may
/// follow, generation ends with [`StopReason::Complete`](crate::StopReason::Complete). If a limit on tokens ends the text, it is the beginning of a text of the
/// grammar.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = ruminate::Device::cpu();
/// # let model = ruminate::Model::demo(&device, ruminate::LoadOptions::default())?;
/// use ruminate::{Constraint, GenerateOptions, SessionOptions};
///
/// let schema = serde_json::json!({
///     "type": "object",
///     "properties": {"cup": {"enum": ["A", "B", "C", "D", "E"]}},
///     "required": ["cup"],
///     "additionalProperties": false,
/// });
/// let constraint = Constraint::json_schema(model.tokenizer(), &schema)?;
/// let options = GenerateOptions { constraint: Some(constraint), ..GenerateOptions::default() };
/// let mut session = model.session(SessionOptions::default())?;
/// for piece in session.generate("The ball is under cup ", &options)? {
///     print!("{}", piece?.text);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Constraint {
    grammar: Arc<Grammar>,
    kind: ConstraintKind,
}

#[cfg(feature = "structured")]
impl Constraint {
    /// Creates a constraint for JSON values of a schema.
    ///
    /// Values are written with a comma and a colon as separators, each followed by nothing, a space, or a line break and up to 32 spaces or tabs. Schemas can
    /// change this in `x-guidance` (`whitespace_flexible`, `whitespace_pattern`, `item_separator`, `key_separator`).
    ///
    /// # Errors
    /// [`Error::Constraint`] for unsupported keywords, for schemas that no value matches, and for schemas that exceed the limits of the compiler.
    pub fn json_schema(tokenizer: &Tokenizer, schema: &serde_json::Value) -> Result<Self, Error> {
        Self::new(tokenizer, ConstraintKind::JsonSchema, grammar::of_schema(schema)?)
    }

    /// Creates a constraint for text that matches a regular expression from its first to its last character. The syntax is that of the `regex` crate; line
    /// boundaries, word boundaries and look-around are not supported.
    ///
    /// # Errors
    /// [`Error::Constraint`] for an expression that does not parse, uses unsupported syntax, or is too large.
    pub fn regex(tokenizer: &Tokenizer, pattern: &str) -> Result<Self, Error> {
        Self::new(tokenizer, ConstraintKind::Regex, grammar::of_regex(pattern)?)
    }

    /// Creates a constraint for text of a context-free grammar in `llguidance`'s dialect of Lark, whose first rule is `start`. Special tokens are written as
    /// `<|end_turn|>`.
    ///
    /// # Errors
    /// [`Error::Constraint`] for a grammar that does not parse or is too large.
    pub fn lark(tokenizer: &Tokenizer, grammar: &str) -> Result<Self, Error> {
        Self::new(tokenizer, ConstraintKind::Grammar, grammar::of_lark(grammar)?)
    }

    fn new(tokenizer: &Tokenizer, kind: ConstraintKind, definition: grammar::Definition) -> Result<Self, Error> {
        let grammar = Grammar::compile(tokenizer.vocabulary()?, definition);
        match grammar {
            Ok(grammar) => Ok(Self { grammar: Arc::new(grammar), kind }),
            Err(problem) => Err(Error::Constraint { kind, problem }),
        }
    }
}

impl Constraint {
    /// Source of the constraint.
    #[must_use]
    pub fn kind(&self) -> ConstraintKind {
        self.kind
    }

    /// Warnings of the compiler, such as ignored keywords of a schema; usually empty.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.grammar.warnings()
    }

    /// Starts to match a text from its first token.
    ///
    /// # Errors
    /// [`Error::Option`] if the constraint was compiled for another tokenizer.
    #[cfg_attr(
        not(feature = "structured"),
        expect(unreachable_code, unused_variables, reason = "without that feature there is no constraint to start")
    )]
    pub(crate) fn start(&self, tokenizer: &Tokenizer, end_tokens: &[u32]) -> Result<Matching, Error> {
        if !self.grammar.is_of(tokenizer) {
            let value = format!("a {} compiled for another tokenizer", self.kind);
            return Err(Error::Option {
                name: "constraint",
                value,
                allowed: "one compiled for the tokenizer of this model",
            });
        }
        Ok(Matching { matcher: self.grammar.matcher(), kind: self.kind, end_tokens: end_tokens.to_vec(), tokens: 0 })
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Position of one text in a grammar.
pub(crate) struct Matching {
    matcher: Matcher,
    kind: ConstraintKind,
    end_tokens: Vec<u32>,
    /// Number of tokens taken.
    tokens: u32,
}

impl Matching {
    /// Tokens that may come next. End tokens are included where the text may end.
    ///
    /// # Errors
    /// [`Error::Unconstrainable`] if the vocabulary does not have such a token, or if the grammar is too complex at this position.
    pub(crate) fn mask(&mut self) -> Result<Mask, Error> {
        let (mut mask, may_end) = self.matcher.mask().map_err(|problem| self.failed(problem))?;
        for &token in self.end_tokens.iter().filter(|_| may_end) {
            mask.allow(token);
        }
        if mask.is_empty() {
            return Err(self.failed("no token of the model continues the text as required".to_owned()));
        }
        Ok(mask)
    }

    /// Takes the token chosen with the last mask. Returns whether the text is complete, so that nothing may follow.
    ///
    /// # Errors
    /// [`Error::Unconstrainable`] if the grammar is too complex at this position.
    pub(crate) fn take(&mut self, token: u32) -> Result<bool, Error> {
        self.tokens += 1;
        self.matcher.take(token).map_err(|problem| self.failed(problem))
    }

    /// Error for a mask whose tokens are all banned by other options.
    pub(crate) fn all_banned(&self) -> Error {
        self.failed(
            "other options (logit_bias, begin_suppress, bad_words, min_tokens) ban every token that is allowed next"
                .to_owned(),
        )
    }

    fn failed(&self, problem: String) -> Error {
        Error::Unconstrainable { kind: self.kind, tokens: self.tokens, problem }
    }
}

/// A set of tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mask {
    /// One bit per token of the padded vocabulary.
    bits: Vec<u32>,
}

impl Mask {
    /// Creates a mask from words of 32 bits, the first token in the lowest bit of the first word. Bits beyond the vocabulary are dropped.
    #[cfg(feature = "structured")]
    fn new(words: &[u32], vocab: u32) -> Self {
        let mut bits = words[..vocab.div_ceil(32) as usize].to_vec();
        if let Some(last) = bits.last_mut().filter(|_| !vocab.is_multiple_of(32)) {
            *last &= (1 << (vocab % 32)) - 1;
        }
        Self { bits }
    }

    /// The empty set.
    #[cfg(feature = "structured")]
    fn nothing(vocab: u32) -> Self {
        Self { bits: vec![0; vocab.div_ceil(32) as usize] }
    }

    fn allow(&mut self, token: u32) {
        if let Some(word) = self.bits.get_mut(token as usize / 32) {
            *word |= 1 << (token % 32);
        }
    }

    /// Whether a token is in the set.
    pub(crate) fn allows(&self, token: u32) -> bool {
        self.bits.get(token as usize / 32).is_some_and(|word| word & 1 << (token % 32) != 0)
    }

    /// Tokens of the set, in order.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.bits).flat_map(|(index, &word)| {
            let rest = |rest: &u32| Some(rest & (rest - 1)).filter(|&rest| rest != 0);
            let words = std::iter::successors(Some(word).filter(|&word| word != 0), rest);
            words.map(move |word| index * 32 + word.trailing_zeros())
        })
    }

    fn is_empty(&self) -> bool {
        self.bits.iter().all(|&word| word == 0)
    }
}

#[cfg(all(test, feature = "structured"))]
mod tests {
    use super::Mask;

    #[test]
    fn a_mask_is_a_set_of_tokens() {
        let mut mask = Mask::new(&[0b101, u32::MAX], 40);
        mask.allow(35);
        mask.allow(7);
        assert_eq!(mask.tokens().collect::<Vec<_>>(), [0, 2, 7, 32, 33, 34, 35, 36, 37, 38, 39]);
        assert!(mask.allows(2) && mask.allows(39) && !mask.allows(1) && !mask.allows(40) && !mask.allows(1 << 20));
    }
}
