//! Names of stored tensors, for models whose configurations do not tell them apart.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use crate::checkpoint::stored_names;
use crate::source::Source;

/// The names of a checkpoint's tensors, read when somebody asks.
pub(crate) struct Stored<'a> {
    source: Option<&'a Source>,
    names: OnceCell<Option<BTreeSet<String>>>,
}

impl<'a> Stored<'a> {
    /// Those of a checkpoint.
    pub(crate) const fn of(source: &'a Source) -> Self {
        Self { source: Some(source), names: OnceCell::new() }
    }

    /// No tensors are known.
    pub(crate) const fn nothing() -> Self {
        Self { source: None, names: OnceCell::new() }
    }

    /// Whether a tensor of this name is stored, quantised or not; `None` if nobody knows, because there are no weights or they cannot be read, which
    /// whoever loads them reports.
    pub(crate) fn has(&self, name: &str) -> Option<bool> {
        let names = self.names.get_or_init(|| stored_names(self.source?));
        names.as_ref().map(|names| names.contains(name))
    }
}
