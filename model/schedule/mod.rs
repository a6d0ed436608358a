//! Several sequences at once, at different depths: continuous depth batching.
//!
//! All of them share one row table, and so every pass over the weights. A round takes the steps that are left to the row that has fewest; then the rows that are
//! finished are read out, and their sequences go on in the same places of the table. What was chosen comes to the host one round later, while the device
//! computes the next.
//!
//! The rows of a prompt take the places that are free: all of a table while nobody else waits for a token, and else no more than a pass of bounded length has
//! (`pace.rs`). A sequence that begins like one before it takes over that one's pages (`prefix.rs`). Sequences are let in as long as memory lasts, and the
//! youngest gives way where it does not (`admission.rs`).
//!
//! Rows that may leave early do so on the device, and the host hears of it a round later as well. Until then it counts on what may be: a token of each round,
//! and a place that is not free yet. A round takes at most an eighth of their steps, since one that has left waits for its end; and it waits for rows of its
//! sequence in front of it, because what is read out of it attends to those.

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
use std::time::Duration;

use ruminate_shaders::Row;
use ruminate_shaders::batch::RowResult;

pub use self::event::{Event, PromptToken, SequenceId, Totals};
use self::guest::Guest;
use self::member::{Member, shares_passes};
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
use crate::session::{INVARIANT_ROWS, MAX_ROWS};

/// What a batch holds.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct BatchOptions {
    /// Sequences that are computed at a time, 1 to 256, in the invariant mode to 8; others wait for their turn.
    pub sequences: u32,
    /// What each of them holds, but for the seed, which every sequence has of its own. [`SessionOptions::steps`] is what memory is planned for.
    pub session: SessionOptions,
    /// Rows of a pass, at most, while a sequence waits for its next token: a longer prompt enters in several passes. 1 to 256, and never fewer than there are
    /// sequences. By default as many as take about 100 ms, but at least 64. Without effect in the invariant mode, whose passes have 8 rows.
    pub prefill_chunk: Option<u32>,
    /// Bytes of keys and values that are kept of what sequences began with, for those that begin alike; 0, the default, keeps none. Shared are full pages of 32
    /// tokens that were computed at the same depth, with the same exit and from the same initial states: with a fixed
    /// [`SessionOptions::state_seed`], or in models that draw none. Not shared are those of sequences with noise, and where steps share keys.
    pub prefix_cache: u64,
    /// Bytes of keys and values, at most, those of the prefix cache included; by default as much as the device has free. A sequence is let in when there is
    /// room for its prompt; where there is none for a next token, the youngest sequence gives way, and goes on from its last token once there is.
    pub kv_memory: Option<u64>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        let session = SessionOptions::default();
        Self { sequences: 8, session, prefill_chunk: None, prefix_cache: 0, kv_memory: None }
    }
}

/// Batches that the process has made.
static BATCHES: AtomicU64 = AtomicU64::new(0);

/// Sequences that share their passes over the weights.
pub struct Batch {
    store: Store,
    plans: PlanCache,
    /// Plan caches of passes that score given tokens, by their rows and read-outs.
    scoring: HashMap<(u32, u32), PlanCache>,
    parallel_sites: ParallelSites,
    table: Table,
    /// By their slots.
    members: Vec<Option<Member>>,
    /// Sequences that share no passes.
    guests: Vec<Guest>,
    /// Buffers and plans of those that have ended.
    idle: Vec<OwnPasses>,
    /// The oldest first.
    waiting: VecDeque<Member>,
    /// The round that is being submitted.
    begun: Option<Round>,
    /// The one that is submitted.
    pending: Option<Submitted>,
    events: VecDeque<Event>,
    prefix: PrefixCache,
    pace: Pace,
    /// Bytes of keys and values, at most.
    budget: u64,
    next_id: SequenceId,
    /// When the last round was done.
    done_at: Option<ruminate_engine::clock::Instant>,
    /// Whether the last round was a prompt's that is read out whole.
    scored_last: bool,
    totals: Totals,
}

