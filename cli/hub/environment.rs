//! Folders of the hub on this machine, from the environment variables of Python's `huggingface_hub`, in its order of precedence.

use std::ffi::OsString;
use std::path::PathBuf;

/// Lookup of environment variables.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Value of a variable that is set and not empty.
pub(crate) fn set(variables: Variables<'_>, name: &str) -> Option<OsString> {
    variables(name).filter(|value| !value.is_empty())
}

/// Expands `~` and `$NAME` in a path, as Python does. Shells expand them already; service managers and editors do not.
fn expand(variables: Variables<'_>, path: OsString) -> PathBuf {
    // A path that is not UTF-8 is used unexpanded.
    let path = match path.into_string() {
        Ok(text) => text,
        Err(path) => return path.into(),
    };
    let home = || user(variables).map(|home| home.to_string_lossy().into_owned());
    let value = |name: &str| variables(name).and_then(|value| value.into_string().ok());
    PathBuf::from(shellexpand::full_with_context_no_errors(&path, home, value).into_owned())
}

/// Error: the home folder is unknown, so the cache has no location.
#[derive(Debug)]
pub(crate) struct NoHome;

impl std::fmt::Display for NoHome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unknown home folder: HOME is not set, and the user database has no entry; set HF_HOME to a folder for models")
    }
}

impl std::error::Error for NoHome {}

/// Home folder: from the variable, else from the user database. Relative paths are ignored, because they depend on the current folder.
fn user(variables: Variables<'_>) -> Option<PathBuf> {
    let named = set(variables, if cfg!(windows) { "USERPROFILE" } else { "HOME" }).map(PathBuf::from);
    named.filter(|path| path.is_absolute()).or_else(|| std::env::home_dir().filter(|path| path.is_absolute()))
}

/// Path in a variable, expanded.
pub(crate) fn path(variables: Variables<'_>, name: &str) -> Option<PathBuf> {
    set(variables, name).map(|path| expand(variables, path))
}

/// Folder of all hub files: `HF_HOME`, else `huggingface` in `XDG_CACHE_HOME` or `~/.cache`.
pub(crate) fn home(variables: Variables<'_>) -> Result<PathBuf, NoHome> {
    if let Some(path) = path(variables, "HF_HOME") {
        return Ok(path);
    }
    // The XDG specification says to ignore a relative path.
    let caches = path(variables, "XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let caches = caches.or_else(|| user(variables).map(|home| home.join(".cache")));
    caches.map(|caches| caches.join("huggingface")).ok_or(NoHome)
}

/// Cache of models: `HF_HUB_CACHE`, else the older `HUGGINGFACE_HUB_CACHE`, else `hub` in [`home`].
pub(crate) fn cache(variables: Variables<'_>) -> Result<PathBuf, NoHome> {
    let named = path(variables, "HF_HUB_CACHE").or_else(|| path(variables, "HUGGINGFACE_HUB_CACHE"));
    named.map_or_else(|| home(variables).map(|home| home.join("hub")), Ok)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::cache;

    fn with(variables: &[(&str, &str)]) -> String {
        let lookup = |name: &str| {
            let home = [(if cfg!(windows) { "USERPROFILE" } else { "HOME" }, "/me")];
            let found = variables.iter().chain(&home).find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        cache(&lookup).expect("a home").display().to_string().replace('\\', "/")
    }

    #[test]
    fn the_most_specific_variable_wins() {
        assert_eq!(with(&[]), "/me/.cache/huggingface/hub");
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(with(&[("XDG_CACHE_HOME", "x")]), "/me/.cache/huggingface/hub");
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")]), "/h/hub");
        assert_eq!(with(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/old");
        assert_eq!(with(&[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/new");
        assert_eq!(with(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")]), "/h/hub");
    }

    #[test]
    fn home_and_variables_in_paths_are_replaced() {
        assert_eq!(with(&[("HF_HUB_CACHE", "~/models")]), "/me/models");
        assert_eq!(with(&[("HF_HOME", "$DISK/hf"), ("DISK", "/disk")]), "/disk/hf/hub");
        assert!(Path::new(&with(&[("HF_HOME", "$NOWHERE/hf")])).starts_with("$NOWHERE"));
    }
}
