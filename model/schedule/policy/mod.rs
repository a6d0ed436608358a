//! Generation policies and the options that each one excludes, one file each.
//!
//! Every call that generates checks the declared exclusions here. The table in `docs/combinations.md` is generated from them.

mod diffusion;
mod pipeline;
mod scores;
mod speculate;

use crate::error::Error;
use crate::options::{GenerateOptions, SessionOptions};

/// Options of a request to generate.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) options: &'a GenerateOptions,
    pub(crate) session: &'a SessionOptions,
    /// Whether the request is for a sequence of a batch.
    pub(crate) batch: bool,
}

/// Tests whether a request uses a policy.
type Test = fn(&Asked<'_>) -> bool;

/// Returns the name of the excluded option if a request sets it.
type Finds = fn(&Asked<'_>) -> Option<&'static str>;

/// A generation policy.
struct Policy {
    name: &'static str,
    asked: Test,
    excludes: &'static [Exclusion],
}

/// Option that cannot be combined with a policy.
struct Exclusion {
    /// Description for the documentation, which may list several options.
    other: &'static str,
    asked: Finds,
    why: &'static str,
}

const POLICIES: [&Policy; 4] = [&diffusion::POLICY, &speculate::POLICY, &pipeline::POLICY, &scores::POLICY];

/// Two options that cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Combination {
    /// Policy: the name of its option.
    pub policy: &'static str,
    /// Name of the other option.
    pub other: &'static str,
    /// Reason.
    pub why: &'static str,
}

/// All pairs of options that [`Error::Together`] reports because of a policy.
#[must_use]
pub fn excluded_combinations() -> Vec<Combination> {
    let of = |policy: &&'static Policy| {
        let Policy { name, excludes, .. } = **policy;
        excludes.iter().map(move |exclusion| Combination { policy: name, other: exclusion.other, why: exclusion.why })
    };
    POLICIES.iter().flat_map(of).collect()
}

/// Checks that a request combines no excluded options.
///
/// # Errors
/// [`Error::Together`] with the first excluded pair.
pub(crate) fn check(asked: Asked<'_>) -> Result<(), Error> {
    for policy in POLICIES.iter().filter(|policy| (policy.asked)(&asked)) {
        let found = |exclusion: &'static Exclusion| Some(((exclusion.asked)(&asked)?, exclusion.why));
        if let Some((other, why)) = policy.excludes.iter().find_map(found) {
            return Err(Error::Together { one: policy.name, other, why });
        }
    }
    Ok(())
}

/// Rules that depend on earlier tokens, which are unknown when computing ahead.
const RULES: Exclusion = Exclusion {
    other: "rules (min_tokens, bad_words, begin_suppress, forced_begin, forced_end)",
    asked: |asked| crate::rules::Rules::named(asked.options),
    why: "which tokens are allowed depends on earlier tokens, which are not known yet when computing ahead",
};

/// Exits that return a row to an earlier state.
const POSTHOC: Exclusion = Exclusion {
    other: "exit posthoc",
    asked: |asked| {
        (asked.options.exit.is_some_and(|exit| exit.posthoc || exit.prefill == crate::early_exit::PrefillExit::Posthoc))
            .then_some("exit posthoc")
    },
    why: "rows of a pass are at different steps",
};

/// Exit criteria that use logits.
const READ_OUT: Exclusion = Exclusion {
    other: "exit by a criterion that uses logits",
    asked: |asked| (asked.options.exit.is_some_and(|exit| exit.criterion.reads_out())).then_some("exit"),
    why: "this criterion uses the logits of a row before earlier rows are finished; criteria that use the state do not",
};

/// Tokens that start from the state of the one before.
const CONTINUOUS: Exclusion = Exclusion {
    other: "continuous",
    asked: |asked| (asked.options.continuous.is_some()).then_some("continuous"),
    why: "a token would start from the state of a token that is not known yet",
};

/// Depth set for each token.
const STEPS_OF: Exclusion = Exclusion {
    other: "steps_of",
    asked: |asked| (asked.options.steps_of.is_some()).then_some("steps_of"),
    why: "all rows of a pass take the same number of steps",
};

/// Keys shared between steps.
const SHARE: Exclusion = Exclusion {
    other: "kv_share",
    asked: |asked| (asked.session.share != ruminate_shaders::attention::cache::KvShare::None).then_some("kv_share"),
    why: "a row would attend to shared keys of unfinished rows, where plain decoding attends to the final ones",
};

/// Rows that attend to the last step of every earlier row.
const LOOKUP: Exclusion = Exclusion {
    other: "kv_lookup always-last",
    asked: |asked| {
        (asked.session.lookup == ruminate_shaders::attention::cache::Lookup::AlwaysLast).then_some("kv_lookup")
    },
    why: "a row would attend to the latest steps of unfinished rows, where plain decoding attends to the last steps of finished ones",
};
