//! Sequences with their own passes, which take turns with the rounds that the other sequences share.
//!
//! Sequences that decode in parallel (speculation, pipelined decoding, diffusion forcing) need them, and so do sequences whose prompt rows all exit together or
//! whose rows return to an earlier state. They generate as a session does. Their keys and values are in the store of the batch, so they count against its
//! memory, and their prompts can share pages of the prefix cache.

use std::task::Waker;
use std::time::Duration;

use ruminate_engine::clock::Instant;

use super::member::Member;
use super::pace::{MOST_STEPS, PIECE};
use super::passes::{OwnPasses, Passes};
use super::prefix::{Computed, Shared};
use super::{Batch, Event, SequenceId};
use crate::error::Error;
use crate::generate::{Progress, Prompt, Statistics, StopReason};
use crate::generation::ActiveGeneration;
use crate::kv::KvCache;
use crate::options::GenerateOptions;

/// Number of ended sequences whose buffers and plans are kept for later ones.
const MOST_IDLE: usize = 2;

/// How sequences with their own passes are driven.
#[derive(Clone, Copy)]
pub(super) enum Drive<'a> {
    /// One pass of each, whose result is awaited.
    Wait,
    /// Without waiting: about this much work for the first in line, which moves to the end of the line.
    Piece(Duration),
    /// Without waiting: passes submitted ahead, until there is an event. The device wakes the task.
    Ahead(&'a Waker),
}

/// A sequence with passes of its own.
pub(super) struct Guest {
    pub(super) id: SequenceId,
    own: OwnPasses,
    generation: ActiveGeneration,
    /// The prompt and the generated tokens.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
    /// Settings that the prompt is computed with, if its pages may be shared.
    computed: Option<Computed>,
    /// Positions and steps that memory is reserved for.
    end: u32,
    steps: u32,
    /// Steps of a token that does not exit early, if the depth is the same for all tokens and some may exit.
    most_steps: Option<u32>,
}

impl Guest {
    pub(super) fn slot(&self) -> usize {
        self.own.slot as usize
    }

    /// Whether its passes have more steps than others should wait for.
    pub(super) fn is_deep(&self) -> bool {
        self.steps > MOST_STEPS
    }

    pub(super) fn statistics(&self) -> &Statistics {
        self.generation.statistics()
    }

    /// Reserved bytes that are not allocated yet.
    pub(super) fn missing_bytes(&self, kv: &KvCache) -> u64 {
        kv.missing_bytes(self.own.slot, self.end, self.steps)
    }
}

impl Batch {
    /// Starts an admitted sequence with its own passes, after its shared pages.
    pub(super) fn let_guest_in(&mut self, slot: usize, mut member: Member, shared: &Shared) -> Result<(), Error> {
        let computed = member.computed(self.store.model.spec());
        let Some(options) = member.alone.take() else {
            return Err(Error::bug("a sequence with its own passes has its options"));
        };
        let (index, seed) = (slot as u32, member.session.seed);
        let mut own = self.own_passes(index, seed);
        let end = self.guest_end(&member);
        match self.start_guest(&mut own, &member, &options, shared) {
            Ok(mut generation) => {
                let cached = shared.depth.len() as u32;
                generation.add_cached(cached);
                self.totals.prompt_tokens += member.tokens.len() as u64;
                self.totals.cached_tokens += u64::from(cached);
                self.totals.prefix_hits += u64::from(cached > 0);
                self.guests.push(Guest {
                    id: member.id,
                    own,
                    generation,
                    prompt: member.tokens.len(),
                    computed,
                    end,
                    steps: member.most_steps(self.store.planned),
                    most_steps: options.exit.filter(|_| options.steps_of.is_none()).map(|_| member.steps),
                    tokens: member.tokens,
                });
                Ok(())
            }
            Err(error) => {
                self.store.model.device().check()?;
                self.store.kv.release(index)?;
                self.events.push_back(Event::Failed { id: member.id, error });
                self.done(&member, StopReason::Failed);
                Ok(())
            }
        }
    }

    /// Passes of an empty sequence, with the buffers and plans of one that has ended, if there are any.
    pub(super) fn own_passes(&mut self, slot: u32, seed: u64) -> OwnPasses {
        let idle = self.idle.pop();
        idle.map_or_else(|| OwnPasses::new(slot, seed), |idle| idle.reuse(slot, seed))
    }

