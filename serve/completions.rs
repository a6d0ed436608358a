//! `POST /v1/completions`: text continuation.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router, routing::post};
use ruminate::{GenerateOptions, MAX_LOGPROBS, Piece, PromptToken, Specials, Tokenizer};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{App, Loaded, now};
use crate::body::{Fields, Json};
use crate::engine::Happening;
use crate::error::ApiError;
use crate::gate::Arrival;
use crate::generation::{Choice, MOST_CHOICES, Wanted, finish_reason};
use crate::logprobs::{Place, Ranked, of_completion};
use crate::stream::{self, Chunks, stream_options};
use crate::structured::constraint;
use crate::usage::Usage;

/// Default `max_tokens`, as in OpenAI's API.
const USUAL_TOKENS: u32 = 16;

/// Fields specific to this endpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Completion {
    model: Option<String>,
    /// A text, a list of texts, a list of token ids, or a list of such lists.
    prompt: Value,
    max_tokens: Option<u32>,
    n: Option<u32>,
    best_of: Option<u32>,
    echo: Option<bool>,
    logprobs: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<Value>,
    response_format: Option<Value>,
    /// Whether to add the tokenizer's prefix, such as the begin token, to each text.
    add_bos: Option<bool>,
    /// Whether special tokens spelled out in a text are encoded as such.
    parse_special: Option<bool>,
}

/// Prompt as tokens, and as the text that `echo` returns.
pub(crate) struct Prompt {
    tokens: Vec<u32>,
    text: String,
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/completions", post(complete)).route("/completions", post(complete))
}

async fn complete(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    fields: Fields,
) -> Result<Response, ApiError> {
    let (request, sampling, depth): (Completion, _, _) = fields.of_generation()?;
    let stream_options = stream_options(request.stream, request.stream_options)?;
    let loaded = app.ready()?;
    loaded.check_name(request.model.as_deref())?;
    let choices = check_choices(request.n)?;
    if request.best_of.is_some_and(|best| best != choices) {
        let message = "`best_of` must equal `n`: all choices are returned";
        return Err(ApiError::field("best_of", message).with_code("unsupported_parameter"));
    }
    let echo = request.echo == Some(true);
    let max_tokens = app.tokens_to_generate(request.max_tokens, Some(USUAL_TOKENS))?;
    if let Some(asked) = request.logprobs.filter(|&asked| asked > MAX_LOGPROBS) {
        let message = format!("`logprobs` is {asked}; it must be from 0 to {MAX_LOGPROBS}");
        return Err(ApiError::field("logprobs", message));
    }
    let specials = if request.add_bos == Some(false) { Specials::None } else { Specials::Prompt };
    let special = request.parse_special != Some(false);
    let prompts = {
        let app = Arc::clone(&app);
        let encode = move || prompts(request.prompt, app.ready()?, specials, special);
        tokio::task::spawn_blocking(encode).await.map_err(|_| ApiError::invalid("the prompt cannot be encoded"))??
    };
    let (seed, returns_steps) = (sampling.seed(), depth.returns_steps());
    let mut options = GenerateOptions { max_tokens, max_length: None, ..loaded.defaults.clone() };
    sampling.apply(&mut options)?;
    depth.apply(&app, loaded, &mut options)?;
    // Last, because compiling is the most expensive check.
    options.constraint = constraint(&app, request.response_format.as_ref()).await?;
    options.logprobs = request.logprobs;
    options.prompt_logprobs = echo && request.logprobs.is_some();
    if app.options.log_prompts {
        let texts: Vec<&str> = prompts.iter().map(|prompt| prompt.text.as_str()).collect();
        tracing::info!(request_id = %arrival.id, prompts = ?texts, "prompts");
    }
    let tokens = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
    let running = Wanted { prompts: tokens, choices, options, seed }.start(&app, &arrival.id, arrival.at).await?;
    let envelope = Envelope { id: format!("cmpl-{}", arrival.id), created: now(), model: loaded.name.clone() };
    let form =
        Form { app: Arc::clone(&app), envelope, prompts, choices, echo, logprobs: request.logprobs, returns_steps };
    if request.stream == Some(true) {
        let offsets = form.offsets();
        return Ok(stream::answer(running, Parts { form, offsets }, stream_options));
    }
    let (choices, usage) = running.collect().await?;
    if app.options.log_prompts {
        let texts: Vec<&str> = choices.iter().map(|choice| choice.text.as_str()).collect();
        tracing::info!(request_id = %arrival.id, answers = ?texts, "answers");
    }
    Ok(Json(form.whole(&choices, &usage)?).into_response())
}

