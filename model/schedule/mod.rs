//! Several sequences at once, at different depths: continuous depth batching.
//!
//! All sequences share one row table, and so every pass over the weights. A *round* runs as many steps as the row with the fewest steps left needs. Then
//! finished rows are read out, and their sequences continue in the same table entries. The host receives the chosen tokens one round later, while the device
//! computes the next round.
//!
//! Prompt rows fill the free entries of the table. They may take all of them unless another sequence waits for a token; then they are limited so that a pass
//! takes bounded time (`pace.rs`). A sequence that starts with the same tokens as an earlier one shares its pages (`prefix.rs`). Sequences are admitted while
//! memory lasts; when it runs out, the youngest is preempted (`admission.rs`).
//!
//! Rows with early exit leave the loop on the device, and the host learns of that one round later, too. Until then it assumes that each round may bring a
//! token, and that the row's entry is still taken. A round then takes at most an eighth of such a row's steps, since a row that has exited waits for the end of
//! the round. It also waits for earlier rows of its sequence, because its read-out attends to them.

mod admission;
mod event;
mod guest;
mod member;
mod pace;
pub(crate) mod passes;
pub(crate) mod policy;
mod prefix;
mod round;
mod scoring;
pub(crate) mod store;
mod table;
mod warm;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use ruminate_engine::clock::Instant;
use ruminate_shaders::Row;
use ruminate_shaders::batch::RowResult;

pub use self::event::{Event, PromptToken, SequenceId, Totals};
use self::guest::{Drive, Guest};
use self::member::{Member, shares_passes};
pub(crate) use self::pace::PIECE;
use self::pace::Pace;
use self::passes::OwnPasses;
use self::policy::Asked;
use self::prefix::PrefixCache;
use self::round::{Round, Submitted};
use self::store::Store;
use self::table::Table;
use crate::error::Error;
use crate::generate::{Prompt, Statistics, StopReason};
use crate::memory_budget;
use crate::model::Model;
use crate::options::{GenerateOptions, SessionOptions};
use crate::parallel_decoding::ParallelSites;
use crate::plans::PlanCache;
use crate::poll::Alarm;
use crate::session::{INVARIANT_ROWS, MAX_ROWS};

/// Options of a batch.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct BatchOptions {
    /// Number of sequences computed at a time, 1 to 256 (1 to 8 in invariant mode). Further sequences wait in a queue.
    pub sequences: u32,
    /// Options of every sequence, except the seed, which each sequence has of its own. Memory is planned for [`SessionOptions::steps`].
    pub session: SessionOptions,
    /// Maximum rows of a pass while another sequence waits for its next token; a longer prompt enters in several passes. 1 to 256, and never fewer than
    /// `sequences`. By default the number of rows that takes about 100 ms, but at least 64. Without effect in invariant mode, whose passes always have 8 rows.
    pub prefill_chunk: Option<u32>,
    /// Bytes of keys and values of prompts kept for sequences that start with the same tokens; 0, the default, disables the cache. Full pages of 32 tokens are
    /// shared between sequences computed at the same depth, with the same exit criterion and from the same initial states: with a fixed
    /// [`SessionOptions::state_seed`], or in models that draw none. Sequences with noise or with keys shared between steps do not use the cache.
    pub prefix_cache: u64,
    /// Maximum bytes of keys and values, including the prefix cache; by default all memory that is free on the device. A sequence is admitted when its prompt
    /// fits. If a next token does not fit, the youngest sequence is preempted, and continues from its last token once there is room.
    pub kv_memory: Option<u64>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        let session = SessionOptions::default();
        Self { sequences: 8, session, prefill_chunk: None, prefix_cache: 0, kv_memory: None }
    }
}

/// Number of batches that the process has created.
static BATCHES: AtomicU64 = AtomicU64::new(0);

