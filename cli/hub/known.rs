//! Published models that run here, and short names for them.

/// A published model.
#[derive(Debug)]
pub(crate) struct Known {
    /// Name that stands for the repository.
    pub(crate) short: &'static str,
    /// Owner and name on the hub.
    pub(crate) repo: &'static str,
    /// Shape of a synthetic model of the same size.
    pub(crate) shape: &'static str,
    /// Size and origin.
    #[cfg_attr(not(feature = "pull"), expect(dead_code, reason = "`pull --list` shows it"))]
    pub(crate) about: &'static str,
}

/// All of them.
pub(crate) const KNOWN: [Known; 5] = [
    known(
        "huginn-0125",
        "tomg-group-umd/huginn-0125",
        "huginn-0125",
        "3.5 billion parameters (https://arxiv.org/abs/2502.05171)",
    ),
    known("ouro-1.4b", "ByteDance/Ouro-1.4B", "ouro-1.4b", "1.4 billion parameters (https://arxiv.org/abs/2510.25741)"),
    known(
        "ouro-1.4b-thinking",
        "ByteDance/Ouro-1.4B-Thinking",
        "ouro-1.4b",
        "1.4 billion parameters, trained to reason (https://arxiv.org/abs/2510.25741)",
    ),
    known("ouro-2.6b", "ByteDance/Ouro-2.6B", "ouro-2.6b", "2.6 billion parameters (https://arxiv.org/abs/2510.25741)"),
    known(
        "ouro-2.6b-thinking",
        "ByteDance/Ouro-2.6B-Thinking",
        "ouro-2.6b",
        "2.6 billion parameters, trained to reason (https://arxiv.org/abs/2510.25741)",
    ),
];

/// An entry.
const fn known(short: &'static str, repo: &'static str, shape: &'static str, about: &'static str) -> Known {
    Known { short, repo, shape, about }
}

/// The repository that a short name stands for, or the name itself.
pub(super) fn resolved(name: &str) -> &str {
    KNOWN.iter().find(|known| known.short == name).map_or(name, |known| known.repo)
}

/// The shape of a published model, from which random weights can be made.
pub(crate) fn shape(repo: &str) -> Option<&'static str> {
    KNOWN.iter().find(|known| known.repo == repo).map(|known| known.shape)
}
