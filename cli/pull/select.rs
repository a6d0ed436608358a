//! Which files of a model are needed. Python code, weights in other formats and shards that nobody reads stay where they are.

use std::collections::BTreeSet;

use ruminate::{ShardIndex, Spec};

use super::failure::Failure;
use super::remote::Listing;
use crate::hub::ModelName;

/// Says what the model is.
pub(super) const CONFIG: &str = "config.json";
/// Weights in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// Which shard has which tensor.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Files to name in a message at most.
const NAMED: usize = 20;

/// What comes before the weights: the files that say which of those are needed, and the tokenizer's.
///
/// # Errors
/// If this is no model that could be run.
pub(super) fn small(name: &ModelName, listing: &Listing) -> Result<Vec<String>, Failure> {
    let names: BTreeSet<&str> = listing.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let weights = names.contains(SINGLE) || names.contains(INDEX);
    if !names.contains(CONFIG) || !names.contains("tokenizer.json") || !weights {
        let mut there: Vec<&str> = names.iter().copied().take(NAMED).collect();
        if names.len() > NAMED {
            there.push("…");
        }
        return Err(Failure::Missing(format!(
            "`{name}` is no checkpoint that Ruminate can run: that needs {CONFIG}, tokenizer.json and {SINGLE} or {INDEX}; there is {}",
            if there.is_empty() { "nothing".to_owned() } else { there.join(", ") }
        )));
    }
    let wanted = |name: &str| {
        let tokenizer = name.starts_with("tokenizer") && name.ends_with(".json");
        let known =
            [CONFIG, "generation_config.json", "special_tokens_map.json", "chat_template.jinja"].contains(&name);
        is_plain(name) && (tokenizer || known || (name == INDEX && !names.contains(SINGLE)))
    };
    Ok(names.iter().filter(|name| wanted(name)).map(ToString::to_string).collect())
}

/// The weights: files that are needed, and shards that are not.
pub(super) struct Weights {
    /// Files to download.
    pub(super) needed: Vec<String>,
    /// Shards of tensors that nobody reads.
    pub(super) unread: Vec<String>,
}

/// Which files of weights are needed, by the index if there is one.
///
/// # Errors
/// If the index is damaged or names files that are not in the list.
pub(super) fn weights(listing: &Listing, config: &Spec, index: Option<&[u8]>) -> Result<Weights, Failure> {
    let Some(index) = index else { return Ok(Weights { needed: vec![SINGLE.to_owned()], unread: Vec::new() }) };
    let index = ShardIndex::parse(INDEX, index).map_err(|error| Failure::Missing(error.to_string()))?;
    let (needed, unread) = index.shards(config);
    for shard in needed.iter().chain(&unread) {
        let wrong = if !is_plain(shard) || !shard.ends_with(".safetensors") {
            "which is no name of a file of weights beside it"
        } else if !listing.siblings.iter().any(|file| file.rfilename == *shard) {
            "which the hub does not have"
        } else {
            continue;
        };
        return Err(Failure::Missing(format!("{INDEX} names `{}`, {wrong}", shard.escape_default())));
    }
    Ok(Weights { needed, unread })
}

/// Whether a name is that of a file beside the others. Names come from the server and become parts of paths and addresses.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '=');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}