/// Sequences that share their passes over the weights.
pub struct Batch {
    store: Store,
    plans: PlanCache,
    /// Plan caches of passes that score given tokens, by their numbers of rows and read-outs.
    scoring: HashMap<(u32, u32), PlanCache>,
    parallel_sites: ParallelSites,
    table: Table,
    /// Sequences that share passes, by slot.
    members: Vec<Option<Member>>,
    /// Sequences with their own passes.
    guests: Vec<Guest>,
    /// Buffers and plans of ended sequences with their own passes.
    idle: Vec<OwnPasses>,
    /// Queue of sequences, the oldest first.
    waiting: VecDeque<Member>,
    /// The round that is being submitted.
    begun: Option<Round>,
    /// A round that takes many steps at once and is submitted piece by piece.
    deep: Option<Round>,
    /// Whether the deep round had the last turn in bounded steps.
    deep_turn: bool,
    /// Whether the sequences with their own passes were first in the last call that did not wait.
    guests_turn: bool,
    /// Submitted rounds, the oldest first.
    pending: VecDeque<Submitted>,
    /// Wakes the task that awaits an event.
    alarm: Alarm,
    events: VecDeque<Event>,
    prefix: PrefixCache,
    pace: Pace,
    /// Maximum bytes of keys and values.
    budget: u64,
    next_id: SequenceId,
    /// Time when the last round was done.
    done_at: Option<Instant>,
    /// Whether the last round scored given tokens.
    scored_last: bool,
    totals: Totals,
}

impl Model {
    /// Creates a batch: room for several sequences that share passes.
    ///
    /// # Errors
    /// [`Error::Option`] if an option is invalid for this model, [`Error::Engine`] if the device fails.
    pub fn batch(&self, options: BatchOptions) -> Result<Batch, Error> {
        let BatchOptions { sequences, session, prefill_chunk, prefix_cache, kv_memory } = options;
        let fixed = session.invariant.then_some(INVARIANT_ROWS);
        if sequences == 0 || sequences > fixed.unwrap_or(MAX_ROWS) {
            let allowed = "from 1 to 256, or from 1 to 8 in invariant mode";
            return Err(Error::Option { name: "sequences", value: sequences.to_string(), allowed });
        }
        if let Some(rows) = prefill_chunk.filter(|&rows| rows == 0 || rows > MAX_ROWS) {
            return Err(Error::Option { name: "prefill_chunk", value: rows.to_string(), allowed: "from 1 to 256" });
        }
        let (spec, device) = (self.spec(), self.device().clone());
        let mut store = Store::new(self, session, sequences)?;
        let rows = fixed.unwrap_or(MAX_ROWS);
        let outputs = fixed.unwrap_or_else(|| crate::session::capacity(sequences));
        let plans = PlanCache::new(&device, spec, rows, outputs)?;
        let resting = vec![Row::RESTING; rows as usize];
        device.write(&plans.sites.rows, 0, bytemuck::cast_slice(&resting))?;
        device.write(&plans.sites.picked, 0, bytemuck::cast_slice(&resting[..outputs as usize]))?;
        let results = device.buffer("results of rows", u64::from(rows) * size_of::<RowResult>() as u64)?;
        let parallel_sites =
            ParallelSites { table: plans.sites.rows.clone(), front: None, wavefront: None, emitted: results };
        let least = store.kv.group_bytes(1);
        if let Some(bytes) = kv_memory.filter(|&bytes| bytes < least) {
            let value = format!("{bytes}, but the fewest positions of a sequence take {least} bytes");
            return Err(Error::Option { name: "kv_memory", value, allowed: "at least as many bytes" });
        }
        let groups = prefix_cache / store.kv.group_bytes(store.planned).max(1);
        store.kv.make_spare(u32::try_from(groups).unwrap_or(u32::MAX))?;
        Ok(Batch {
            budget: kv_memory.or_else(|| memory_budget::usable(device.memory())).unwrap_or(u64::MAX),
            store,
            plans,
            scoring: HashMap::new(),
            parallel_sites,
            table: Table::new(rows),
            members: (0..sequences).map(|_| None).collect(),
            guests: Vec::new(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            begun: None,
            deep: None,
            deep_turn: false,
            guests_turn: false,
            pending: VecDeque::new(),
            alarm: Alarm::default(),
            events: VecDeque::new(),
            prefix: PrefixCache::new(prefix_cache),
            pace: Pace::new(prefill_chunk.map(|rows| rows.max(sequences)), rows),
            next_id: SequenceId { batch: BATCHES.fetch_add(1, Ordering::Relaxed), number: 0 },
            done_at: None,
            scored_last: false,
            totals: Totals::default(),
        })
    }
}

impl Batch {
    /// Adds a sequence, which starts as soon as there is a slot and memory for it; others may be running. With the same seed, it draws as a
    /// [`Session`](crate::Session) does.
    ///
    /// A sequence that computes ahead of its known tokens, or whose prompt rows exit together (see [`PrefillExit`](crate::PrefillExit)), has its own passes,
    /// which take turns with the shared ones.
    ///
    /// # Errors
    /// As [`Session::generate`](crate::Session::generate); [`Error::KvMemory`] if the sequence would not fit even if it were the only one; [`Error::Together`]
    /// for [`GenerateOptions::prompt_logprobs`] with a sequence that cannot share passes.
    pub fn add<'p>(
        &mut self,
        prompt: impl Into<Prompt<'p>>,
        seed: u64,
        options: &GenerateOptions,
    ) -> Result<SequenceId, Error> {
        policy::check(Asked { options, session: &self.store.options, batch: true })?;
        let mut member = self.member_of(prompt.into(), seed, options)?;
        member.alone = (!shares_passes(options)).then(|| Box::new(options.clone()));
        self.enqueue(member)
    }

