//! Prompts whose tokens are given, and scored: [`GenerateOptions::prompt_logprobs`](crate::GenerateOptions::prompt_logprobs).

use super::{Exclusion, Policy};
use crate::schedule::member::shares_passes;

pub(super) const POLICY: Policy = Policy {
    name: "prompt_logprobs",
    asked: |asked| asked.options.prompt_logprobs,
    excludes: &[
        Exclusion {
            other: "a session",
            asked: |asked| (!asked.batch).then_some("a session"),
            why: "a batch hands out scores (Event::Prompt); of one sequence, Session::forward gives all logits",
        },
        Exclusion {
            other: "passes that are not shared (speculate, pipeline, diffusion, rows that leave together or posthoc, exit with steps_of)",
            asked: |asked| (!shares_passes(asked.options)).then_some("what shares no passes"),
            why: "every token of such a prompt is read out in passes that are shared",
        },
    ],
};
