//! Pipelined decoding: positions begin with a draft token while earlier ones are still iterated ([`Pipeline`](crate::Pipeline)).

use super::{CONTINUOUS, LOOKUP, POSTHOC, Policy, READ_OUT, RULES, SHARE, STEPS_OF};

pub(super) const POLICY: Policy = Policy {
    name: "pipeline",
    asked: |asked| asked.options.pipeline.is_some(),
    excludes: &[POSTHOC, CONTINUOUS, STEPS_OF, SHARE, LOOKUP, READ_OUT, RULES],
};
