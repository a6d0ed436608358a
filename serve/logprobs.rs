//! Log-probabilities in the formats of both endpoint families.

use ruminate::Tokenizer;
use serde_json::{Map, Value, json};

/// Token with its log-probability, and the most likely tokens at its position.
pub(crate) struct Ranked<'a> {
    pub(crate) token: u32,
    pub(crate) logprob: Option<f32>,
    pub(crate) top: &'a [(u32, f32)],
}

/// Text of a token; bytes of incomplete characters are written as in OpenAI's API, `bytes:\xe2\x80`.
fn spelled(token: u32, tokenizer: &Tokenizer) -> String {
    let bytes = tokenizer.token_bytes(token);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| format!("{text}\\x{byte:02x}")),
    }
}

/// Place in a text, for tokens that may spell parts of characters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Characters before this place, without the one that is being spelled.
    characters: usize,
    /// Bytes of the character that is being spelled.
    begun: Vec<u8>,
}

impl Place {
    /// The place after a number of characters.
    pub(crate) fn after(characters: usize) -> Self {
        Self { characters, begun: Vec::new() }
    }

    /// Advances by the bytes of a token. As in the text, bytes that begin no character count as one.
    fn advance(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        let (mut end, mut kept) = (0, 0);
        for chunk in self.begun.utf8_chunks() {
            self.characters += chunk.valid().chars().count();
            end += chunk.valid().len() + chunk.invalid().len();
            let is_cut = std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            if is_cut && end == self.begun.len() {
                kept = chunk.invalid().len();
            } else {
                self.characters += usize::from(!chunk.invalid().is_empty());
            }
        }
        self.begun.drain(..end - kept);
    }
}

/// Object for `/v1/completions`. `place` is the place of the first token in the text, and is advanced to the end of the last token. All tokens that spell one
/// character have its offset.
pub(crate) fn of_completion<'a>(
    tokens: impl Iterator<Item = Ranked<'a>>,
    asked: u32,
    place: &mut Place,
    tokenizer: &Tokenizer,
) -> Value {
    let (mut texts, mut logprobs, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Ranked { token, logprob, top } in tokens {
        texts.push(spelled(token, tokenizer));
        logprobs.push(logprob);
        offsets.push(place.characters);
        // Special tokens are not part of the text.
        if !tokenizer.is_special(token) {
            place.advance(tokenizer.token_bytes(token));
        }
        tops.push(match logprob.filter(|_| asked > 0) {
            None => Value::Null,
            Some(logprob) => {
                let mut map: Map<String, Value> =
                    top.iter().map(|&(token, logprob)| (spelled(token, tokenizer), json!(logprob))).collect();
                // The chosen token is always included.
                map.entry(spelled(token, tokenizer)).or_insert_with(|| json!(logprob));
                Value::Object(map)
            }
        });
    }
    json!({ "tokens": texts, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets })
}

/// Object for `/v1/chat/completions`.
pub(crate) fn of_chat<'a>(tokens: impl Iterator<Item = Ranked<'a>>, tokenizer: &Tokenizer) -> Value {
    let entry = |token: u32, logprob: Option<f32>| json!({ "token": spelled(token, tokenizer), "logprob": logprob, "bytes": tokenizer.token_bytes(token) });
    let content: Vec<Value> = tokens
        .map(|Ranked { token, logprob, top }| {
            let mut object = entry(token, logprob);
            object["top_logprobs"] = top.iter().map(|&(token, logprob)| entry(token, Some(logprob))).collect();
            object
        })
        .collect();
    json!({ "content": content, "refusal": null })
}
