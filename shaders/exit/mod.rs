//! Early exit: a row that meets its exit criterion leaves the loop, in device memory, and later launches skip it.
//!
//! A check compares a row with itself at the last check: its state ([`exit_state`]) or its read-out ([`exit_readout`]). A learned gate computes at every step
//! the probability that the row has exited by then ([`exit_gate`]). [`exit_leave`] decides, and replaces [`crate::recur::advance`] at that step; [`exit_begin`]
//! runs before the loop, [`exit_wake`] after it. A sequence's [`ExitParams`] define which steps of its rows are checked, and by which criterion, so rows of one
//! pass may be at different steps and exit for different reasons. The criteria are those of the authors' code.

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

/// Maximum number of check values that are kept for inspection, per row or read-out.
pub const KEPT_VALUES: u32 = 64;

/// Exit criterion: the value that a check computes and compares with the threshold.
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
    /// As [`Self::Kl`], after all tokens of less than a tenth of the largest probability have been set to the uniform one.
    #[cfg_attr(feature = "serde", serde(rename = "minp-kl"))]
    MinPKl,
    /// Number of consecutive checks in which the most likely token has stayed the same.
    ArgmaxStability,
    /// Probability, according to a learned gate on the state, that the row has exited by now. The gate is evaluated at every step, checked or not.
    Gate,
}

impl Criterion {
    /// All criteria, in the order of their codes.
    pub const ALL: [Self; 7] =
        [Self::LatentDiff, Self::Cosine, Self::EntropyDiff, Self::Kl, Self::MinPKl, Self::ArgmaxStability, Self::Gate];

    /// Name in options and files: that of the authors' code, if it has the criterion.
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

    /// Whether the criterion compares read-outs, so that every check needs one.
    #[must_use]
    pub const fn reads_out(self) -> bool {
        !matches!(self, Self::LatentDiff | Self::Cosine | Self::Gate)
    }

    /// Whether a row exits when the value has reached the threshold, instead of when it is below.
    #[must_use]
    pub const fn at_least(self) -> bool {
        matches!(self, Self::ArgmaxStability | Self::Gate)
    }

    const fn code(self) -> u32 {
        self as u32
    }
}

table! {
    /// Memory of a row's or read-out's checks, from check to check.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Memo {
        /// Checks so far.
        pub checks: u32,
        /// Most likely token at the last check.
        pub token: u32,
        /// Number of consecutive checks before that with the same token.
        pub count: u32,
        /// Entropy at the last check.
        pub entropy: f32,
        /// Value of the last check; for a gate, the probability that the row has exited by now.
        pub value: f32,
        /// For a gate, the probability that the row has not exited at any step so far; counts as 1 before the first check.
        pub survival: f32,
        /// Unused; keeps the entry at 32 bytes.
        pub reserved: [u32; 2],
    }
}

/// Bytes of the memos of `rows` rows.
#[must_use]
pub const fn memo_bytes(rows: u32) -> u64 {
    rows as u64 * size_of::<Memo>() as u64
}

/// Bytes of the kept values of `rows` rows.
#[must_use]
pub const fn value_bytes(rows: u32) -> u64 {
    rows as u64 * KEPT_VALUES as u64 * 4
}
