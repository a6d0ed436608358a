//! Threefry-2x32 with 20 rounds: a counter-based random number generator (Salmon et al., "Parallel random numbers: as easy
//! as 1, 2, 3", SC 2011). Adds, rotations and exclusive ors only, so every device computes the same bits.

/// A keyed generator: the same key and counter always give the same 64 bits.
#[derive(Clone, Copy, Debug)]
pub struct Threefry {
    key: [u32; 2],
}

const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
pub(super) const PARITY: u32 = 0x1bd1_1bda;

impl Threefry {
    /// A generator keyed with a 64-bit seed, low word first.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the seed are the words of the key")]
    pub const fn new(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// A generator keyed with two words.
    #[must_use]
    pub const fn from_words(key: [u32; 2]) -> Self {
        Self { key }
    }

    /// The 64 random bits of a counter.
    #[must_use]
    pub fn block(&self, counter: [u32; 2]) -> [u32; 2] {
        let keys = [self.key[0], self.key[1], PARITY ^ self.key[0] ^ self.key[1]];
        let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
        for group in 0..5_u32 {
            for round in 0..4 {
                let rotation = ROTATIONS[((group % 2) * 4 + round) as usize];
                x[0] = x[0].wrapping_add(x[1]);
                x[1] = x[1].rotate_left(rotation) ^ x[0];
            }
            x[0] = x[0].wrapping_add(keys[((group + 1) % 3) as usize]);
            x[1] = x[1].wrapping_add(keys[((group + 2) % 3) as usize]).wrapping_add(group + 1);
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers from the Random123 distribution (`kat_vectors`, threefry2x32, 20 rounds).
    #[test]
    fn matches_the_published_test_vectors() {
        assert_eq!(Threefry::from_words([0, 0]).block([0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(Threefry::from_words([u32::MAX; 2]).block([u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        let key = Threefry::from_words([0x1319_8a2e, 0x0370_7344]);
        assert_eq!(key.block([0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }
}