/// Common fields of answers and chunks.
pub(crate) struct Envelope {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
}

impl Envelope {
    /// Builds an object of a kind with `choices`.
    #[expect(clippy::needless_pass_by_value, reason = "callers make these values for it")]
    pub(crate) fn of(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({ "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices })
    }
}

/// Validates the requested number of choices.
pub(crate) fn check_choices(n: Option<u32>) -> Result<u32, ApiError> {
    match n.unwrap_or(1) {
        n if n == 0 || n as usize > MOST_CHOICES => {
            Err(ApiError::field("n", format!("`n` is {n}; it must be from 1 to {MOST_CHOICES}")))
        }
        n => Ok(n),
    }
}

impl App {
    /// Maximum tokens to generate: the requested number, or `usual`, within the server's limit.
    pub(crate) fn tokens_to_generate(&self, asked: Option<u32>, usual: Option<u32>) -> Result<Option<u32>, ApiError> {
        match (asked, self.options.max_tokens) {
            (Some(asked), Some(most)) if asked > most => {
                let message = format!("`max_tokens` is {asked}; this server allows at most {most}");
                Err(ApiError::field("max_tokens", message))
            }
            (Some(asked), _) => Ok(Some(asked)),
            (None, most) => Ok(usual.into_iter().chain(most).min()),
        }
    }
}

impl Loaded {
    /// Checks that a request names this model, or none.
    pub(crate) fn check_name(&self, asked: Option<&str>) -> Result<(), ApiError> {
        match asked {
            None => Ok(()),
            Some(name) if name == self.name => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(100).collect();
                let message = format!("unknown model {name:?} (this server has {:?})", self.name);
                let status = axum::http::StatusCode::NOT_FOUND;
                Err(ApiError::status(status, message).about("model").with_code("model_not_found"))
            }
        }
    }
}

/// Parses and encodes the prompts of a request.
fn prompts(value: Value, loaded: &Loaded, specials: Specials, special: bool) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || {
        let message = "`prompt` must be a text, a list of texts, a list of token ids, or a list of such lists";
        ApiError::field("prompt", message)
    };
    let tokenizer = loaded.model.tokenizer();
    let of_text = |text: String| {
        // A text that is far too long is rejected before the costly encoding.
        tokenizer.check_fits(&text, loaded.context, loaded.model.spec().context)?;
        let tokens = match special {
            true => tokenizer.encode(&text, specials)?,
            false => tokenizer.encode_plain(&text, specials)?,
        };
        Ok(Prompt { tokens, text })
    };
    let of_tokens = |list: &[Value]| {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong);
        let tokens = list.iter().map(id).collect::<Result<Vec<u32>, ApiError>>()?;
        Ok(Prompt { text: tokenizer.decode(&tokens, true), tokens })
    };
    let prompts = match value {
        Value::String(text) => vec![of_text(text)?],
        Value::Array(list) if list.first().is_some_and(Value::is_number) => vec![of_tokens(&list)?],
        Value::Array(list) => {
            if list.len() > MOST_CHOICES {
                let message = format!("`prompt` has {} prompts; at most {MOST_CHOICES} are allowed", list.len());
                return Err(ApiError::field("prompt", message));
            }
            let each = |value| match value {
                Value::String(text) => of_text(text),
                Value::Array(tokens) => of_tokens(&tokens),
                _ => Err(wrong()),
            };
            list.into_iter().map(each).collect::<Result<Vec<_>, ApiError>>()?
        }
        _ => return Err(wrong()),
    };
    if prompts.is_empty() || prompts.iter().any(|prompt| prompt.tokens.is_empty()) {
        return Err(ApiError::field("prompt", "a prompt is empty: give at least one token"));
    }
    Ok(prompts)
}

/// Format of the answer to a request.
struct Form {
    app: Arc<App>,
    envelope: Envelope,
    prompts: Vec<Prompt>,
    choices: u32,
    echo: bool,
    logprobs: Option<u32>,
    returns_steps: bool,
}

impl Form {
    fn tokenizer(&self) -> Result<&Tokenizer, ApiError> {
        let loaded = self.app.loaded().ok_or_else(|| ApiError::invalid("no model"))?;
        Ok(loaded.model.tokenizer())
    }

