//! Usage figures of a request.

use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::Figures;

/// Usage of a request.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    cached_tokens: u64,
    steps_total: u64,
    core_passes: u64,
}

impl Usage {
    /// Adds a sequence. A prompt with several choices is counted once.
    pub(crate) fn add(&mut self, figures: &Figures, first_of_prompt: bool) {
        if first_of_prompt {
            self.prompt_tokens += u64::from(figures.prompt_tokens);
            self.cached_tokens += u64::from(figures.cached_tokens);
        }
        self.completion_tokens += u64::from(figures.tokens);
        self.steps_total += figures.steps;
        self.core_passes += figures.core_passes;
    }

    /// Generated tokens.
    pub(crate) fn tokens(&self) -> u64 {
        self.completion_tokens
    }

    /// Steps of all generated tokens.
    pub(crate) fn steps(&self) -> u64 {
        self.steps_total
    }

    /// Field `usage` of an answer.
    pub(crate) fn json(&self) -> Value {
        let Self { prompt_tokens, completion_tokens, cached_tokens, steps_total, core_passes } = *self;
        let steps_per_token = if completion_tokens == 0 { 0.0 } else { steps_total as f64 / completion_tokens as f64 };
        json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": { "cached_tokens": cached_tokens },
            "steps_total": steps_total,
            "steps_per_token": steps_per_token,
            "core_passes": core_passes,
        })
    }
}
