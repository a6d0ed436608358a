//! Traces of the recurrence: every token's state at each step, its distance from the last state, and its read-out.
//!
//! A trace does not disturb the generation: its tokens are computed once more, in a session with the same seed. The initial state of a position depends only on
//! the seed and the position, so the states are the same. The read-out after i steps is what the session outputs if it computes the tokens at i steps. (For
//! tokens more than 256 positions back, the coda then attends to their last read-out.) Every token is traced to the end, even if an exit rule stopped it
//! earlier, so that the picture shows whether it had converged.

mod file;
mod pca;

pub use self::pca::Pca;

use ruminate_shaders::attention::cache::KvShare;

use crate::arch::Spec;
use crate::error::Error;
use crate::options::State;
use crate::session::Session;
use crate::statistics::{entropy, log_sum_exp};

/// Most likely tokens kept of every read-out.
pub const TOP: usize = 5;

/// Principal components computed of the states: three planes, as in the paper (arXiv 2502.05171, figures 12 and 13).
pub const COMPONENTS: usize = 6;

/// Maximum bytes of states in a trace.
pub const MOST_BYTES: u64 = 1 << 30;

/// States and read-outs of tokens at every step of a recurrence. Step 0 is the initial state.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Tokens, by position.
    pub tokens: Vec<u32>,
    /// Number of steps traced for every token.
    pub steps: u32,
    /// Steps after which each token stopped, `[tokens]`: all steps, unless the caller enters those that a generation with early exit used.
    pub used: Vec<u32>,
    /// Width of a state.
    pub width: u32,
    /// States before the final norm, `[tokens, steps + 1, width]`.
    pub states: Vec<f32>,
    /// Entropies of the read-outs in nats, `[tokens, steps + 1]`.
    pub entropies: Vec<f32>,
    /// Most likely tokens of the read-outs, best first, `[tokens, steps + 1, top]`.
    pub top_tokens: Vec<u32>,
    /// Their probabilities, `[tokens, steps + 1, top]`.
    pub top_probabilities: Vec<f32>,
    /// Tokens kept of every read-out: [`TOP`], or the whole vocabulary if it is smaller.
    pub top: usize,
}

impl Trace {
    /// Bytes of a trace's states.
    #[must_use]
    pub fn bytes(spec: &Spec, tokens: usize, steps: u32) -> u64 {
        tokens as u64 * (u64::from(steps) + 1) * u64::from(spec.width) * 4
    }

    /// Maximum number of tokens of a trace at `steps` steps.
    #[must_use]
    pub fn most_tokens(spec: &Spec, steps: u32) -> u32 {
        u32::try_from(MOST_BYTES / Self::bytes(spec, 1, steps).max(1)).unwrap_or(u32::MAX)
    }

    /// Checks that a trace of `tokens` tokens is not too large.
    ///
    /// # Errors
    /// [`Error::TraceTooLarge`].
    pub fn check(spec: &Spec, tokens: usize, steps: u32) -> Result<(), Error> {
        let most = Self::most_tokens(spec, steps);
        if tokens > most as usize {
            return Err(Error::TraceTooLarge { tokens, steps, bytes: Self::bytes(spec, tokens, steps), most });
        }
        Ok(())
    }

    /// State of a token after a step, `[width]`.
    #[must_use]
    pub fn state(&self, token: usize, step: usize) -> &[f32] {
        let n = self.width as usize;
        &self.states[self.at(token, step) * n..][..n]
    }

    /// Index of a token and a step in `[tokens, steps + 1]`.
    #[must_use]
    pub fn at(&self, token: usize, step: usize) -> usize {
        token * (self.steps as usize + 1) + step
    }

    /// Distance of every state from the last one of its token, ‖s_i - s*‖, `[tokens, steps + 1]`; 0 for the last of each token.
    #[must_use]
    pub fn distances(&self) -> Vec<f32> {
        let steps = self.steps as usize;
        let each = (0..self.tokens.len()).flat_map(|token| (0..=steps).map(move |step| (token, step)));
        each.map(|(token, step)| distance(self.state(token, step), self.state(token, steps))).collect()
    }

    /// First step of each token from which the most likely token of its read-out stays the same, `[tokens]`.
    #[must_use]
    pub fn stable_from(&self) -> Vec<u32> {
        let first = |token, step| self.top_tokens[self.at(token, step) * self.top];
        let of = |token| {
            let last = first(token, self.steps as usize);
            let same = (0..=self.steps as usize).rev().take_while(|&step| first(token, step) == last);
            self.steps + 1 - same.count() as u32
        };
        (0..self.tokens.len()).map(of).collect()
    }

    /// Principal components of all states.
    #[must_use]
    pub fn pca(&self) -> Pca {
        Pca::of(&self.states, self.width as usize, COMPONENTS)
    }

