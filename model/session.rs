//! A session: one sequence with its KV cache, its random numbers and the passes over it.
//!
//! Rows go to the device in one table, are computed by one plan, and come back as a ticket. [`Session::forward`] (`forward.rs`) waits for results,
//! as the step-wise calls do (`stepwise.rs`), which is what research code wants; generation (`decoding.rs`, `generation`, `generate.rs`) waits for nothing but
//! its tokens. Here is what all of them stand on.

use std::collections::HashMap;

use ruminate_engine::Buffer;
use ruminate_shaders::{NONE, Row, stride};

use crate::arch::Spec;
use crate::error::Error;
use crate::generation::ActiveGeneration;
use crate::kv::KvCache;
use crate::memory_budget;
use crate::model::Model;
use crate::options::{SessionOptions, State};
use crate::parallel_decoding::ParallelBuffers;
use crate::plans::{Choose, Follow, Next, PlanCache, PlanKey};
use crate::sampling::{Choosing, Sampling};
use crate::sequence_tables::SequenceTables;
use crate::stepwise::Opened;

/// Rows of one pass, at most: longer prompts are fed in several.
pub(crate) const MAX_ROWS: u32 = 256;

/// Rows of every pass in the invariant mode, whatever there is to compute: the most that read the weights once.
pub(crate) const INVARIANT_ROWS: u32 = 8;

/// Steps of one token, at most: the tables of the cache have an entry for each.
pub const MAX_STEPS: u32 = 1 << 16;

/// One sequence of a model.
pub struct Session {
    pub(crate) model: Model,
    options: SessionOptions,
    pub(crate) kv: KvCache,
    pub(crate) tables: SequenceTables,
    pub(crate) plan_caches: HashMap<(u32, u32), PlanCache>,
    /// Buffers of parallel decoding, by rows of the table.
    pub(crate) parallel_buffers: HashMap<u32, ParallelBuffers>,
    choosing: Option<Choosing>,
    pub(crate) position: u32,
    /// Where the state of the last row that the session holds is, unless that was overwritten: plan cache, row.
    pub(crate) last: Option<((u32, u32), u32)>,
    /// The token that the last generation ended with, which is not computed yet.
    pub(crate) next: Option<u32>,
    pub(crate) opened: Option<Opened>,
    /// What [`Self::start`] began.
    pub(crate) generation: Option<Box<ActiveGeneration>>,
}

/// What a session holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Positions that hold a token.
    pub(crate) position: u32,
    /// The token that comes next, if one was chosen.
    pub(crate) next: Option<u32>,
    /// Whether the state of the last row is there to go on from.
    pub(crate) carries: bool,
}

impl Session {
    pub(crate) fn new(model: Model, options: SessionOptions) -> Result<Self, Error> {
        let spec = model.spec();
        let device = model.device().clone();
        let (context, steps) = memory_budget::checked(spec, &options, &device)?;
        let kv = KvCache::new(&model, &options, (1, context, steps))?;
        let tables = SequenceTables::new(&device, 1, context)?;
        let (plan_caches, parallel_buffers, choosing, last) = (HashMap::new(), HashMap::new(), None, None);
        let (next, opened, generation) = (None, None, None);
        let session = Self {
            model,
            options,
            kv,
            tables,
            plan_caches,
            parallel_buffers,
            choosing,
            position: 0,
            last,
            next,
            opened,
            generation,
        };
        session.write_sequence(steps)?;
        Ok(session)
    }

    /// Writes what the device knows of the sequence; `steps` count where rows of different depths share passes.
    pub(crate) fn write_sequence(&self, steps: u32) -> Result<(), Error> {
        self.tables.write_sequence(self.model.device(), 0, self.options.sequence(self.model.spec(), steps))
    }

    /// The model of this session.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The options that the session was made with.
    #[must_use]
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// The options of another session like this one.
    pub(crate) fn resolved_options(&self) -> SessionOptions {
        SessionOptions { context: Some(self.context()), ..self.options.clone() }
    }

