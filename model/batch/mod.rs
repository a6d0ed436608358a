//! Several sequences at once, at different depths: continuous depth batching.
//!
//! All of them share one row table, and so every pass over the weights. A round takes the steps that are left to the row that has fewest; then the rows that are
//! finished are read out, and their sequences go on in the same place of the table. A prompt takes the places that are free, as many of its tokens as there are: it
//! begins at once, and nobody waits for it. What was chosen comes to the host one round later, while the device computes the next.
//!
//! Rows that may leave early do so on the device, and the host hears of it a round later as well. Until then it counts on what may be: a token of each round,
//! and a place that is not free yet. A round takes at most an eighth of their steps, since one that has left waits for its end; and it waits for rows of its
//! sequence in front of it, because what is read out of it attends to those.

mod member;
mod table;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use ruminate_engine::{Buffer, ReadBack};
use ruminate_shaders::batch::Came;
use ruminate_shaders::exit::Continuous;
use ruminate_shaders::{NONE, Row};

use self::member::Member;
use self::table::{Place, Table};
use crate::ahead::Ends;
use crate::error::Error;
use crate::exit::Checks;
use crate::fit;
use crate::generate::{Piece, Prompt, StopReason};
use crate::kv::KvCache;
use crate::model::Model;
use crate::options::{GenerateOptions, SessionOptions};
use crate::sampling::MAX_LOGPROBS;
use crate::session::INVARIANT_ROWS;
use crate::tables::Tables;
use crate::workspace::{Choose, Follow, PlanKey, Stage, Workspace};

/// Rows of a table, at most.
const MOST_ROWS: u32 = 256;

/// What a batch holds.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// Sequences that are computed at a time, 1 to 256, in the invariant mode to 8; others wait for their turn.
    pub sequences: u32,
    /// What each of them holds, but for the seed, which every sequence has of its own. [`SessionOptions::steps`] is what memory is planned for.
    pub session: SessionOptions,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { sequences: 8, session: SessionOptions::default() }
    }
}

/// A sequence of a batch. No two sequences of a process have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId {
    batch: u64,
    /// By the order in which the batch was given its sequences.
    number: u64,
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of batch {}", self.number, self.batch)
    }
}

/// Batches that the process has made.
static BATCHES: AtomicU64 = AtomicU64::new(0);

/// Sequences that share their passes over the weights.
pub struct Batch {
    model: Model,
    options: SessionOptions,
    kv: KvCache,
    tables: Tables,
    space: Workspace,
    ends: Ends,
    table: Table,
    /// By their place in the cache.
    members: Vec<Option<Member>>,
    waiting: VecDeque<Member>,
    /// The round that is submitted, and who has which place in it.
    pending: Option<(ReadBack, Vec<Option<Expected>>)>,
    arrived: VecDeque<(SequenceId, Piece)>,
    finished: HashMap<SequenceId, StopReason>,
    next_id: SequenceId,
    core_passes: u64,
}

/// Whose row a place of a round has, if a token or its end is to come of it.
#[derive(Clone, Copy)]
struct Expected {
    id: SequenceId,
    row: Place,
}

impl Model {
    /// Makes room for several sequences that share passes.
    ///
    /// # Errors
    /// [`Error::Option`] if the options make no sense for this model, [`Error::Engine`] if the device fails.
    pub fn batch(&self, options: BatchOptions) -> Result<Batch, Error> {
        let BatchOptions { sequences, session } = options;
        let most = if session.invariant { INVARIANT_ROWS } else { MOST_ROWS };
        if sequences == 0 || sequences > most {
            let allowed = "from 1 to 256, in the invariant mode to 8";
            return Err(Error::Option { name: "sequences", value: sequences.to_string(), allowed });
        }
        let (spec, device) = (self.spec(), self.device().clone());
        let (context, steps) = fit::checked(spec, &session, &device)?;
        let rows = if session.invariant { INVARIANT_ROWS } else { sequences.next_multiple_of(8) };
        let space = Workspace::new(&device, spec, rows, rows)?;
        let resting = vec![Row::RESTING; rows as usize];
        device.write(&space.sites.rows, 0, bytemuck::cast_slice(&resting))?;
        device.write(&space.sites.picked, 0, bytemuck::cast_slice(&resting))?;
        let came = device.buffer("came", u64::from(rows) * size_of::<Came>() as u64)?;
        let ends = Ends { table: space.sites.rows.clone(), front: None, wave: None, emitted: came };
        Ok(Batch {
            model: self.clone(),
            kv: KvCache::new(self, &session, (sequences, context, steps))?,
            tables: Tables::new(&device, sequences, context)?,
            options: session,
            space,
            ends,
            table: Table::new(rows),
            members: (0..sequences).map(|_| None).collect(),
            waiting: VecDeque::new(),
            pending: None,
            arrived: VecDeque::new(),
            finished: HashMap::new(),
            next_id: SequenceId { batch: BATCHES.fetch_add(1, Ordering::Relaxed), number: 0 },
            core_passes: 0,
        })
    }
}

