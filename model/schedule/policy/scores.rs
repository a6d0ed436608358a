//! Scoring of given prompt tokens: [`GenerateOptions::prompt_logprobs`](crate::GenerateOptions::prompt_logprobs).

use super::{Exclusion, Policy};
use crate::schedule::member::shares_passes;

pub(super) const POLICY: Policy = Policy {
    name: "prompt_logprobs",
    asked: |asked| asked.options.prompt_logprobs,
    excludes: &[
        Exclusion {
            other: "a session",
            asked: |asked| (!asked.batch).then_some("a session"),
            why: "a batch reports the scores as events (Event::Prompt); in a session, Session::forward returns all logits",
        },
        Exclusion {
            other: "passes that are not shared (speculate, pipeline, diffusion, rows that exit together or posthoc, exit with steps_of)",
            asked: |asked| (!shares_passes(asked.options)).then_some("passes that are not shared"),
            why: "all tokens of such a prompt are read out in shared passes",
        },
    ],
};