impl Model {
    /// Makes room for several sequences that share passes.
    ///
    /// # Errors
    /// [`Error::Option`] if the options make no sense for this model, [`Error::Engine`] if the device fails.
    pub fn batch(&self, options: BatchOptions) -> Result<Batch, Error> {
        let BatchOptions { sequences, session, prefill_chunk, prefix_cache, kv_memory } = options;
        let fixed = session.invariant.then_some(INVARIANT_ROWS);
        if sequences == 0 || sequences > fixed.unwrap_or(MAX_ROWS) {
            let allowed = "from 1 to 256, in the invariant mode to 8";
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
            pending: None,
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
    /// Adds a sequence, which joins as soon as there is a place and memory for it; others may be under way. The seed is that of a
    /// [`Session`](crate::Session) alone.
    ///
    /// A sequence that computes ahead of what is known, or whose prompt leaves the loop all together (see [`PrefillExit`](crate::PrefillExit)), has
    /// passes of its own, which take turns with those that the others share.
    ///
    /// # Errors
    /// As [`Session::generate`](crate::Session::generate); [`Error::KvMemory`] if the sequence would not fit even alone; [`Error::Together`] for
    /// [`GenerateOptions::prompt_logprobs`] of a sequence that shares no passes.
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

    /// A sequence of this batch, the next one that is added.
    fn member_of(&self, prompt: Prompt<'_>, seed: u64, options: &GenerateOptions) -> Result<Member, Error> {
        let session = SessionOptions { seed, steps: Some(self.store.planned), ..self.store.options.clone() };
        Member::new(self.next_id, &self.store.model, session, self.store.kv.context(), prompt, options)
    }

    /// Lets a sequence wait for a place.
    fn enqueue(&mut self, member: Member) -> Result<SequenceId, Error> {
        let id = member.id;
        self.check_alone(&member)?;
        self.next_id.number += 1;
        self.totals.sequences += 1;
        self.waiting.push_back(member);
        Ok(id)
    }

    /// The next event of any sequence, waited for; none when all are finished.
    ///
    /// # Errors
    /// The device's, which end all sequences.
    pub fn wait(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let (event, busy) = self.next_pass()?;
            if event.is_some() || !busy {
                return Ok(event);
            }
        }
    }

    /// The same, but after one round of passes without an event, as in the midst of a long prompt, there is none: for hosts that have to look for something
    /// between two rounds, such as sequences to cancel. [`Self::is_idle`] says whether there is more to do.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_round(&mut self) -> Result<Option<Event>, Error> {
        Ok(self.next_pass()?.0)
    }

    /// Submits a round, waits for the one before it, and lets guests have a pass: the next event, and whether there was anything to do.
    fn next_pass(&mut self) -> Result<(Option<Event>, bool), Error> {
        if let Some(event) = self.events.pop_front() {
            return Ok((Some(event), true));
        }
        // The next round is submitted before the last one is waited for, so that the device has no pause.
        let before = self.pending.take();
        let submitted = self.submit();
        let busy = before.is_some() || self.pending.is_some() || !self.guests.is_empty();
        self.step_guests(None)?;
        if let Some(round) = before {
            self.arrive(round)?;
        }
        submitted?;
        Ok((self.events.pop_front(), busy))
    }

    /// Does a bounded piece of work and returns an event if there is one, for hosts that have frames to draw in between: as
    /// [`Generation::step`](crate::Generation::step) for all sequences together. It never waits for the device. None: the device is at work, or
    /// there is nothing to do ([`Self::is_idle`]).
    ///
    /// # Errors
    /// The device's, which end all sequences.
    pub fn step(&mut self, budget: Duration) -> Result<Option<Event>, Error> {
        if self.events.is_empty() {
            self.go_on(budget)?;
        }
        if self.events.is_empty() {
            self.step_guests(Some(budget))?;
        }
        Ok(self.events.pop_front())
    }

    /// Whether there is nothing to do and nothing to hand out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let nobody = self.waiting.is_empty() && self.guests.is_empty() && self.members.iter().all(Option::is_none);
        nobody && self.pending.is_none() && self.begun.is_none() && self.events.is_empty()
    }

    /// ParallelSites a sequence within a pass; tokens of it that have come are still handed out, and then that it is done. Nothing happens if it has ended.
    ///
    /// # Errors
    /// [`Error::Option`] for a sequence of another batch, or the device's.
    pub fn cancel(&mut self, id: SequenceId) -> Result<(), Error> {
        if id.batch != self.next_id.batch {
            let (value, allowed) = (id.to_string(), "one that add() of this batch gave");
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

    /// Adds a sequence that begins with all that another one has so far, as a prompt, and shares its full pages whatever
    /// [`BatchOptions::prefix_cache`] says.
    ///
    /// # Errors
    /// [`Error::Option`] for a sequence that has ended; as [`Self::add`].
    pub fn fork(&mut self, id: SequenceId, seed: u64, options: &GenerateOptions) -> Result<SequenceId, Error> {
        let Some(tokens) = self.tokens(id).map(<[u32]>::to_vec) else {
            let (value, allowed) = (id.to_string(), "one of this batch that has not ended");
            return Err(Error::Option { name: "sequence", value, allowed });
        };
        let new = self.add(&tokens, seed, options)?;
        self.share(id, new);
        Ok(new)
    }

    /// Figures of a sequence that has not ended; those of one that has come with its last event.
    #[must_use]
    pub fn statistics(&self, id: SequenceId) -> Option<&Statistics> {
        let guest = self.guests.iter().find(|guest| guest.id == id).map(Guest::statistics);
        guest.or_else(|| self.member(id).map(|member| &member.statistics))
    }

    /// The tokens of a sequence that has not ended: its prompt and what was chosen after it.
    #[must_use]
    pub fn tokens(&self, id: SequenceId) -> Option<&[u32]> {
        let guest = self.guests.iter().find(|guest| guest.id == id).map(|guest| &guest.tokens[..]);
        guest.or_else(|| self.member(id).map(|member| &member.tokens[..]))
    }

    /// What was done so far, and what is held.
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

    /// What each sequence holds.
    #[must_use]
    pub fn options(&self) -> &SessionOptions {
        &self.store.options
    }

    /// Positions that each sequence can hold.
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
