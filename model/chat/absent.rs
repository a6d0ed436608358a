//! Chat templates in a build without the feature `chat`: none.

#[path = "message.rs"]
mod message;

pub use self::message::Message;
use crate::error::Result;
use crate::source::Source;

/// A checkpoint's chat template. This build renders none, so there is never one.
#[derive(Debug)]
pub enum ChatTemplate {}

impl ChatTemplate {
    /// None, whatever the checkpoint has.
    ///
    /// # Errors
    /// Never.
    pub fn open(_: &Source) -> Result<Option<Self>> {
        Ok(None)
    }
}
