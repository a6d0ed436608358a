//! Chat templates: Jinja programs from the checkpoint. They are untrusted, so rendering has bounded work and memory.

mod budget;
mod filters;
mod guard;
mod message;
mod methods;
mod python;
mod slice;
mod source;
mod strftime;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::machinery::{Vm, make_string_output};
use minijinja::{AutoEscape, Environment, ErrorKind};
use serde::Serialize;
use serde_json::{Map, Value, json};

pub use self::message::Message;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::tokenizer::{Named, Shield, Specials, Tokenizer};

/// Name of the template in messages.
const NAME: &str = "chat_template";
const CONFIG: &str = "tokenizer_config.json";
const ALONE: &str = "chat_template.jinja";

/// Maximum number of instructions of a rendering.
const FUEL: u64 = 10_000_000;

/// A checkpoint's chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Text after [`source::prepare`].
    text: String,
    file: String,
    /// Special tokens by the names that the template uses.
    named: BTreeMap<String, Value>,
}

impl ChatTemplate {
    /// Reads the template from `chat_template.jinja` or `tokenizer_config.json`; returns `None` if the checkpoint has no template.
    ///
    /// # Errors
    /// [`Error::Chat`] if the template does not compile, [`Error::Json`] or [`Error::File`] if a file is damaged.
    pub fn open(source: &Source) -> Result<Option<Self>> {
        let spec = if source.exists(CONFIG) { source.json(CONFIG)? } else { Value::Null };
        let alone = source.exists(ALONE);
        let file = source.describe(if alone { ALONE } else { CONFIG });
        let text = if alone {
            let wrong = |_| Error::Chat { file: file.clone(), problem: "is not UTF-8".to_owned() };
            Some(String::from_utf8(source.read(ALONE)?.into_owned()).map_err(wrong)?)
        } else {
            from_config(&spec["chat_template"], &file)?
        };
        let Some(text) = text else { return Ok(None) };
        // Some Windows editors begin a file with a byte order mark, which is not part of the template.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        guard::install(&mut environment);
        filters::install(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| -> Result<String, minijinja::Error> {
            strftime::strftime_now(&format)
                .map_err(|problem| minijinja::Error::new(ErrorKind::InvalidOperation, problem))
        });
        let failed = |error: minijinja::Error| Error::Chat { file: file.clone(), problem: error.to_string() };
        let text = source::prepare(text).map_err(failed)?;
        // Compiles the template to report its errors. Rendering compiles it again for every conversation, which takes microseconds.
        guard::compile(NAME, &text).map_err(failed)?;
        Ok(Some(Self { environment, text, file, named: Named::open(source)?.tokens() }))
    }

