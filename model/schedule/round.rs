//! A round: passes that all rows of the table share, until the first row is finished or checked.

use std::time::Duration;

use ruminate_engine::clock::Instant;
use ruminate_engine::{Buffer, Execution, ReadBack};
use ruminate_shaders::batch::RowResult;
use ruminate_shaders::exit::Continuous;
use ruminate_shaders::{NONE, Row};

use super::member::Member;
use super::pace::{MOST_STEPS, PIECE};
use super::scoring::Scoring;
use super::table::Place;
use super::{Batch, Event, SequenceId, lost};
use crate::arch::ReadOut;
use crate::early_exit::Checks;
use crate::error::Error;
use crate::generate::StopReason;
use crate::generation::QUEUE_DEPTH;
use crate::plans::{Choose, Follow, PlanKey, Stage};
use crate::sampling::MAX_LOGPROBS;
use crate::session::capacity;

/// Use of a round's results.
pub(super) enum Purpose {
    /// Rows of all sequences, which continue with the tokens chosen.
    Shared,
    /// Rows whose next tokens are given and scored.
    Scoring(Scoring),
}

/// A round that is being submitted.
pub(super) struct Round {
    pub(super) execution: Execution,
    pub(super) purpose: Purpose,
    pub(super) steps: u32,
    /// Rows that its passes have capacity for.
    pub(super) rows: u32,
    pub(super) since: Instant,
}

impl Round {
    /// Whether it takes more steps at once than others should wait for. Shared rounds never do.
    fn is_deep(&self) -> bool {
        self.steps > MOST_STEPS
    }
}

/// A submitted round.
pub(super) struct Submitted {
    ticket: ReadBack,
    purpose: Purpose,
    steps: u32,
    rows: u32,
    since: Instant,
    /// Sequence of each row in it.
    expected: Vec<Option<Expected>>,
}

/// Sequence that owns a row in this round, if the round may bring its next token or its end.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    id: SequenceId,
    life: u32,
    row: Place,
}

impl Batch {
    /// Submits a round, or the rest of one that was begun. A round that takes many steps at once is submitted piece by piece, alongside other rounds.
    pub(super) fn submit(&mut self) -> Result<(), Error> {
        if let Some(mut deep) = self.deep.take() {
            if self.timed(|_| deep.execution.advance(PIECE))? {
                return self.timed(|batch| batch.finish(deep));
            }
            self.deep = Some(deep);
        }
        self.begin_round()?;
        let Some(round) = self.begun.take() else { return Ok(()) };
        self.timed(|batch| batch.finish(round))
    }

    /// Advances a round by about `budget`, and collects results that are ready.
    pub(super) fn go_on(&mut self, budget: Duration) -> Result<(), Error> {
        if self.arrive_if_ready()? || !self.pending.is_empty() || !self.submit_piece(budget, false)? {
            return Ok(());
        }
        self.pending.pop_front().map_or(Ok(()), |round| self.arrive(round))
    }

    /// Collects results that are ready, or submits a piece of the next round of about `budget`. Unlike [`Self::go_on`], it does so while the device works on the
    /// round before. Returns false if there is nothing to do until the device is done.
    pub(super) fn go_ahead(&mut self, budget: Duration) -> Result<bool, Error> {
        Ok(self.arrive_if_ready()? || self.pending.len() < QUEUE_DEPTH && self.submit_piece(budget, true)?)
    }

    /// Collects the results of the oldest round if they are ready. Returns whether they were.
    fn arrive_if_ready(&mut self) -> Result<bool, Error> {
        if !self.pending.front().is_some_and(|round| round.ticket.ready()) {
            return Ok(false);
        }
        self.pending.pop_front().map_or(Ok(()), |round| self.arrive(round)).map(|()| true)
    }

    /// Submits the next piece of a round. Returns whether the round is pending now: the device has finished it, or with `ahead`, all of it is submitted.
    fn submit_piece(&mut self, budget: Duration, ahead: bool) -> Result<bool, Error> {
        self.begin_round()?;
        // The deep round and the other one take turns.
        self.deep_turn = self.begun.is_none() || !self.deep_turn;
        let chosen = if self.deep_turn && self.deep.is_some() { &mut self.deep } else { &mut self.begun };
        let Some(mut round) = chosen.take() else { return Ok(false) };
        let done = self.timed(|_| round.execution.advance(budget))?;
        if ahead {
            self.alarm.ring_when_done(self.store.model.device())?;
        }
        if done || (ahead && !round.is_deep() && round.execution.is_submitted()) {
            return self.finish(round).map(|()| true);
        }
        let place = if round.is_deep() { &mut self.deep } else { &mut self.begun };
        *place = Some(round);
        Ok(false)
    }

