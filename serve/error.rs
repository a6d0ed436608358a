//! Errors in the form that clients of OpenAI's API know.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ruminate::{Error, engine};
use serde_json::{Value, json};

/// A refusal or a failure.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    /// Field of the request that is to blame.
    param: Option<String>,
    code: Option<&'static str>,
    /// Seconds after which another try makes sense.
    retry_after: Option<u64>,
}

/// Options of the library whose fields have other names.
const FIELDS: [(&str, &str); 12] = [
    ("exit criterion", "exit.criterion"),
    ("exit threshold", "exit.threshold"),
    ("exit every", "exit.every"),
    ("draft_steps", "speculate.draft_steps"),
    ("draft_len", "speculate.draft_len"),
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

    /// A request that makes no sense: 400.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A field that makes no sense: 400.
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::invalid(message) }
    }

    /// A request with some other status.
    pub(crate) fn status(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, message)
    }

    /// No key, or a wrong one: 401.
    pub(crate) fn unauthorized(message: &str) -> Self {
        Self { code: Some("invalid_api_key"), ..Self::new(StatusCode::UNAUTHORIZED, message) }
    }

    /// Another try makes sense after so many seconds: 429.
    pub(crate) fn busy(message: impl Into<String>, seconds: u64) -> Self {
        let code = Some("queue_full");
        Self { code, retry_after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    /// The server cannot serve now: 503.
    pub(crate) fn unavailable(message: impl Into<String>, code: &'static str, seconds: u64) -> Self {
        let code = Some(code);
        Self { code, retry_after: Some(seconds), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// The same, with a code that programs can tell apart.
    pub(crate) fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The same, about a field.
    pub(crate) fn about(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// The object that an answer, or the last chunk of a stream, has.
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
            Error::Constraint { .. } => Self::field("response_format", error.to_string()),
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
