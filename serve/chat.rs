//! `POST /v1/chat/completions`: conversations, formatted by the model's chat template.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router, routing::post};
use ruminate::{GenerateOptions, MAX_LOGPROBS};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::app::{App, now};
use crate::body::{Fields, Json};
use crate::completions::{Envelope, check_choices, of_piece};
use crate::engine::Happening;
use crate::error::ApiError;
use crate::gate::Arrival;
use crate::generation::{Choice, Wanted, finish_reason};
use crate::logprobs::{Ranked, of_chat};
use crate::messages::{Conversation, Tools};
use crate::stream::{self, Chunks, stream_options};
use crate::structured::constraint;
use crate::usage::Usage;

/// Fields specific to this endpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chat {
    model: Option<String>,
    messages: Vec<Value>,
    max_tokens: Option<u32>,
    /// OpenAI's newer name of `max_tokens`.
    max_completion_tokens: Option<u32>,
    n: Option<u32>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<Value>,
    response_format: Option<Value>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    /// Variables of the template.
    chat_template_kwargs: Option<Map<String, Value>>,
    /// Whether the template begins a new answer; if not, the model continues the last message.
    add_generation_prompt: Option<bool>,
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/chat/completions", post(chat)).route("/chat/completions", post(chat))
}

async fn chat(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    fields: Fields,
) -> Result<Response, ApiError> {
    answer(app, arrival, fields).await.map_err(ApiError::in_chat)
}

async fn answer(app: Arc<App>, arrival: Arrival, fields: Fields) -> Result<Response, ApiError> {
    let (request, sampling, depth): (Chat, _, _) = fields.of_generation()?;
    let stream_options = stream_options(request.stream, request.stream_options)?;
    let loaded = app.ready()?;
    loaded.check_name(request.model.as_deref())?;
    let choices = check_choices(request.n)?;
    if request.max_tokens.is_some()
        && request.max_completion_tokens.is_some_and(|most| Some(most) != request.max_tokens)
    {
        let message = "`max_tokens` and `max_completion_tokens` are two names of one field; give one of them";
        return Err(ApiError::field("max_completion_tokens", message));
    }
    let max_tokens = app.tokens_to_generate(request.max_completion_tokens.or(request.max_tokens), None)?;
    let logprobs = logprobs(request.logprobs, request.top_logprobs)?;
    let tools = Tools::new(request.tools, request.tool_choice.as_ref(), request.parallel_tool_calls)?;
    let conversation = Conversation {
        messages: request.messages,
        tools,
        variables: request.chat_template_kwargs.unwrap_or_default(),
        begins_answer: request.add_generation_prompt != Some(false),
    };
    if app.options.log_prompts {
        tracing::info!(request_id = %arrival.id, messages = ?conversation.messages, "prompts");
    }
    let prompt = {
        let app = Arc::clone(&app);
        let encode = move || conversation.encode(app.ready()?);
        tokio::task::spawn_blocking(encode).await.map_err(|_| ApiError::invalid("the messages cannot be encoded"))??
    };
    let (seed, returns_steps) = (sampling.seed(), depth.returns_steps());
    let ends = Some(loaded.answer_ends.clone());
    let mut options = GenerateOptions { max_tokens, max_length: None, end_tokens: ends, ..loaded.defaults.clone() };
    if request.max_tokens.is_none() && request.max_completion_tokens.is_none() {
        options.max_tokens = options.max_tokens.into_iter().chain(loaded.defaults.max_tokens).min();
    }
    sampling.apply(&mut options)?;
    depth.apply(&app, loaded, &mut options)?;
    // Last, because compiling is the most expensive check.
    options.constraint = constraint(&app, request.response_format.as_ref()).await?;
    options.logprobs = logprobs;
    let running = Wanted { prompts: vec![prompt], choices, options, seed }.start(&app, &arrival.id, arrival.at).await?;
    let envelope = Envelope { id: format!("chatcmpl-{}", arrival.id), created: now(), model: loaded.name.clone() };
    let form = Form { app: Arc::clone(&app), envelope, choices, logprobs: logprobs.is_some(), returns_steps };
    if request.stream == Some(true) {
        return Ok(stream::answer(running, form, stream_options));
    }
    let (choices, usage) = running.collect().await?;
    if app.options.log_prompts {
        let texts: Vec<&str> = choices.iter().map(|choice| choice.text.as_str()).collect();
        tracing::info!(request_id = %arrival.id, answers = ?texts, "answers");
    }
    Ok(Json(form.whole(&choices, &usage)).into_response())
}