impl Batch {
    /// Adds a sequence, which joins as soon as there is a place for it; others may be under way. The seed is that of a [`Session`](crate::Session) alone.
    ///
    /// # Errors
    /// As [`Session::generate`](crate::Session::generate); [`Error::Together`] for what a batch does not do: early exits of a prompt's rows all together,
    /// speculation, pipelining, diffusion forcing.
    pub fn add<'p>(
        &mut self,
        prompt: impl Into<Prompt<'p>>,
        seed: u64,
        options: &GenerateOptions,
    ) -> Result<SequenceId, Error> {
        let id = self.next_id;
        let session = SessionOptions { seed, ..self.options.clone() };
        let member = Member::new(id, &self.model, session, self.kv.context(), prompt.into(), options)?;
        self.next_id.number += 1;
        self.waiting.push_back(member);
        Ok(id)
    }

    /// The next token of any sequence, waited for; none when all are finished.
    ///
    /// # Errors
    /// The device's; [`Error::Option`] if [`GenerateOptions::steps_of`] gives steps that make no sense, which ends its sequence and no other.
    #[expect(clippy::should_implement_trait, reason = "sequences may be added between two tokens")]
    pub fn next(&mut self) -> Result<Option<(SequenceId, Piece)>, Error> {
        loop {
            if let Some(piece) = self.arrived.pop_front() {
                return Ok(Some(piece));
            }
            let before = self.pending.take();
            let submitted = self.submit();
            if let Some((ticket, expected)) = before {
                self.arrive(ticket, &expected)?;
                submitted?;
                continue;
            }
            submitted?;
            if self.pending.is_none() {
                return Ok(None);
            }
        }
    }

    /// Why a sequence ended, once its last token has been handed out or is about to be; none for a sequence of another batch.
    #[must_use]
    pub fn stop_reason(&self, id: SequenceId) -> Option<StopReason> {
        self.finished.get(&id).copied()
    }

    /// Ends a sequence; tokens of it that have come are still handed out.
    ///
    /// # Errors
    /// [`Error::Option`] for a sequence of another batch, or the device's.
    pub fn cancel(&mut self, id: SequenceId) -> Result<(), Error> {
        if id.batch != self.next_id.batch {
            return Err(Error::Option {
                name: "sequence",
                value: id.to_string(),
                allowed: "one that add() of this batch gave",
            });
        }
        self.waiting.retain(|member| member.id != id);
        let place = self.members.iter().position(|member| member.as_ref().is_some_and(|member| member.id == id));
        place.map_or(Ok(()), |slot| self.leave(slot))
    }

    /// Passes over the core's weights so far: one for each step, however many rows shared it.
    #[must_use]
    pub fn core_passes(&self) -> u64 {
        self.core_passes
    }

    /// Bytes of the KV cache on the device.
    #[must_use]
    pub fn kv_bytes(&self) -> u64 {
        self.kv.bytes()
    }

    /// Lets those who wait in, gives free places to prompts, and submits a round if anybody has a row in it.
    fn submit(&mut self) -> Result<(), Error> {
        self.admit()?;
        self.feed()?;
        let Some(steps) = self.table.steps() else { return Ok(()) };
        let device = self.model.device().clone();
        let members = || self.members.iter().flatten();
        let logprobs = members().filter_map(|member| member.choosing.logprobs).max();
        let sampled = members().any(|member| !member.choosing.is_greedy());
        let plan = PlanKey {
            choose: if sampled { Choose::Sample } else { Choose::Argmax },
            edits: members().any(|member| member.choosing.edits()) || (logprobs.is_some() && sampled),
            logprobs: logprobs.map(|_| MAX_LOGPROBS.min(self.model.spec().padded_vocab)),
            follow: Follow::Batch,
            continuous: members().filter_map(|member| member.continuous).find(|it| *it == Continuous::Normed),
            noise: members().any(|member| member.noise.is_some()),
            checks: Checks::apart(members().filter_map(|member| member.exit.as_ref())),
            ..PlanKey::of(Stage::Token)
        };
        if plan.edits {
            self.tables.make_penalties(&device, self.model.spec().padded_vocab)?;
        }
        let around = self.model.surroundings(&self.kv, &self.tables, None, Some(&self.ends));
        self.space.plan(&around, plan)?;
        let mut reads = vec![self.ends.emitted.clone()];
        if let (Some(_), Some(ranks)) = (plan.logprobs, &self.space.ranks) {
            reads.extend([ranks.ranked.clone(), ranks.logprobs.clone()]);
        }
        let reads: Vec<&Buffer> = reads.iter().collect();
        let ticket = device.execute(self.space.plan(&around, plan)?, &[steps], &reads)?;
        self.core_passes += u64::from(steps);
        let (expected, advanced) = self.advance(steps);
        self.pending = ticket.map(|ticket| (ticket, expected));
        advanced
    }

    /// Gives free places of the cache to those who have waited longest.
    fn admit(&mut self) -> Result<(), Error> {
        let device = self.model.device().clone();
        let vocab = self.model.spec().padded_vocab;
        for slot in 0..self.members.len() {
            if self.members[slot].is_some() {
                continue;
            }
            let Some(member) = self.waiting.pop_front() else { return Ok(()) };
            let entry = member.session.sequence(self.model.spec(), member.steps);
            self.tables.write_sequence(&device, slot as u32, entry)?;
            self.tables.write_terms(&device, slot as u32, member.terms())?;
            self.tables.write_noise(&device, slot as u32, member.noise)?;
            self.tables.write_choosing(&device, slot as u32, &member.choosing, vocab)?;
            let history = slot as u64 * u64::from(self.kv.context()) * 4;
            device.write(&self.tables.history, history, bytemuck::cast_slice(&member.prompt))?;
            self.members[slot] = Some(member);
        }
        Ok(())
    }

    /// Gives free rows to tokens of prompts, the earliest sequence first.
    fn feed(&mut self) -> Result<(), Error> {
        let mut order: Vec<usize> = (0..self.members.len()).filter(|&slot| self.members[slot].is_some()).collect();
        order.sort_by_key(|&slot| self.members[slot].as_ref().map(|member| member.id));
        for slot in order {
            while let Some(member) = self.members[slot].as_mut().filter(|member| member.fed < member.prompt.len()) {
                if member.one_by_one() && self.table.holds(slot) {
                    break;
                }
                let Some(place) = self.table.free() else { return Ok(()) };
                let (position, last) = (member.fed as u32, member.fed + 1 == member.prompt.len());
                let row = Row {
                    output: if last { place as u32 } else { NONE },
                    ..Row::new(slot as u32, position, member.prompt[member.fed])
                };
                member.fed += 1;
                let row_of = member.place(slot, position);
                // With the position behind it, where the row that follows will be.
                let (end, steps) = ((position + 2).min(self.kv.context()), member.steps);
                self.kv.reserve(slot as u32, end, steps)?;
                self.write_row(place, row)?;
                if !last {
                    // Whoever was read out in this place before is so no more.
                    self.write_entry(&self.space.sites.picked, place, Row::RESTING)?;
                }
                self.table.take(place, row_of);
            }
        }
        Ok(())
    }

    /// Takes note of what a round of so many steps does to the table, and who gets a token by it, or may; and what went wrong, if anything did.
    fn advance(&mut self, steps: u32) -> (Vec<Option<Expected>>, Result<(), Error>) {
        let mut expected = vec![None; self.table.rows()];
        let mut outcome = Ok(());
        for (place, brings) in expected.iter_mut().enumerate() {
            let Some(row) = self.table.advance(place, steps) else { continue };
            let Some(member) = self.members[row.slot].as_ref() else {
                self.table.clear(place);
                continue;
            };
            let id = member.id;
            *brings = Some(Expected { id, row });
            if row.decodes {
                outcome = outcome.and(self.go_on(place, row).or_else(|error| self.fail(id, row.slot, error)));
            } else if !row.open {
                self.table.clear(place);
            }
        }
        (expected, outcome)
    }

    /// Makes ready what follows a row that brings a token, or may.
    fn go_on(&mut self, place: usize, row: Place) -> Result<(), Error> {
        let Some(member) = self.members[row.slot].as_mut() else { return Ok(()) };
        member.begun += 1;
        if !row.open && member.begun == member.wanted {
            self.table.clear(place);
            return self.write_row(place, Row::RESTING);
        }
        let deeper = member.begin_token()?;
        let (steps, next) = (member.steps, member.prompt.len() as u32 + member.begun);
        self.table.take(place, member.place(row.slot, next - 1));
        if deeper {
            let (entry, terms) = (member.session.sequence(self.model.spec(), steps), member.terms());
            self.tables.write_sequence(self.model.device(), row.slot as u32, entry)?;
            self.tables.write_terms(self.model.device(), row.slot as u32, terms)?;
        }
        self.kv.reserve(row.slot as u32, (next + 1).min(self.kv.context()), steps)
    }

    /// Ends a sequence that cannot go on, and hands the reason on.
    fn fail(&mut self, id: SequenceId, slot: usize, error: Error) -> Result<(), Error> {
        self.finished.insert(id, StopReason::Failed);
        self.leave(slot)?;
        Err(error)
    }

    /// Waits for a round and takes note of its tokens.
    fn arrive(&mut self, ticket: ReadBack, expected: &[Option<Expected>]) -> Result<(), Error> {
        let results = ticket.wait()?;
        let (came, ranks) = results.split_first().ok_or_else(lost)?;
        let came: Vec<Came> = bytemuck::pod_collect_to_vec(came);
        for (place, (came, expected)) in came.iter().zip(expected).enumerate() {
            let Some(Expected { id, row: Place { slot, open, decodes, .. } }) = *expected else { continue };
            // One that has ended meanwhile.
            let Some(member) = self.members[slot].as_mut().filter(|member| member.id == id) else { continue };
            match (decodes, came.token != NONE) {
                (true, true) => {}
                // It is still under way.
                (true, false) if open => {
                    member.begun -= 1;
                    continue;
                }
                (true, false) => return Err(lost()),
                (false, _) => {
                    if open && came.steps > 0 {
                        self.table.clear(place);
                    }
                    continue;
                }
            }
            let (piece, ended) = member.say(*came, ranks, place)?;
            self.arrived.push_back((id, piece));
            if let Some(reason) = ended {
                self.finished.insert(id, reason);
                self.leave(slot)?;
            }
        }
        Ok(())
    }

    /// Frees the places of a sequence.
    fn leave(&mut self, slot: usize) -> Result<(), Error> {
        for place in 0..self.table.rows() {
            if self.table.holder(place) == Some(slot) {
                self.table.clear(place);
                self.write_row(place, Row::RESTING)?;
            }
        }
        self.members[slot] = None;
        self.kv.release(slot as u32)
    }

    fn write_row(&self, place: usize, row: Row) -> Result<(), Error> {
        self.write_entry(&self.space.sites.rows, place, row)
    }

    fn write_entry(&self, table: &Buffer, place: usize, row: Row) -> Result<(), Error> {
        let offset = place as u64 * size_of::<Row>() as u64;
        Ok(self.model.device().write(table, offset, bytemuck::bytes_of(&row))?)
    }
}

fn lost() -> Error {
    ruminate_engine::Error::ReadBack("no token came back".to_owned()).into()
}
