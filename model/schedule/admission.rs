//! Admission: which sequences get rows and memory for keys and values.
//!
//! A sequence is admitted once there is memory for all its current tokens and the next one, so that as many sequences as possible share the passes. Its keys
//! and values can be computed again. So when memory runs out, the youngest sequence is preempted, and later starts again with all its tokens. Some sequences
//! cannot be recomputed this way, because their tokens are not computed as a prompt would be. They are admitted only once there is memory for the most that
//! they may need, and it stays reserved for them.
//!
//! The oldest sequence is therefore never preempted, and every sequence becomes the oldest in the end.

use ruminate_shaders::Row;
use ruminate_shaders::attention::cache::PAGE;

use super::member::Member;
use super::prefix::{Computed, Shared};
use super::{Batch, SequenceId};
use crate::error::Error;
use crate::generate::StopReason;
use crate::session::MAX_ROWS;

impl Batch {
    /// Checks that a sequence would fit if it were the only one.
    pub(super) fn check_alone(&self, member: &Member) -> Result<(), Error> {
        let steps = member.most_steps(self.store.planned);
        let groups = u64::from(member.most_positions().div_ceil(PAGE));
        let groups = if member.alone.is_some() { u64::from(self.guest_end(member).div_ceil(PAGE)) } else { groups };
        let needed = groups * self.store.kv.group_bytes(steps);
        if needed <= self.budget {
            return Ok(());
        }
        Err(Error::KvMemory { positions: member.most_positions(), steps, needed, most: self.budget })
    }

    /// Admits waiting sequences to free slots, the longest waiting first. A sequence whose prompt another one is computing is passed over.
    pub(super) fn admit(&mut self) -> Result<(), Error> {
        let mut passed_over = 0;
        while let Some(mut member) = self.waiting.remove(passed_over) {
            // Later sequences do not take the slots of those that are passed over.
            if self.running() + passed_over >= self.members.len() {
                self.waiting.insert(passed_over, member);
                return Ok(());
            }
            let Some(slot) = self.free_slot() else {
                self.waiting.insert(passed_over, member);
                return Ok(());
            };
            let found = match member.computed(self.store.model.spec()).filter(|_| member.scores.is_none()) {
                Some(computed) => {
                    let found = self.prefix.find(computed, &member.tokens);
                    if self.follows(&mut member, computed, found.groups.len()) {
                        self.waiting.insert(passed_over, member);
                        passed_over += 1;
                        continue;
                    }
                    found
                }
                None => Shared::default(),
            };
            let held = member.begins_with.take();
            let shared = held.as_ref().filter(|held| held.groups.len() > found.groups.len()).unwrap_or(&found);
            // Hold the shared pages first, so that making room does not evict them.
            self.store.kv.begin_with(slot as u32, &shared.groups, &shared.depth)?;
            let needed = self.needed(slot, &member);
            if !self.make_room(needed, slot) {
                self.store.kv.release(slot as u32)?;
                member.begins_with = held;
                self.waiting.insert(passed_over, member);
                return Ok(());
            }
            for pages in held.iter().flat_map(|held| &held.groups) {
                self.store.kv.let_go(pages);
            }
            if member.alone.is_some() {
                self.let_guest_in(slot, member, shared)?;
            } else {
                self.let_in(slot, member, shared)?;
            }
        }
        Ok(())
    }

    /// Whether a sequence waits for another one, its leader, that is computing the same prompt: at least half of what this sequence would have to compute
    /// besides the `found` cached groups. It waits for one leader only, so that it is soon admitted even if the leader's pages do not stay in the cache.
    fn follows(&self, member: &mut Member, computed: Computed, found: usize) -> bool {
        let leads = |leader: &&Member| leader.come == 0;
        if let Some(leader) = member.leader {
            return self.members.iter().flatten().filter(leads).any(|other| other.id == leader);
        }
        let spec = self.store.model.spec();
        let groups = |other: &Member| {
            let known = member.tokens.len() - 1;
            let pages = other.tokens[..other.prompt as usize].chunks_exact(PAGE as usize);
            pages.zip(member.tokens[..known].chunks_exact(PAGE as usize)).take_while(|(a, b)| a == b).count()
        };
        let others = self.members.iter().flatten().filter(leads);
        let alike = others.filter(|other| other.scores.is_none() && other.computed(spec) == Some(computed));
        let Some((shared, leader)) = alike.map(|other| (groups(other), other)).max_by_key(|(groups, _)| *groups) else {
            return false;
        };
        let gained = shared.saturating_sub(found);
        let rest = member.tokens.len() - found * PAGE as usize;
        let bytes = shared as u64 * self.store.kv.group_bytes(leader.most_steps(self.store.planned));
        let worth = gained > 0 && 2 * gained * PAGE as usize >= rest && self.prefix.holds(bytes);
        member.leader = worth.then_some(leader.id);
        worth
    }

