//! Names of models on the hub.

use std::fmt;
use std::str::FromStr;

use hf_hub::{Repo, RepoType};

use super::known;

/// Default branch.
const MAIN: &str = "main";

/// Name of a model, `owner/name[@revision]`; models from the hub's first years have no owner. Short names of published models are resolved to
/// their repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelName {
    repo: String,
    revision: String,
}

impl ModelName {
    /// Owner and name.
    pub(crate) fn repo(&self) -> &str {
        &self.repo
    }

    /// A branch, a tag, `refs/pr/N` or a commit.
    pub(crate) fn revision(&self) -> &str {
        &self.revision
    }

    /// Whether the revision is a commit itself, so that no branch must be looked up.
    pub(crate) fn is_commit(&self) -> bool {
        is_commit(&self.revision)
    }

    /// Converts to a `hf_hub::Repo`; that crate knows the layout of the cache.
    pub(crate) fn to_repo(&self) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision.clone())
    }
}

/// Whether a text is a full commit hash. Only full hashes name a snapshot, as in Python.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

impl FromStr for ModelName {
    type Err = String;

    /// Follows the rules of Python's `validate_repo_id`, and those of git for revisions, because both become parts of paths.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = of_hub(text) {
            let page = path.split(['?', '#']).next().unwrap_or_default();
            let mut parts = page.trim_end_matches('/').splitn(4, '/');
            let (owner, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let revision = match (parts.next(), parts.next()) {
                (Some("tree"), Some(revision)) => format!("@{revision}"),
                _ => String::new(),
            };
            return format!("{owner}/{name}{revision}").parse();
        }
        if text.contains("://") {
            return Err(format!("`{text}` is not the address of a model on the Hugging Face hub; give owner/name"));
        }
        let (repo, revision) = text.split_once('@').unwrap_or((text, MAIN));
        // Shells complete folder names with a slash.
        let repo = repo.strip_suffix('/').filter(|repo| repo.contains('/')).unwrap_or(repo);
        let mut parts = repo.split('/');
        let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let good = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty()
                && part.chars().all(plain)
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..")
        };
        if third.is_some() || !good(first) || !second.is_none_or(good) || repo.len() > 96 || repo.ends_with(".git") {
            return Err(format!("`{repo}` is not a model name; expected owner/name or owner/name@revision"));
        }
        let odd = |c: char| c.is_control() || c.is_whitespace() || r"\:?*[~^".contains(c);
        let component = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains("..");
        if revision.contains(odd) || !revision.split('/').all(component) {
            return Err(format!("`{revision}` is not a revision; expected a branch, a tag or a commit of 40 digits"));
        }
        Ok(Self { repo: known::resolved(repo).to_owned(), revision: revision.to_owned() })
    }
}

/// Path of an address on the hub, without the host.
fn of_hub(text: &str) -> Option<&str> {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    ["huggingface.co/", "www.huggingface.co/", "hf.co/"].iter().find_map(|host| bare.strip_prefix(host))
}

#[cfg(test)]
mod tests {
    use super::ModelName;

    fn parts(text: &str) -> Option<(String, String)> {
        text.parse().ok().map(|ModelName { repo, revision }| (repo, revision))
    }

    #[test]
    fn names_have_an_owner_and_may_have_a_revision() {
        let same = |text: &str, repo: &str, revision: &str| {
            assert_eq!(parts(text), Some((repo.to_owned(), revision.to_owned())), "{text}");
        };
        same("tomg-group-umd/huginn-0125", "tomg-group-umd/huginn-0125", "main");
        same("gpt2", "gpt2", "main");
        same("huginn-0125", "tomg-group-umd/huginn-0125", "main");
        same("huginn-0125@v1", "tomg-group-umd/huginn-0125", "v1");
        same("other/huginn-0125", "other/huginn-0125", "main");
        same("a/b.c_d-1@v1.0", "a/b.c_d-1", "v1.0");
        same("a/b@refs/pr/5", "a/b", "refs/pr/5");
        same("a/b/", "a/b", "main");
        same("https://huggingface.co/a/b", "a/b", "main");
        same("hf.co/a/b/", "a/b", "main");
        same("https://huggingface.co/a/b/tree/v1.0?x=1#files", "a/b", "v1.0");
        same("https://huggingface.co/a/b/blob/main/config.json", "a/b", "main");
    }

    #[test]
    fn names_that_could_escape_the_cache_are_rejected() {
        let wrong = [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "a/b//",
            "https://example.org/a/b",
            "hf.co/a",
            "./a",
            "../a",
            "a/..",
            "a--b/c",
            "a/b.git",
            "a b/c",
            "a\\b",
            "C:/a",
            "a/.b",
            "a/b@",
            "a/b@../../x",
            "a/b@x/../y",
            "a/b@/x",
            "a/b@x/",
            "a/b@.x",
            "a/b@x y",
            "a/b@x\\y",
            "~/a",
        ];
        for text in wrong {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