/// Requested number of top log-probabilities, or `None` if log-probabilities are off.
fn logprobs(asked: Option<bool>, top: Option<u32>) -> Result<Option<u32>, ApiError> {
    match (asked.unwrap_or(false), top.unwrap_or(0)) {
        (_, top) if top > MAX_LOGPROBS => {
            let message = format!("`top_logprobs` is {top}; it must be from 0 to {MAX_LOGPROBS}");
            Err(ApiError::field("top_logprobs", message))
        }
        (false, 0) => Ok(None),
        (false, _) => Err(ApiError::field("top_logprobs", "`top_logprobs` needs `logprobs`: true")),
        (true, top) => Ok(Some(top)),
    }
}

/// Format of the answer to a request.
struct Form {
    app: Arc<App>,
    envelope: Envelope,
    choices: u32,
    logprobs: bool,
    returns_steps: bool,
}

impl Form {
    fn ranked<'a>(&self, tokens: impl Iterator<Item = Ranked<'a>>) -> Value {
        match self.app.loaded().filter(|_| self.logprobs) {
            Some(loaded) => of_chat(tokens, loaded.model.tokenizer()),
            None => Value::Null,
        }
    }

    fn whole(&self, choices: &[Choice], usage: &Usage) -> Value {
        let made = choices.iter().enumerate().map(|(place, choice)| {
            let mut object = json!({
                "index": place,
                "message": { "role": "assistant", "content": choice.text, "refusal": null },
                "logprobs": self.ranked(choice.pieces.iter().map(of_piece)),
                "finish_reason": choice.stop.map(finish_reason),
            });
            if self.returns_steps {
                object["steps"] = choice.pieces.iter().map(|piece| piece.steps).collect();
            }
            object
        });
        let mut answer = self.envelope.of("chat.completion", made.collect());
        answer["usage"] = usage.json();
        answer
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers make these values for it")]
    fn delta(&self, place: usize, delta: Value, logprobs: Value, finish: Value) -> Value {
        json!({ "index": place, "delta": delta, "logprobs": logprobs, "finish_reason": finish })
    }

    fn part(&self, choice: Value) -> Value {
        self.envelope.of("chat.completion.chunk", vec![choice])
    }
}

impl Chunks for Form {
    fn first(&mut self) -> Vec<Value> {
        let role = json!({ "role": "assistant", "content": "" });
        let begin = |place| self.part(self.delta(place, role.clone(), Value::Null, Value::Null));
        (0..self.choices as usize).map(begin).collect()
    }

    fn chunk(&mut self, place: usize, happening: Happening) -> Option<Value> {
        let choice = match happening {
            Happening::Token(piece) => {
                let logprobs = self.ranked(std::iter::once(of_piece(&piece)));
                // Nothing to send: text is held back until a character or a stop string is complete.
                if piece.text.is_empty() && logprobs.is_null() && !self.returns_steps {
                    return None;
                }
                let mut choice = self.delta(place, json!({ "content": piece.text }), logprobs, Value::Null);
                if self.returns_steps {
                    choice["steps"] = json!([piece.steps]);
                }
                choice
            }
            Happening::Done(reason, _) => self.delta(place, json!({}), Value::Null, finish_reason(reason).into()),
            Happening::Prompt(_) | Happening::Failed(_) => return None,
        };
        Some(self.part(choice))
    }

    fn usage(&self, usage: &Usage) -> Value {
        let mut chunk = self.envelope.of("chat.completion.chunk", Vec::new());
        chunk["usage"] = usage.json();
        chunk
    }
}
