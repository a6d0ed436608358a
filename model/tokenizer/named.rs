//! Special tokens by name, from the files beside the tokenizer.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::Result;
use crate::source::Source;

/// Contents of `tokenizer_config.json` and `special_tokens_map.json`, of those that exist.
pub(crate) struct Named(Vec<Value>);

impl Named {
    pub(crate) fn open(source: &Source) -> Result<Self> {
        let files = ["tokenizer_config.json", "special_tokens_map.json"].into_iter().filter(|name| source.exists(name));
        Ok(Self(files.map(|name| source.json(name)).collect::<Result<_>>()?))
    }

    /// Text of a named token: a string, or an object with `content`.
    pub(crate) fn token(&self, field: &str) -> Option<&str> {
        self.0.iter().find_map(|file| text(file.get(field)?))
    }

    /// All special tokens by name, for a chat template: those that transformers knows, those of `extra_special_tokens`, and the list of additional ones.
    pub(crate) fn tokens(&self) -> BTreeMap<String, Value> {
        let mut tokens = BTreeMap::new();
        for file in self.0.iter().filter_map(Value::as_object) {
            let own = file.get("extra_special_tokens").and_then(Value::as_object).into_iter().flatten();
            let known = file.iter().filter(|(name, _)| name.ends_with("_token"));
            for (name, value) in known.chain(own) {
                if let Some(text) = text(value) {
                    tokens.entry(name.clone()).or_insert_with(|| text.into());
                }
            }
            if let Some(list) = file.get("additional_special_tokens").and_then(Value::as_array) {
                let list = list.iter().filter_map(text).map(Value::from).collect();
                tokens.entry("additional_special_tokens".to_owned()).or_insert(Value::Array(list));
            }
        }
        tokens
    }

    /// Value of a boolean field.
    pub(crate) fn flag(&self, field: &str) -> Option<bool> {
        self.0.iter().find_map(|file| file.get(field)?.as_bool())
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}
