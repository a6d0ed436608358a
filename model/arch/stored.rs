//! Names of stored tensors, which distinguish models with the same configuration.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use crate::checkpoint::stored_names;
use crate::source::Source;

/// Names of a checkpoint's tensors, read on first use.
pub(crate) struct Stored<'a> {
    source: Option<&'a Source>,
    names: OnceCell<Option<BTreeSet<String>>>,
}

impl<'a> Stored<'a> {
    /// Names of the tensors of `source`.
    pub(crate) const fn of(source: &'a Source) -> Self {
        Self { source: Some(source), names: OnceCell::new() }
    }

    /// No checkpoint, so no names are known.
    pub(crate) const fn nothing() -> Self {
        Self { source: None, names: OnceCell::new() }
    }

    /// Whether a tensor of this name is stored, quantized or not. `None` if that is unknown, because there are no weights or they cannot be read; loading the
    /// weights reports why.
    pub(crate) fn has(&self, name: &str) -> Option<bool> {
        let names = self.names.get_or_init(|| stored_names(self.source?));
        names.as_ref().map(|names| names.contains(name))
    }
}
