//! Streamed answers, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::Value;

use crate::body::object;
use crate::engine::Happening;
use crate::error::ApiError;
use crate::generation::Running;
use crate::usage::Usage;

/// Parses `stream_options`, and checks that they are used only with a stream.
///
/// # Errors
/// 400 if they are not.
pub(crate) fn stream_options(stream: Option<bool>, options: Option<Value>) -> Result<StreamOptions, ApiError> {
    let Some(options) = options else { return Ok(StreamOptions::default()) };
    if stream != Some(true) {
        return Err(ApiError::field("stream_options", "`stream_options` needs `stream`: true"));
    }
    object("stream_options", options, "an object such as {\"include_usage\": true}")
}

/// Field `stream_options`.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    /// Whether to send usage in a last chunk without choices; all earlier chunks then have `usage: null`.
    pub(crate) include_usage: Option<bool>,
    /// OpenAI's padding against traffic analysis, which this server never adds.
    #[expect(dead_code, reason = "accepted, without effect")]
    pub(crate) include_obfuscation: Option<bool>,
}

/// Formats the chunks of an endpoint family.
pub(crate) trait Chunks: Send + 'static {
    /// Chunks before the first event.
    fn first(&mut self) -> Vec<Value>;
    /// Chunk for an event of a sequence, if it has one.
    fn chunk(&mut self, place: usize, happening: Happening) -> Option<Value>;
    /// Chunk with the usage.
    fn usage(&self, usage: &Usage) -> Value;
}

/// Streams an answer while it is generated.
pub(crate) fn answer(running: Running, mut chunks: impl Chunks, options: StreamOptions) -> Response {
    let first = chunks.first();
    let include_usage = options.include_usage == Some(true);
    let state = State { running: Some(running), chunks, include_usage, ready: first.into_iter().rev().collect() };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Sse::new(stream::unfold(state, next)).keep_alive(keep_alive).into_response()
}

struct State<C> {
    /// `None` after the last chunk.
    running: Option<Running>,
    chunks: C,
    include_usage: bool,
    /// Chunks to send before the next event, in reverse order.
    ready: Vec<Value>,
}

async fn next<C: Chunks>(mut state: State<C>) -> Option<(Result<Event, Infallible>, State<C>)> {
    loop {
        if let Some(mut chunk) = state.ready.pop() {
            if state.include_usage && chunk.get("usage").is_none() {
                chunk["usage"] = Value::Null;
            }
            return Some((Ok(Event::default().data(chunk.to_string())), state));
        }
        let running = state.running.as_mut()?;
        match running.next().await {
            Ok(Some((place, happening))) => state.ready.extend(state.chunks.chunk(place, happening)),
            Ok(None) => {
                if std::mem::take(&mut state.include_usage) {
                    state.ready.push(state.chunks.usage(&running.usage()));
                    continue;
                }
                state.running = None;
                return Some((Ok(Event::default().data("[DONE]")), state));
            }
            Err(error) => {
                state.running = None;
                return Some((Ok(failure(&error)), state));
            }
        }
    }
}

/// Last event of an answer that failed. The stream then ends without `[DONE]`.
fn failure(error: &ApiError) -> Event {
    Event::default().data(error.json().to_string())
}
