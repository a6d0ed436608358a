//! Short names of published models.

use ruminate::{Published, published};

/// Repository of a short name; any other name is returned unchanged.
pub(super) fn resolved(name: &str) -> &str {
    published().into_iter().find(|known| known.name == name).map_or(name, |known| known.repo)
}

/// Published model in a repository.
pub(crate) fn of(repo: &str) -> Option<Published> {
    published().into_iter().find(|known| known.repo == repo)
}
