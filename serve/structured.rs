//! Structured output: what a request asks of the form of its answer.

use std::sync::Arc;

use ruminate::{Constraint, Tokenizer};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;

/// Compiles `response_format`; none for text. Compiling takes a while, so it happens on a thread for that.
///
/// # Errors
/// 400 for what is not supported.
pub(crate) async fn constraint(app: &Arc<App>, format: Option<Value>) -> Result<Option<Constraint>, ApiError> {
    let Some(format) = format.filter(|format| !format.is_null() && format["type"] != "text") else { return Ok(None) };
    let app = Arc::clone(app);
    let compiled = tokio::task::spawn_blocking(move || compile(app.ready()?.model.tokenizer(), &format)).await;
    compiled.map_err(|_| ApiError::field("response_format", "it cannot be compiled"))?.map(Some)
}

fn compile(tokenizer: &Tokenizer, format: &Value) -> Result<Constraint, ApiError> {
    let text = |name: &'static str| {
        let missing = || ApiError::field("response_format", format!("`response_format.{name}` must be a string"));
        format[name].as_str().ok_or_else(missing)
    };
    let compiled = match format["type"].as_str() {
        Some("json_object") => Constraint::json_schema(tokenizer, &json!({ "type": "object" })),
        Some("json_schema") => {
            let schema = &format["json_schema"]["schema"];
            if !schema.is_object() {
                let message = "`response_format.json_schema.schema` must be a JSON schema: an object";
                return Err(ApiError::field("response_format", message));
            }
            Constraint::json_schema(tokenizer, schema)
        }
        Some("regex") => Constraint::regex(tokenizer, text("pattern")?),
        Some("grammar") => Constraint::lark(tokenizer, text("grammar")?),
        _ => {
            let message =
                "`response_format` must be an object whose `type` is text, json_object, json_schema, regex or grammar";
            return Err(ApiError::field("response_format", message));
        }
    };
    compiled.map_err(|error| ApiError::from(&error))
}
