//! Structured output: what a request asks of the form of its answer.

use serde_json::Value;

use crate::error::ApiError;

/// Checks `response_format`. Text needs nothing.
///
/// # Errors
/// 400 for what is not supported.
pub(crate) fn check_format(format: Option<&Value>) -> Result<(), ApiError> {
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(()) };
    match format["type"].as_str() {
        Some("text") => Ok(()),
        Some(kind @ ("json_object" | "json_schema")) => {
            Err(ApiError::field("response_format", format!("`response_format` of type {kind:?} is not supported yet"))
                .with_code("unsupported_parameter"))
        }
        _ => {
            let message = "`response_format` must be an object whose `type` is text, json_object or json_schema";
            Err(ApiError::field("response_format", message))
        }
    }
}
