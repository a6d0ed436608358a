//! Messages of a conversation.

use serde::{Deserialize, Serialize};

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Author: `system`, `user`, `assistant`, or any other role that the template knows.
    pub role: String,
    /// Text of the message.
    pub content: String,
}
