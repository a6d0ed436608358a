//! Damages bytes and texts.

use fastrand::Rng;

/// Boundary numbers: ends of integer ranges, and sizes that overflow when multiplied.
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

/// Picks a random element.
pub(crate) fn pick<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())]
}

/// True with a probability of 1 in `of`.
pub(crate) fn once_in(rng: &mut Rng, of: u32) -> bool {
    rng.u32(..of) == 0
}

/// Random text of a few unusual parts.
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

/// Damages bytes at a few random positions.
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
