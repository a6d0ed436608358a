//! Flags that say how far ahead of what is known is computed.

use clap::Args;
use ruminate::{Pipeline, Speculate};

/// Ways to need fewer passes over the weights for the same text.
#[derive(Args)]
pub(crate) struct AheadOptions {
    /// Draft tokens at few steps and verify them in one pass at full depth; the text stays the same [default: an eighth of the steps]
    #[arg(long, value_name = "DRAFT_STEPS", num_args = 0..=1, require_equals = true, conflicts_with = "pipeline", help_heading = "Computing ahead")]
    pub(crate) speculate: Option<Option<u32>>,
    /// Tokens to draft before they are verified
    #[arg(long, value_name = "N", requires = "speculate", default_value_t = Speculate::default().draft_len, help_heading = "Computing ahead")]
    pub(crate) draft_len: u32,
    /// Let a draft stand that is at least X times as likely as the token chosen at full depth; below 1 the text changes
    #[arg(long, value_name = "X", requires = "speculate", default_value_t = Speculate::default().threshold, help_heading = "Computing ahead")]
    pub(crate) verify_threshold: f32,
    /// Begin the next tokens with guesses, read out every EVERY steps, while those before them are still iterated; the text stays the same [default: an eighth of the
    /// steps]
    #[arg(long, value_name = "EVERY", num_args = 0..=1, require_equals = true, help_heading = "Computing ahead")]
    pub(crate) pipeline: Option<Option<u32>>,
}

impl AheadOptions {
    /// What `--speculate` asks for.
    pub(crate) fn speculate(&self) -> Option<Speculate> {
        let draft_steps = self.speculate?;
        Some(Speculate { draft_steps, draft_len: self.draft_len, threshold: self.verify_threshold })
    }

    /// What `--pipeline` asks for.
    pub(crate) fn pipeline(&self) -> Option<Pipeline> {
        self.pipeline.map(|every| Pipeline { every })
    }
}