    fn reserve(spec: &Spec, tokens: &[u32], steps: u32) -> Self {
        let top = TOP.min(spec.padded_vocab as usize);
        let cells = tokens.len() * (steps as usize + 1);
        Self {
            tokens: tokens.to_vec(),
            steps,
            used: vec![steps; tokens.len()],
            width: spec.width,
            states: vec![0.0; cells * spec.width as usize],
            entropies: vec![0.0; cells],
            top_tokens: vec![0; cells * top],
            top_probabilities: vec![0.0; cells * top],
            top,
        }
    }

    /// Stores the states and read-outs of rows after a step.
    fn enter(&mut self, first: usize, step: usize, states: &[f32], logits: &[f32]) {
        let n = self.width as usize;
        let rows = states.len() / n;
        let vocab = logits.len() / rows;
        for (row, (state, logits)) in states.chunks(n).zip(logits.chunks(vocab)).enumerate() {
            let at = self.at(first + row, step);
            self.states[at * n..][..n].copy_from_slice(state);
            self.entropies[at] = entropy(logits);
            let normalizer = log_sum_exp(logits);
            for (place, token) in most_likely(logits, self.top).into_iter().enumerate() {
                self.top_tokens[at * self.top + place] = token;
                let log = f64::from(logits[token as usize]) - normalizer;
                self.top_probabilities[at * self.top + place] = log.exp() as f32;
            }
        }
    }
}

impl Session {
    /// Appends tokens, computes them at `steps` steps and records every step. The first `prompt` tokens are those of a prompt, the rest were generated. If
    /// steps share keys and values, generated tokens are computed one at a time, as in the generation. `progress` receives the steps done and the steps in
    /// total, summed over the passes that the tokens are split into, and returns whether to go on.
    ///
    /// # Errors
    /// [`Error::Option`] if the prompt is longer than the tokens; [`Error::TraceTooLarge`]; [`Error::Cancelled`] if `progress` returns false; otherwise as
    /// [`Self::begin`].
    pub fn record(
        &mut self,
        tokens: &[u32],
        prompt: usize,
        steps: u32,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Trace, Error> {
        if prompt > tokens.len() {
            let value = format!("{prompt} of {} tokens", tokens.len());
            return Err(Error::Option { name: "prompt", value, allowed: "at most the number of tokens" });
        }
        self.check(tokens, steps, State::Seeded)?;
        Trace::check(self.model().spec(), tokens.len(), steps)?;
        let mut trace = Trace::reserve(self.model().spec(), tokens, steps);
        let most = self.store.most_rows() as usize;
        let (together, apart) = match self.options().share {
            KvShare::None => (tokens, &[][..]),
            _ => tokens.split_at(prompt.min(tokens.len())),
        };
        let parts = || together.chunks(most).chain(apart.chunks(1));
        let all = parts().count() as u64 * u64::from(steps);
        let (mut first, mut done) = (0, 0);
        for part in parts() {
            self.begin(part, steps, State::Seeded)?;
            for step in 0..=steps as usize {
                if step > 0 {
                    self.iterate(1)?;
                    done += 1;
                }
                let states = self.states()?;
                trace.enter(first, step, &states, &self.read_out()?.logits);
                if !progress(done, all) {
                    return Err(Error::Cancelled);
                }
            }
            first += part.len();
        }
        Ok(trace)
    }
}

/// Tokens of the largest logits, the largest first; among equal logits, the lowest token first.
#[must_use]
pub fn most_likely(logits: &[f32], count: usize) -> Vec<u32> {
    let mut best: Vec<u32> = Vec::with_capacity(count + 1);
    for (token, &logit) in (0u32..).zip(logits) {
        let place = best.partition_point(|&other| logits[other as usize] >= logit);
        if place < count {
            best.insert(place, token);
            best.truncate(count);
        }
    }
    best
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    let squares = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    squares.sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::{Trace, most_likely};

    #[test]
    fn the_most_likely_come_first_and_of_equals_the_first() {
        assert_eq!(most_likely(&[1.0, 3.0, 2.0, 3.0, -1.0], 3), [1, 3, 2]);
        assert_eq!(most_likely(&[f32::NEG_INFINITY, 0.0], 2), [1, 0]);
    }

    #[test]
    fn distances_are_to_the_last_state_and_a_token_settles_when_its_read_out_does() {
        let trace = Trace {
            tokens: vec![7, 8],
            steps: 2,
            used: vec![2, 2],
            width: 2,
            states: vec![3.0, 4.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            entropies: vec![0.0; 6],
            top_tokens: vec![5, 6, 6, 9, 9, 9],
            top_probabilities: vec![1.0; 6],
            top: 1,
        };
        assert_eq!(trace.distances(), [5.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(trace.stable_from(), [1, 0]);
        assert_eq!(trace.state(1, 0), [1.0, 1.0]);
    }
}
