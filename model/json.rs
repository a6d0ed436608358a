//! JSON of checkpoints, including the extensions that Python writes.
//!
//! [`parse_json`] reads every JSON file of a checkpoint: `config.json`, `generation_config.json`, the tokenizer's files and the index of shards.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use crate::error::{ContentProblem, Error, Result};

/// UTF-8's byte order mark, with which Windows editors begin text files.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses the contents of a JSON file; `file` names it in messages.
///
/// A byte order mark at the start is skipped. Numbers that JSON lacks, but that Python's `json` module writes and reads (`NaN`, `Infinity`, `-Infinity`, and
/// numbers beyond f64), become strings of the same spelling: an unused field may contain one, and an error for a used field names the value.
///
/// # Errors
/// [`Error::Json`] with line and column, [`Error::Content`] for UTF-16.
pub fn parse_json<T: DeserializeOwned>(file: &str, content: &[u8]) -> Result<T> {
    let text = strict(file, content)?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { file: file.to_owned(), source })
}

/// Converts the contents of a JSON file into strict JSON, as described for [`parse_json`].
pub(crate) fn strict<'a>(file: &str, content: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Err(Error::Content { file: file.to_owned(), problem: ContentProblem::Utf16 });
    }
    let text = content.strip_prefix(MARK).unwrap_or(content);
    let (mut out, mut copied, mut at) = (Vec::new(), 0, 0);
    while at < text.len() {
        let end = match text[at] {
            b'"' => end_of_string(text, at),
            byte if is_of_word(byte) => at + text[at..].iter().take_while(|&&byte| is_of_word(byte)).count(),
            _ => at + 1,
        };
        if is_beyond_json(&text[at..end]) {
            out.extend_from_slice(&text[copied..at]);
            out.extend([b"\"", &text[at..end], b"\""].concat());
            copied = end;
        }
        at = end;
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(text));
    }
    out.extend_from_slice(&text[copied..]);
    Ok(Cow::Owned(out))
}

/// Index after the string that begins at `start`; the end of the text if the string is not terminated.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Whether a byte may be part of a number or a name outside strings.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// Whether a word is a number in Python's JSON but not in JSON.
fn is_beyond_json(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    // Numbers that are shorter and have no exponent are finite.
    let large = digits.first().is_some_and(u8::is_ascii_digit)
        && (digits.len() > 300 || digits.iter().any(|byte| matches!(byte, b'e' | b'E')));
    let value = || std::str::from_utf8(word).ok().and_then(|word| word.parse::<f64>().ok());
    matches!(word, b"NaN" | b"Infinity" | b"-Infinity") || (large && value().is_some_and(f64::is_infinite))
}
