//! Fields of tokenizer.json except the vocabulary, which is large, and checks for values at which the tokenizers crate panics.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;

/// Fields of tokenizer.json.
#[derive(Debug, Deserialize)]
pub(super) struct Layout {
    #[serde(default)]
    version: Value,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub(super) post_processor: Value,
    #[serde(default)]
    model: Model,
    #[serde(default)]
    pub(super) decoder: Value,
}

/// Fields of the `model` object.
#[derive(Debug, Default, Deserialize)]
struct Model {
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
}

impl Layout {
    /// Reads and checks the file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let layout: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if !layout.version.is_null() && layout.version != "1.0" {
            return Err(format!("unsupported `version` {} (expected \"1.0\")", layout.version));
        }
        // The tokenizers crate panics if a token lacks the prefix or suffix.
        for (field, mark) in [
            ("continuing_subword_prefix", &layout.model.continuing_subword_prefix),
            ("end_of_word_suffix", &layout.model.end_of_word_suffix),
        ] {
            if !mark.is_null() && *mark != "" {
                return Err(format!("`{field}` is {mark}; only tokenizers without one are supported"));
            }
        }
        check_processor(&layout.post_processor)?;
        Ok(layout)
    }
}

/// Rejects a template with a special token that it does not define: the tokenizers crate would panic when it encodes.
fn check_processor(processor: &Value) -> Result<(), String> {
    if let Some(steps) = processor["processors"].as_array() {
        return steps.iter().try_for_each(check_processor);
    }
    let pieces = ["single", "pair"].into_iter().filter_map(|form| processor[form].as_array()).flatten();
    let named = pieces.filter_map(|piece| piece["SpecialToken"]["id"].as_str());
    match named.into_iter().find(|id| processor["special_tokens"][*id].is_null()) {
        Some(id) => Err(format!("`post_processor` adds {id}, which its `special_tokens` do not define")),
        None => Ok(()),
    }
}
