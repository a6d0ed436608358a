//! Ways to generate, and what each cannot be combined with: one file each.
//!
//! A file declares its exclusions; every call that generates checks them here, and the table in `docs/combinations.md` is made from them.

mod diffusion;
mod pipeline;
mod scores;
mod speculate;

use crate::error::Error;
use crate::options::{GenerateOptions, SessionOptions};

/// What somebody asks for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) options: &'a GenerateOptions,
    pub(crate) session: &'a SessionOptions,
    /// Whether it is for a sequence of a batch.
    pub(crate) batch: bool,
}

/// Whether something is asked for.
type Test = fn(&Asked<'_>) -> bool;

/// The option that asks for something, if one does.
type Finds = fn(&Asked<'_>) -> Option<&'static str>;

/// A way to generate.
struct Policy {
    name: &'static str,
    asked: Test,
    excludes: &'static [Exclusion],
}

/// What a policy cannot be combined with.
struct Exclusion {
    /// All that it is about, for readers.
    other: &'static str,
    asked: Finds,
    why: &'static str,
}

const POLICIES: [&Policy; 4] = [&diffusion::POLICY, &speculate::POLICY, &pipeline::POLICY, &scores::POLICY];

/// Two options that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Combination {
    /// The way to generate: the name of its option.
    pub policy: &'static str,
    /// The name of the other option.
    pub other: &'static str,
    /// Why not.
    pub why: &'static str,
}

/// All pairs of options that [`Error::Together`] refuses because of the way to generate.
#[must_use]
pub fn excluded_combinations() -> Vec<Combination> {
    let of = |policy: &&'static Policy| {
        let Policy { name, excludes, .. } = **policy;
        excludes.iter().map(move |exclusion| Combination { policy: name, other: exclusion.other, why: exclusion.why })
    };
    POLICIES.iter().flat_map(of).collect()
}

/// Refuses what does not go together.
///
/// # Errors
/// [`Error::Together`] names the first pair.
pub(crate) fn check(asked: Asked<'_>) -> Result<(), Error> {
    for policy in POLICIES.iter().filter(|policy| (policy.asked)(&asked)) {
        let found = |exclusion: &'static Exclusion| Some(((exclusion.asked)(&asked)?, exclusion.why));
        if let Some((other, why)) = policy.excludes.iter().find_map(found) {
            return Err(Error::Together { one: policy.name, other, why });
        }
    }
    Ok(())
}

/// Rules that depend on the tokens before, of which those that are computed ahead do not know.
const RULES: Exclusion = Exclusion {
    other: "rules (min_tokens, bad_words, begin_suppress, forced_begin, forced_end)",
    asked: |asked| crate::rules::Rules::named(asked.options),
    why: "which tokens may be chosen depends on those before, and those are not known yet where others are computed ahead",
};

/// Exits that put a row back to an earlier state.
const POSTHOC: Exclusion = Exclusion {
    other: "exit posthoc",
    asked: |asked| {
        (asked.options.exit.is_some_and(|exit| exit.posthoc || exit.prefill == crate::early_exit::PrefillExit::Posthoc))
            .then_some("exit posthoc")
    },
    why: "rows of a pass are at steps of their own",
};

/// Exits by what is read out.
const READ_OUT: Exclusion = Exclusion {
    other: "exit by a criterion that reads out",
    asked: |asked| (asked.options.exit.is_some_and(|exit| exit.criterion.reads_out())).then_some("exit"),
    why: "its criterion reads a token out before those in front of it are finished; one that looks at the state does not",
};

/// Tokens that go on from the state of the one before.
const CONTINUOUS: Exclusion = Exclusion {
    other: "continuous",
    asked: |asked| (asked.options.continuous.is_some()).then_some("continuous"),
    why: "a token's first state would be that of one that is not known yet",
};

/// Another depth for every token.
const STEPS_OF: Exclusion = Exclusion {
    other: "steps_of",
    asked: |asked| (asked.options.steps_of.is_some()).then_some("steps_of"),
    why: "all rows of a pass take as many steps",
};

/// Steps that share keys.
const SHARE: Exclusion = Exclusion {
    other: "kv_share",
    asked: |asked| (asked.session.share != ruminate_shaders::attention::cache::KvShare::None).then_some("kv_share"),
    why: "a row would see the shared keys of rows that are still under way, where plain decoding sees their last",
};

/// Rows that see the last steps of those before them.
const LOOKUP: Exclusion = Exclusion {
    other: "kv_lookup always-last",
    asked: |asked| {
        (asked.session.lookup == ruminate_shaders::attention::cache::Lookup::AlwaysLast).then_some("kv_lookup")
    },
    why: "a row would see the last steps of rows that are still under way, where plain decoding sees those of finished ones",
};
