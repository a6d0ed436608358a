//! Leaving the recurrence early: what is asked for, and what a loop with checks looks like.

use std::fmt;
use std::str::FromStr;

use ruminate_shaders::exit::{Criterion, ExitParams, Rule};

use crate::arch::Spec;
use crate::error::Error;

/// When a token has been iterated enough. The decision is taken on the device, for every row by itself; the host never waits for it.
///
/// With [`GenerateOptions::speculate`](crate::GenerateOptions::speculate) and [`pipeline`](crate::GenerateOptions::pipeline) the criterion has to look at the
/// state. Sequences of a [`Batch`](crate::Batch) may each have an exit of its own; one whose prompt leaves together shares no passes with others.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "crate::serialize::ExitFields")
)]
pub struct Exit {
    /// What is looked at.
    pub criterion: Criterion,
    /// A row leaves when the value is below this; where [`Criterion::at_least`] says so, when it has reached it.
    pub threshold: f32,
    /// The first so many steps are not checked.
    pub min_steps: u32,
    /// Every how many steps there is a check, at least 1, the first at the step behind `min_steps`. Criteria that look at the next token read it out for
    /// every check; in a batch, where rows are at different steps, at every step.
    pub every: u32,
    /// How rows of a prompt leave.
    pub prefill: PrefillExit,
    /// Whether all steps are computed and each row then goes on with the state at which it would have left, as in the authors' code: for comparison, since
    /// it saves nothing. Only with [`Criterion::Gate`], and not with tokens ahead of what is known.
    pub posthoc: bool,
}

/// How rows of a prompt leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum PrefillExit {
    /// Each by itself, where the criterion looks at the state; as [`Self::Together`] where it looks at the next token.
    #[default]
    Each,
    /// All of a pass at once, as in the authors' code: when the mean of their values has settled, or, where the criterion looks at the next token, the
    /// last row's.
    Together,
    /// Not at all.
    Never,
    /// Not at all, but each row then goes on with the state at which it would have left; only with [`Criterion::Gate`].
    Posthoc,
}

impl Exit {
    /// A criterion with the authors' threshold, checked at every step.
    #[must_use]
    pub const fn new(criterion: Criterion) -> Self {
        Self {
            criterion,
            threshold: usual_threshold(criterion),
            min_steps: 0,
            every: 1,
            prefill: PrefillExit::Each,
            posthoc: false,
        }
    }

    /// When rows from a position on leave, checked as this says; after so many steps at the latest.
    pub(crate) fn exit_params(&self, first: u32, steps: u32) -> ExitParams {
        let Self { min_steps, every, .. } = *self;
        ExitParams { min_steps, every, first, steps, ..ExitParams::of(self.criterion, self.threshold) }
    }

    /// Checks the ranges, and whether the model has what is looked at.
    ///
    /// # Errors
    /// [`Error::Option`] names the first value that makes no sense.
    pub fn validate(&self, spec: &Spec) -> Result<(), Error> {
        let gate = self.criterion == Criterion::Gate;
        if gate && !spec.gate {
            let allowed = "latent-diff, cosine, entropy-diff, kl, minp-kl or argmax-stability: this model has no learned exit gate";
            return Err(Error::Option { name: "exit criterion", value: self.criterion.name().to_owned(), allowed });
        }
        if !gate && (self.posthoc || self.prefill == PrefillExit::Posthoc) {
            let value = format!("{},posthoc", self.criterion.name());
            return Err(Error::Option { name: "exit criterion", value, allowed: "posthoc with gate alone" });
        }
        if !self.threshold.is_finite() {
            let value = self.threshold.to_string();
            return Err(Error::Option { name: "exit threshold", value, allowed: "a finite number" });
        }
        if self.every == 0 {
            let value = self.every.to_string();
            return Err(Error::Option { name: "exit every", value, allowed: "at least 1" });
        }
        Ok(())
    }
}

/// The authors' threshold. Their paper has half of it for KL.
const fn usual_threshold(criterion: Criterion) -> f32 {
    match criterion {
        Criterion::LatentDiff => 0.03,
        Criterion::Cosine | Criterion::EntropyDiff | Criterion::Kl => 1e-3,
        Criterion::MinPKl => 1e-5,
        Criterion::ArgmaxStability => 5.0,
        // The authors' configurations have 1, which lets nothing leave early.
        Criterion::Gate => 0.9,
    }
}

