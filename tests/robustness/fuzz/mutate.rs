//! Damage to bytes and texts.

use fastrand::Rng;

/// Numbers at which something may change: ends of number ranges, sizes that overflow when multiplied.
pub(crate) const NUMBERS: [&str; 26] = [
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "64",
    "127",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e-320",
    "0.5",
    "123456789012345678901234567890",
];

/// One of several.
pub(crate) fn pick<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())]
}

/// Whether something of one chance in `of` happens.
pub(crate) fn once_in(rng: &mut Rng, of: u32) -> bool {
    rng.u32(..of) == 0
}

/// A text of a few characters, some of them odd.
pub(crate) fn text(rng: &mut Rng) -> String {
    const ODD: [&str; 16] = [
        "",
        "a",
        "Ġ",
        "\0",
        "\n",
        "\"",
        "\\",
        "é",
        "\u{202e}",
        "🙂",
        "\u{feff}",
        "../",
        "<|end_text|>",
        "{{",
        "%}",
        "𝔘",
    ];
    (0..rng.usize(..5)).map(|_| pick(rng, &ODD)).collect()
}

/// Damages bytes in a few places.
pub(crate) fn bytes(rng: &mut Rng, data: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..=data.len());
        match rng.u32(..7) {
            0 => data.truncate(at),
            1 => data.insert(at, rng.u8(..)),
            2 if at < data.len() => data[at] = rng.u8(..),
            3 if at < data.len() => data[at] ^= 1 << rng.u32(..8),
            4 => {
                let end = (at + rng.usize(..64)).min(data.len());
                let piece = data[at..end].to_vec();
                let to = rng.usize(..=data.len());
                data.splice(to..to, piece);
            }
            5 => {
                let end = (at + rng.usize(..64)).min(data.len());
                data.drain(at..end);
            }
            _ => {
                let number = pick(rng, &NUMBERS);
                let end = (at + rng.usize(..4)).min(data.len());
                data.splice(at..end, number.bytes());
            }
        }
    }
}
