//! A sequence whose passes nobody can share: it has a session of its own, whose passes take turns with the rounds of the others.
//!
//! Such are sequences that compute ahead of what is known, and those whose rows leave all together or go back to an earlier state. They say what they say alone.

use std::time::Duration;

use super::member::Member;
use super::{Batch, Event, SequenceId};
use crate::error::Error;
use crate::generate::{Progress, Prompt, Statistics, StopReason};
use crate::generation::ActiveGeneration;
use crate::options::{GenerateOptions, SessionOptions};
use crate::session::Session;

/// A sequence with a session of its own.
pub(super) struct Guest {
    pub(super) id: SequenceId,
    session: Session,
    generation: ActiveGeneration,
    /// Its prompt, and what it has said.
    pub(super) tokens: Vec<u32>,
    /// Bytes that are set aside for it.
    pub(super) bytes: u64,
    /// Steps of a token that does not leave early, if all have as many and some may.
    most_steps: Option<u32>,
}

impl Guest {
    pub(super) fn statistics(&self) -> &Statistics {
        self.generation.statistics()
    }
}

impl Batch {
    /// Lets a sequence in that shares no passes.
    pub(super) fn let_guest_in(&mut self, member: Member, options: &GenerateOptions, bytes: u64) -> Result<(), Error> {
        let steps = member.steps.max(self.planned);
        let session = SessionOptions { context: Some(self.kv.context()), steps: Some(steps), ..member.session.clone() };
        let started = self.model.session(session).and_then(|mut session| {
            let mut generation = ActiveGeneration::new(&mut session, Prompt::Tokens(&member.tokens), options)?;
            // Where rows leave all together, it counts which rows a pass has.
            if options.exit.is_none() && self.running() > 0 {
                generation.limit_rows(self.pace.rows(member.steps));
            }
            Ok((session, generation))
        });
        match started {
            Ok((session, generation)) => {
                self.totals.prompt_tokens += member.tokens.len() as u64;
                let id = member.id;
                let most_steps = options.exit.filter(|_| options.steps_of.is_none()).map(|_| member.steps);
                self.guests.push(Guest { id, session, generation, tokens: member.tokens, bytes, most_steps });
                Ok(())
            }
            Err(error @ Error::Engine(_)) => Err(error),
            Err(error) => {
                self.events.push_back(Event::Failed { id: member.id, error });
                self.done(&member, StopReason::Failed);
                Ok(())
            }
        }
    }

    /// Lets every guest have a pass, and waits for what it brings; with a budget, only the first, without waiting, which is the last one then.
    pub(super) fn step_guests(&mut self, budget: Option<Duration>) -> Result<(), Error> {
        let count = if budget.is_some() { self.guests.len().min(1) } else { self.guests.len() };
        for mut guest in self.guests.drain(..count).collect::<Vec<_>>() {
            let before = guest.statistics().core_passes;
            let progress = match budget {
                Some(budget) => guest.generation.step(&mut guest.session, budget),
                None => guest.generation.pass(&mut guest.session),
            };
            let passes = guest.statistics().core_passes - before;
            (self.totals.passes, self.totals.rows) = (self.totals.passes + passes, self.totals.rows + passes);
            self.totals.capacity += passes;
            let ended = match progress {
                Ok(Progress::Working) => None,
                Ok(Progress::Done(reason)) => Some(reason),
                Ok(Progress::Token(piece)) => {
                    guest.tokens.push(piece.token);
                    self.totals.tokens += 1;
                    self.totals.steps += u64::from(piece.steps);
                    self.totals.most_steps += u64::from(guest.most_steps.unwrap_or(piece.steps));
                    self.events.push_back(Event::Token { id: guest.id, piece });
                    guest.generation.stop_reason()
                }
                // Of the device: everybody ends.
                Err(error @ Error::Engine(_)) => return Err(error),
                Err(error) => {
                    self.events.push_back(Event::Failed { id: guest.id, error });
                    Some(StopReason::Failed)
                }
            };
            match ended {
                Some(reason) => self.guest_done(&guest, reason),
                None => self.guests.push(guest),
            }
        }
        Ok(())
    }

    /// Ends a guest; false if there is none of that name.
    pub(super) fn end_guest(&mut self, id: SequenceId, reason: StopReason) -> bool {
        let Some(place) = self.guests.iter().position(|guest| guest.id == id) else { return false };
        let guest = self.guests.remove(place);
        self.guest_done(&guest, reason);
        true
    }

    fn guest_done(&mut self, guest: &Guest, reason: StopReason) {
        self.events.push_back(Event::Done { id: guest.id, reason, statistics: guest.statistics().clone() });
    }
}
