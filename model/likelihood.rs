//! Likelihoods of given continuations: sequences of any length share passes, without padding.
//!
//! The scheduler computes them in rounds of given tokens (`schedule/scoring.rs`); this module sums up the results.

use std::collections::HashMap;

use crate::arch::Spec;
use crate::early_exit::{Depth, Exit};
use crate::error::Error;
use crate::model::Model;
use crate::options::SessionOptions;
use crate::schedule::{BatchOptions, Event, PromptToken};
use crate::session::{INVARIANT_ROWS, MAX_ROWS, check_steps, check_tokens};
use crate::tokenizer::{Specials, Tokenizer};

/// A text to score and the context before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// Tokens before the scored ones, at least one.
    pub context: Vec<u32>,
    /// Tokens to score, at least one.
    pub continuation: Vec<u32>,
}

/// Likelihood of a continuation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Likelihood {
    /// Sum of the log-probabilities of its tokens, each given all tokens before it, in nats.
    pub logprob: f64,
    /// Whether every token is the most likely one.
    pub greedy: bool,
    /// Number of tokens.
    pub tokens: u32,
    /// Steps of the rows that predict them, summed.
    pub steps: u64,
}

/// Options for scoring continuations.
#[derive(Clone, Debug)]
pub struct LikelihoodOptions {
    /// Maximum number of sequences of one pass, 1 to 256.
    pub sequences: u32,
    /// Maximum steps of every row; by default the model's mean recurrence.
    pub steps: Option<u32>,
    /// Early exit; each row exits on its own. With criteria that use logits, passes go token by token, with one token of every sequence.
    pub exit: Option<Exit>,
    /// Dtype and sharing of keys and values, and initial states. Every sequence starts from the states of [`SessionOptions::seed`].
    pub session: SessionOptions,
}

impl Default for LikelihoodOptions {
    fn default() -> Self {
        Self { sequences: 32, steps: None, exit: None, session: SessionOptions::default() }
    }
}

impl Model {
    /// Scores continuations, which may have any lengths in any order. `progress` receives the number of finished ones and returns whether to go on; if it
    /// returns false, there are fewer results than continuations.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`] for a continuation without context or without tokens, [`Error::PromptTooLong`], [`Error::Token`], [`Error::Option`], or device
    /// errors.
    pub fn likelihoods(
        &self,
        continuations: &[Continuation],
        options: &LikelihoodOptions,
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Likelihood>, Error> {
        let LikelihoodOptions { sequences, steps, exit, session } = options;
        exit.map_or(Ok(()), |exit| exit.validate(self.spec()))?;
        if *sequences == 0 || *sequences > MAX_ROWS {
            let value = sequences.to_string();
            return Err(Error::Option { name: "sequences", value, allowed: "from 1 to 256" });
        }
        let depth = Depth { steps: steps.unwrap_or(self.spec().steps.default), exit: *exit };
        check_steps(depth.steps)?;
        let planned = Some(session.steps.unwrap_or(depth.steps).max(depth.steps));
        let session = SessionOptions { steps: planned, ..session.clone() };
        let sequences = if session.invariant { INVARIANT_ROWS.min(*sequences) } else { *sequences };
        let mut batch = self.batch(BatchOptions { sequences, session, ..BatchOptions::default() })?;
        continuations.iter().try_for_each(|item| item.check(self.spec(), batch.context()))?;

        let mut rest = continuations.iter();
        let mut found: Vec<Option<Likelihood>> = vec![None; continuations.len()];
        let mut indices = HashMap::new();
        let mut done = 0;
        loop {
            // Keep as many sequences waiting as running, so that passes are always full.
            while indices.len() < 2 * sequences as usize
                && let Some(item) = rest.next()
            {
                let index = continuations.len() - rest.len() - 1;
                indices.insert(batch.add_given((&item.context, &item.continuation), depth)?, index);
            }
            match batch.wait()? {
                None => break,
                Some(Event::Prompt { id, tokens }) => {
                    if let Some(&index) = indices.get(&id) {
                        found[index] = Some(Likelihood::of(&tokens));
                    }
                }
                Some(Event::Failed { error, .. }) => return Err(error),
                Some(Event::Done { id, .. }) => {
                    indices.remove(&id);
                    done += 1;
                    if !progress(done) {
                        break;
                    }
                }
                Some(_) => {}
            }
        }
        Ok(found.into_iter().map_while(|likelihood| likelihood).collect())
    }
}

impl Likelihood {
    /// Sums the probabilities of given tokens, and compares each with the most likely token.
    fn of(tokens: &[PromptToken]) -> Self {
        let sum = |sum: Self, PromptToken { token, logprob, top, steps }: &PromptToken| Self {
            logprob: sum.logprob + f64::from(logprob.unwrap_or(f32::NAN)),
            greedy: sum.greedy && top.first().is_some_and(|(best, _)| best == token),
            tokens: sum.tokens + 1,
            steps: sum.steps + u64::from(*steps),
        };
        tokens.iter().fold(Self { greedy: true, ..Self::default() }, sum)
    }
}

impl Continuation {
    /// Encodes a text and its context, starting with the tokens that the tokenizer puts before a text.
    ///
    /// White space at the end of the context is moved to the continuation, because tokens are split before white space. If the encoding of the whole text
    /// starts with the tokens of the context, the rest is the continuation. Otherwise the continuation is encoded by itself.
    ///
    /// # Errors
    /// Tokenizer errors; [`Error::EmptyPrompt`] if the context or the continuation is empty.
    pub fn encode(tokenizer: &Tokenizer, context: &str, continuation: &str) -> Result<Self, Error> {
        let specials = Specials::Prompt;
        let whole = tokenizer.encode(&format!("{context}{continuation}"), specials)?;
        let before = context.trim_end();
        let after = format!("{}{continuation}", &context[before.len()..]);
        let context = tokenizer.encode(before, specials)?;
        let continuation = match whole.strip_prefix(&context[..]) {
            Some(rest) if !rest.is_empty() => rest.to_vec(),
            _ => tokenizer.encode(&after, Specials::None)?,
        };
        if context.is_empty() || continuation.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        Ok(Self { context, continuation })
    }

    /// Checks that it fits into `positions` positions. The last token needs none.
    fn check(&self, spec: &Spec, positions: u32) -> Result<(), Error> {
        let Self { context, continuation } = self;
        let (last, before) = continuation.split_last().ok_or(Error::EmptyPrompt)?;
        check_tokens(spec, context, 0, positions)?;
        check_tokens(spec, &[context, before].concat(), 0, positions)?;
        check_tokens(spec, &[*last], 0, positions)
    }
}
