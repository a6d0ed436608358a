//! Where things of the hub lie on this machine: the variables of Python's `huggingface_hub`, in its order of precedence.

use std::ffi::OsString;
use std::path::PathBuf;

/// The variables of a process.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A variable that is set and not empty.
pub(crate) fn set(variables: Variables<'_>, name: &str) -> Option<OsString> {
    variables(name).filter(|value| !value.is_empty())
}

/// Replaces `~` and `$NAME` in a path, as Python does. Shells have done so already; service managers and editors have not.
fn expand(variables: Variables<'_>, path: OsString) -> PathBuf {
    // What is no UTF-8 is taken as it is.
    let path = match path.into_string() {
        Ok(text) => text,
        Err(path) => return path.into(),
    };
    let home = || user(variables).map(|home| home.to_string_lossy().into_owned());
    let value = |name: &str| variables(name).and_then(|value| value.into_string().ok());
    PathBuf::from(shellexpand::full_with_context_no_errors(&path, home, value).into_owned())
}

/// The user's own folder.
fn user(variables: Variables<'_>) -> Option<PathBuf> {
    set(variables, if cfg!(windows) { "USERPROFILE" } else { "HOME" }).map(PathBuf::from)
}

/// The path in a variable.
pub(crate) fn path(variables: Variables<'_>, name: &str) -> Option<PathBuf> {
    set(variables, name).map(|path| expand(variables, path))
}

/// Everything of the hub: `HF_HOME`, else `huggingface` in `XDG_CACHE_HOME` or `~/.cache`.
pub(crate) fn home(variables: Variables<'_>) -> PathBuf {
    path(variables, "HF_HOME").unwrap_or_else(|| {
        let caches = path(variables, "XDG_CACHE_HOME");
        caches.unwrap_or_else(|| user(variables).unwrap_or_default().join(".cache")).join("huggingface")
    })
}

/// The cache of models: `HF_HUB_CACHE`, else the older `HUGGINGFACE_HUB_CACHE`, else `hub` in [`home`].
pub(crate) fn cache(variables: Variables<'_>) -> PathBuf {
    let named = path(variables, "HF_HUB_CACHE").or_else(|| path(variables, "HUGGINGFACE_HUB_CACHE"));
    named.unwrap_or_else(|| home(variables).join("hub"))
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
        cache(&lookup).display().to_string().replace('\\', "/")
    }

    #[test]
    fn the_most_specific_variable_wins() {
        assert_eq!(with(&[]), "/me/.cache/huggingface/hub");
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
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
