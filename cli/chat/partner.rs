//! What a conversation can be asked for, whoever answers: a model here, or a server.

use std::path::Path;

use anyhow::Result;
use ruminate::{Message, StopReason};

use super::file;
use crate::interrupt::Interrupt;

/// How an answer ended.
pub(super) struct Answer {
    /// Why; none if it was interrupted.
    pub(super) stop: Option<StopReason>,
    /// Whether it had begun.
    pub(super) said: bool,
    /// Positions of the session; none if a server has not said.
    pub(super) context: Option<u32>,
}

/// Who answers.
pub(super) trait Partner {
    /// Says something and prints the answer. If nothing can be answered, nothing was said.
    fn say(&mut self, text: &str, interrupt: &Interrupt) -> Result<Answer>;

    /// Answers the last message anew, with the next seed: with the same one the answer would be the same.
    fn regenerate(&mut self, interrupt: &Interrupt) -> Result<Answer>;

    /// Steps per token; none if only the server knows.
    fn steps(&self) -> Option<u32>;

    /// Thinks so many steps per token from now on, about what was said before too.
    fn set_steps(&mut self, steps: u32) -> Result<()>;

    /// Temperature of sampling, 0 is greedy; none if only the server knows.
    fn temperature(&self) -> Option<f32>;

    /// Samples at this temperature from now on.
    fn set_temperature(&mut self, temperature: f32);

    /// What was said.
    fn transcript(&mut self) -> &mut Transcript;
}

/// The messages of a conversation.
#[derive(Default)]
pub(super) struct Transcript {
    /// What the model is told before the conversation.
    pub(super) system: Option<String>,
    /// Without the system prompt.
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

    /// Takes over the messages of a file; gives their number.
    pub(super) fn load(&mut self, path: &Path) -> Result<usize> {
        let mut messages = file::load(path)?;
        let count = messages.len();
        let system = messages.first().is_some_and(|first| first.role == "system").then(|| messages.remove(0).content);
        (self.system, self.messages) = (system, messages);
        Ok(count)
    }

    /// System prompt and messages.
    pub(super) fn whole(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| message("system", text));
        system.chain(self.messages.iter().cloned()).collect()
    }
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}
