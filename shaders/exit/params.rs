//! When rows of a sequence leave: which of their steps are checked, and what by; and what the rows behind them go on from.

use super::Criterion;
use crate::shared::table;
use crate::{Const, NONE, Noise, Part, Row};

/// [`ExitParams`], and the numbers of [`Criterion`] and [`Continuous`], in WGSL.
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

/// The criteria that read out, and those of [`Criterion::at_least`]: a bit for each, by its number.
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
    /// When rows leave, per sequence, and what the rows behind them go on from. Every row goes by its own step, so rows of a pass may be at different ones.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct ExitParams {
        /// Number of the [`Criterion`], or [`NONE`] if no step is checked.
        pub criterion: u32,
        /// A row leaves when a check comes to less, or where [`Criterion::at_least`] says so, to no less.
        pub threshold: f32,
        /// The first so many steps of a row are not checked.
        pub min_steps: u32,
        /// Every how many steps behind them there is a check, at least 1.
        pub every: u32,
        /// Rows of earlier positions are not checked.
        pub first: u32,
        /// Steps of a row at most: then it leaves, settled or not.
        pub steps: u32,
        /// Number of the [`Continuous`] way in which a row goes on from the one that its token was chosen behind, or [`NONE`] if it has a state of its own.
        pub continuous: u32,
        /// 1 if the row that follows a chosen token rests until the host wakes it, where rows of several sequences share a table; else 0.
        pub parks: u32,
    }
}

/// What a chosen token's recurrence goes on from, if not from a fresh state: the state of the token that it was chosen behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Continuous {
    /// As it left the core block.
    Raw,
    /// Behind the final norm, as one path of the authors' code has it.
    Normed,
}

impl ExitParams {
    /// Of rows that take so many steps.
    #[must_use]
    pub const fn fixed(steps: u32) -> Self {
        Self { criterion: NONE, threshold: 0.0, min_steps: 0, every: 1, first: 0, steps, continuous: NONE, parks: 0 }
    }

    /// Of rows that are checked at every step.
    #[must_use]
    pub const fn of(criterion: Criterion, threshold: f32) -> Self {
        Self { criterion: criterion.code(), threshold, ..Self::fixed(u32::MAX) }
    }

    /// The criterion, if steps are checked.
    pub(super) fn criterion(&self) -> Option<Criterion> {
        Criterion::ALL.get(self.criterion as usize).copied()
    }

    /// The criterion of a row that is checked at the step that it is at, if it is.
    pub(super) fn due(&self, row: &Row) -> Option<Criterion> {
        let checked = row.step.checked_sub(self.min_steps).is_some_and(|steps| steps.is_multiple_of(self.every));
        self.criterion().filter(|_| checked && row.position >= self.first)
    }

    /// Parameters of three sequences for tests: of one criterion at every step, of the other kind, and of none, with few checks.
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

/// Spreads rows of a test over the sequences of [`ExitParams::test`], at steps of their own.
pub(super) fn spread(table: &mut [Row], noise: &mut Noise) {
    for row in table.iter_mut().skip(1) {
        (row.sequence, row.step) = (noise.below(3), noise.below(9));
    }
}
