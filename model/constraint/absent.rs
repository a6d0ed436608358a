//! Stands for grammars where the feature `structured` is off: there are none, so nothing here is ever called.

use super::Mask;
use crate::tokenizer::Tokenizer;

/// No grammar.
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

/// A place in no grammar.
pub(super) enum Matcher {}

impl Matcher {
    pub(super) fn mask(&mut self) -> Result<(Mask, bool), String> {
        match *self {}
    }

    pub(super) fn take(&mut self, _: u32) -> Result<bool, String> {
        match *self {}
    }
}
