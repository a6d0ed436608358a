//! Stub for builds without the feature `chat`, which have no chat templates.

#[path = "message.rs"]
mod message;

pub use self::message::Message;
use crate::error::Result;
use crate::source::Source;

/// A checkpoint's chat template. This build renders no templates, so no value of this type exists.
#[derive(Debug)]
pub enum ChatTemplate {}

impl ChatTemplate {
    /// Returns `None`, whatever the checkpoint contains.
    ///
    /// # Errors
    /// Never.
    pub fn open(_: &Source) -> Result<Option<Self>> {
        Ok(None)
    }
}