    /// Positions that hold a token.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.position
    }

    /// The token that the last generation ended with, if nothing has happened since. It is not computed yet and holds no position: the next prompt
    /// comes after it, unless it is one of the tokens that end a generation (see [`Prompt`](crate::Prompt)).
    #[must_use]
    pub const fn next_token(&self) -> Option<u32> {
        self.next
    }

    /// Positions that the session can hold.
    #[must_use]
    pub fn context(&self) -> u32 {
        self.kv.context()
    }

    /// Bytes of the KV cache on the device. What a fork has of its original counts there alone.
    #[must_use]
    pub fn kv_bytes(&self) -> u64 {
        self.kv.bytes()
    }

    /// Forgets all positions from `position` on; what came before stays computed.
    ///
    /// # Errors
    /// [`Error::Option`] if the session does not hold so many positions; the device's, where a fork still needs what is forgotten.
    pub fn rewind(&mut self, position: u32) -> Result<(), Error> {
        if position > self.held().position {
            let allowed = "at most the number of positions that the session holds";
            return Err(Error::Option { name: "position", value: position.to_string(), allowed });
        }
        self.stop();
        self.kv.unshare(position)?;
        self.position = position;
        self.next = None;
        Ok(())
    }

    /// Times the kernels of one decoded token. The row is computed, but the session stays where it is.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::PromptTooLong`] if the context is full, or the device's.
    pub fn profile(&mut self, steps: u32, sampling: Sampling) -> Result<ruminate_engine::Profile, Error> {
        check_steps(steps)?;
        let position = self.held().position;
        if position == self.context() {
            return Err(Error::PromptTooLong {
                tokens: position as usize + 1,
                context: self.context(),
                most: self.model.spec().context,
            });
        }
        let choosing = Choosing::plain(sampling)?;
        self.stop();
        self.kv.reserve(0, self.position + 1, steps)?;
        self.set_choosing(&choosing)?;
        let device = self.model.device().clone();
        let key = self.single();
        self.plans_for(key)?;
        self.last = None;
        let plan = self.plan(key, PlanKey::choosing(&choosing))?;
        Ok(device.profile(plan, &[steps])?)
    }

    pub(crate) fn execute(&mut self, key: (u32, u32), plan: PlanKey, counts: &[u32]) -> Result<(), Error> {
        let device = self.model.device().clone();
        let plan = self.plan(key, plan)?;
        device.execute(plan, counts, &[])?;
        Ok(())
    }

    pub(crate) fn plan(&mut self, key: (u32, u32), plan: PlanKey) -> Result<&ruminate_engine::Plan, Error> {
        let next = match plan.choose {
            Choose::Nothing => None,
            _ if key == self.single() => None,
            _ => Some(self.next_row()?),
        };
        let Self { model, kv, tables, plan_caches, parallel_buffers, .. } = self;
        let plans = plan_caches.get_mut(&key).ok_or(Error::bug("the plan cache of a pass exists before its plans"))?;
        let sites = match plan.follow {
            Follow::Draft(rows) | Follow::Start(rows) => parallel_buffers.get(&rows).map(|buffers| &buffers.sites),
            _ => None,
        };
        plans.plan(&model.plan_inputs(kv, tables, next.as_ref(), sites), plan)
    }

    /// Where decoded rows are.
    pub(crate) fn next_row(&mut self) -> Result<Next, Error> {
        let sites = &self.plans_for(self.single())?.sites;
        Ok(Next { rows: sites.rows.clone(), state: sites.state.clone() })
    }

    /// The plan cache of decoded rows, by its rows and read-outs.
    pub(crate) fn single(&self) -> (u32, u32) {
        let rows = self.fixed_rows().unwrap_or(1);
        (rows, rows)
    }

    /// Rows of every pass, if sums must not depend on how many there are.
    pub(crate) fn fixed_rows(&self) -> Option<u32> {
        self.options.invariant.then_some(INVARIANT_ROWS)
    }

    /// Rows of a pass, at most.
    pub(crate) fn most_rows(&self) -> u32 {
        self.fixed_rows().unwrap_or(MAX_ROWS)
    }

    /// The plan cache of a pass over so many tokens, all of which are read out or one.
    pub(crate) fn key(&self, count: u32, all: bool) -> (u32, u32) {
        match self.fixed_rows() {
            Some(rows) => (rows, rows),
            None => (capacity(count), if all { capacity(count) } else { 1 }),
        }
    }

    pub(crate) fn plans_for(&mut self, key: (u32, u32)) -> Result<&mut PlanCache, Error> {
        if !self.plan_caches.contains_key(&key) {
            let plans = PlanCache::new(self.model.device(), self.model.spec(), key.0, key.1)?;
            self.plan_caches.insert(key, plans);
        }
        self.plan_caches.get_mut(&key).ok_or(Error::bug("the plan cache of a pass exists before its plans"))
    }

    /// Reads `[rows, width]` without the padding.
    pub(crate) fn read_rows(&self, buffer: &Buffer, rows: impl TryInto<u64>, width: u32) -> Result<Vec<f32>, Error> {
        let padded = stride(width);
        let rows = rows.try_into().unwrap_or(0);
        let bytes = self.model.device().read(buffer, 0..rows * u64::from(padded) * 4)?;
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let values: Vec<f32> = values.collect();
        Ok(values.chunks(padded as usize).flat_map(|row| &row[..width as usize]).copied().collect())
    }

    pub(crate) fn padded_vocab(&self) -> u32 {
        self.model.spec().padded_vocab
    }

    /// Writes what tokens are chosen by to the device.
    pub(crate) fn set_choosing(&mut self, choosing: &Choosing) -> Result<(), Error> {
        if self.choosing.as_ref() == Some(choosing) {
            return Ok(());
        }
        self.choosing = None;
        let (device, vocab) = (self.model.device().clone(), self.padded_vocab());
        self.tables.write_choosing(&device, 0, choosing, vocab)?;
        self.choosing = Some(choosing.clone());
        Ok(())
    }

    /// What the session holds once a generation under way is ended.
    pub(crate) fn held(&self) -> Held {
        let Self { position, next, last, .. } = *self;
        self.generation
            .as_ref()
            .map_or(Held { position, next, carries: last.is_some() }, |generation| generation.held(self))
    }

    /// Checks the arguments of a pass, as of the end of a generation under way.
    pub(crate) fn check(&self, tokens: &[u32], steps: u32, state: State<'_>) -> Result<(), Error> {
        let spec = self.model.spec();
        let held = self.held();
        check_steps(steps)?;
        check_tokens(spec, tokens, held.position as usize, self.context())?;
        if state == State::Carried && (tokens.len() > 1 || !held.carries) {
            let allowed = "a single token behind another one, if its state is carried on";
            return Err(Error::Option { name: "state", value: format!("{} tokens", tokens.len()), allowed });
        }
        if let State::Given(values) = state {
            let expected = tokens.len() * spec.width as usize;
            if values.len() != expected {
                return Err(Error::State { found: values.len(), expected });
            }
        }
        Ok(())
    }

    /// The state that can be carried on, padded.
    pub(crate) fn last_state(&self) -> Result<Option<Vec<u8>>, Error> {
        let Some((key, row)) = self.last else { return Ok(None) };
        let bytes = u64::from(stride(self.model.spec().width)) * 4;
        let range = u64::from(row) * bytes..u64::from(row + 1) * bytes;
        Ok(Some(self.model.device().read(&self.plan_caches[&key].sites.state, range)?))
    }

    /// Makes a state the one that can be carried on.
    pub(crate) fn set_last_state(&mut self, padded: &[u8]) -> Result<(), Error> {
        let (key, device) = (self.single(), self.model.device().clone());
        device.write(&self.plans_for(key)?.sites.state, 0, padded)?;
        self.last = Some((key, 0));
        Ok(())
    }

    /// Makes room, fills the row table of a plan cache that fits, and the states if they are given.
    pub(crate) fn prepare(
        &mut self,
        tokens: &[u32],
        steps: u32,
        state: State<'_>,
        outputs: usize,
    ) -> Result<(u32, u32), Error> {
        let count = tokens.len() as u32;
        let position = self.position;
        let key = self.key(count, outputs > 1);
        // Where it lies in its place already, nothing is waited for.
        let moves = state == State::Carried && self.last != Some((key, 0));
        let carried = if moves { self.last_state()? } else { None };
        self.opened = None;
        self.kv.reserve(0, position + count, steps)?;
        let device = self.model.device().clone();
        let n = self.model.spec().width;
        device.write(&self.tables.history, u64::from(position) * 4, bytemuck::cast_slice(tokens))?;

        let first_output = count - outputs as u32;
        let mut rows: Vec<Row> = (0..count)
            .zip(tokens)
            .map(|(i, &token)| Row {
                output: if i >= first_output { i - first_output } else { NONE },
                draw: u32::from(state == State::Seeded),
                ..Row::new(0, position + i, token)
            })
            .collect();
        rows.resize(key.0 as usize, Row::RESTING);
        let plans = self.plans_for(key)?;
        device.write(&plans.sites.rows, 0, bytemuck::cast_slice(&rows))?;
        device.write(&plans.sites.picked, 0, bytemuck::cast_slice(&vec![Row::RESTING; key.1 as usize]))?;
        if let State::Given(values) = state {
            device.write(&plans.sites.state, 0, bytemuck::cast_slice(&padded(values, n)))?;
        }
        if let Some(bytes) = carried {
            device.write(&plans.sites.state, 0, &bytes)?;
        }
        self.last = Some((key, count - 1));
        self.next = None;
        Ok(key)
    }
}

