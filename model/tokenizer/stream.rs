//! Streaming decoder: text from ids that arrive one at a time.

use std::sync::Arc;

use super::Token;

/// Decodes a stream of ids without splitting a character or changing text that it has returned.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    pub(super) pieces: Arc<Vec<Token>>,
    pub(super) skip_special: bool,
    pub(super) open: Vec<u8>,
}

impl StreamDecoder {
    /// Adds a token and returns the characters that it completes. An unknown id has no text.
    pub fn push(&mut self, id: u32) -> String {
        if let Some(token) = self.pieces.get(id as usize).filter(|token| !(self.skip_special && token.special)) {
            self.open.extend_from_slice(&token.bytes);
        }
        let mut text = String::new();
        loop {
            let error = match std::str::from_utf8(&self.open) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.open.clear();
                    return text;
                }
                Err(error) => error,
            };
            let valid = error.valid_up_to();
            text.push_str(&String::from_utf8_lossy(&self.open[..valid]));
            let Some(wrong) = error.error_len() else {
                self.open.drain(..valid);
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            self.open.drain(..valid + wrong);
        }
    }

    /// Ends the stream: an incomplete character becomes U+FFFD.
    pub fn flush(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.open).into_owned();
        self.open.clear();
        text
    }
}
