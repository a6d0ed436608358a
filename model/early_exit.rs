//! Early exit from the recurrence: its options, and the shape of a loop with checks.

use std::fmt;
use std::str::FromStr;

use ruminate_shaders::exit::{Criterion, ExitParams, Rule};

use crate::arch::Spec;
use crate::error::Error;

/// Rule that decides when a token has been iterated enough. The device decides for each row, and the host never waits for the decision.
///
/// With [`GenerateOptions::speculate`](crate::GenerateOptions::speculate) and [`pipeline`](crate::GenerateOptions::pipeline), the criterion must use
/// the state. Sequences of a [`Batch`](crate::Batch) may have different exits; a sequence whose prompt rows exit together cannot share passes with others.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "crate::serialize::ExitFields")
)]
pub struct Exit {
    /// Value that is checked.
    pub criterion: Criterion,
    /// A row exits when the value is below this threshold, or, if [`Criterion::at_least`] is true, when the value has reached it.
    pub threshold: f32,
    /// Number of leading steps that are not checked.
    pub min_steps: u32,
    /// Interval of checks in steps, at least 1. The first check is at the step after `min_steps`. Criteria that use logits read out a row for every check; in a
    /// batch, where rows are at different steps, they do so at every step.
    pub every: u32,
    /// Exit of prompt rows.
    pub prefill: PrefillExit,
    /// Whether all steps are computed and each row then continues with the state at which it would have exited, as in the authors' code. This is for comparison
    /// only, since it saves no time. Only with [`Criterion::Gate`], and not with parallel decoding.
    pub posthoc: bool,
}

/// Exit of the rows of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum PrefillExit {
    /// Each row exits on its own if the criterion uses the state. Criteria that use logits behave as [`Self::Together`].
    #[default]
    Each,
    /// All rows of a pass exit at once, as in the authors' code: when the mean of their values meets the threshold, or, if the criterion uses logits, when the
    /// last row's value does.
    Together,
    /// Prompt rows do not exit early.
    Never,
    /// Prompt rows take all steps, and each row then continues with the state at which it would have exited. Only with [`Criterion::Gate`].
    Posthoc,
}

impl Exit {
    /// Creates an exit with the authors' threshold, checked at every step.
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

    /// Exit parameters for rows from position `first` on, which take at most `steps` steps.
    pub(crate) fn exit_params(&self, first: u32, steps: u32) -> ExitParams {
        let Self { min_steps, every, .. } = *self;
        ExitParams { min_steps, every, first, steps, ..ExitParams::of(self.criterion, self.threshold) }
    }

    /// Checks the ranges, and that the model has what the criterion needs.
    ///
    /// # Errors
    /// [`Error::Option`] for the first invalid value.
    pub fn validate(&self, spec: &Spec) -> Result<(), Error> {
        let gate = self.criterion == Criterion::Gate;
        if gate && !spec.gate {
            let allowed = "latent-diff, cosine, entropy-diff, kl, minp-kl or argmax-stability, because this model has no learned exit gate";
            return Err(Error::Option { name: "exit criterion", value: self.criterion.name().to_owned(), allowed });
        }
        if !gate && (self.posthoc || self.prefill == PrefillExit::Posthoc) {
            let value = format!("{},posthoc", self.criterion.name());
            return Err(Error::Option { name: "exit criterion", value, allowed: "gate if used with posthoc" });
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

/// The default threshold from the authors' code. For KL, their paper uses half of it.
const fn usual_threshold(criterion: Criterion) -> f32 {
    match criterion {
        Criterion::LatentDiff => 0.03,
        Criterion::Cosine | Criterion::EntropyDiff | Criterion::Kl => 1e-3,
        Criterion::MinPKl => 1e-5,
        Criterion::ArgmaxStability => 5.0,
        // The authors' configurations use 1, with which no row exits early.
        Criterion::Gate => 0.9,
    }
}

/// Parses `latent-diff`, or with a threshold, `kl=5e-4`.
impl FromStr for Exit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Lists of rules are separated by commas, so `+posthoc` is accepted, too.
        let marked = text.strip_suffix(",posthoc").or_else(|| text.strip_suffix("+posthoc"));
        let (text, posthoc) = marked.map_or((text, false), |text| (text, true));
        let (name, threshold) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let criterion = Criterion::ALL.into_iter().find(|criterion| criterion.name() == name).ok_or_else(|| {
            let all = Criterion::ALL.map(Criterion::name).join(", ");
            format!("unknown exit criterion `{name}` (expected one of {all})")
        })?;
        let mut exit = Self { posthoc, ..Self::new(criterion) };
        if let Some(value) = threshold {
            let number: Option<f32> = value.parse().ok().filter(|number: &f32| number.is_finite());
            exit.threshold = number
                .ok_or_else(|| format!("invalid threshold `{value}` (expected a number, such as {name}=0.001)"))?;
        }
        Ok(exit)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}{}", self.criterion.name(), self.threshold, if self.posthoc { ",posthoc" } else { "" })
    }
}