    /// Creates the sequence that is added next.
    fn member_of(&self, prompt: Prompt<'_>, seed: u64, options: &GenerateOptions) -> Result<Member, Error> {
        let session = SessionOptions { seed, steps: Some(self.store.planned), ..self.store.options.clone() };
        Member::new(self.next_id, &self.store.model, session, self.store.kv.context(), prompt, options)
    }

    /// Puts a sequence into the queue.
    fn enqueue(&mut self, member: Member) -> Result<SequenceId, Error> {
        let id = member.id;
        self.check_alone(&member)?;
        self.next_id.number += 1;
        self.totals.sequences += 1;
        self.waiting.push_back(member);
        Ok(id)
    }

    /// Waits for the next event of any sequence. Returns none when all sequences have ended.
    ///
    /// # Errors
    /// Device errors, which end all sequences.
    pub fn wait(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let (event, busy) = self.next_pass()?;
            if event.is_some() || !busy {
                return Ok(event);
            }
        }
    }

    /// Waits as [`Self::wait`] does, but for one round at most. Returns none if the round brought no event, for example in the middle of a long prompt. For
    /// hosts that have work between rounds, such as canceling sequences. [`Self::is_idle`] tells whether there is more to do.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_round(&mut self) -> Result<Option<Event>, Error> {
        Ok(self.next_pass()?.0)
    }

    /// Submits a round, waits for the one before it and runs the passes that are not shared. Returns the next event, and whether there was anything to do.
    fn next_pass(&mut self) -> Result<(Option<Event>, bool), Error> {
        if let Some(event) = self.events.pop_front() {
            return Ok((Some(event), true));
        }
        // The next round is submitted before waiting for the last one, so that the device is never idle.
        let before = self.pending.pop_front();
        let submitted = self.submit();
        let idle = before.is_none() && self.pending.is_empty();
        let busy = !idle || self.deep.is_some() || !self.guests.is_empty();
        self.step_guests(Drive::Wait)?;
        if let Some(round) = before {
            self.arrive(round)?;
        }
        submitted?;
        if idle && self.events.is_empty() && (self.deep.is_some() || self.guests.iter().any(Guest::is_deep)) {
            // Only pieces are under way: the next ones begin when they are done.
            self.store.model.device().wait_idle()?;
        }
        Ok((self.events.pop_front(), busy))
    }

    /// Does a bounded piece of work for all sequences and returns an event if there is one. It never waits for the device, so hosts can draw frames between
    /// calls, as with [`Generation::step`](crate::Generation::step). Returns none while the device is working, or if there is nothing to do
    /// ([`Self::is_idle`]).
    ///
    /// # Errors
    /// Device errors, which end all sequences.
    pub fn step(&mut self, budget: Duration) -> Result<Option<Event>, Error> {
        self.take_turns(|batch| batch.go_on(budget), Drive::Piece(budget))?;
        Ok(self.events.pop_front())
    }

    /// Submits pieces and collects results, until there is an event or nothing to do until the device is done; then the device wakes `waker`. It takes about
    /// the time of a piece at most.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Result<Option<Event>, Error> {
        self.alarm.set(waker);
        let rounds = |batch: &mut Self| {
            let start = Instant::now();
            while batch.events.is_empty() && start.elapsed() < PIECE && batch.go_ahead(PIECE)? {}
            Ok(())
        };
        self.take_turns(rounds, Drive::Ahead(waker))?;
        if self.events.is_empty() && !self.is_idle() {
            self.alarm.ring_when_done(self.store.model.device())?;
        }
        Ok(self.events.pop_front())
    }

    /// Works until there is an event. The shared rounds and the sequences with their own passes take turns in being first: on a device that computes in the call
    /// that submits, the first always brings an event.
    fn take_turns(
        &mut self,
        rounds: impl FnOnce(&mut Self) -> Result<(), Error>,
        drive: Drive<'_>,
    ) -> Result<(), Error> {
        if !self.events.is_empty() {
            return Ok(());
        }
        self.guests_turn = !self.guests_turn;
        if self.guests_turn {
            self.step_guests(drive)?;
        }
        if self.events.is_empty() {
            rounds(self)?;
        }
        if self.events.is_empty() && !self.guests_turn {
            self.step_guests(drive)?;
        }
        Ok(())
    }

    /// Whether no sequence is left and all events have been taken.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let nobody = self.waiting.is_empty() && self.guests.is_empty() && self.members.iter().all(Option::is_none);
        nobody && self.pending.is_empty() && self.begun.is_none() && self.events.is_empty()
    }

    /// Cancels a sequence within one pass. Tokens that have been received are still reported, then its end. Does nothing if the sequence has ended.
    ///
    /// # Errors
    /// [`Error::Option`] for a sequence of another batch; device errors.
    pub fn cancel(&mut self, id: SequenceId) -> Result<(), Error> {
        if id.batch != self.next_id.batch {
            let (value, allowed) = (id.to_string(), "an id returned by add() of this batch");
            return Err(Error::Option { name: "sequence", value, allowed });
        }
        if let Some(place) = self.waiting.iter().position(|member| member.id == id) {
            if let Some(member) = self.waiting.remove(place) {
                self.let_go(&member);
                self.done(&member, StopReason::Cancelled);
            }
            return Ok(());
        }
        if self.end_guest(id, StopReason::Cancelled)? {
            return Ok(());
        }
        self.slot(id).map_or(Ok(()), |slot| self.end(slot, StopReason::Cancelled))
    }

    /// Adds a sequence whose prompt is everything that another sequence holds so far. It shares the full pages of that sequence, whatever
    /// [`BatchOptions::prefix_cache`] is.
    ///
    /// # Errors
    /// [`Error::Option`] if the sequence `id` has ended; otherwise as [`Self::add`].
    pub fn fork(&mut self, id: SequenceId, seed: u64, options: &GenerateOptions) -> Result<SequenceId, Error> {
        let Some(tokens) = self.tokens(id).map(<[u32]>::to_vec) else {
            let (value, allowed) = (id.to_string(), "a sequence of this batch that has not ended");
            return Err(Error::Option { name: "sequence", value, allowed });
        };
        let new = self.add(&tokens, seed, options)?;
        self.share(id, new);
        Ok(new)
    }

    /// Statistics of a sequence that has not ended. The final ones are in its last event.
    #[must_use]
    pub fn statistics(&self, id: SequenceId) -> Option<&Statistics> {
        let guest = self.guests.iter().find(|guest| guest.id == id).map(Guest::statistics);
        guest.or_else(|| self.member(id).map(|member| &member.statistics))
    }

    /// Tokens of a sequence that has not ended: its prompt and the generated ones.
    #[must_use]
    pub fn tokens(&self, id: SequenceId) -> Option<&[u32]> {
        let guest = self.guests.iter().find(|guest| guest.id == id).map(|guest| &guest.tokens[..]);
        guest.or_else(|| self.member(id).map(|member| &member.tokens[..]))
    }

    /// Work done so far, and memory held.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            waiting: self.waiting.len() as u32,
            running: self.running() as u32,
            kv_bytes: self.store.kv.bytes(),
            prefix_bytes: self.prefix.bytes(),
            ..self.totals
        }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.store.model
    }

    /// Options of every sequence.
    #[must_use]
    pub fn options(&self) -> &SessionOptions {
        &self.store.options
    }

    /// Number of positions that each sequence can hold.
    #[must_use]
    pub fn context(&self) -> u32 {
        self.store.kv.context()
    }

    fn running(&self) -> usize {
        self.members.iter().flatten().count() + self.guests.len()
    }

    fn member(&self, id: SequenceId) -> Option<&Member> {
        self.waiting.iter().chain(self.members.iter().flatten()).find(|member| member.id == id)
    }

    fn slot(&self, id: SequenceId) -> Option<usize> {
        self.members.iter().position(|member| member.as_ref().is_some_and(|member| member.id == id))
    }

    fn done(&mut self, member: &Member, reason: StopReason) {
        self.events.push_back(Event::Done { id: member.id, reason, statistics: member.statistics.clone() });
    }
}

fn lost() -> Error {
    ruminate_engine::Error::ReadBack("no token came back".to_owned()).into()
}
