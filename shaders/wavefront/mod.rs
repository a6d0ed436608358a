//! A wavefront: positions of one sequence that are iterated together before any of their tokens is certain (Geiping et al., arXiv 2510.14961, "diffusion
//! forcing"). Each round takes a few steps for all of them, reads them out, and makes the token chosen after each row that of the next row, so tokens may
//! change from round to round. A token is frozen once its state has converged.
//!
//! The rows of a wavefront are the first rows of their table, in order. A round consists of [`blend()`] and [`mix()`], some steps, a read-out, [`compare()`], a
//! choice, [`freeze()`] and [`shift()`].

mod blend;
mod compare;
mod freeze;
mod mix;
mod shift;

use crate::shared::table;
use crate::{Case, Const, Noise, Part};

pub use blend::{WAVEFRONT_BLEND, WavefrontBlendParams, blend};
pub use compare::{WAVEFRONT_COMPARE, WavefrontCompareParams, compare};
pub use freeze::{Freeze, WAVEFRONT_FREEZE, WavefrontFreezeParams, emitted_bytes, freeze};
pub use mix::{Mix, WAVEFRONT_MIX, WavefrontMixParams, mix};
pub use shift::{Past, Shift, WAVEFRONT_SHIFT, WavefrontShiftParams, shift};

/// [`Wavefront`], [`Mark`] and the codes of [`FreezeRule`] in WGSL.
pub(crate) const WAVEFRONT: Part = Part::shared(
    &[
        Const::u32("LATENT_DIFF", FreezeRule::LatentDiff as u32),
        Const::u32("ACCELERATION_1", FreezeRule::LatentAcceleration1 as u32),
        Const::u32("ACCELERATION_2", FreezeRule::LatentAcceleration2 as u32),
        Const::u32("TOKEN_STABILITY", FreezeRule::TokenStability as u32),
        Const::u32("FIXED", FreezeRule::Fixed as u32),
        Const::f32("UNJUDGED", UNJUDGED),
    ],
    &[Wavefront::TABLE, Mark::TABLE],
);

table! {
    /// Description of the wavefront in a table of rows.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Wavefront {
        /// Position of the first row, whose token is known.
        pub first: u32,
        /// Number of rows.
        pub length: u32,
        /// Number of positions whose tokens are frozen, from the start of the sequence.
        pub known: u32,
        /// Index of the first row whose state is not that of the round before.
        pub fresh: u32,
        /// Number of rows that had an embedding in the round before.
        pub kept: u32,
        /// Number of rows that the last round dropped at the front.
        pub slip: u32,
        /// Number of rows that the round before that dropped at the front.
        pub slip_before: u32,
        /// Number of rows of the last round.
        pub swept: u32,
        /// Number of rows whose change in the last round is known.
        pub changes: u32,
        /// Number of rounds so far.
        pub round: u32,
        /// Slot of its sequence.
        pub sequence: u32,
        /// Padding to a multiple of 16 bytes.
        pub unused: u32,
    }
}

table! {
    /// Progress of a row towards freezing.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Mark {
        /// Steps that the row has taken.
        pub steps: u32,
        /// Rounds in which its token did not change.
        pub stable: u32,
        /// Value of the last comparison.
        pub value: f32,
        /// Padding to 16 bytes.
        pub unused: u32,
    }
}

/// Rule that decides when a token is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum FreezeRule {
    /// Its state has changed by less than a share of its norm since the last round.
    LatentDiff,
    /// The change of its state differs from that in the round before by less than a share of its norm.
    #[cfg_attr(feature = "serde", serde(rename = "latent-acceleration-1"))]
    LatentAcceleration1,
    /// [`Self::LatentAcceleration1`] as the authors compute it in their second way.
    #[cfg_attr(feature = "serde", serde(rename = "latent-acceleration-2"))]
    LatentAcceleration2,
    /// A number of rounds have left its token unchanged.
    TokenStability,
    /// From some round on, a fixed number of tokens is frozen per round.
    Fixed,
}

impl FreezeRule {
    /// All rules, in the order of their codes.
    pub const ALL: [Self; 5] =
        [Self::LatentDiff, Self::LatentAcceleration1, Self::LatentAcceleration2, Self::TokenStability, Self::Fixed];

    /// Name in the authors' code.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LatentDiff => "latent-diff",
            Self::LatentAcceleration1 => "latent-acceleration-1",
            Self::LatentAcceleration2 => "latent-acceleration-2",
            Self::TokenStability => "token-stability",
            Self::Fixed => "fixed",
        }
    }

    /// Whether the rule compares states.
    #[must_use]
    pub const fn compares(self) -> bool {
        matches!(self, Self::LatentDiff | Self::LatentAcceleration1 | Self::LatentAcceleration2)
    }
}

/// Value of a row that cannot be judged yet.
const UNJUDGED: f32 = -1.0;

/// Number of sequences of a case; the wavefront belongs to one of them.
const SOME_SEQUENCES: u32 = 3;

/// A random wavefront under way, of up to `rows` rows.
fn some_wavefront(noise: &mut Noise, rows: u32) -> Wavefront {
    let length = 1 + noise.below(rows);
    let (first, slip) = (noise.below(50), noise.below(4));
    let kept = noise.below(length + 1);
    Wavefront {
        first,
        length,
        known: first + 1 + noise.below(length),
        fresh: if noise.below(3) == 0 { length } else { kept },
        kept,
        slip,
        slip_before: noise.below(4),
        swept: (kept + slip).max(1),
        changes: noise.below(length + 1),
        round: noise.below(9),
        sequence: noise.below(SOME_SEQUENCES),
        unused: 0,
    }
}

/// `count` random cases.
fn some(count: u64, random: fn(u64) -> Case) -> Vec<Case> {
    (1..=count).map(random).collect()
}
