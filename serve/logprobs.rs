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

/// Object for `/v1/completions`. `offset` is the offset of the first token in the text, in characters, and is advanced to the end of the last token.
pub(crate) fn of_completion<'a>(
    tokens: impl Iterator<Item = Ranked<'a>>,
    asked: u32,
    offset: &mut usize,
    tokenizer: &Tokenizer,
) -> Value {
    let (mut texts, mut logprobs, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Ranked { token, logprob, top } in tokens {
        texts.push(spelled(token, tokenizer));
        logprobs.push(logprob);
        offsets.push(*offset);
        // Special tokens are not part of the text.
        if !tokenizer.is_special(token) {
            *offset += String::from_utf8_lossy(tokenizer.token_bytes(token)).chars().count();
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
