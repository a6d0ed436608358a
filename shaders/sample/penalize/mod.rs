//! Edits of logits before a token is chosen: bias, repetition penalty, and DRY, which keeps a text from repeating itself.
//!
//! DRY ("don't repeat yourself", by p-e-w, text-generation-webui pull request 5677): if the last n tokens of a text occurred in it before, the token that
//! followed them there loses `multiplier · base^(n - allowed)`, for the longest such n, if that is at least `allowed`. One lane compares backwards from each
//! earlier occurrence of the last token. Lengths count up to [`DRY_FURTHEST`] tokens beyond the allowed one, so that a text that repeats one token does not
//! cost the square of its length. (Besides, lavapipe silently ends the loops of an invocation after 65,535 iterations in all.)

mod cases;
mod reference;
mod rule;

pub use rule::{DRY_FURTHEST, DRY_LONGEST_ALLOWED, Penalties, breaker_words};

use crate::shared::params;
use crate::{Binding, Choice, Const, Cost, Kernel, Launch, Params, Part, ROW, Row};
use crate::{activation_bytes, reduce, stride};

/// Edits logits by a sequence's history and its rules.
pub static PENALIZE: Kernel = Kernel {
    name: "penalize",
    wgsl: include_str!("penalize.wgsl"),
    parts: &[ROW, Part::shared(&[Const::f32("MOST", rule::MOST)], &[Penalties::TABLE])],
    bindings: &[
        Binding::read("picked", "Row"),
        Binding::read("penalties", "Penalties"),
        Binding::read("history", "u32"),
        Binding::read("bias", "f32"),
        Binding::read("breakers", "u32"),
        Binding::read("logits", "f32"),
        Binding::write("marks", "atomic<u32>"),
        Binding::write("edited", "f32"),
    ],
    axes: &[],
    overrides: &["WG"],
    params: PenalizeParams::FIELDS,
    params_size: size_of::<PenalizeParams>(),
    reference: reference::reference,
    cases: cases::cases,
    random: cases::random,
    at: cases::at,
};

params! {
    /// Parameters of [`PENALIZE`].
    pub struct PenalizeParams {
        /// Read-outs.
        pub outputs: u32,
        /// Logits per read-out.
        pub vocab: u32,
        /// Floats from read-out to read-out.
        pub stride: u32,
        /// Positions per sequence in the history.
        pub context: u32,
    }
}

/// Writes `edited [outputs, vocab]`: `logits` of the same shape, edited by the rules of each row's sequence. Bindings: picked, penalties `[sequences]`, history
/// `[sequences, context]`, bias `[sequences, vocab]`, breakers `[sequences, vocab/32]` with a bit for each token, logits, marks `[outputs, vocab]`, edited.
#[must_use]
pub fn penalize(outputs: u32, vocab: u32, sequences: u32, context: u32) -> Launch {
    let bytes = activation_bytes(outputs, vocab);
    let count = u64::from(sequences);
    Launch {
        kernel: &PENALIZE,
        choice: Choice::default(),
        overrides: vec![reduce::lanes(vocab.max(context), 256)],
        params: bytemuck::bytes_of(&PenalizeParams { outputs, vocab, stride: stride(vocab), context }).to_vec(),
        workgroups: [outputs, 1, 1],
        sizes: vec![
            u64::from(outputs) * size_of::<Row>() as u64,
            count * size_of::<Penalties>() as u64,
            count * u64::from(context) * 4,
            count * u64::from(vocab) * 4,
            count * u64::from(breaker_words(vocab)) * 4,
            bytes,
            marks_bytes(outputs, vocab),
            bytes,
        ],
        cost: Cost { bytes: 5 * bytes, flops: u64::from(outputs) * u64::from(vocab) * 8 },
    }
}

/// Bytes of `marks`, one word per read-out and token.
#[must_use]
pub const fn marks_bytes(outputs: u32, vocab: u32) -> u64 {
    outputs as u64 * vocab as u64 * 4
}
