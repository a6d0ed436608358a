//! Decoder: from tokens to bytes, as the field `decoder` of tokenizer.json describes it.

use std::collections::HashMap;

use serde_json::Value;

use super::byte_alphabet;

/// Spelling of bytes in the vocabulary.
#[derive(Clone, Debug)]
pub(super) enum Decoder {
    /// GPT-2's byte-level alphabet.
    Bytes(HashMap<char, u8>),
    /// SentencePiece's spelling: a mark for a blank, and tokens such as `<0x0A>` for bytes without another token.
    Pieces(Pieces),
}

/// SentencePiece's decoder.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    replaced: Vec<(String, String)>,
    /// Whether tokens such as `<0x0A>` represent bytes.
    bytes: bool,
    /// Character removed from the beginning of a text, and how often at most.
    stripped: Option<(char, usize)>,
}

/// Supported decoders, for messages.
const SUPPORTED: &str = "expected ByteLevel, Metaspace, or a Sequence of Replace, ByteFallback, Fuse and Strip";

impl Decoder {
    /// Reads the field `decoder`.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        match value["type"].as_str() {
            Some("ByteLevel") => Ok(Self::Bytes(byte_alphabet().collect())),
            Some("Sequence") if is_byte_level(value) => Ok(Self::Bytes(byte_alphabet().collect())),
            _ => {
                let mut pieces = Pieces::default();
                pieces.read(value)?;
                Ok(Self::Pieces(pieces))
            }
        }
    }

    /// Bytes of a token that is not an added one.
    pub(super) fn bytes_of(&self, text: &str) -> Vec<u8> {
        match self {
            Self::Bytes(alphabet) => {
                let bytes: Option<Vec<u8>> = text.chars().map(|c| alphabet.get(&c).copied()).collect();
                bytes.unwrap_or_else(|| text.as_bytes().to_vec())
            }
            Self::Pieces(pieces) => {
                if let Some(byte) = byte_token(text).filter(|_| pieces.bytes) {
                    return vec![byte];
                }
                let replace = |text: String, (from, to): &(String, String)| text.replace(from.as_str(), to);
                pieces.replaced.iter().fold(text.to_owned(), replace).into_bytes()
            }
        }
    }

    /// Removes the characters that were put before a text to split it.
    pub(super) fn strip<'a>(&self, text: &'a str) -> &'a str {
        let Self::Pieces(Pieces { stripped: Some((c, most)), .. }) = self else { return text };
        (0..*most).fold(text, |text, _| text.strip_prefix(*c).unwrap_or(text))
    }
}

impl Pieces {
    fn read(&mut self, value: &Value) -> Result<(), String> {
        let unsupported = || Err(format!("unknown decoder {} ({SUPPORTED})", value["type"]));
        match value["type"].as_str() {
            Some("Sequence") => {
                let inner = value["decoders"].as_array().ok_or("`decoder`: Sequence has no list `decoders`")?;
                inner.iter().try_for_each(|inner| self.read(inner))
            }
            Some("Replace") => {
                let (Some(from), Some(to)) = (value["pattern"]["String"].as_str(), value["content"].as_str()) else {
                    return Err("`decoder`: Replace needs a string in `pattern.String` and one in `content`".to_owned());
                };
                self.replaced.push((from.to_owned(), to.to_owned()));
                Ok(())
            }
            Some("ByteFallback") => {
                self.bytes = true;
                Ok(())
            }
            Some("Fuse") => Ok(()),
            Some("Strip") => {
                let content = value["content"].as_str().and_then(|text| text.chars().next());
                let (Some(c), Some(start)) = (content, value["start"].as_u64()) else {
                    return Err("`decoder`: Strip needs a character in `content` and a number in `start`".to_owned());
                };
                if value["stop"].as_u64().unwrap_or(0) > 0 {
                    return Err("`decoder`: Strip at the end of a text is not supported, because a stream does not know its end".to_owned());
                }
                self.stripped = Some((c, start.min(1 << 10) as usize));
                Ok(())
            }
            Some("Metaspace") => {
                let mark = value["replacement"].as_str().unwrap_or("\u{2581}");
                self.replaced.push((mark.to_owned(), " ".to_owned()));
                let never = value["prepend_scheme"] == "never" || value["add_prefix_space"] == false;
                self.stripped = (!never).then_some((' ', 1));
                Ok(())
            }
            _ => unsupported(),
        }
    }
}

/// Whether a sequence of decoders contains the byte-level one, and no other one that changes bytes.
fn is_byte_level(value: &Value) -> bool {
    let Some(inner) = value["decoders"].as_array() else { return false };
    let kinds = || inner.iter().map(|inner| inner["type"].as_str().unwrap_or_default());
    kinds().any(|kind| kind == "ByteLevel") && kinds().all(|kind| matches!(kind, "ByteLevel" | "Fuse"))
}

/// Byte of a token such as `<0x0A>`.
fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_become_text() {
        let sequence = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        let decoder = Decoder::read(&sequence).expect("it is supported");
        assert_eq!(decoder.bytes_of("\u{2581}the"), b" the");
        assert_eq!(decoder.bytes_of("<0x0A>"), b"\n");
        assert_eq!(decoder.bytes_of("<0x0>"), b"<0x0>");
        assert_eq!(decoder.strip("  two"), " two");
    }

    #[test]
    fn other_decoders_are_refused_by_name() {
        let problem = Decoder::read(&json!({"type": "CTC"})).expect_err("it is none of ours");
        assert!(problem.contains("CTC") && problem.contains("ByteFallback"), "{problem}");
    }
}