/// Exit checks that a plan is recorded with. Thresholds and other parameters are in the tables of the sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checks {
    /// Whether any criterion compares states.
    pub(crate) states: bool,
    /// Whether any criterion uses logits.
    pub(crate) reads_out: bool,
    /// Whether any criterion uses the exit gate, which is then evaluated at every step.
    pub(crate) gate: bool,
    /// Steps between checks, if all rows of a pass are at the same step.
    pub(crate) every: u32,
    pub(crate) rule: Rule,
}

impl Checks {
    /// Checks of a pass. `each` tells whether rows exit on their own.
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

    /// Checks of rows that are at different steps; none if there is no exit.
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

/// Number of read-outs of a pass that reads out at most its last row. Criteria that use logits need a read-out in every pass.
pub(crate) fn outputs(last: bool, checks: Option<Checks>) -> usize {
    usize::from(last || checks.is_some_and(|checks| checks.reads_out))
}

/// Depth of rows: the most steps, and the rule for early exit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Depth {
    pub(crate) steps: u32,
    pub(crate) exit: Option<Exit>,
}

impl Depth {
    pub(crate) const fn fixed(steps: u32) -> Self {
        Self { steps, exit: None }
    }

    /// Exit parameters of rows that take at most `steps` steps.
    pub(crate) fn exit_params(&self, steps: u32) -> ExitParams {
        self.exit.map_or(ExitParams::fixed(steps), |exit| exit.exit_params(0, steps))
    }

    /// Checks of decoded rows.
    pub(crate) fn decoding(&self) -> Option<Checks> {
        self.exit.as_ref().map(|exit| Checks::of(exit, true))
    }

    /// Checks of prompt rows.
    pub(crate) fn prefill(&self) -> Option<Checks> {
        let exit = self.exit.filter(|exit| exit.prefill != PrefillExit::Never)?;
        let exit = &Exit { posthoc: exit.posthoc || exit.prefill == PrefillExit::Posthoc, ..exit };
        Some(Checks::of(exit, exit.prefill == PrefillExit::Each && !exit.criterion.reads_out()))
    }

    /// Iterations of a plan's loops. Without checks, there is one loop. With checks, there are four: the steps before the first check; rounds of a check and
    /// the steps up to the next one; the last check; and the steps after it.
    pub(crate) fn counts(&self, checks: Option<Checks>) -> Vec<u32> {
        let (Some(checks), Some(exit)) = (checks, &self.exit) else { return vec![self.steps] };
        // The gate accumulates from the first step on, even if early steps are not checked.
        let free = if checks.gate { 0 } else { exit.min_steps.min(self.steps) };
        let Some(left) = (self.steps - free).checked_sub(1) else { return vec![free, 0, 0, 0] };
        vec![free, left / checks.every, 1, left % checks.every]
    }
}
