//! Exit parameters of a sequence: which steps of its rows are checked, by which criterion, and which state the next row continues from.

use super::Criterion;
use crate::shared::table;
use crate::{Const, NONE, Noise, Part, Row};

/// [`ExitParams`], and the codes of [`Criterion`] and [`Continuous`], in WGSL.
pub(crate) const EXIT_PARAMS: Part =
    Part::new("exit_params", include_str!("params.wgsl")).with_structs(&[ExitParams::TABLE]).with_consts(&[
        Const::u32("NORMED", Continuous::Normed as u32),
        Const::u32("COSINE", Criterion::Cosine as u32),
        Const::u32("ENTROPY_DIFF", Criterion::EntropyDiff as u32),
        Const::u32("KL", Criterion::Kl as u32),
        Const::u32("MIN_P_KL", Criterion::MinPKl as u32),
        Const::u32("ARGMAX_STABILITY", Criterion::ArgmaxStability as u32),
        Const::u32("GATE", Criterion::Gate as u32),
        Const::u32("READS_OUT", lists().0),
        Const::u32("AT_LEAST", lists().1),
    ]);

/// Sets of criteria, one bit per code: those that read out, and those with [`Criterion::at_least`].
const fn lists() -> (u32, u32) {
    let (mut reads_out, mut at_least) = (0, 0);
    let mut i = 0;
    while i < Criterion::ALL.len() {
        let criterion = Criterion::ALL[i];
        reads_out |= (criterion.reads_out() as u32) << criterion.code();
        at_least |= (criterion.at_least() as u32) << criterion.code();
        i += 1;
    }
    (reads_out, at_least)
}

table! {
    /// Exit parameters of a sequence. They apply to each row at its own step, so rows of a pass may be at different steps.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct ExitParams {
        /// Code of the [`Criterion`], or [`NONE`] if no step is checked.
        pub criterion: u32,
        /// Threshold: a row exits when a check's value is below it or, with [`Criterion::at_least`], not below it.
        pub threshold: f32,
        /// Number of steps at the start of a row that are not checked.
        pub min_steps: u32,
        /// Interval of the checks after these, in steps, at least 1.
        pub every: u32,
        /// First position that is checked.
        pub first: u32,
        /// Maximum steps of a row: after these, it exits whether or not the criterion is met.
        pub steps: u32,
        /// Code of the [`Continuous`] way in which a row starts from the state of the row before it, or [`NONE`] if it starts from a state of its own.
        pub continuous: u32,
        /// 1 if the row of a chosen token is inactive until the host wakes it, where rows of several sequences share a table; else 0.
        pub parks: u32,
    }
}

/// Start of a chosen token's recurrence from the state of the token before it, instead of from a fresh state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Continuous {
    /// From the state as the core block returned it.
    Raw,
    /// From the state after the final norm, as in one path of the authors' code.
    Normed,
}

impl ExitParams {
    /// Parameters for rows that take `steps` steps without checks.
    #[must_use]
    pub const fn fixed(steps: u32) -> Self {
        Self { criterion: NONE, threshold: 0.0, min_steps: 0, every: 1, first: 0, steps, continuous: NONE, parks: 0 }
    }

    /// Parameters for rows that are checked at every step.
    #[must_use]
    pub const fn of(criterion: Criterion, threshold: f32) -> Self {
        Self { criterion: criterion.code(), threshold, ..Self::fixed(u32::MAX) }
    }

    /// The criterion, if steps are checked.
    pub(super) fn criterion(&self) -> Option<Criterion> {
        Criterion::ALL.get(self.criterion as usize).copied()
    }

    /// The criterion, if the step that the row is at is checked.
    pub(super) fn due(&self, row: &Row) -> Option<Criterion> {
        let checked = row.step.checked_sub(self.min_steps).is_some_and(|steps| steps.is_multiple_of(self.every));
        self.criterion().filter(|_| checked && row.position >= self.first)
    }

    /// Parameters of three sequences for tests: the criterion at every step, the criterion with few checks, and a criterion of another kind.
    pub(super) fn test(criterion: Criterion, threshold: f32) -> [Self; 3] {
        let other = match criterion {
            Criterion::LatentDiff | Criterion::Kl => Criterion::Gate,
            other if other.reads_out() => Criterion::LatentDiff,
            _ => Criterion::Kl,
        };
        let seldom = Self { min_steps: 2, every: 3, first: 4, steps: 9, ..Self::of(criterion, threshold) };
        [Self::of(criterion, threshold), seldom, Self { steps: 5, ..Self::of(other, threshold) }]
    }
}

/// Spreads the rows of a test over the sequences of [`ExitParams::test`] and over steps.
pub(super) fn spread(table: &mut [Row], noise: &mut Noise) {
    for row in table.iter_mut().skip(1) {
        (row.sequence, row.step) = (noise.below(3), noise.below(9));
    }
}
