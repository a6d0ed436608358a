//! Selects the files of a model to download. Python code, weights in other formats and unused shards are skipped.

use std::collections::BTreeSet;

use ruminate::{ShardIndex, Spec};

use super::failure::Failure;
use super::remote::Listing;
use crate::hub::ModelName;

/// Configuration of the model.
pub(super) const CONFIG: &str = "config.json";
/// Weights in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// Index from tensors to shards.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Maximum number of files named in a message.
const NAMED: usize = 20;

/// Files to download before the weights: the configuration, the index and the tokenizer's files.
///
/// # Errors
/// If the files are not those of a supported model.
pub(super) fn small(name: &ModelName, listing: &Listing) -> Result<Vec<String>, Failure> {
    let names: BTreeSet<&str> = listing.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let weights = names.contains(SINGLE) || names.contains(INDEX);
    if !names.contains(CONFIG) || !names.contains("tokenizer.json") || !weights {
        let mut there: Vec<&str> = names.iter().copied().take(NAMED).collect();
        if names.len() > NAMED {
            there.push("…");
        }
        return Err(Failure::Missing(format!(
            "`{name}` is not a checkpoint that Ruminate can run: it needs {CONFIG}, tokenizer.json and {SINGLE} or {INDEX}; it has {}",
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

/// Files with weights, needed and unused.
pub(super) struct Weights {
    /// Files to download.
    pub(super) needed: Vec<String>,
    /// Shards without any tensor that the model uses.
    pub(super) unread: Vec<String>,
}

/// Selects the files with weights, by the index if there is one.
///
/// # Errors
/// If the index is damaged or names files that are not in the list.
pub(super) fn weights(listing: &Listing, config: &Spec, index: Option<&[u8]>) -> Result<Weights, Failure> {
    let Some(index) = index else { return Ok(Weights { needed: vec![SINGLE.to_owned()], unread: Vec::new() }) };
    let index = ShardIndex::parse(INDEX, index).map_err(|error| Failure::Missing(error.to_string()))?;
    let (needed, unread) = index.shards(config);
    for shard in needed.iter().chain(&unread) {
        let wrong = if !is_plain(shard) || !shard.ends_with(".safetensors") {
            "which is not a valid file name of a shard"
        } else if !listing.siblings.iter().any(|file| file.rfilename == *shard) {
            "which the hub does not have"
        } else {
            continue;
        };
        return Err(Failure::Missing(format!("{INDEX} names `{}`, {wrong}", shard.escape_default())));
    }
    Ok(Weights { needed, unread })
}

/// Whether a name is a plain file name without folders. Names come from the server and become parts of paths and addresses.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '=');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}
