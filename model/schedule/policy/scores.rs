//! Scoring of given prompt tokens: [`GenerateOptions::prompt_logprobs`](crate::GenerateOptions::prompt_logprobs).

use super::{Exclusion, Policy};
use crate::options::GenerateOptions;
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
            asked: |asked| asked_for_own_passes(asked.options),
            why: "all tokens of such a prompt are read out in shared passes",
        },
    ],
};

/// Option that keeps a sequence from sharing passes, if there is one.
fn asked_for_own_passes(options: &GenerateOptions) -> Option<&'static str> {
    let named = [
        ("speculate", options.speculate.is_some()),
        ("pipeline", options.pipeline.is_some()),
        ("diffusion", options.diffusion.is_some()),
    ];
    let parallel = named.into_iter().find_map(|(name, asked)| asked.then_some(name));
    (!shares_passes(options)).then(|| parallel.unwrap_or("exit"))
}
