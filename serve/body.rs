//! JSON bodies: read within limits of size and time, and parsed field by field, so that errors name the field.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde_json::{Map, Value};

use crate::app::App;
use crate::error::ApiError;

/// Fields of a JSON object in a request.
pub(crate) struct Fields(pub(crate) Map<String, Value>);

/// JSON response.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
            Err(error) => ApiError::status(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("the answer cannot be written as JSON: {error}"),
            )
            .into_response(),
        }
    }
}

impl FromRequest<Arc<App>> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        // The body is not read if the request is refused anyway.
        app.ready()?;
        if !is_json(&request) {
            let message = "the body must be JSON: send it with Content-Type: application/json";
            return Err(ApiError::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        if let Some(coding) = request.headers().get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            let coding: String = String::from_utf8_lossy(coding.as_bytes()).chars().take(40).collect();
            let message = format!("the body has Content-Encoding {coding:?}; send it without compression");
            return Err(ApiError::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let bytes = read(request, app.options.max_body, app.options.receive_timeout).await?;
        if bytes.starts_with("\u{feff}".as_bytes()) {
            return Err(ApiError::invalid("the body begins with a byte order mark; send JSON without it"));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(ApiError::invalid("the body must be a JSON object")),
            Err(error) => Err(ApiError::invalid(format!("the body is not valid JSON: {error}"))),
        }
    }
}

/// Whether the content type is JSON, or missing.
fn is_json(request: &Request) -> bool {
    let Some(kind) = request.headers().get(CONTENT_TYPE) else { return true };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

/// Reads a body of at most `most` bytes within a time limit. The limit is for the whole body, because an attacker can send single bytes slowly.
async fn read(request: Request, most: usize, within: Duration) -> Result<Vec<u8>, ApiError> {
    let too_large = || {
        let message = format!("the body has more than {most} bytes, which is the limit of this server");
        ApiError::status(StatusCode::PAYLOAD_TOO_LARGE, message).with_code("body_too_large")
    };
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let body: Limited<Body> = Limited::new(request.into_body(), most);
    match tokio::time::timeout(within, body.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::invalid(format!("the body is incomplete: {error}"))),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", within.as_secs());
            Err(ApiError::status(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

impl Fields {
    /// Removes the fields of a struct from the object and parses them. Integers may be written as 4.0.
    pub(crate) fn take<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let mut part = Map::new();
        for name in names::<T>() {
            if let Some(mut value) = self.0.remove(*name) {
                whole(&mut value, 2);
                part.insert((*name).to_owned(), value);
            }
        }
        parse(Value::Object(part), "")
    }
}

/// Parses a value; `within` is the path of the field that contains it.
pub(crate) fn parse<T: DeserializeOwned>(value: Value, within: &str) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = match (within, path.as_str()) {
            (_, ".") => within.to_owned(),
            ("", _) => path,
            _ => format!("{within}.{path}"),
        };
        let problem = error.into_inner();
        if let Some(name) = missing(&problem) {
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            return ApiError::field(path.clone(), format!("`{path}` is missing"));
        }
        match path.as_str() {
            "" => ApiError::invalid(problem.to_string()),
            _ => ApiError::field(path.clone(), format!("`{path}`: {problem}")),
        }
    })
}

/// Name of a field that a struct lacks, from serde's message: the error has no other trace of it, since its path ends at the struct.
fn missing(problem: &serde_json::Error) -> Option<String> {
    Some(problem.to_string().strip_prefix("missing field `")?.split_once('`')?.0.to_owned())
}

/// Parses an object into a struct; serde would also take a list of its fields' values.
///
/// # Errors
/// 400 for anything but an object; `expected` describes it.
pub(crate) fn object<T: DeserializeOwned>(name: &str, value: Value, expected: &str) -> Result<T, ApiError> {
    match value {
        Value::Object(_) => parse(value, name),
        _ => Err(ApiError::field(name, format!("`{name}` is {}; expected {expected}", shown(&value)))),
    }
}

/// Parses an option that is an object or a boolean: `true` means the `default` settings, if there are any, and `false` means off.
///
/// # Errors
/// As [`object`]; `example` shows one.
pub(crate) fn switch<T: DeserializeOwned>(
    name: &str,
    value: Option<Value>,
    default: Option<T>,
    example: &str,
) -> Result<Option<T>, ApiError> {
    let others = if default.is_some() { "true, false" } else { "false" };
    match (value, default) {
        (None | Some(Value::Null | Value::Bool(false)), _) => Ok(None),
        (Some(Value::Bool(true)), Some(default)) => Ok(Some(default)),
        (Some(value), _) => object(name, value, &format!("{others} or an object such as {example}")).map(Some),
    }
}

/// Kind of a value, for messages; the value itself may be long.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::String(_) => "a text".to_owned(),
        value => value.to_string(),
    }
}

/// Converts integral floats, such as 4.0, to integers, down to `depth` levels.
fn whole(value: &mut Value, depth: u32) {
    match value {
        Value::Number(number) if !number.is_i64() && !number.is_u64() => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15);
            if let Some(float) = float {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(list) if depth > 0 => list.iter_mut().for_each(|value| whole(value, depth - 1)),
        Value::Object(map) if depth > 0 => map.values_mut().for_each(|value| whole(value, depth - 1)),
        _ => {}
    }
}

/// Names of the fields of a struct, from serde.
pub(crate) fn names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // Deserialization fails, but only after it has received the names.
    let _ = T::deserialize(Names(&mut found));
    found
}

/// Deserializer that only records the field names of the requested struct.
struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(serde::de::Error::custom("the names are known"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