    /// Renders a conversation. The text already contains the special tokens, so it must be encoded with [`Specials::None`].
    ///
    /// # Errors
    /// [`Error::Chat`] if the template fails, rejects the conversation, or exceeds its limits of instructions or memory.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_with(messages, add_generation_prompt, &Map::new())
    }

    /// Renders a conversation with additional template variables, such as `enable_thinking`: the extra arguments of transformers' `apply_chat_template`.
    ///
    /// # Errors
    /// See [`Self::render`].
    pub fn render_with(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        variables: &Map<String, Value>,
    ) -> Result<String> {
        self.write_out(messages, add_generation_prompt, variables)
    }

    /// Name of the first variable that a caller cannot give, because the conversation sets it.
    #[must_use]
    pub fn reserved(variables: &Map<String, Value>) -> Option<&'static str> {
        ["messages", "add_generation_prompt"].into_iter().find(|&name| variables.contains_key(name))
    }

    fn write_out(
        &self,
        messages: impl Serialize,
        add_generation_prompt: bool,
        variables: &Map<String, Value>,
    ) -> Result<String> {
        let failed = |problem: String| Error::Chat { file: self.file.clone(), problem };
        if let Some(name) = Self::reserved(variables) {
            return Err(failed(format!("the variable `{name}` is set by the conversation and cannot be given")));
        }
        let code = guard::compile(NAME, &self.text).map_err(|error| failed(error.to_string()))?;
        // As in transformers, variables without a value are none, and special tokens that do not exist are undefined.
        let mut values: BTreeMap<&str, minijinja::Value> =
            self.named.iter().map(|(name, token)| (name.as_str(), minijinja::Value::from_serialize(token))).collect();
        values.insert("messages", minijinja::Value::from_serialize(messages));
        values.insert("tools", ().into());
        values.insert("documents", ().into());
        values.insert("add_generation_prompt", add_generation_prompt.into());
        values.extend(variables.iter().map(|(name, value)| (name.as_str(), minijinja::Value::from_serialize(value))));
        let values = minijinja::Value::from(values);
        let vm = Vm::new(&self.environment);
        let mut text = String::new();
        let mut output = make_string_output(&mut text);
        let evaluate = || vm.eval(&code.instructions, values, &code.blocks, &mut output, AutoEscape::None);
        // The interpreter's own arithmetic panics for some numbers.
        let ended =
            catch_unwind(AssertUnwindSafe(evaluate)).map_err(|_| failed("the interpreter panicked".to_owned()))?;
        ended.map_err(|error| failed(error.to_string()))?;
        Ok(text)
    }

    /// Renders a conversation and encodes it. Special tokens that the template writes become tokens. Special tokens spelled in a message stay plain text, so
    /// that nobody can forge a message, unless `parse_special` is set, as in transformers.
    ///
    /// # Errors
    /// See [`Self::render`]; also errors of the tokenizer.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
        parse_special: bool,
    ) -> Result<Vec<u32>> {
        self.encode_with(tokenizer, messages, add_generation_prompt, parse_special, &Map::new())
    }

    /// Renders and encodes a conversation with additional template variables: see [`Self::render_with`].
    ///
    /// # Errors
    /// See [`Self::encode`].
    pub fn encode_with(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
        parse_special: bool,
        variables: &Map<String, Value>,
    ) -> Result<Vec<u32>> {
        let messages = messages.iter().map(|Message { role, content }| json!({ "role": role, "content": content }));
        self.encode_values(tokenizer, &messages.collect(), add_generation_prompt, parse_special, variables)
    }

    /// Renders and encodes messages with fields besides role and content, such as `tool_calls`: a list of objects, passed to the template unchanged. Special
    /// tokens spelled in messages or variables stay plain text unless `parse_special` is set.
    ///
    /// # Errors
    /// See [`Self::encode`].
    pub fn encode_values(
        &self,
        tokenizer: &Tokenizer,
        messages: &Value,
        add_generation_prompt: bool,
        parse_special: bool,
        variables: &Map<String, Value>,
    ) -> Result<Vec<u32>> {
        let tokens = self.tokens(tokenizer, messages, add_generation_prompt, parse_special, variables)?;
        if tokens.is_empty() {
            let problem = "it renders nothing for this conversation".to_owned();
            return Err(Error::Chat { file: self.file.clone(), problem });
        }
        Ok(tokens)
    }

    fn tokens(
        &self,
        tokenizer: &Tokenizer,
        messages: &Value,
        add_generation_prompt: bool,
        parse_special: bool,
        variables: &Map<String, Value>,
    ) -> Result<Vec<u32>> {
        if parse_special {
            let text = self.write_out(messages, add_generation_prompt, variables)?;
            return tokenizer.encode(&text, Specials::None);
        }
        let special = tokenizer.special();
        let mut texts = vec![self.text.as_str()];
        variables.values().chain([messages]).for_each(|value| list_texts(value, &mut texts));
        let shield = Shield::new(&special, &texts.into_iter());
        let mut covered = messages.clone();
        let cover = |text: &str| shield.cover(text, &special);
        cover_texts(&mut covered, &cover);
        let mut variables = variables.clone();
        variables.values_mut().for_each(|value| cover_texts(value, &cover));
        let text = self.write_out(&covered, add_generation_prompt, &variables)?;
        tokenizer.encode_with(&text, Specials::None, true, &shield)
    }

    /// Special token that the template writes after an answer, and that therefore ends one. `None` if it writes text there, or rejects a conversation as short
    /// as the one tried.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails.
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

/// Collects all strings in a value, including field names.
fn list_texts<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(list) => list.iter().for_each(|value| list_texts(value, texts)),
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            texts.push(name);
            list_texts(value, texts);
        }),
        _ => {}
    }
}

/// Replaces characters by stand-ins in all strings of a value, including field names, because templates write whole objects.
fn cover_texts(value: &mut Value, cover: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = cover(text),
        Value::Array(list) => list.iter_mut().for_each(|value| cover_texts(value, cover)),
        Value::Object(map) => {
            for (name, mut value) in std::mem::take(map) {
                cover_texts(&mut value, cover);
                map.insert(cover(&name), value);
            }
        }
        _ => {}
    }
}

/// Template in `tokenizer_config.json`: the only one, or the one named "default" in a list.
fn from_config(value: &Value, file: &str) -> Result<Option<String>> {
    let wrong = |problem: &str| Error::Chat { file: file.to_owned(), problem: problem.to_owned() };
    let entries = match value {
        Value::Null => return Ok(None),
        Value::String(text) => return Ok(Some(text.clone())),
        Value::Array(entries) => entries,
        _ => return Err(wrong("`chat_template` must be a string or a list of named templates")),
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
        chosen["template"].as_str().ok_or_else(|| wrong("an entry of `chat_template` has no string in `template`"))?;
    Ok(Some(text.to_owned()))
}
