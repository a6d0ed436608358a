//! Placeholder for grammars if the feature `structured` is off. They cannot be created, so none of this is ever called.

use super::Mask;
use crate::tokenizer::Tokenizer;

/// Uninhabited grammar.
pub(super) enum Grammar {}

impl Grammar {
    pub(super) fn warnings(&self) -> &[String] {
        match *self {}
    }

    pub(super) fn is_of(&self, _: &Tokenizer) -> bool {
        match *self {}
    }

    pub(super) fn matcher(&self) -> Matcher {
        match *self {}
    }
}

/// Uninhabited position in a grammar.
pub(super) enum Matcher {}

impl Matcher {
    pub(super) fn mask(&mut self) -> Result<(Mask, bool), String> {
        match *self {}
    }

    pub(super) fn take(&mut self, _: u32) -> Result<bool, String> {
        match *self {}
    }
}
