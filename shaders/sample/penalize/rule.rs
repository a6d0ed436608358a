//! Rules of a sequence, as stored on the device.

use crate::shared::table;

/// Maximum tokens of a match that are counted beyond the allowed length.
pub const DRY_FURTHEST: u32 = 256;

/// Maximum allowed length.
pub const DRY_LONGEST_ALLOWED: u32 = 1024;

/// A penalty that no logit can make up for, and that is still safe to compute with: lengths are counted up to where DRY's penalty exceeds it.
const ENOUGH: f64 = 1e20;

/// Largest logit. Its negative is the logit of a banned token, which any temperature and penalty leave far below all others. Not infinite, because compilers
/// may assume that infinity never occurs.
pub(super) const MOST: f32 = 1e30;

table! {
    /// Rules for editing the logits of a sequence, in this order: bias, repetition penalty, DRY.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Penalties {
        /// Divides positive and multiplies negative logits of tokens in the window; 1 changes nothing.
        pub repeat_penalty: f32,
        /// Number of last tokens in the window of that penalty; 0 means all.
        pub repeat_window: u32,
        /// DRY: penalty for a match of the allowed length; 0 changes nothing.
        pub dry_multiplier: f32,
        /// DRY: factor on the penalty for each further token of a match, at least 1.
        pub dry_base: f32,
        /// DRY: length from which a match is penalized, from 1 to [`DRY_LONGEST_ALLOWED`].
        pub dry_allowed: u32,
        /// DRY: maximum tokens of a match that are counted; see [`Self::with_dry`].
        pub dry_longest: u32,
        /// DRY: number of last tokens in which matches are searched; 0 means all.
        pub dry_range: u32,
        /// 1 if the bias is added.
        pub biased: u32,
    }
}

impl Penalties {
    /// Leaves logits unchanged.
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

    /// Adds DRY.
    #[must_use]
    pub fn with_dry(mut self, multiplier: f32, base: f32, allowed: u32, range: u32) -> Self {
        let mut penalty = f64::from(multiplier);
        self.dry_longest = allowed;
        // With a base of 1, the length makes no difference.
        while base > 1.0 && penalty < ENOUGH && self.dry_longest < allowed + DRY_FURTHEST {
            penalty *= f64::from(base);
            self.dry_longest += 1;
        }
        (self.dry_multiplier, self.dry_base, self.dry_allowed, self.dry_range) = (multiplier, base, allowed, range);
        self
    }
}

/// Words of a set with one bit per token of a vocabulary.
#[must_use]
pub const fn breaker_words(vocab: u32) -> u32 {
    vocab.div_ceil(32)
}
