//! Chat templates: Jinja from the checkpoint, rendered with bounded work, because a template is somebody else's program.

use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::source::Source;

/// Instructions that a template may execute.
const FUEL: u64 = 10_000_000;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A checkpoint's chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Reads the template from `chat_template.jinja` or `tokenizer_config.json`; none if there is none.
    ///
    /// # Errors
    /// [`Error::Chat`] if it does not compile, [`Error::Json`] or [`Error::File`] if a file is damaged.
    pub fn open(source: &Source) -> Result<Option<Self>> {
        let config = "tokenizer_config.json";
        let config = if source.exists(config) { source.json(config)? } else { Value::Null };
        let alone = "chat_template.jinja";
        let text = if source.exists(alone) {
            let bytes = source.read(alone)?.into_owned();
            Some(String::from_utf8(bytes).map_err(|_| Error::Chat(format!("{alone} is not UTF-8")))?)
        } else {
            from_config(&config["chat_template"])
        };
        let Some(text) = text else { return Ok(None) };
        let token = |field: &str| {
            let value = &config[field];
            value.as_str().or_else(|| value["content"].as_str()).unwrap_or_default().to_owned()
        };
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned("chat", without_generation(&text)).map_err(|error| describe(&error))?;
        Ok(Some(Self { environment, bos: token("bos_token"), eos: token("eos_token") }))
    }

    /// Renders a conversation; the text is to be encoded without further special tokens.
    ///
    /// # Errors
    /// [`Error::Chat`] if the template fails, refuses the conversation, or works for too long.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let template = self.environment.get_template("chat").map_err(|error| describe(&error))?;
        let values = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
        };
        template.render(values).map_err(|error| describe(&error))
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").finish_non_exhaustive()
    }
}

fn describe(error: &minijinja::Error) -> Error {
    Error::Chat(error.to_string())
}

/// A template, or the one called "default" of a list of named ones.
fn from_config(value: &Value) -> Option<String> {
    let named = || value.as_array()?.iter().find(|entry| entry["name"] == "default")?["template"].as_str();
    value.as_str().or_else(named).map(str::to_owned)
}

/// `{% generation %}` only marks what a model said, for training; a block that is always taken has the same effect on the text.
fn without_generation(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start..].find("%}").map(|end| start + end + 2) else { break };
        let tag = &rest[start..end];
        let inner = tag[2..tag.len() - 2].trim_matches(['-', '+']).trim();
        let replaced = match inner {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_owned(),
        };
        out.push_str(&rest[..start]);
        out.push_str(&replaced);
        rest = &rest[end..];
    }
    out + rest
}
