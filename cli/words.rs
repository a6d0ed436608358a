//! Numbers in messages.

use std::fmt::Display;

/// Formats a number with its noun: `1 step`, `2 steps`.
pub(crate) fn counted(number: impl Display, noun: &str) -> String {
    let number = number.to_string();
    let ending = match noun.ends_with('s') {
        _ if number == "1" => "",
        true => "es",
        false => "s",
    };
    format!("{number} {noun}{ending}")
}

/// Formats bytes in decimal units: `432.5 kB`, `7.13 GB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::{counted, size};

    #[test]
    fn nouns_are_singular_only_after_one() {
        assert_eq!([counted(1, "step"), counted(0, "step"), counted(11, "step")], ["1 step", "0 steps", "11 steps"]);
        assert_eq!(
            [counted(2, "class"), counted("1", "class"), counted("1.0", "step")],
            ["2 classes", "1 class", "1.0 steps"]
        );
    }

    #[test]
    fn sizes_use_decimal_units() {
        assert_eq!([size(864_960), size(7_129_953_600)], ["865.0 kB", "7.13 GB"]);
    }
}
