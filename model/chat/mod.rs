//! Chat templates: Jinja from the checkpoint, rendered with bounded work, because a template is somebody else's program.

mod strftime;

use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::source::Source;
use crate::tokenizer::{Specials, Tokenizer};

/// The template's name in messages.
const NAME: &str = "chat_template";
const CONFIG: &str = "tokenizer_config.json";
const ALONE: &str = "chat_template.jinja";

/// Instructions that a template may execute.
const FUEL: u64 = 10_000_000;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A checkpoint's chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    file: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Reads the template from `chat_template.jinja` or `tokenizer_config.json`; none if there is none.
    ///
    /// # Errors
    /// [`Error::Chat`] if it does not compile, [`Error::Json`] or [`Error::File`] if a file is damaged.
    pub fn open(source: &Source) -> Result<Option<Self>> {
        let config = if source.exists(CONFIG) { source.json(CONFIG)? } else { Value::Null };
        let alone = source.exists(ALONE);
        let file = source.describe(if alone { ALONE } else { CONFIG });
        let text = if alone {
            let wrong = |_| Error::Chat { file: file.clone(), problem: "is not UTF-8".to_owned() };
            Some(String::from_utf8(source.read(ALONE)?.into_owned()).map_err(wrong)?)
        } else {
            from_config(&config["chat_template"], &file)?
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
        environment.add_function("strftime_now", |format: String| -> Result<String, minijinja::Error> {
            strftime::strftime_now(&format)
                .map_err(|problem| minijinja::Error::new(ErrorKind::InvalidOperation, problem))
        });
        let compiled = environment.add_template_owned(NAME, without_generation(&text));
        compiled.map_err(|error| Error::Chat { file: file.clone(), problem: error.to_string() })?;
        Ok(Some(Self { environment, file, bos: token("bos_token"), eos: token("eos_token") }))
    }

    /// Renders a conversation; the text is to be encoded without further special tokens.
    ///
    /// # Errors
    /// [`Error::Chat`] if the template fails, refuses the conversation, or works for too long.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let failed = |error: minijinja::Error| Error::Chat { file: self.file.clone(), problem: error.to_string() };
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let values = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
        };
        template.render(values).map_err(failed)
    }

    /// The special token that the template writes behind an answer, which therefore ends one; none if it writes text there, or
    /// refuses a conversation as short as this one.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn end_of_answer(&self, tokenizer: &Tokenizer) -> Result<Option<u32>> {
        const ANSWER: &str = "Hello";
        let turn = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
        let Ok(text) = self.render(&[turn("user", "?"), turn("assistant", ANSWER)], false) else { return Ok(None) };
        let Some((_, behind)) = text.rsplit_once(ANSWER) else { return Ok(None) };
        let first = tokenizer.encode(behind, Specials::None)?.first().copied();
        Ok(first.filter(|&id| tokenizer.is_special(id)))
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").finish_non_exhaustive()
    }
}

/// A template; of a list of named ones the only one, or the one called "default".
fn from_config(value: &Value, file: &str) -> Result<Option<String>> {
    let wrong = |problem: &str| Error::Chat { file: file.to_owned(), problem: problem.to_owned() };
    let entries = match value {
        Value::Null => return Ok(None),
        Value::String(text) => return Ok(Some(text.clone())),
        Value::Array(entries) => entries,
        _ => return Err(wrong("`chat_template` is neither a text nor a list of named texts")),
    };
    let chosen = match entries.as_slice() {
        [] => return Ok(None),
        [only] => Some(only),
        several => several.iter().find(|entry| entry["name"] == "default"),
    };
    let Some(chosen) = chosen else {
        let found = entries.iter().map(|entry| entry["name"].as_str().unwrap_or("?").to_owned()).collect();
        return Err(Error::ChatChoice { file: file.to_owned(), found });
    };
    let text =
        chosen["template"].as_str().ok_or_else(|| wrong("an entry of `chat_template` has no text in `template`"))?;
    Ok(Some(text.to_owned()))
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