    /// Composes a round if none is begun.
    fn begin_round(&mut self) -> Result<(), Error> {
        if self.begun.is_some() {
            return Ok(());
        }
        match self.timed(Self::compose)? {
            Some(round) if round.is_deep() => self.deep = Some(round),
            round => self.begun = round,
        }
        Ok(())
    }

    /// Runs `work` and adds the host time spent on encoding to the statistics of every sequence.
    fn timed<T, E>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let before = self.store.model.device().counters().encoding_nanos;
        let done = work(self);
        let spent = Duration::from_nanos(self.store.model.device().counters().encoding_nanos - before);
        self.members.iter_mut().flatten().for_each(|member| member.encoded(spent));
        done
    }

    /// Admits waiting sequences, gives free entries to prompt rows, and begins a round if there is any row.
    fn compose(&mut self) -> Result<Option<Round>, Error> {
        self.admit()?;
        if let Some(round) = self.compose_scoring()? {
            return Ok(Some(round));
        }
        self.feed()?;
        let Some(steps) = self.table.steps() else { return Ok(None) };
        let device = self.store.model.device().clone();
        let plan = self.plan_of(&self.members.iter().flatten(), self.table.extent());
        let Follow::Batch(ReadOut { rows, .. }) = plan.follow else { return Ok(None) };
        let steps = steps.min(self.pace.steps(rows));
        self.record(plan)?;
        let inputs = self.store.plan_inputs(None, Some(&self.parallel_sites));
        let mut reads = vec![self.parallel_sites.emitted.clone()];
        if let (Some(_), Some(ranks)) = (plan.logprobs, &self.plans.ranks) {
            reads.extend([ranks.ranked.clone(), ranks.logprobs.clone()]);
        }
        let reads: Vec<&Buffer> = reads.iter().collect();
        let execution = device.begin(self.plans.plan(&inputs, plan)?, &[steps], &reads)?;
        Ok(Some(Round { execution, purpose: Purpose::Shared, steps, rows, since: Instant::now() }))
    }

    /// Records a plan of shared rounds.
    pub(super) fn record(&mut self, plan: PlanKey) -> Result<(), Error> {
        if plan.edits {
            self.store.tables.make_penalties(self.store.model.device(), self.store.padded_vocab())?;
        }
        let inputs = self.store.plan_inputs(None, Some(&self.parallel_sites));
        self.plans.plan(&inputs, plan)?;
        Ok(())
    }

    /// Key of the plan that these sequences share. It computes the first `used` rows of the table and reads out the first `chosen`.
    pub(super) fn plan_of<'m>(
        &self,
        members: &(impl Iterator<Item = &'m Member> + Clone),
        (used, chosen): (u32, u32),
    ) -> PlanKey {
        let members = || members.clone();
        let logprobs = members().filter_map(|member| member.choosing.logprobs).max();
        let sampled = members().any(|member| !member.choosing.is_greedy());
        let (most, outputs) = (self.table.rows() as u32, self.members.len() as u32);
        let fixed = self.store.options.invariant.then_some(most);
        let shape = ReadOut {
            rows: fixed.unwrap_or_else(|| capacity(used).min(most)),
            outputs: fixed.unwrap_or_else(|| capacity(chosen).min(capacity(outputs))),
        };
        PlanKey {
            choose: if sampled { Choose::Sample } else { Choose::Argmax },
            edits: members().any(|member| member.choosing.edits()) || (logprobs.is_some() && sampled),
            logprobs: logprobs.map(|_| MAX_LOGPROBS.min(self.store.model.spec().padded_vocab)),
            follow: Follow::Batch(shape),
            continuous: members().filter_map(|member| member.continuous).find(|it| *it == Continuous::Normed),
            noise: members().any(|member| member.noise.is_some()),
            checks: Checks::apart(members().filter_map(|member| member.exit.as_ref())),
            ..PlanKey::of(Stage::Token)
        }
    }

    /// Gives free table entries to known tokens, the oldest sequence first. While other sequences decode, the number of entries is limited so that a pass takes
    /// bounded time.
    fn feed(&mut self) -> Result<(), Error> {
        let mut order: Vec<(SequenceId, usize)> =
            self.members.iter().zip(0..).filter_map(|(member, slot)| Some((member.as_ref()?.id, slot))).collect();
        order.sort_unstable();
        let fixed = self.store.options.invariant;
        for (_, slot) in order {
            let Some(steps) = self.members[slot].as_ref().map(|member| member.steps) else { continue };
            let others = self.table.under_way().any(|row| row.decodes && row.slot != slot);
            let all = self.table.rows();
            let limit = if others && !fixed { (self.pace.rows(steps) as usize).max(self.members.len()) } else { all };
            while self.feed_one(slot, limit)? {}
        }
        Ok(())
    }

    /// Gives one of the first `limit` entries to the next token of a sequence. Returns false if none is free, or if the token must wait.
    fn feed_one(&mut self, slot: usize, limit: usize) -> Result<bool, Error> {
        let Some(member) = self.members[slot].as_ref().filter(|member| member.fed < member.tokens.len()) else {
            return Ok(false);
        };
        if member.scores.is_some() || member.one_by_one() && self.table.holds(slot) {
            return Ok(false);
        }
        let (position, last) = (member.fed as u32, member.fed + 1 == member.tokens.len());
        let home = Some(slot).filter(|&home| self.table.is_free(home));
        let place = if last { home } else { self.free_place(limit).or(home) };
        let Some(place) = place else { return Ok(false) };
        // Reserve the next position, too: the row that follows will use it.
        let (end, steps) = ((position + 2).min(member.most_positions()).max(position + 1), member.steps);
        if !self.reserve(slot, end, steps)? {
            return Ok(false);
        }
        let Some(member) = self.members[slot].as_mut() else { return Ok(false) };
        let row_of = member.place(slot, position);
        let generated = position >= member.prompt;
        let row = Row {
            output: if row_of.decodes { place as u32 } else { NONE },
            // A generated token continues from the state that is in its entry.
            draw: u32::from(!(generated && last && member.continuous.is_some())),
            ..Row::new(slot as u32, position, member.tokens[member.fed])
        };
        member.fed += 1;
        self.write_row(place, row)?;
        self.table.take(place, row_of);
        Ok(true)
    }

    /// First free entry for a row that is not its sequence's newest. Homes of empty slots are included.
    fn free_place(&self, limit: usize) -> Option<usize> {
        let homeless = |&place: &usize| self.members.get(place).is_none_or(Option::is_none);
        (0..limit.min(self.table.rows())).filter(homeless).find(|&place| self.table.is_free(place))
    }

    /// Submits the rest of a round and updates the host's view of the table.
    fn finish(&mut self, Round { execution, purpose, steps, rows, since }: Round) -> Result<(), Error> {
        let ticket = execution.finish()?.ok_or_else(lost)?;
        let expected = match &purpose {
            Purpose::Shared => {
                let active = self.table.under_way().count() as u64;
                self.count(steps, active, rows);
                let table = &self.table;
                for (slot, member) in self.members.iter_mut().enumerate() {
                    if let Some(member) = member.as_mut().filter(|member| member.begun > 0 && table.holds(slot)) {
                        member.statistics.core_passes += u64::from(steps);
                    }
                }
                self.advance(steps)?
            }
            Purpose::Scoring(of) => {
                self.count(steps, of.rows(), rows);
                Vec::new()
            }
        };
        self.pending.push_back(Submitted { ticket, purpose, steps, rows, since, expected });
        Ok(())
    }

    fn count(&mut self, steps: u32, active: u64, rows: u32) {
        self.totals.passes += u64::from(steps);
        self.totals.rows += u64::from(steps) * active;
        self.totals.capacity += u64::from(steps) * u64::from(rows);
    }

    /// Applies `steps` steps to the host's view of the table. Returns the rows that bring a result, or may.
    fn advance(&mut self, steps: u32) -> Result<Vec<Option<Expected>>, Error> {
        let mut expected = vec![None; self.table.rows()];
        for (place, brings) in expected.iter_mut().enumerate() {
            let Some(row) = self.table.advance(place, steps) else { continue };
            let Some(member) = self.members[row.slot].as_ref() else {
                self.table.clear(place);
                continue;
            };
            *brings = Some(Expected { id: member.id, life: member.life, row });
            if row.decodes {
                self.next_token(place, row)?;
            } else if !row.open {
                self.table.clear(place);
            }
        }
        Ok(expected)
    }

    /// Prepares the row after one that brings a token, or may.
    fn next_token(&mut self, place: usize, row: Place) -> Result<(), Error> {
        let Some(member) = self.members[row.slot].as_mut() else { return Ok(()) };
        member.begun += 1;
        let last = member.begun == member.wanted;
        if !row.open && last {
            self.table.clear(place);
            return self.write_row(place, Row::RESTING);
        }
        if member.waits_for_host() {
            // The device parks the row. A row with early exit keeps its entry until it has exited.
            if !row.open {
                self.table.clear(place);
            }
            return Ok(());
        }
        let next = member.prompt + member.begun;
        if !self.begin_token(row.slot)? {
            return Ok(());
        }
        let Some(member) = self.members[row.slot].as_ref() else { return Ok(()) };
        let steps = member.steps;
        self.table.take(place, member.place(row.slot, next - 1));
        self.reserve(row.slot, (next + 1).min(self.store.kv.context()), steps).map(drop)
    }

    /// Sets the depth of a sequence's next token. Returns false if the depth is invalid, which ends the sequence.
    fn begin_token(&mut self, slot: usize) -> Result<bool, Error> {
        let Some(member) = self.members[slot].as_mut() else { return Ok(false) };
        match member.begin_token() {
            Ok(true) => {
                let exit_params = member.exit_params();
                self.store.write_sequence(slot as u32, member.session.seed, member.steps)?;
                self.store.tables.write_exit_params(self.store.model.device(), slot as u32, exit_params)?;
                Ok(true)
            }
            Ok(false) => Ok(true),
            Err(error) => self.fail(slot, error).map(|()| false),
        }
    }

    /// Waits for a round and handles its results.
    pub(super) fn arrive(&mut self, round: Submitted) -> Result<(), Error> {
        let Submitted { ticket, purpose, steps, rows, since, expected } = round;
        let done = ticket.done_at()?;
        let results = ticket.wait()?;
        // A round that is submitted in pieces ran beside others, so its time says nothing about its passes.
        if steps <= MOST_STEPS {
            // The round began when it was submitted, or when the one before it was done.
            let began = self.done_at.map_or(since, |before| before.max(since));
            self.pace.saw(rows, steps, done.saturating_duration_since(began));
        }
        self.done_at = Some(done);
        match purpose {
            Purpose::Scoring(of) => self.scored(&results, &of, done),
            Purpose::Shared => {
                let (rows, ranks) = results.split_first().ok_or_else(lost)?;
                let rows: Vec<RowResult> = bytemuck::pod_collect_to_vec(rows);
                for (place, (result, expected)) in rows.iter().zip(expected).enumerate() {
                    if let Some(expected) = expected {
                        self.collect((place, *result), expected, ranks, done)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Handles the result of one row.
    fn collect(
        &mut self,
        (place, result): (usize, RowResult),
        Expected { id, life, row }: Expected,
        ranks: &[Vec<u8>],
        done: Instant,
    ) -> Result<(), Error> {
        let Place { slot, position, open, decodes, .. } = row;
        // Ignore results of a sequence that has ended or was preempted meanwhile.
        let Some(member) = self.members[slot].as_mut().filter(|member| member.id == id && member.life == life) else {
            return Ok(());
        };
        let finished = !open || result.steps > 0;
        if !finished {
            // The row is still under way.
            member.begun -= u32::from(decodes);
            return Ok(());
        }
        if !decodes {
            member.finished(position, result.steps);
            if open {
                self.table.clear(place);
            }
            if member.is_computed() {
                member.heard(done);
                return self.end(slot, StopReason::MaxTokens);
            }
            return Ok(());
        }
        if result.token == NONE {
            return Err(lost());
        }
        // With early exit, the table entry holds only an upper bound of the position, so it is counted here.
        member.finished(member.prompt + member.come - 1, result.steps);
        member.heard(done);
        let (piece, ended) = match member.say(result, ranks, place) {
            Ok(said) => said,
            Err(error) => return self.fail(slot, error),
        };
        self.totals.tokens += 1;
        self.totals.steps += u64::from(piece.steps);
        self.totals.most_steps += u64::from(member.exit.map_or(piece.steps, |_| member.steps));
        let first = member.come == 1;
        let waits = member.waits_for_host();
        if open && waits {
            self.table.clear(place);
        }
        self.events.push_back(Event::Token { id, piece });
        if let Some(reason) = ended {
            return self.end(slot, reason);
        }
        if first {
            self.keep(slot);
        }
        if waits { self.look(slot) } else { Ok(()) }
    }

    /// Updates how the next token of a sequence is chosen, after the tokens before it are known.
    fn look(&mut self, slot: usize) -> Result<(), Error> {
        if !self.begin_token(slot)? {
            return Ok(());
        }
        let Some(member) = self.members[slot].as_mut() else { return Ok(()) };
        if let Err(error) = member.look() {
            return self.fail(slot, error);
        }
        let Some(member) = self.members[slot].as_mut() else { return Ok(()) };
        let (device, vocab) = (self.store.model.device().clone(), self.store.model.spec().padded_vocab);
        self.store.tables.write_choosing(&device, slot as u32, &member.choosing, vocab)
    }

    pub(super) fn write_row(&self, place: usize, row: Row) -> Result<(), Error> {
        self.write_entry(&self.plans.sites.rows, place, row)
    }

    pub(super) fn write_entry(&self, table: &Buffer, place: usize, row: Row) -> Result<(), Error> {
        let offset = place as u64 * size_of::<Row>() as u64;
        Ok(self.store.model.device().write(table, offset, bytemuck::bytes_of(&row))?)
    }
}
