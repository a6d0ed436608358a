//! Structured output: the field `response_format`.

use std::sync::Arc;

use ruminate::Constraint;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::app::App;
use crate::error::ApiError;

/// Requested format of an answer.
enum Form {
    Schema(Value),
    Regex(String),
    Grammar(String),
}

/// Parses `response_format`; `None` for plain text. In addition to OpenAI's types, it accepts `regex` with a `pattern`, and `grammar` with a `grammar` in
/// Lark.
fn form(format: Option<&Value>) -> Result<Option<Form>, ApiError> {
    let wrong = |message: &str| ApiError::field("response_format", message);
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(None) };
    // OpenAI nests the schema, llama.cpp does not.
    let schema = [&format["json_schema"]["schema"], &format["schema"]].into_iter().find(|schema| !schema.is_null());
    let text = |name: &str| format[name].as_str().map(str::to_owned);
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Form::Schema(schema.cloned().unwrap_or_else(|| json!({ "type": "object" }))))),
        Some("json_schema") => match schema {
            Some(schema) => Ok(Some(Form::Schema(schema.clone()))),
            None => Err(wrong("`response_format` of type json_schema needs its schema in `json_schema.schema`")),
        },
        Some("regex") => match text("pattern") {
            Some(pattern) => Ok(Some(Form::Regex(pattern))),
            None => Err(wrong("`response_format` of type regex needs a `pattern`")),
        },
        Some("grammar") => match text("grammar") {
            Some(grammar) => Ok(Some(Form::Grammar(grammar))),
            None => {
                Err(wrong("`response_format` of type grammar needs a `grammar` in Lark, with start as its first rule"))
            }
        },
        _ => Err(wrong(
            "`response_format` must be an object with `type` text, json_object, json_schema, regex or grammar",
        )),
    }
}

/// Compiles the constraint of `response_format` on a thread of its own, because it takes milliseconds, or seconds for large schemas. The compiler cannot be
/// stopped: a thread that exceeds its time keeps its permit until its limits end it, so that such requests wait for each other and for no one else.
///
/// # Errors
/// 400 for a format that is unknown or does not compile in [`constraint_timeout`](crate::Options::constraint_timeout); 429 if too many requests wait.
pub(crate) async fn constraint(app: &Arc<App>, format: Option<&Value>) -> Result<Option<Constraint>, ApiError> {
    let Some(form) = form(format)? else { return Ok(None) };
    let most = app.options.constraint_timeout;
    let busy = || {
        let message = "the server is compiling other requests' `response_format`; try again later";
        ApiError::busy(message, most.as_secs().max(1)).about("response_format")
    };
    let _waiting = app.constrained.try_acquire().map_err(|_| busy())?;
    let permit = timeout(most, Arc::clone(&app.compilers).acquire_owned()).await;
    let Ok(Ok(permit)) = permit else { return Err(busy()) };
    let (sender, compiled) = oneshot::channel();
    let shared = Arc::clone(app);
    let compile = move || {
        // A client that is gone needs no constraint.
        if !sender.is_closed() {
            let _ = sender.send(compile(&shared, &form));
        }
        drop(permit);
    };
    std::thread::Builder::new()
        .name("ruminate-constraint".to_owned())
        .spawn(compile)
        .map_err(|error| ApiError::unavailable(format!("cannot start a thread: {error}"), "no_thread", 10))?;
    match timeout(most, compiled).await {
        Ok(Ok(made)) => made.map(Some),
        Ok(Err(_)) => Err(ApiError::field("response_format", "`response_format` cannot be compiled")),
        Err(_) => {
            let message =
                format!("`response_format` takes longer than {} s to compile: simplify it", most.as_secs_f32());
            Err(ApiError::field("response_format", message))
        }
    }
}

fn compile(app: &App, form: &Form) -> Result<Constraint, ApiError> {
    let tokenizer = app.ready()?.model.tokenizer();
    let made = match form {
        Form::Schema(schema) => Constraint::json_schema(tokenizer, schema),
        Form::Regex(pattern) => Constraint::regex(tokenizer, pattern),
        Form::Grammar(grammar) => Constraint::lark(tokenizer, grammar),
    };
    made.map_err(|error| ApiError::field("response_format", format!("`response_format`: {error}")))
}
