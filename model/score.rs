//! Perplexity of a text, and divergence of a model from a reference.

use crate::early_exit::Exit;
use crate::error::Error;
use crate::options::State;
use crate::session::{MAX_ROWS, Session};

/// Negative log-likelihood of a text, token by token, and divergence from another model.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// Negative log-likelihood of each token given all tokens before it, in nats.
    pub nll: Moments,
    /// Steps of the rows, if they may exit early.
    pub steps: Moments,
    /// Divergence from a second model, if there is one.
    pub divergence: Option<Divergence>,
}

/// Divergence of a model from a reference, over the positions of a text.
#[derive(Clone, Debug, Default)]
pub struct Divergence {
    /// Negative log-likelihood under the reference, in nats.
    pub reference_nll: Moments,
    /// Kullback-Leibler divergence of the model's distribution from the reference's, in nats.
    pub kl: Moments,
    /// Largest Kullback-Leibler divergence.
    pub kl_most: f64,
    /// Number of positions at which both have the same most likely token.
    pub same_top: u64,
}

/// Sums of values and of their squares.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    count: u64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean; NaN without values.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Standard error of the mean, treating the values as independent; NaN for fewer than two.
    #[must_use]
    pub fn error(&self) -> f64 {
        let (n, mean) = (self.count as f64, self.mean());
        let variance = (self.squares / n - mean * mean).max(0.0) * n / (n - 1.0);
        if self.count < 2 { f64::NAN } else { (variance / n).sqrt() }
    }
}

impl Score {
    /// Perplexity: e to the mean negative log-likelihood.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.nll.mean().exp()
    }

    /// Standard error of the perplexity, to first order.
    #[must_use]
    pub fn perplexity_error(&self) -> f64 {
        self.perplexity() * self.nll.error()
    }
}

impl Divergence {
    /// Fraction of the positions at which both models have the same most likely token.
    #[must_use]
    pub fn top_agreement(&self) -> f64 {
        self.same_top as f64 / self.kl.count() as f64
    }
}

/// Splits a text into windows of at most `length` tokens. Each window starts with the begin token or, if the model has none, with the token before its first
/// one. Only the very first token of a text without begin token is never scored.
#[must_use]
pub fn windows(tokens: &[u32], begin: Option<u32>, length: u32) -> Vec<Vec<u32>> {
    let fresh = (length as usize).saturating_sub(1).max(1);
    match begin {
        Some(begin) => tokens.chunks(fresh).map(|chunk| [&[begin], chunk].concat()).collect(),
        None => {
            let starts = (0..tokens.len().saturating_sub(1)).step_by(fresh);
            starts.map(|start| tokens[start..tokens.len().min(start + fresh + 1)].to_vec()).collect()
        }
    }
}

impl Session {
    /// Scores every token of a window except the first, at a fixed depth and from an empty context, and adds the results to `score`.
    ///
    /// With `against`, that session's model is the reference of the divergence. Sessions with the same seed start from the same random states, so that only the
    /// models differ. With `exit`, rows of this session exit early, each on its own; rows of the reference do not.
    ///
    /// # Errors
    /// [`Error::Option`] if the two models have different vocabularies; otherwise as [`Self::forward`].
    pub fn score(
        &mut self,
        window: &[u32],
        steps: u32,
        exit: Option<&Exit>,
        mut against: Option<&mut Self>,
        score: &mut Score,
    ) -> Result<(), Error> {
        let width = self.store.padded_vocab() as usize;
        if let Some(other) = against.as_deref().filter(|other| other.store.padded_vocab() as usize != width) {
            let value = format!("a model of {} tokens", other.store.padded_vocab());
            return Err(Error::Option { name: "against", value, allowed: "a model of the same vocabulary" });
        }
        self.rewind(0)?;
        if let Some(other) = &mut against {
            other.rewind(0)?;
        }
        // The last token is only predicted.
        let asked = &window[..window.len().saturating_sub(1)];
        let mut answers = window.iter().skip(1);
        for chunk in asked.chunks(MAX_ROWS as usize) {
            let logits = match exit {
                None => self.forward(chunk, steps, State::Seeded, true)?,
                Some(exit) => {
                    let found = self.forward_until_exit(chunk, steps, exit, State::Seeded, true)?;
                    found.steps.iter().for_each(|&steps| score.steps.add(f64::from(steps)));
                    found.logits
                }
            };
            let reference = match &mut against {
                Some(other) => other.forward(chunk, steps, State::Seeded, true)?,
                None => Vec::new(),
            };
            for (at, &answer) in answers.by_ref().take(chunk.len()).enumerate() {
                let row = at * width..(at + 1) * width;
                let found = LogSoftmax::new(&logits[row.clone()]);
                score.nll.add(-found.at(answer as usize));
                if against.is_some() {
                    let right = LogSoftmax::new(&reference[row]);
                    score.divergence.get_or_insert_default().add(&found, &right, answer as usize);
                }
            }
        }
        Ok(())
    }
}

impl Divergence {
    fn add(&mut self, found: &LogSoftmax<'_>, right: &LogSoftmax<'_>, answer: usize) {
        let kl: f64 = (0..right.logits.len())
            .map(|token| {
                let log = right.at(token);
                // A token with probability 0 under the reference adds 0.
                if log == f64::NEG_INFINITY { 0.0 } else { log.exp() * (log - found.at(token)) }
            })
            .sum();
        // It is negative only by rounding.
        let kl = kl.max(0.0);
        self.reference_nll.add(-right.at(answer));
        self.kl.add(kl);
        self.kl_most = self.kl_most.max(kl);
        self.same_top += u64::from(found.top == right.top);
    }
}

/// Logits as log-probabilities.
struct LogSoftmax<'a> {
    logits: &'a [f32],
    normalizer: f64,
    /// The most likely token; the first if several are equal.
    top: usize,
}

impl<'a> LogSoftmax<'a> {
    fn new(logits: &'a [f32]) -> Self {
        let (top, _) = logits
            .iter()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (token, &logit)| if logit > best.1 { (token, logit) } else { best });
        Self { logits, normalizer: crate::statistics::log_sum_exp(logits), top }
    }

    fn at(&self, token: usize) -> f64 {
        f64::from(self.logits[token]) - self.normalizer
    }
}
