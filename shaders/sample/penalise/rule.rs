//! The rules of a sequence, as they lie on the device.

use crate::shared::table;

/// Tokens of a match that are counted beyond the allowed length, at most.
pub const DRY_FURTHEST: u32 = 256;

/// The longest allowed length.
pub const DRY_LONGEST_ALLOWED: u32 = 1024;

/// A penalty that no other logit makes up for, and with which one can still reckon: lengths count no further than where DRY's passes it.
const ENOUGH: f64 = 1e20;

/// The largest logit there is, and below 0 that of a banned token: any temperature and penalty leave it far from all others. Not infinite, for
/// compilers may take it that nothing is.
pub(super) const MOST: f32 = 1e30;

table! {
    /// How logits of a sequence are edited, in this order: bias, repetition penalty, DRY.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Penalties {
        /// Divides positive and multiplies negative logits of tokens that the sequence holds; 1 changes nothing.
        pub repeat_penalty: f32,
        /// How many of the last tokens that penalty sees; 0 means all.
        pub repeat_window: u32,
        /// DRY: penalty of a match of the allowed length; 0 changes nothing.
        pub dry_multiplier: f32,
        /// DRY: factor on the penalty for each further token of a match, at least 1.
        pub dry_base: f32,
        /// DRY: tokens of a match that is penalised, from 1 to [`DRY_LONGEST_ALLOWED`].
        pub dry_allowed: u32,
        /// DRY: tokens of a match that are counted, at most: [`Self::with_dry`].
        pub dry_longest: u32,
        /// DRY: how many of the last tokens it sees; 0 means all.
        pub dry_range: u32,
        /// 1 if the bias is added.
        pub biased: u32,
    }
}

impl Penalties {
    /// Logits as they are.
    pub const NONE: Self = Self {
        repeat_penalty: 1.0,
        repeat_window: 0,
        dry_multiplier: 0.0,
        dry_base: 1.0,
        dry_allowed: 1,
        dry_longest: 1,
        dry_range: 0,
        biased: 0,
    };

    /// The same with DRY.
    #[must_use]
    pub fn with_dry(mut self, multiplier: f32, base: f32, allowed: u32, range: u32) -> Self {
        let mut penalty = f64::from(multiplier);
        self.dry_longest = allowed;
        // A base of 1 makes no difference between lengths.
        while base > 1.0 && penalty < ENOUGH && self.dry_longest < allowed + DRY_FURTHEST {
            penalty *= f64::from(base);
            self.dry_longest += 1;
        }
        (self.dry_multiplier, self.dry_base, self.dry_allowed, self.dry_range) = (multiplier, base, allowed, range);
        self
    }
}

/// Words with a bit for each token of a vocabulary.
#[must_use]
pub const fn breaker_words(vocab: u32) -> u32 {
    vocab.div_ceil(32)
}