    /// Slot that has no sequence and whose home in the row table is free.
    fn free_slot(&self) -> Option<usize> {
        let taken = |slot: usize| self.members[slot].is_some() || self.guests.iter().any(|guest| guest.slot() == slot);
        (0..self.members.len()).find(|&slot| !taken(slot) && self.table.is_free(slot))
    }

    fn let_in(&mut self, slot: usize, mut member: Member, shared: &Shared) -> Result<(), Error> {
        let (device, vocab) = (self.store.model.device().clone(), self.store.padded_vocab());
        let index = slot as u32;
        self.store.write_sequence(index, member.session.seed, member.steps)?;
        self.store.tables.write_exit_params(&device, index, member.exit_params())?;
        self.store.tables.write_noise(&device, index, member.noise)?;
        self.store.tables.write_choosing(&device, index, &member.choosing, vocab)?;
        let known = &member.tokens[..member.tokens.len().min(self.store.context() as usize)];
        self.store.write_history(index, 0, known)?;
        member.fed = shared.depth.len();
        member.depth.clone_from(&shared.depth);
        self.totals.prompt_tokens += member.tokens.len() as u64;
        self.totals.cached_tokens += shared.depth.len() as u64;
        self.totals.prefix_hits += u64::from(!shared.groups.is_empty());
        if member.life == 0 {
            member.statistics.cached_tokens = shared.depth.len() as u32;
        }
        let known = member.scores.is_some() && member.prompt == 1 && member.wanted > 0;
        self.members[slot] = Some(member);
        // The first token of a prompt has no probability.
        if known { self.hand_out_scores(slot) } else { Ok(()) }
    }

    /// Bytes that a sequence lacks for its tokens and the next one, and bytes that it lacks for its full length.
    fn needs(&self, slot: usize, member: &Member) -> (u64, u64) {
        let most = member.most_positions();
        let now = (member.tokens.len() as u32 + 1).min(most.max(member.tokens.len() as u32));
        let steps = member.most_steps(self.store.planned);
        let bytes = |end| self.store.kv.missing_bytes(slot as u32, end, steps);
        (bytes(now), bytes(most))
    }

    /// Bytes that a sequence lacks before it can be admitted.
    fn needed(&self, slot: usize, member: &Member) -> u64 {
        if member.alone.is_some() {
            let steps = member.most_steps(self.store.planned);
            return self.store.kv.missing_bytes(slot as u32, self.guest_end(member), steps);
        }
        let (now, all) = self.needs(slot, member);
        if member.repeats() { now } else { all }
    }

    /// End of the positions that a sequence with its own passes may use: it may compute ahead of its last token.
    pub(super) fn guest_end(&self, member: &Member) -> u32 {
        (member.most_positions() + MAX_ROWS).min(self.store.context())
    }

    /// Bytes reserved for sequences that cannot be preempted, other than the one in `slot`.
    fn set_aside(&self, slot: usize) -> u64 {
        let guests = self.guests.iter().filter(|guest| guest.slot() != slot);
        let guests: u64 = guests.map(|guest| guest.missing_bytes(&self.store.kv)).sum();
        let others = (0..self.members.len()).filter(|&other| other != slot);
        let firm = others.filter_map(|other| Some((other, self.members[other].as_ref()?)));
        let firm = firm.filter(|(_, member)| !member.repeats()).map(|(other, member)| self.needs(other, member).1);
        guests + firm.sum::<u64>()
    }

    /// Evicts groups from the prefix cache until `bytes` more fit. Returns whether they do.
    fn make_room(&mut self, bytes: u64, slot: usize) -> bool {
        let needed = bytes.saturating_add(self.set_aside(slot));
        while self.store.kv.live_bytes().saturating_add(needed) > self.budget {
            if !self.prefix.throw_out_oldest(&mut self.store.kv) {
                return false;
            }
        }
        true
    }

