//! Speculative decoding: drafts at few steps, verified by one pass ([`Speculate`](crate::Speculate)).

use super::{CONTINUOUS, Exclusion, LOOKUP, POSTHOC, Policy, READ_OUT, RULES, SHARE, STEPS_OF};

pub(super) const POLICY: Policy = Policy {
    name: "speculate",
    asked: |asked| asked.options.speculate.is_some(),
    excludes: &[
        Exclusion {
            other: "pipeline",
            asked: |asked| (asked.options.pipeline.is_some()).then_some("pipeline"),
            why: "each computes ahead in its own way",
        },
        POSTHOC,
        CONTINUOUS,
        Exclusion {
            other: "logprobs with a verify_threshold below 1",
            asked: |asked| {
                let lenient = asked.options.speculate.is_some_and(|speculate| speculate.threshold < 1.0);
                (lenient && asked.options.logprobs.is_some()).then_some("logprobs")
            },
            why: "an accepted draft may differ from the token that was ranked",
        },
        STEPS_OF,
        SHARE,
        LOOKUP,
        READ_OUT,
        RULES,
    ],
};
