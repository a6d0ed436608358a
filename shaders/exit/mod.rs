//! Leaving the recurrence early: a row that has settled leaves the loop, in device memory, and later launches pass it by.
//!
//! A check compares what a row is now with what it was at the last check: its state ([`exit_state`]), or what is read out of it
//! ([`exit_readout`]). A learned gate says at every step how likely it is that the row has left by then ([`exit_gate`]). [`exit_leave`] draws the
//! conclusion and takes the place of [`crate::recur::advance`] at that step; [`exit_begin`] comes before the loop, [`exit_wake`] behind it. Which steps of a
//! row are checked, and what by, its sequence's [`ExitParams`] say, so rows of one pass may be at different steps and leave for different reasons. The criteria are
//! those of the authors' code.

mod gate;
mod keep;
mod learned;
mod params;
mod readout;
mod rows;
mod state;

pub use gate::{GATE, GateParams, gate};
pub use keep::{EXIT_KEEP, ExitKeepParams, exit_keep};
pub use learned::{EXIT_GATE, ExitGateParams, exit_gate, gate_bytes};
pub(crate) use params::EXIT_PARAMS;
pub use params::{Continuous, ExitParams};
pub use readout::{EXIT_READOUT, ExitReadoutParams, exit_readout};
pub use rows::{
    EXIT_BEGIN, EXIT_LEAVE, EXIT_WAKE, ExitBeginParams, ExitLeaveParams, ExitWakeParams, Rule, exit_begin, exit_leave,
    exit_wake,
};
pub use state::{EXIT_STATE, ExitStateParams, exit_state};

use crate::shared::table;
use crate::{Const, Part};

/// [`Memo`] and [`KEPT_VALUES`] in WGSL.
const MEMO: Part = Part::shared(&[Const::u32("KEPT_VALUES", KEPT_VALUES)], &[Memo::TABLE]);

/// Checks whose values are kept for whoever wants to see them, per row or read-out: the first so many.
pub const KEPT_VALUES: u32 = 64;

/// What is compared, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Criterion {
    /// ‖s − s'‖ / ‖s‖ of the state.
    LatentDiff,
    /// 1 − cos(s, s') of the state.
    Cosine,
    /// |H − H'| of the entropy of the next token, in nats; 100 before the first check.
    EntropyDiff,
    /// KL(p' ‖ p) of the distribution of the next token, in nats; uniform before the first check.
    Kl,
    /// The same, once tokens of less than a tenth of the largest probability count as equally unlikely.
    #[cfg_attr(feature = "serde", serde(rename = "minp-kl"))]
    MinPKl,
    /// How many checks in a row the most likely token has been the same.
    ArgmaxStability,
    /// How likely it is, by a learned gate on the state, that the row has left by now. The gate is evaluated at every step, also at those that are not checked.
    Gate,
}

impl Criterion {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::LatentDiff, Self::Cosine, Self::EntropyDiff, Self::Kl, Self::MinPKl, Self::ArgmaxStability, Self::Gate];

    /// Name as users write it: that of the authors' code, if it has one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LatentDiff => "latent-diff",
            Self::Cosine => "cosine",
            Self::EntropyDiff => "entropy-diff",
            Self::Kl => "kl",
            Self::MinPKl => "minp-kl",
            Self::ArgmaxStability => "argmax-stability",
            Self::Gate => "gate",
        }
    }

    /// Whether it looks at what is read out, so that every check needs a read-out.
    #[must_use]
    pub const fn reads_out(self) -> bool {
        !matches!(self, Self::LatentDiff | Self::Cosine | Self::Gate)
    }

    /// Whether a row has settled when the value has reached the threshold, instead of when it is below.
    #[must_use]
    pub const fn at_least(self) -> bool {
        matches!(self, Self::ArgmaxStability | Self::Gate)
    }

    const fn code(self) -> u32 {
        self as u32
    }
}

table! {
    /// What is remembered from check to check.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Memo {
        /// Checks so far.
        pub checks: u32,
        /// Most likely token at the last check.
        pub token: u32,
        /// How many checks before that had the same.
        pub count: u32,
        /// Entropy at the last check.
        pub entropy: f32,
        /// What the last check came to; of a gate, how likely it is that the row has left by now.
        pub value: f32,
        /// How likely it is, by a gate, that the row has left at none of the steps so far; counts as 1 before the first check.
        pub survival: f32,
        /// Unused; keeps the entry at 32 bytes.
        pub reserved: [u32; 2],
    }
}

/// Bytes of the memos of so many rows.
#[must_use]
pub const fn memo_bytes(rows: u32) -> u64 {
    rows as u64 * size_of::<Memo>() as u64
}

/// Bytes of the kept values of so many rows.
#[must_use]
pub const fn value_bytes(rows: u32) -> u64 {
    rows as u64 * KEPT_VALUES as u64 * 4
}