/// `latent-diff`, or with a threshold, `kl=5e-4`.
impl FromStr for Exit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // In a list of rules a comma stands between them.
        let marked = text.strip_suffix(",posthoc").or_else(|| text.strip_suffix("+posthoc"));
        let (text, posthoc) = marked.map_or((text, false), |text| (text, true));
        let (name, threshold) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let criterion = Criterion::ALL.into_iter().find(|criterion| criterion.name() == name).ok_or_else(|| {
            let all = Criterion::ALL.map(Criterion::name).join(", ");
            format!("there is no criterion {name:?}; there are {all}")
        })?;
        let mut exit = Self { posthoc, ..Self::new(criterion) };
        if let Some(value) = threshold {
            let number: Option<f32> = value.parse().ok().filter(|number: &f32| number.is_finite());
            exit.threshold = number.ok_or_else(|| format!("{value:?} is no threshold: give a number, {name}=0.001"))?;
        }
        Ok(exit)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}{}", self.criterion.name(), self.threshold, if self.posthoc { ",posthoc" } else { "" })
    }
}

/// Checks as a plan is recorded with them; what else there is to say of them the tables of the sequences have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checks {
    /// Whether some look at the state.
    pub(crate) states: bool,
    /// Whether some look at what is read out.
    pub(crate) reads_out: bool,
    /// Whether some look at the exit gate, which then is evaluated at every step.
    pub(crate) gate: bool,
    /// Steps from check to check, where all rows of a pass are at the same step.
    pub(crate) every: u32,
    pub(crate) rule: Rule,
}

impl Checks {
    /// The checks of a pass; none if its rows never leave. `each`: rows leave by themselves.
    pub(crate) fn of(exit: &Exit, each: bool) -> Self {
        let rule = match (each, exit.criterion.reads_out()) {
            _ if exit.posthoc => Rule::Never,
            (true, _) => Rule::Alone,
            (false, false) => Rule::Mean,
            (false, true) => Rule::First,
        };
        let (reads_out, gate) = (exit.criterion.reads_out(), exit.criterion == Criterion::Gate);
        let every = if gate { 1 } else { exit.every };
        Self { states: !reads_out && !gate, reads_out, gate, every, rule }
    }

    /// The checks of rows that are at steps of their own; none if there is no exit.
    pub(crate) fn apart<'a>(exits: impl Iterator<Item = &'a Exit>) -> Option<Self> {
        let each = exits.map(|exit| Self { every: 1, ..Self::of(exit, true) });
        each.reduce(|a, b| Self {
            states: a.states || b.states,
            reads_out: a.reads_out || b.reads_out,
            gate: a.gate || b.gate,
            ..a
        })
    }
}

/// Rows of a pass that are read out where only its last one is asked for, if any: a check of what is read out needs that too.
pub(crate) fn outputs(last: bool, checks: Option<Checks>) -> usize {
    usize::from(last || checks.is_some_and(|checks| checks.reads_out))
}

/// How deep rows are iterated: at most so many steps, and when they leave earlier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Depth {
    pub(crate) steps: u32,
    pub(crate) exit: Option<Exit>,
}

impl Depth {
    pub(crate) const fn fixed(steps: u32) -> Self {
        Self { steps, exit: None }
    }

    /// When rows leave that take so many steps at most.
    pub(crate) fn exit_params(&self, steps: u32) -> ExitParams {
        self.exit.map_or(ExitParams::fixed(steps), |exit| exit.exit_params(0, steps))
    }

    /// The checks of rows that are decoded.
    pub(crate) fn decoding(&self) -> Option<Checks> {
        self.exit.as_ref().map(|exit| Checks::of(exit, true))
    }

    /// The checks of rows of a prompt.
    pub(crate) fn prefill(&self) -> Option<Checks> {
        let exit = self.exit.filter(|exit| exit.prefill != PrefillExit::Never)?;
        let exit = &Exit { posthoc: exit.posthoc || exit.prefill == PrefillExit::Posthoc, ..exit };
        Some(Checks::of(exit, exit.prefill == PrefillExit::Each && !exit.criterion.reads_out()))
    }

    /// How often the loops of a plan run: without checks the one there is; else the steps before the first check, rounds of a check and the steps up to the
    /// next one, the last check, and the steps behind it.
    pub(crate) fn counts(&self, checks: Option<Checks>) -> Vec<u32> {
        let (Some(checks), Some(exit)) = (checks, &self.exit) else { return vec![self.steps] };
        // The gate counts from the first step on, whichever is checked.
        let free = if checks.gate { 0 } else { exit.min_steps.min(self.steps) };
        let Some(left) = (self.steps - free).checked_sub(1) else { return vec![free, 0, 0, 0] };
        vec![free, left / checks.every, 1, left % checks.every]
    }
}
