//! Public types of a batch: sequence ids, events and totals.

use std::fmt;

use crate::error::Error;
use crate::generate::{Piece, Statistics, StopReason};

/// Id of a sequence in a batch, unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId {
    pub(super) batch: u64,
    /// Position in the order in which sequences were added to the batch.
    pub(super) number: u64,
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of batch {}", self.number, self.batch)
    }
}

/// Event of a sequence.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The prompt is computed, with the probability of each of its tokens. Sent before the first token if
    /// [`prompt_logprobs`](crate::GenerateOptions::prompt_logprobs) is set.
    Prompt {
        /// The sequence.
        id: SequenceId,
        /// Tokens of its prompt.
        tokens: Vec<PromptToken>,
    },
    /// A token was generated.
    Token {
        /// The sequence.
        id: SequenceId,
        /// The token, with its text.
        piece: Piece,
    },
    /// The sequence failed and cannot go on; the others are not affected. [`Self::Done`] follows.
    Failed {
        /// The sequence.
        id: SequenceId,
        /// The error.
        error: Error,
    },
    /// The sequence has ended. This is always its last event, and it is sent exactly once.
    Done {
        /// The sequence.
        id: SequenceId,
        /// Reason for its end.
        reason: StopReason,
        /// Statistics of the sequence.
        statistics: Statistics,
    },
}

/// Probability of a prompt token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptToken {
    /// Token id.
    pub token: u32,
    /// Natural logarithm of its probability given the tokens before it; none for the first token.
    pub logprob: Option<f32>,
    /// The most likely tokens at this position with their log-probabilities, best first; as many as [`logprobs`](crate::GenerateOptions::logprobs) sets.
    pub top: Vec<(u32, f32)>,
    /// Recurrence steps of the row that predicts it; 0 for the first.
    pub steps: u32,
}

/// Work that a batch has done, and memory that it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Sequences in the queue.
    pub waiting: u32,
    /// Sequences that were admitted and have not ended.
    pub running: u32,
    /// Sequences that were added.
    pub sequences: u64,
    /// Passes over the core's weights: one for each step, shared by all rows.
    pub passes: u64,
    /// Active rows of these passes, summed.
    pub rows: u64,
    /// Rows that these passes had capacity for, summed. Their time depends on it.
    pub capacity: u64,
    /// Prompt tokens of admitted sequences; a preempted sequence counts again when it restarts.
    pub prompt_tokens: u64,
    /// Prompt tokens whose keys and values were taken from shared pages.
    pub cached_tokens: u64,
    /// Sequences that started with shared pages.
    pub prefix_hits: u64,
    /// Tokens that were generated.
    pub tokens: u64,
    /// Steps of the generated tokens' rows, summed.
    pub steps: u64,
    /// Steps that these rows would have taken without early exit.
    pub most_steps: u64,
    /// Number of preemptions.
    pub preempted: u64,
    /// Bytes of the KV cache on the device.
    pub kv_bytes: u64,
    /// Bytes of the prefix cache.
    pub prefix_bytes: u64,
}
