//! A session: one sequence with its KV cache, its random numbers and the passes over it.
//!
//! Rows go to the device in one table, are computed by one plan, and come back as a ticket. [`Session::forward`] waits for results, as the
//! step-wise calls do (`stepwise.rs`), which is what research code wants; generation (`generate.rs`) waits for nothing but its tokens.

use std::collections::HashMap;

use ruminate_engine::{Buffer, Execution};
use ruminate_shaders::exit::{KEPT_VALUES, Memo};
use ruminate_shaders::{NONE, Row, Sequence, stride};

use crate::error::Error;
use crate::exit::{Checks, Depth, Exit, PrefillExit};
use crate::fit;
use crate::kv::KvCache;
use crate::model::Model;
use crate::options::{Continuous, Sampling, SessionOptions, State};
use crate::run::Run;
use crate::stepwise::Opened;
use crate::workspace::{Choose, Next, PlanKey, Stage, Tables, Workspace};

/// Rows of one pass, at most: longer prompts are fed in several.
pub(crate) const MAX_ROWS: u32 = 256;

/// Steps of one token, at most: the tables of the cache have an entry for each.
pub const MAX_STEPS: u32 = 1 << 16;

/// What [`Session::forward_until_settled`] came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forward {
    /// Logits of the last token, or of all `[outputs, vocab]`.
    pub logits: Vec<f32>,
    /// Steps of each token; empty if none could leave early.
    pub steps: Vec<u32>,
    /// The values of each token's first [`KEPT_VALUES`] checks, or of each that was read out, where the criterion looks at the next token.
    pub values: Vec<Vec<f32>>,
}

/// How tokens are computed and chosen, all through a generation.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) depth: Depth,
    pub(crate) continuous: Option<Continuous>,
    pub(crate) sampling: Sampling,
}

impl Way {
    /// The plan of a decoded token.
    fn token(&self) -> PlanKey {
        let (choose, checks) = (chooser(self.sampling), self.depth.decoding());
        PlanKey { choose, checks, continuous: self.continuous, ..PlanKey::of(Stage::Token, 1) }
    }

    /// The plan of a piece of the prompt; the last one chooses a token.
    fn prompt(&self, last: bool) -> PlanKey {
        let checks = self.depth.prefill();
        if last { PlanKey { checks, ..self.token() } } else { PlanKey { checks, ..PlanKey::of(Stage::Token, 1) } }
    }
}

/// A token and the row that it was chosen behind, as a pass reads them back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    pub(crate) token: u32,
    /// Steps that the row took.
    pub(crate) steps: u32,
}

impl Chosen {
    /// From the results of a pass of one read-out.
    pub(crate) fn from_results(results: &[Vec<u8>]) -> Option<Self> {
        let [token, row] = results else { return None };
        let token = u32::from_le_bytes(*token.first_chunk()?);
        let row: Row = bytemuck::pod_read_unaligned(row.get(..size_of::<Row>())?);
        Some(Self { token, steps: row.step })
    }
}

/// One sequence of a model.
pub struct Session {
    pub(crate) model: Model,
    options: SessionOptions,
    kv: KvCache,
    tables: Tables,
    pub(crate) spaces: HashMap<(u32, u32), Workspace>,
    sampling: Option<Sampling>,
    pub(crate) position: u32,
    /// Where the state of the last row of the last pass is: workspace, row.
    last: Option<((u32, u32), u32)>,
    pub(crate) opened: Option<Opened>,
    /// What [`Self::start`] began.
    pub(crate) run: Option<Box<Run>>,
}

impl Session {
    pub(crate) fn new(model: Model, options: SessionOptions) -> Result<Self, Error> {
        let config = model.config();
        let asked = options.context.unwrap_or(1);
        if asked == 0 || asked > config.block_size {
            let allowed = "between 1 and the model's block_size";
            return Err(Error::Option {
                name: "context",
                value: format!("{asked} (block_size {})", config.block_size),
                allowed,
            });
        }
        options.validate()?;
        let steps = options.steps.unwrap_or(config.mean_recurrence);
        check_steps(steps)?;
        let device = model.device().clone();
        let context = fit::context(config, &options, &device)?;
        let kv = KvCache::new(&device, config, options.kv_dtype, (options.lookup, options.share), (1, context, steps))?;
        let tables = Tables {
            sequences: device.buffer("sequences", size_of::<Sequence>() as u64)?,
            samplers: device.buffer("samplers", 32)?,
            history: device.buffer("history", u64::from(context) * 4)?,
        };
        let deviation = config.state_std * config.embed_scale * f64::from(options.init_scale);
        let entry = Sequence {
            seed: [options.seed as u32, (options.seed >> 32) as u32],
            state_std: deviation as f32,
            reserved: 0,
        };
        device.write(&tables.sequences, 0, bytemuck::bytes_of(&entry))?;
        let (spaces, sampling, last, opened, run) = (HashMap::new(), None, None, None, None);
        Ok(Self { model, options, kv, tables, spaces, sampling, position: 0, last, opened, run })
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

    /// Positions that hold a token.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.position
    }

