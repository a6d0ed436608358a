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
pub(crate) const KNOWN: [Known; 1] = [Known {
    short: "huginn-0125",
    repo: "tomg-group-umd/huginn-0125",
    shape: "huginn-0125",
    about: "3.5 billion parameters, downloads 14.3 GB (https://arxiv.org/abs/2502.05171)",
}];

/// The repository that a short name stands for, or the name itself.
pub(super) fn resolved(name: &str) -> &str {
    KNOWN.iter().find(|known| known.short == name).map_or(name, |known| known.repo)
}

/// The shape of a published model, from which random weights can be made.
pub(crate) fn shape(repo: &str) -> Option<&'static str> {
    KNOWN.iter().find(|known| known.repo == repo).map(|known| known.shape)
}
