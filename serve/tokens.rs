//! `POST /tokenize` and `POST /detokenize`: texts to tokens and back, with the fields of llama.cpp and vLLM. `GET /tokenizer_info`: the special tokens, for
//! vLLM clients that tokenize on the server.

use std::sync::Arc;

use axum::extract::State;
use axum::{Router, routing::get, routing::post};
use ruminate::Specials;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::body::{Fields, Json, names};
use crate::error::ApiError;

/// Fields of `/tokenize`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokenize {
    model: Option<String>,
    /// Text, by llama.cpp's name.
    content: Option<String>,
    /// Text, by vLLM's name.
    prompt: Option<String>,
    /// Whether to add the tokenizer's prefix, such as the begin token.
    add_special: Option<bool>,
    /// vLLM's name of `add_special`.
    add_special_tokens: Option<bool>,
    /// Whether special tokens spelled out in the text are encoded as such.
    parse_special: Option<bool>,
    /// Whether to return the text of every token.
    with_pieces: Option<bool>,
}

/// Fields of `/detokenize`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Detokenize {
    model: Option<String>,
    tokens: Vec<u32>,
}

pub(crate) fn routes() -> Router<Arc<App>> {
    let routes = Router::new().route("/tokenize", post(tokenize)).route("/detokenize", post(detokenize));
    routes.route("/tokenizer_info", get(info))
}

async fn tokenize(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Json<Value>, ApiError> {
    let request: Tokenize = fields.take()?;
    fields.finish(&[names::<Tokenize>()])?;
    app.ready()?.check_name(request.model.as_deref())?;
    let (text, field) = match (request.content, request.prompt) {
        (Some(text), None) => (text, "content"),
        (None, Some(text)) => (text, "prompt"),
        (None, None) => return Err(ApiError::field("content", "`content` is missing: give a text")),
        (Some(_), Some(_)) => {
            return Err(ApiError::field(
                "prompt",
                "`content` and `prompt` are two names of one field; give one of them",
            ));
        }
    };
    let add = request.add_special.or(request.add_special_tokens) != Some(false);
    let specials = if add { Specials::Prompt } else { Specials::None };
    let special = request.parse_special != Some(false);
    let tokens = {
        let app = Arc::clone(&app);
        let encode = move || {
            let loaded = app.ready()?;
            let tokenizer = loaded.model.tokenizer();
            let tokens = match special {
                true => tokenizer.encode(&text, specials),
                false => tokenizer.encode_plain(&text, specials),
            };
            tokens.map_err(ApiError::from)
        };
        let failed = |_| ApiError::invalid("the text cannot be encoded");
        tokio::task::spawn_blocking(encode).await.map_err(failed)?.map_err(|error| error.about(field))?
    };
    let loaded = app.ready()?;
    let tokenizer = loaded.model.tokenizer();
    let listed: Value = match request.with_pieces {
        Some(true) => tokens
            .iter()
            .map(|&id| {
                // Incomplete characters are returned as bytes.
                let bytes = tokenizer.token_bytes(id);
                let piece = std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text));
                json!({ "id": id, "piece": piece })
            })
            .collect(),
        _ => json!(tokens),
    };
    Ok(Json(json!({ "tokens": listed, "count": tokens.len(), "max_model_len": loaded.context })))
}

async fn detokenize(State(app): State<Arc<App>>, mut fields: Fields) -> Result<Json<Value>, ApiError> {
    let request: Detokenize = fields.take()?;
    fields.finish(&[names::<Detokenize>()])?;
    let loaded = app.ready()?;
    loaded.check_name(request.model.as_deref())?;
    let vocab = loaded.model.spec().padded_vocab;
    if let Some(&token) = request.tokens.iter().find(|&&token| token >= vocab) {
        return Err(ApiError::from(ruminate::Error::Token { token, vocab }).about("tokens"));
    }
    let text = loaded.model.tokenizer().decode(&request.tokens, false);
    Ok(Json(json!({ "content": text, "prompt": text })))
}

async fn info(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let loaded = app.ready()?;
    let tokenizer = loaded.model.tokenizer();
    let bos = tokenizer.bos();
    // The begin token may also be listed as an end token, but it is not the one that ends a text.
    let eos = tokenizer.eos().iter().copied().find(|&id| Some(id) != bos);
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    Ok(Json(json!({
        "bos_token": text(bos),
        "eos_token": text(eos),
        "pad_token": text(tokenizer.pad()),
        "vocab_size": loaded.model.spec().padded_vocab,
        "model_max_length": loaded.context,
    })))
}