    /// Positions that the session can hold.
    #[must_use]
    pub fn context(&self) -> u32 {
        self.kv.context()
    }

    /// Bytes of the KV cache on the device.
    #[must_use]
    pub fn kv_bytes(&self) -> u64 {
        self.kv.bytes()
    }

    /// Forgets all positions from `position` on; what came before stays computed.
    ///
    /// # Errors
    /// [`Error::Option`] if the session does not hold so many positions.
    pub fn rewind(&mut self, position: u32) -> Result<(), Error> {
        self.stop();
        if position > self.position {
            let allowed = "at most the number of positions that the session holds";
            return Err(Error::Option { name: "position", value: position.to_string(), allowed });
        }
        self.position = position;
        Ok(())
    }

    /// Appends tokens, computes them at a depth and reads out the last of them, or all.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`], [`Error::Option`], [`Error::Token`], or the device's.
    pub fn forward(&mut self, tokens: &[u32], steps: u32, state: State<'_>, all: bool) -> Result<Vec<f32>, Error> {
        Ok(self.pass(tokens, Depth::fixed(steps), None, state, all)?.logits)
    }

    /// The same with rows that may leave early, and what became of each: steps, and the values of its checks. A single token leaves by itself, several as
    /// [`Exit::prefill`] says; if `all` are read out, criteria that look at the next token let each leave by itself too, but with the read-outs of earlier
    /// rows as they are at the same step, where one token at a time would see their last.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_until_settled(
        &mut self,
        tokens: &[u32],
        steps: u32,
        exit: &Exit,
        state: State<'_>,
        all: bool,
    ) -> Result<Forward, Error> {
        exit.validate()?;
        let depth = Depth { steps, exit: Some(*exit) };
        let each = all && exit.criterion.reads_out() && exit.prefill == PrefillExit::Each;
        let checks = match tokens.len() {
            1 => depth.decoding(),
            _ if each => Some(Checks::of(exit, true)),
            _ => depth.prefill(),
        };
        self.pass(tokens, depth, checks, state, all)
    }

    fn pass(
        &mut self,
        tokens: &[u32],
        depth: Depth,
        checks: Option<Checks>,
        state: State<'_>,
        all: bool,
    ) -> Result<Forward, Error> {
        self.stop();
        self.check(tokens, depth.steps, state)?;
        let n = self.model.config().n_embd as usize;
        let mut found = Forward::default();
        let mut rest = tokens;
        let mut states = state;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(rest.len().min(MAX_ROWS as usize));
            let (given, remaining) = match states {
                State::Seeded | State::Carried => (states, states),
                State::Given(values) => {
                    let (now, then) = values.split_at(chunk.len() * n);
                    (State::Given(now), State::Given(then))
                }
            };
            // A check of what is read out needs a read-out.
            let needed = usize::from(checks.is_some_and(|checks| checks.criterion.reads_out()));
            let outputs = if all { chunk.len() } else { usize::from(later.is_empty()).max(needed) };
            let key = self.prepare(chunk, depth.steps, given, outputs)?;
            let plan = PlanKey { checks, ..PlanKey::of(Stage::Token, key.1) };
            self.execute(key, plan, &depth.counts(checks))?;
            self.position += chunk.len() as u32;
            if all || later.is_empty() {
                found.logits.extend(self.read_rows(&self.spaces[&key].sites.logits, outputs, self.vocab())?);
            }
            if checks.is_some() {
                self.read_checks(key, chunk.len(), outputs, checks, &mut found)?;
            }
            (rest, states) = (later, remaining);
        }
        Ok(found)
    }

    /// Reads how many steps the rows of a pass took, and what their checks came to.
    fn read_checks(
        &self,
        key: (u32, u32),
        rows: usize,
        outputs: usize,
        checks: Option<Checks>,
        found: &mut Forward,
    ) -> Result<(), Error> {
        let (device, space) = (self.model.device(), &self.spaces[&key]);
        let Some((checks, exits)) = checks.and_then(|checks| Some((checks, space.exits(checks)?))) else {
            return Ok(());
        };
        let table = device.read(&space.sites.rows, 0..rows as u64 * size_of::<Row>() as u64)?;
        let table: Vec<Row> = bytemuck::pod_collect_to_vec(&table);
        found.steps.extend(table.iter().map(|row| row.step));
        let judged = if checks.criterion.reads_out() { outputs } else { rows };
        let memos: Vec<Memo> = bytemuck::pod_collect_to_vec(&device.read(&exits.memo, 0..exits.memo.size())?);
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&device.read(&exits.values, 0..exits.values.size())?);
        let kept = values.chunks(KEPT_VALUES as usize).zip(memos);
        found
            .values
            .extend(kept.take(judged).map(|(kept, memo)| kept[..memo.checks.min(KEPT_VALUES) as usize].to_vec()));
        Ok(())
    }

    /// Makes what a generation needs: room for its prompt, and the plans of all its passes.
    pub(crate) fn make_ready(&mut self, prompt: &[u32], way: &Way, goes_on: bool) -> Result<(), Error> {
        let steps = way.depth.steps;
        self.check(prompt, steps, State::Seeded)?;
        self.set_sampling(way.sampling)?;
        // With the first token behind the prompt, if there is a position for it.
        let end = self.position + prompt.len() as u32 + u32::from(goes_on);
        self.kv.reserve(0, end.min(self.context()), steps)?;
        let mut chunks = prompt.chunks(MAX_ROWS as usize).peekable();
        while let Some(chunk) = chunks.next() {
            let key = (capacity(chunk.len() as u32), 1);
            self.space(key)?;
            self.plan(key, way.prompt(chunks.peek().is_none()))?;
        }
        if goes_on {
            self.space((1, 1))?;
            self.plan((1, 1), way.token())?;
        }
        Ok(())
    }

    /// Begins to compute at most [`MAX_ROWS`] tokens of a prompt; behind the last of them, a token is chosen and read back.
    pub(crate) fn begin_prompt(&mut self, chunk: &[u32], last: bool, way: &Way) -> Result<Execution, Error> {
        let plan = way.prompt(last);
        let needed = plan.checks.is_some_and(|checks| checks.criterion.reads_out());
        let key = self.prepare(chunk, way.depth.steps, State::Seeded, usize::from(last || needed))?;
        self.position += chunk.len() as u32;
        self.begin_pass(key, way.depth, plan)
    }

    /// Begins to compute the row that the last choice made, and to choose the next token.
    pub(crate) fn begin_token(&mut self, steps: u32, way: &Way) -> Result<Execution, Error> {
        check_steps(steps)?;
        self.kv.reserve(0, self.position + 1, steps)?;
        self.position += 1;
        self.last = Some(((1, 1), 0));
        self.begin_pass((1, 1), Depth { steps, ..way.depth }, way.token())
    }

    /// Begins a pass. If it chooses a token, what is read back is that, and the row that it was chosen behind: [`Chosen`].
    fn begin_pass(&mut self, key: (u32, u32), depth: Depth, plan: PlanKey) -> Result<Execution, Error> {
        let device = self.model.device().clone();
        let space = self.space(key)?;
        let chosen = [space.chosen.clone(), space.sites.picked.clone()];
        let reads: Vec<&Buffer> = chosen.iter().filter(|_| plan.choose != Choose::Nothing).collect();
        Ok(device.begin(self.plan(key, plan)?, &depth.counts(plan.checks), &reads)?)
    }

    /// Sets the position to what a generation handed out: passes beyond it were computed for nobody.
    pub(crate) fn settle(&mut self, position: u32) {
        self.position = self.position.min(position);
    }

    /// Times the kernels of one decoded token. The row is computed, but the session stays where it is.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] if the context is full, or the device's.
    pub fn profile(&mut self, steps: u32, sampling: Sampling) -> Result<ruminate_engine::Profile, Error> {
        self.stop();
        if self.position == self.context() {
            return Err(Error::PromptTooLong {
                tokens: self.position as usize + 1,
                context: self.context(),
                most: self.model.config().block_size,
            });
        }
        self.kv.reserve(0, self.position + 1, steps)?;
        self.set_sampling(sampling)?;
        let device = self.model.device().clone();
        self.space((1, 1))?;
        let plan = self.plan((1, 1), PlanKey { choose: chooser(sampling), ..PlanKey::of(Stage::Token, 1) })?;
        Ok(device.profile(plan, &[steps])?)
    }

    pub(crate) fn execute(&mut self, key: (u32, u32), plan: PlanKey, counts: &[u32]) -> Result<(), Error> {
        let device = self.model.device().clone();
        let plan = self.plan(key, plan)?;
        device.execute(plan, counts, &[])?;
        Ok(())
    }

    fn plan(&mut self, key: (u32, u32), plan: PlanKey) -> Result<&ruminate_engine::Plan, Error> {
        let next = if plan.choose == Choose::Nothing || key == (1, 1) {
            None
        } else {
            let sites = &self.space((1, 1))?.sites;
            Some(Next { rows: sites.rows.clone(), state: sites.state.clone() })
        };
        let Self { model, kv, tables, spaces, .. } = self;
        let space = spaces.get_mut(&key).ok_or(Error::NotBegun)?;
        space.plan(model.device(), model.raven(), kv, tables, plan, next.as_ref())
    }

    fn space(&mut self, key: (u32, u32)) -> Result<&mut Workspace, Error> {
        if !self.spaces.contains_key(&key) {
            let space = Workspace::new(self.model.device(), self.model.config(), key.0, key.1)?;
            self.spaces.insert(key, space);
        }
        self.spaces.get_mut(&key).ok_or(Error::NotBegun)
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

    pub(crate) fn vocab(&self) -> u32 {
        self.model.config().padded_vocab_size
    }

    fn set_sampling(&mut self, sampling: Sampling) -> Result<(), Error> {
        if self.sampling != Some(sampling) {
            sampling.validate()?;
            self.model.device().write(&self.tables.samplers, 0, bytemuck::bytes_of(&sampling.entry()))?;
            self.sampling = Some(sampling);
        }
        Ok(())
    }

    pub(crate) fn check(&self, tokens: &[u32], steps: u32, state: State<'_>) -> Result<(), Error> {
        let config = self.model.config();
        check_steps(steps)?;
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let end = self.position as usize + tokens.len();
        if end > self.context() as usize {
            return Err(Error::PromptTooLong { tokens: end, context: self.context(), most: config.block_size });
        }
        if let Some(&token) = tokens.iter().find(|&&token| token >= self.vocab()) {
            return Err(Error::Token { token, vocab: self.vocab() });
        }
        if state == State::Carried && (tokens.len() > 1 || self.last.is_none()) {
            let allowed = "a single token behind another one, if its state is carried on";
            return Err(Error::Option { name: "state", value: format!("{} tokens", tokens.len()), allowed });
        }
        if let State::Given(values) = state {
            let expected = tokens.len() * config.n_embd as usize;
            if values.len() != expected {
                return Err(Error::State { found: values.len(), expected });
            }
        }
        Ok(())
    }

    /// Makes room, fills the row table of a workspace that fits, and the states if they are given.
    pub(crate) fn prepare(
        &mut self,
        tokens: &[u32],
        steps: u32,
        state: State<'_>,
        outputs: usize,
    ) -> Result<(u32, u32), Error> {
        let count = tokens.len() as u32;
        let position = self.position;
        let carried = match (state, self.last) {
            (State::Carried, Some((key, row))) => {
                let state = &self.spaces[&key].sites.state;
                let bytes = u64::from(stride(self.model.config().n_embd)) * 4;
                Some(self.model.device().read(state, u64::from(row) * bytes..u64::from(row + 1) * bytes)?)
            }
            _ => None,
        };
        self.opened = None;
        self.kv.reserve(0, position + count, steps)?;
        let capacity = capacity(count);
        let key = (capacity, if outputs > 1 { capacity } else { 1 });
        let device = self.model.device().clone();
        let n = self.model.config().n_embd;
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
        rows.resize(capacity as usize, Row::RESTING);
        let space = self.space(key)?;
        device.write(&space.sites.rows, 0, bytemuck::cast_slice(&rows))?;
        device.write(&space.sites.picked, 0, bytemuck::cast_slice(&vec![Row::RESTING; key.1 as usize]))?;
        if let State::Given(values) = state {
            let padded: Vec<f32> = values
                .chunks(n as usize)
                .flat_map(|row| row.iter().copied().chain((n..stride(n)).map(|_| 0.0)))
                .collect();
            device.write(&space.sites.state, 0, bytemuck::cast_slice(&padded))?;
        }
        if let Some(bytes) = carried {
            device.write(&space.sites.state, 0, &bytes)?;
        }
        self.last = Some((key, count - 1));
        Ok(key)
    }
}

fn check_steps(steps: u32) -> Result<(), Error> {
    if (1..=MAX_STEPS).contains(&steps) {
        return Ok(());
    }
    Err(Error::Option { name: "steps", value: steps.to_string(), allowed: "from 1 to 65536" })
}

/// Rows of the table for a number of tokens: few sizes, so that few plans are recorded.
fn capacity(count: u32) -> u32 {
    match count {
        0..=2 => count.max(1),
        3..=8 => count.next_multiple_of(4),
        _ => count.next_power_of_two(),
    }
}

fn chooser(sampling: Sampling) -> Choose {
    if sampling.is_argmax() { Choose::Argmax } else { Choose::Sample }
}
