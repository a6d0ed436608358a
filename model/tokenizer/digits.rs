//! Long numbers. The published pattern that splits text looks for "1st" from every digit of a number and reads it to its end each
//! time, which takes quadratic time: 6.5 s for 20,000 digits. Where the pattern is known, text may be cut inside a number that
//! no "st" follows, because every digit is a piece of its own there: the tokens are the same.

use serde_json::Value;

use super::layout::Layout;

/// The pattern. A digit begins a match only as `\p{N}+(?:st|nd|rd|th)` or `\p{N}{1,1}`, tried in this order, and nothing looks across two.
const PATTERN: &str = concat!(
    r##"(\\n(?:e(?:wcommand|wenvironment|wline|wpage|wtheorem)|abla|e|eq|geq|gtr|leq|exists|ocite|oindent|olinebreak|o"##,
    r##"number|opagebreak|ormalsize|ot(?!(?:ag\b|\b)))\b|\n+|\\n(?!\b)|[ \t]?(?:==|!=|<=|>=|<<|>>|\*\*|//|\+=|-=|\*=|/"##,
    r##"=|%=|&=|\|=|\^=|<<=|>>=|\*\*=|//=|:=|\+\+|--|[\p{L}]+['’ʼ](?:\p{L}+)\b|\\[a-zA-Z]+|\\{|\\}|{|}|\\\[|\\\]|\[|\]"##,
    r##"|\(|\)|_+|\||\+|-|\*|—|-|=|[.,!?;()]|\$\$?|`+|\"+|\#+|\p{N}+(?:st|nd|rd|th)|\p{N}{1,1}|[^\r\n\p{L}\p{N}]?\p{L}"##,
    r##"+|[\p{P}\p{S}]+)|\s+|\p{So})"##,
);
/// What makes a number an ordinal.
const ORDINAL: [&str; 4] = ["st", "nd", "rd", "th"];

/// Digits between two cuts.
const STRIDE: usize = 64;

/// Whether and where text may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digits {
    /// Digits at either end of a number that stay with it, because a token that is matched before the text is split has such digits.
    margin: usize,
}

impl Digits {
    /// Looks at a tokenizer.json; none if it is not known that cutting changes nothing.
    pub(super) fn of(file: &Layout) -> Option<Self> {
        let steps = match &file.pre_tokenizer["pretokenizers"] {
            Value::Array(steps) => steps.as_slice(),
            _ => return None,
        };
        let [split, bytes] = steps else { return None };
        let known = file.normalizer.is_null()
            && file.model.kind == "BPE"
            && split["type"] == "Split"
            && split["pattern"]["Regex"] == PATTERN
            && (split["behavior"] == "Isolated" || split["behavior"] == "Removed")
            && bytes["type"] == "ByteLevel"
            && bytes["add_prefix_space"] == false;
        let added = file.added_tokens.as_array().map_or(&[][..], Vec::as_slice);
        let added = || added.iter().map(|token| token["content"].as_str().unwrap_or_default());
        let margin = added().map(longest_number).max().unwrap_or(0) + 1;
        let inside = added().any(|token| !token.is_empty() && token.chars().all(char::is_numeric));
        (known && !inside && margin < STRIDE).then_some(Self { margin })
    }

    /// Cuts a text. Only numbers of ASCII digits are cut, and none beside which something stands that might be a digit too.
    pub(super) fn cut(self, text: &str) -> Vec<&str> {
        let mut parts = Vec::new();
        let (mut done, mut at) = (0, 0);
        while let Some(start) = text[at..].find(|c: char| c.is_ascii_digit()).map(|place| at + place) {
            let length = text[start..].bytes().take_while(u8::is_ascii_digit).count();
            at = start + length;
            let behind = &text[at..];
            let ordinal = ORDINAL.iter().any(|ending| behind.starts_with(ending));
            if length <= 2 * STRIDE || ordinal || behind.starts_with(|c: char| !c.is_ascii()) {
                continue;
            }
            for cut in (start + STRIDE..at - self.margin).step_by(STRIDE) {
                parts.push(&text[done..cut]);
                done = cut;
            }
        }
        parts.push(&text[done..]);
        parts
    }
}

/// Digits of the longest number in a text.
fn longest_number(text: &str) -> usize {
    text.split(|c: char| !c.is_numeric()).map(|number| number.chars().count()).max().unwrap_or(0)
}
