//! A wavefront: positions of one sequence that are iterated together before any of their tokens is known for sure (Geiping et al., arXiv 2510.14961, "diffusion
//! forcing"). Every round gives all of them a few steps, reads them out, and takes what was chosen behind each for the token of the next, which may change from
//! round to round; tokens stand once the states behind them have settled.
//!
//! The rows of a wavefront are the first ones of their table, in order. A round is [`blend()`] and [`mix()`], some steps, a read-out, [`compare()`], a choice,
//! [`freeze()`] and [`shift()`].

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

/// [`Wavefront`], [`Mark`] and the numbers of [`FreezeRule`] in WGSL.
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
    /// What a table of rows is of a wavefront.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Wavefront {
        /// Position of the first row, which is known.
        pub first: u32,
        /// Rows.
        pub length: u32,
        /// Positions whose tokens stand, from the start of the sequence.
        pub known: u32,
        /// The first row whose state is not that of the round before.
        pub fresh: u32,
        /// Rows that had an embedding in the round before.
        pub kept: u32,
        /// Rows that the last round dropped at the front.
        pub slip: u32,
        /// And the one before it.
        pub slip_before: u32,
        /// Rows of the last round.
        pub swept: u32,
        /// Rows whose change in the last round is known.
        pub changes: u32,
        /// Rounds so far.
        pub round: u32,
        /// Nothing: whole 16 bytes are what devices set aside.
        pub unused: [u32; 2],
    }
}

table! {
    /// What is known of a row.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Mark {
        /// Steps that it has had.
        pub steps: u32,
        /// Rounds that found its token as it was.
        pub stable: u32,
        /// What the last check came to.
        pub value: f32,
        /// Nothing: it fills 16 bytes.
        pub unused: u32,
    }
}

/// When a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum FreezeRule {
    /// Its state has changed by less than a share of its norm since the last round.
    LatentDiff,
    /// The change of its state differs from that in the round before by less than a share of its norm.
    #[cfg_attr(feature = "serde", serde(rename = "latent-acceleration-1"))]
    LatentAcceleration1,
    /// The same, as the authors compute it the other way.
    #[cfg_attr(feature = "serde", serde(rename = "latent-acceleration-2"))]
    LatentAcceleration2,
    /// So many rounds have found it as it was.
    TokenStability,
    /// From some round on, a fixed number of tokens each round.
    Fixed,
}

impl FreezeRule {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::LatentDiff, Self::LatentAcceleration1, Self::LatentAcceleration2, Self::TokenStability, Self::Fixed];

    /// The authors' name.
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

    /// Whether states are compared.
    #[must_use]
    pub const fn compares(self) -> bool {
        matches!(self, Self::LatentDiff | Self::LatentAcceleration1 | Self::LatentAcceleration2)
    }
}

/// The value of a row that cannot be judged yet.
const UNJUDGED: f32 = -1.0;

/// A wavefront under way, of up to so many rows.
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
        unused: [0; 2],
    }
}

/// So many random cases.
fn some(count: u64, random: fn(u64) -> Case) -> Vec<Case> {
    (1..=count).map(random).collect()
}