    pub(super) fn start_guest(
        &mut self,
        own: &mut OwnPasses,
        member: &Member,
        options: &GenerateOptions,
        shared: &Shared,
    ) -> Result<ActiveGeneration, Error> {
        let (known, rest) = member.tokens.split_at(shared.depth.len());
        own.position = known.len() as u32;
        self.store.write_history(own.slot, 0, known)?;
        let steps = member.steps.max(self.store.planned);
        self.store.write_sequence(own.slot, own.seed, steps)?;
        let mut generation = ActiveGeneration::new(&self.store, own.held(), Prompt::Tokens(rest), (options, true))?;
        // If rows exit together, the decision depends on which rows share a pass, so the pass is not split.
        if options.exit.is_none() && self.running() > 0 {
            generation.limit_rows(self.pace.rows(member.steps));
        }
        generation.make_ready(&mut Passes { store: &mut self.store, own })?;
        Ok(generation)
    }

    /// Drives the sequences with their own passes in turn: all of them once, unless `drive` ends earlier.
    pub(super) fn step_guests(&mut self, drive: Drive<'_>) -> Result<(), Error> {
        let start = Instant::now();
        for turn in 0..self.guests.len() {
            let stop = match drive {
                Drive::Wait => false,
                Drive::Piece(_) => turn > 0,
                Drive::Ahead(_) => !self.events.is_empty() || start.elapsed() >= PIECE,
            };
            if stop {
                break;
            }
            let mut guest = self.guests.remove(0);
            let before = guest.generation.passes();
            let is_deep = guest.is_deep();
            let mut passes = Passes { store: &mut self.store, own: &mut guest.own };
            let progress = match drive {
                Drive::Ahead(waker) => guest.generation.ahead(&mut passes, waker),
                Drive::Piece(budget) => guest.generation.step(&mut passes, budget),
                // A deep pass would keep the others waiting.
                Drive::Wait if is_deep => guest.generation.step(&mut passes, PIECE),
                Drive::Wait => guest.generation.pass(&mut passes),
            };
            let passes = guest.generation.passes() - before;
            (self.totals.passes, self.totals.rows) = (self.totals.passes + passes, self.totals.rows + passes);
            self.totals.capacity += passes;
            let ended = match progress {
                Ok(Progress::Working) => None,
                Ok(Progress::Done(reason)) => Some(reason),
                Ok(Progress::Token(piece)) => {
                    if guest.tokens.len() == guest.prompt {
                        self.keep_prompt(&guest);
                    }
                    guest.tokens.push(piece.token);
                    self.totals.tokens += 1;
                    self.totals.steps += u64::from(piece.steps);
                    self.totals.most_steps += u64::from(guest.most_steps.unwrap_or(piece.steps));
                    self.events.push_back(Event::Token { id: guest.id, piece });
                    guest.generation.stop_reason()
                }
                Err(error) => {
                    // A lost device ends all sequences.
                    self.store.model.device().check()?;
                    self.events.push_back(Event::Failed { id: guest.id, error });
                    Some(StopReason::Failed)
                }
            };
            match ended {
                Some(reason) => self.guest_done(guest, reason)?,
                None => self.guests.push(guest),
            }
        }
        Ok(())
    }

    /// Puts the pages of a computed prompt into the prefix cache.
    fn keep_prompt(&mut self, guest: &Guest) {
        let Some(computed) = guest.computed else { return };
        let depth = vec![guest.generation.steps(); guest.prompt];
        self.prefix.keep(&mut self.store.kv, guest.own.slot, computed, &guest.tokens[..guest.prompt], &depth);
    }

    /// Ends the sequence `id` if it has its own passes. Returns whether it does.
    pub(super) fn end_guest(&mut self, id: SequenceId, reason: StopReason) -> Result<bool, Error> {
        let Some(place) = self.guests.iter().position(|guest| guest.id == id) else { return Ok(false) };
        let guest = self.guests.remove(place);
        self.guest_done(guest, reason)?;
        Ok(true)
    }

    fn guest_done(&mut self, guest: Guest, reason: StopReason) -> Result<(), Error> {
        let Guest { id, own, generation, .. } = guest;
        self.store.kv.release(own.slot)?;
        if self.idle.len() < MOST_IDLE {
            self.idle.push(own);
        }
        self.events.push_back(Event::Done { id, reason, statistics: generation.statistics().clone() });
        Ok(())
    }
}
