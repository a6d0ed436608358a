//! What a batch tells its host: names of sequences, their news, and totals.

use std::fmt;

use crate::error::Error;
use crate::generate::{Piece, Statistics, StopReason};

/// A sequence of a batch. No two sequences of a process have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId {
    pub(super) batch: u64,
    /// By the order in which the batch was given its sequences.
    pub(super) number: u64,
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of batch {}", self.number, self.batch)
    }
}

/// News of a sequence.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The prompt is computed, and [`prompt_logprobs`](crate::GenerateOptions::prompt_logprobs) asked how likely its tokens are. Comes before the first token.
    Prompt {
        /// The sequence.
        id: SequenceId,
        /// Its prompt.
        tokens: Vec<PromptToken>,
    },
    /// A token was generated.
    Token {
        /// The sequence.
        id: SequenceId,
        /// The token.
        piece: Piece,
    },
    /// A sequence cannot go on; the others can. [`Self::Done`] follows.
    Failed {
        /// The sequence.
        id: SequenceId,
        /// Why.
        error: Error,
    },
    /// A sequence has ended: always its last event, and there is exactly one.
    Done {
        /// The sequence.
        id: SequenceId,
        /// Why.
        reason: StopReason,
        /// Its figures.
        statistics: Statistics,
    },
}

/// How likely a token of a prompt is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptToken {
    /// Token id.
    pub token: u32,
    /// Natural logarithm of its probability given those before it; none for the first.
    pub logprob: Option<f32>,
    /// The most likely tokens in its place and theirs, the first one first: as many as [`logprobs`](crate::GenerateOptions::logprobs) says.
    pub top: Vec<(u32, f32)>,
    /// Recurrence steps of the row that predicts it; 0 for the first.
    pub steps: u32,
}

/// What a batch has done, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Sequences that wait for a place.
    pub waiting: u32,
    /// Sequences that have one.
    pub running: u32,
    /// Sequences that were added.
    pub sequences: u64,
    /// Passes over the core's weights: one for each step, however many rows shared it.
    pub passes: u64,
    /// Rows of these passes that were at work, summed.
    pub rows: u64,
    /// Rows that they had room for, summed: what their time depends on.
    pub capacity: u64,
    /// Tokens of prompts, each time they were begun.
    pub prompt_tokens: u64,
    /// Those of them whose keys and values were there.
    pub cached_tokens: u64,
    /// Sequences that found some there.
    pub prefix_hits: u64,
    /// Tokens that were generated.
    pub tokens: u64,
    /// Steps of their rows, summed.
    pub steps: u64,
    /// Steps that they would have had without leaving early.
    pub most_steps: u64,
    /// How often a sequence gave way to another.
    pub preempted: u64,
    /// Bytes of the KV cache on the device.
    pub kv_bytes: u64,
    /// Bytes of the prefix cache.
    pub prefix_bytes: u64,
}
