//! Interface of a conversation: with a model on this machine, or with a server.

use std::path::Path;

use anyhow::Result;
use ruminate::{Message, StopReason};

use super::file;
use crate::interrupt::Interrupt;

/// Outcome of an answer.
pub(super) struct Answer {
    /// Stop reason, or `None` if the answer was interrupted.
    pub(super) stop: Option<StopReason>,
    /// Whether the answer contains text.
    pub(super) said: bool,
    /// Positions of the session, or `None` if the server did not report them.
    pub(super) context: Option<u32>,
}

/// Conversation partner: a local model or a server.
pub(super) trait Partner {
    /// Sends a message and prints the answer. Without an answer, the message is removed from the transcript.
    fn say(&mut self, text: &str, interrupt: &Interrupt) -> Result<Answer>;

    /// Answers the last message again, with the next seed: the same seed would give the same answer.
    fn regenerate(&mut self, interrupt: &Interrupt) -> Result<Answer>;

    /// Steps per token, or `None` if only the server knows.
    fn steps(&self) -> Option<u32>;

    /// Sets the steps per token from now on. Earlier messages are computed again at this depth.
    fn set_steps(&mut self, steps: u32) -> Result<()>;

    /// Sampling temperature (0 is greedy), or `None` if only the server knows.
    fn temperature(&self) -> Option<f32>;

    /// Sets the sampling temperature from now on.
    fn set_temperature(&mut self, temperature: f32);

    /// Messages so far.
    fn transcript(&mut self) -> &mut Transcript;
}

/// Messages of a conversation.
#[derive(Default)]
pub(super) struct Transcript {
    /// System prompt.
    pub(super) system: Option<String>,
    /// Messages, without the system prompt.
    pub(super) messages: Vec<Message>,
}

impl Transcript {
    pub(super) fn push(&mut self, role: &str, content: &str) {
        self.messages.push(message(role, content));
    }

    /// Writes the messages to a file.
    pub(super) fn save(&self, path: &Path, replace: bool) -> Result<()> {
        Ok(file::save(path, &self.whole(), replace)?)
    }

    /// Replaces the messages by those of a file and returns their number.
    pub(super) fn load(&mut self, path: &Path) -> Result<usize> {
        let mut messages = file::load(path)?;
        let count = messages.len();
        let system = messages.first().is_some_and(|first| first.role == "system").then(|| messages.remove(0).content);
        (self.system, self.messages) = (system, messages);
        Ok(count)
    }

    /// System prompt and messages, as one list.
    pub(super) fn whole(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| message("system", text));
        system.chain(self.messages.iter().cloned()).collect()
    }
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}
