//! Finds a model in the cache: `models--OWNER--NAME/refs/REVISION` names a commit, whose files are in `snapshots/COMMIT`.

use std::path::{Path, PathBuf};

use hf_hub::Cache;

use super::environment;
use super::name::ModelName;
use crate::exit_code::NoModel;
use ruminate::published;

/// Maximum length of a reference, in bytes: far more than a commit's name.
const MOST_REFERENCE: u64 = 4096;

/// Folder of a model's files.
///
/// # Errors
/// [`NoModel`] if the cache lacks the model; the message names the folder searched and how to get the model.
pub(crate) fn find(name: &ModelName) -> Result<PathBuf, NoModel> {
    let path = environment::cache(&|name| std::env::var_os(name)).map_err(|error| NoModel(error.to_string()))?;
    lookup(&path, name).ok_or_else(|| NoModel(missing(&path, name)))
}

/// Folder of a model's files in a cache. A folder without `config.json` is an interrupted download and does not count.
pub(crate) fn lookup(cache: &Path, name: &ModelName) -> Option<PathBuf> {
    let repo = Cache::new(cache.to_path_buf()).repo(name.to_repo());
    if name.is_commit() {
        let folder = repo.pointer_path(name.revision());
        return folder.join("config.json").exists().then_some(folder);
    }
    // A reference is a file with a commit; a pipe in its place would be waited for.
    let reference = cache.join(name.to_repo().folder_name()).join("refs").join(name.revision());
    if !reference.metadata().is_ok_and(|file| file.is_file() && file.len() <= MOST_REFERENCE) {
        return None;
    }
    repo.get("config.json")?.parent().map(Path::to_path_buf)
}

fn missing(cache: &Path, name: &ModelName) -> String {
    let folder = cache.join(name.to_repo().folder_name());
    let state = if folder.is_dir() {
        format!("{} has no complete copy of revision {}", folder.display(), name.revision())
    } else {
        format!("{} does not exist", folder.display())
    };
    let advice = if name.repo().contains('/') { advice(name) } else { ownerless() };
    format!("`{name}` is neither a folder nor in the Hugging Face cache: {state}; {advice}")
}

/// Advice for a name without an owner; only the hub's first models have none.
fn ownerless() -> String {
    let short: Vec<_> = published().into_iter().map(|known| known.name).collect();
    format!("give a folder, owner/name, or one of the short names: {}", short.join(", "))
}

#[cfg(feature = "pull")]
fn advice(name: &ModelName) -> String {
    format!("download it with `ruminate pull {name}`")
}

#[cfg(not(feature = "pull"))]
fn advice(name: &ModelName) -> String {
    format!("this build cannot download (it lacks the feature `pull`); use `hf download {}`", name.repo())
}
