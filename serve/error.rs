//! Errors in the format of OpenAI's API.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ruminate::{Error, engine};
use serde_json::{Value, json};

/// Error response.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    /// Field of the request that caused the error.
    param: Option<String>,
    code: Option<&'static str>,
    /// Seconds after which a retry makes sense.
    retry_after: Option<u64>,
}

/// Library option names and their fields, where they differ.
const FIELDS: [(&str, &str); 13] = [
    ("exit criterion", "exit.criterion"),
    ("exit threshold", "exit.threshold"),
    ("exit every", "exit.every"),
    ("draft_steps", "speculate.draft_steps"),
    ("draft_len", "speculate.draft_len"),
    ("pipeline every", "pipeline.every"),
    ("verify_threshold", "speculate.threshold"),
    ("dry multiplier", "dry_multiplier"),
    ("dry base", "dry_base"),
    ("dry allowed_length", "dry_allowed_length"),
    ("dry_breakers", "dry_sequence_breakers"),
    ("stop string", "stop"),
    ("constraint", "response_format"),
];

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// Invalid request: 400.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Invalid field: 400.
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::invalid(message) }
    }

    /// Error with another status.
    pub(crate) fn status(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, message)
    }

    /// Missing or wrong key: 401.
    pub(crate) fn unauthorized(message: &str) -> Self {
        Self { code: Some("invalid_api_key"), ..Self::new(StatusCode::UNAUTHORIZED, message) }
    }

    /// Full queue, with the seconds until a retry makes sense: 429.
    pub(crate) fn busy(message: impl Into<String>, seconds: u64) -> Self {
        let code = Some("queue_full");
        Self { code, retry_after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    /// Server temporarily unavailable: 503.
    pub(crate) fn unavailable(message: impl Into<String>, code: &'static str, seconds: u64) -> Self {
        let code = Some(code);
        Self { code, retry_after: Some(seconds), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// Sets the error code, for programs.
    pub(crate) fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// Sets the field that caused the error.
    pub(crate) fn about(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// Names the field of chats where the error blames the prompt, which only the other endpoint has.
    pub(crate) fn in_chat(self) -> Self {
        if self.param.as_deref() == Some("prompt") { self.about("messages") } else { self }
    }

    /// JSON object of an error response, or of the last chunk of a stream.
    pub(crate) fn json(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.json().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<&Error> for ApiError {
    fn from(error: &Error) -> Self {
        let field =
            |name: &'static str| FIELDS.iter().find(|(known, _)| *known == name).map_or(name, |(_, field)| field);
        match error {
            Error::Option { name, value, allowed } => {
                let name = field(name);
                Self::field(name, Error::Option { name, value: value.clone(), allowed }.to_string())
            }
            Error::Range { name, value, least, most, limit } => {
                let (name, value, least, most) = (field(name), *value, *least, *most);
                Self::field(name, Error::Range { name, value, least, most, limit }.to_string())
            }
            Error::Together { one, other, why } => {
                let (one, other) = (field(one), field(other));
                Self::field(other, Error::Together { one, other, why }.to_string())
            }
            Error::PromptTooLong { .. } | Error::TextTooLong { .. } | Error::NoRoom { .. } => {
                Self::invalid(error.to_string()).about("prompt").with_code("context_length_exceeded")
            }
            Error::KvMemory { .. } => Self::invalid(error.to_string()).about("prompt").with_code("kv_memory"),
            Error::Token { .. } | Error::EmptyPrompt | Error::Tokenizer { .. } => {
                Self::field("prompt", error.to_string())
            }
            Error::Constraint { .. } | Error::Unconstrainable { .. } => {
                Self::field("response_format", error.to_string())
            }
            Error::Chat { .. } => Self::field("messages", error.to_string()),
            Error::Memory(_) | Error::Engine(engine::Error::OutOfMemory { .. }) => {
                Self::unavailable(error.to_string(), "out_of_memory", 10)
            }
            Error::Engine(_) => Self::unavailable(error.to_string(), "device_failed", 10),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}