    fn prompt(&self, place: usize) -> &Prompt {
        &self.prompts[place / self.choices as usize]
    }

    /// Place of each choice's first generated token in its text.
    fn offsets(&self) -> Vec<Place> {
        let echoed = |prompt: &Prompt| Place::after(if self.echo { prompt.text.chars().count() } else { 0 });
        self.prompts.iter().flat_map(|prompt| vec![echoed(prompt); self.choices as usize]).collect()
    }

    /// Log-probabilities of tokens, if requested.
    fn ranked<'a>(&self, tokens: impl Iterator<Item = Ranked<'a>>, place: &mut Place) -> Value {
        match (self.logprobs, self.tokenizer()) {
            (Some(asked), Ok(tokenizer)) => of_completion(tokens, asked, place, tokenizer),
            _ => Value::Null,
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers make these values for it")]
    fn choice(&self, place: usize, text: &str, logprobs: Value, finish: Value) -> Value {
        json!({ "index": place, "text": text, "logprobs": logprobs, "finish_reason": finish })
    }

    /// Complete answer.
    fn whole(&self, choices: &[Choice], usage: &Usage) -> Result<Value, ApiError> {
        let made = choices.iter().enumerate().map(|(place, choice)| {
            let echoed = if self.echo { self.prompt(place).text.as_str() } else { "" };
            let tokens = choice.prompt.iter().map(of_prompt).chain(choice.pieces.iter().map(of_piece));
            let logprobs = self.ranked(tokens, &mut Place::default());
            let finish = choice.stop.map_or(Value::Null, |stop| finish_reason(stop).into());
            let mut object = self.choice(place, &format!("{echoed}{}", choice.text), logprobs, finish);
            if self.returns_steps {
                object["steps"] = choice.pieces.iter().map(|piece| piece.steps).collect();
            }
            object
        });
        let mut answer = self.envelope.of("text_completion", made.collect());
        answer["usage"] = usage.json();
        Ok(answer)
    }
}

/// Answer in chunks.
struct Parts {
    form: Form,
    /// Place of each choice's next token in its text.
    offsets: Vec<Place>,
}

impl Parts {
    fn of(&self, choice: Value) -> Value {
        self.form.envelope.of("text_completion", vec![choice])
    }
}

impl Chunks for Parts {
    fn first(&mut self) -> Vec<Value> {
        // With log-probabilities, the prompt is sent once they are known.
        if !self.form.echo || self.form.logprobs.is_some() {
            return Vec::new();
        }
        let echoed = |place| self.form.choice(place, &self.form.prompt(place).text, Value::Null, Value::Null);
        (0..self.offsets.len()).map(|place| self.of(echoed(place))).collect()
    }

    fn chunk(&mut self, place: usize, happening: Happening) -> Option<Value> {
        let choice = match happening {
            Happening::Prompt(tokens) => {
                let logprobs = self.form.ranked(tokens.iter().map(of_prompt), &mut Place::default());
                self.form.choice(place, &self.form.prompt(place).text, logprobs, Value::Null)
            }
            Happening::Token(piece) => {
                let logprobs = self.form.ranked(std::iter::once(of_piece(&piece)), &mut self.offsets[place]);
                // Nothing to send: text is held back until a character or a stop string is complete.
                if piece.text.is_empty() && logprobs.is_null() && !self.form.returns_steps {
                    return None;
                }
                let mut choice = self.form.choice(place, &piece.text, logprobs, Value::Null);
                if self.form.returns_steps {
                    choice["steps"] = json!([piece.steps]);
                }
                choice
            }
            Happening::Done(reason, _) => self.form.choice(place, "", Value::Null, finish_reason(reason).into()),
            Happening::Failed(_) => return None,
        };
        Some(self.of(choice))
    }

    fn usage(&self, usage: &Usage) -> Value {
        let mut chunk = self.form.envelope.of("text_completion", Vec::new());
        chunk["usage"] = usage.json();
        chunk
    }
}

pub(crate) fn of_prompt(token: &PromptToken) -> Ranked<'_> {
    Ranked { token: token.token, logprob: token.logprob, top: &token.top }
}

pub(crate) fn of_piece(piece: &Piece) -> Ranked<'_> {
    Ranked { token: piece.token, logprob: piece.logprob, top: &piece.top }
}