/// Checks that a sequence of `context` positions, of which so many are held, has room for tokens, and that the model knows them.
pub(crate) fn check_tokens(spec: &Spec, tokens: &[u32], held: usize, context: u32) -> Result<(), Error> {
    if tokens.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let end = held + tokens.len();
    if end > context as usize {
        return Err(Error::PromptTooLong { tokens: end, context, most: spec.context });
    }
    let vocab = spec.padded_vocab;
    match tokens.iter().find(|&&token| token >= vocab) {
        Some(&token) => Err(Error::Token { token, vocab }),
        None => Ok(()),
    }
}

/// Rows of n values each, as a device holds them.
pub(crate) fn padded(values: &[f32], n: u32) -> Vec<f32> {
    let padding = || (n..stride(n)).map(|_| 0.0);
    values.chunks(n as usize).flat_map(|row| row.iter().copied().chain(padding())).collect()
}

pub(crate) fn check_steps(steps: u32) -> Result<(), Error> {
    if (1..=MAX_STEPS).contains(&steps) {
        return Ok(());
    }
    Err(Error::Option { name: "steps", value: steps.to_string(), allowed: "from 1 to 65536" })
}

/// Rows of the table for a number of tokens: few sizes, so that few plans are recorded.
pub(crate) fn capacity(count: u32) -> u32 {
    match count {
        0..=2 => count.max(1),
        3..=8 => count.next_multiple_of(4),
        _ => count.next_power_of_two(),
    }
}
