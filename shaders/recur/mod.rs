//! The recurrence: initial states (random or embeddings), noise between the steps, and the step counter in the row table.

mod advance;
mod advance_until;
mod init_state;
mod noise;
mod normal;
mod start_state;
mod threefry;

pub use advance::{ADVANCE, AdvanceParams, advance};
pub use advance_until::{ADVANCE_UNTIL, AdvanceUntilParams, advance_until};
pub use init_state::{INIT_STATE, InitStateParams, init_state};
pub use noise::{NOISE, NoiseKind, NoiseParams, NoiseRule, SequenceNoise, noise};
pub(crate) use normal::{NORMAL, WITHIN, normals_within};
pub use start_state::{START_STATE, StartStateParams, start_state};
pub use threefry::Threefry;

use crate::{Const, Part, Sequence};

/// WGSL of the generator; see [`Threefry`].
pub(crate) const THREEFRY: Part =
    Part::new("threefry", include_str!("threefry.wgsl")).with_consts(&[Const::u32("PARITY", threefry::PARITY)]);

/// [`Sequence`] in WGSL.
pub(crate) const SEQUENCE: Part = Part::shared(&[], &[Sequence::TABLE]);

/// Maps 32 random bits to a number in (0, 1): the middle of one of 2^23 intervals, exactly representable.
pub(crate) fn unit(bits: u32) -> f64 {
    (f64::from(bits >> 9) + 0.5) / 8_388_608.0
}