    /// Makes sure that a sequence has pages for its first `end` positions, preempting younger sequences if necessary. Returns false if this sequence itself was
    /// preempted, or if the device could not allocate the pages, which ends the sequence.
    pub(super) fn reserve(&mut self, slot: usize, end: u32, steps: u32) -> Result<bool, Error> {
        loop {
            let firm = self.members[slot].as_ref().is_some_and(|member| !member.repeats());
            let bytes = self.store.kv.missing_bytes(slot as u32, end, steps);
            // A sequence that cannot be preempted uses its own reservation.
            if bytes == 0 || firm || self.make_room(bytes, slot) {
                return match self.store.kv.reserve(slot as u32, end, steps) {
                    Ok(()) => Ok(true),
                    // An allocation that fails for this sequence may still succeed for others.
                    Err(error) => {
                        self.store.model.device().check()?;
                        self.fail(slot, error).map(|()| false)
                    }
                };
            }
            let last = self.members.iter().enumerate().filter_map(|(slot, member)| Some((slot, member.as_ref()?)));
            let last = last.filter(|(_, member)| member.repeats()).max_by_key(|(_, member)| member.id);
            let last = last.map_or(slot, |(slot, _)| slot);
            self.give_way(last)?;
            if last == slot {
                return Ok(false);
            }
        }
    }

    /// Preempts a sequence: frees its rows and pages and puts it back into the queue.
    fn give_way(&mut self, slot: usize) -> Result<(), Error> {
        let Some(mut member) = self.vacate(slot)? else { return Ok(()) };
        member.begin_again();
        self.totals.preempted += 1;
        let place = self.waiting.iter().position(|other| other.id > member.id).unwrap_or(self.waiting.len());
        self.waiting.insert(place, member);
        Ok(())
    }

    /// Lets a waiting sequence start with the pages of another one.
    pub(super) fn share(&mut self, from: SequenceId, to: SequenceId) {
        let Some(slot) = self.slot(from) else { return };
        let spec = self.store.model.spec();
        let (Some(source), Some(member)) = (&self.members[slot], self.waiting.iter_mut().find(|it| it.id == to)) else {
            return;
        };
        let alike = source.computed(spec).is_some() && source.computed(spec) == member.computed(spec);
        if !alike || member.scores.is_some() || member.alone.is_some() {
            return;
        }
        // The last token is computed again because the next one is chosen from its row.
        let count = source.shareable().min(member.tokens.len() - 1) / PAGE as usize;
        let groups: Vec<_> = (0..count as u32).map(|group| self.store.kv.pages_of(slot as u32, group)).collect();
        groups.iter().for_each(|pages| self.store.kv.hold(pages));
        member.begins_with = Some(Shared { groups, depth: source.depth[..count * PAGE as usize].to_vec() });
    }

    /// Releases the pages held for a sequence that will not be admitted.
    pub(super) fn let_go(&mut self, member: &Member) {
        for pages in member.begins_with.iter().flat_map(|held| &held.groups) {
            self.store.kv.let_go(pages);
        }
    }

    /// Puts the pages that later sequences may share into the prefix cache.
    pub(super) fn keep(&mut self, slot: usize) {
        let Some(member) = &self.members[slot] else { return };
        let Some(computed) = member.computed(self.store.model.spec()) else { return };
        let known = member.shareable();
        self.prefix.keep(&mut self.store.kv, slot as u32, computed, &member.tokens[..known], &member.depth[..known]);
    }

    /// Ends a sequence.
    pub(super) fn end(&mut self, slot: usize, reason: StopReason) -> Result<(), Error> {
        self.keep(slot);
        if let Some(member) = self.vacate(slot)? {
            self.done(&member, reason);
        }
        Ok(())
    }

    /// Ends a sequence that cannot go on and reports the error.
    pub(super) fn fail(&mut self, slot: usize, error: Error) -> Result<(), Error> {
        if let Some(member) = self.vacate(slot)? {
            self.events.push_back(super::Event::Failed { id: member.id, error });
            self.done(&member, StopReason::Failed);
        }
        Ok(())
    }

    /// Frees the rows and the pages of a sequence.
    fn vacate(&mut self, slot: usize) -> Result<Option<Member>, Error> {
        for place in 0..self.table.rows() {
            if self.table.holder(place) == Some(slot) {
                self.table.clear(place);
                self.write_row(place, Row::RESTING)?;
            }
        }
        self.leave_scoring(slot)?;
        // The slot's row must not be read out any more.
        self.write_entry(&self.plans.sites.picked, slot, Row::RESTING)?;
        let member = self.members[slot].take();
        self.store.kv.release(slot as u32)?;
        Ok(member)
    }
}
