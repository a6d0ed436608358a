//! Buffers that passes over a number of rows use, and the plans recorded for them.

use std::collections::HashMap;

use ruminate_engine::{Buffer, Device, Graph, Plan, Tensor};
use ruminate_shaders::batch::{batch_wake, carry, follow};
use ruminate_shaders::embed::select;
use ruminate_shaders::exit::{Continuous, Rule, exit_wake, memo_bytes, value_bytes};
use ruminate_shaders::sample::penalize::{marks_bytes, penalize};
use ruminate_shaders::sample::{argmax, argmax_variants, feed, logprobs, ranked_bytes, sample, sample_variants};
use ruminate_shaders::speculative::{Judge, enlist, guess, verify};
use ruminate_shaders::{Row, activation_bytes};

use crate::arch::Spec;
use crate::arch::{ExitSites, Looped, Pass, ReadOut, Sites};
use crate::diffusion::{Current, WavefrontSites};
use crate::early_exit::Checks;
use crate::error::Error;
use crate::kv::KvCache;
use crate::parallel_decoding::ParallelSites;
use crate::sampling::{Choosing, MAX_LOGPROBS};
use crate::sequence_tables::SequenceTables;

/// Part of a token's computation that a plan covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// From the row table to the read-out.
    Token,
    /// Embedding, prelude, initial state.
    Begin,
    /// The core block, for the requested number of steps.
    Iterate,
    /// Final norm, coda, head.
    Finish,
}

/// Choice of the next token from the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Choose {
    /// No token is chosen.
    Nothing,
    /// The token with the largest logit.
    Argmax,
    /// A random draw.
    Sample,
    /// Tokens are given, and only their probabilities are computed.
    Given,
}

impl Choose {
    /// Greedy or sampled, according to the options.
    pub(crate) fn of(choosing: &Choosing) -> Self {
        if choosing.is_greedy() { Self::Argmax } else { Self::Sample }
    }
}

/// Use of a chosen token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Follow {
    /// It becomes the next row.
    Feed,
    /// It becomes the next row and a row to verify in a table of this many rows.
    Draft(u32),
    /// It becomes the first row of parallel decoding, in a table of this many rows.
    Start(u32),
    /// It is compared with the draft in the row that follows; holds the bits of the threshold.
    Verify(u32),
    /// It becomes the next row of its sequence in the same table entry, and results are written for the host. Holds the number of leading rows that are
    /// computed, and of those that are read out.
    Batch(ReadOut),
    /// It becomes the draft token of the next position, or the final token if the row has had all its steps.
    Guess,
    /// It becomes the token of the next row of a wavefront, of which this many rows are computed.
    Wavefront(u32, Current),
}

/// Settings that a plan is recorded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PlanKey {
    pub(crate) stage: Stage,
    pub(crate) choose: Choose,
    pub(crate) follow: Follow,
    /// Whether logits are edited before the choice.
    pub(crate) edits: bool,
    /// Number of tokens ranked besides the chosen one, if any.
    pub(crate) logprobs: Option<u32>,
    /// Checks for early exit.
    pub(crate) checks: Option<Checks>,
    /// State that the chosen token's recurrence starts from, if not a fresh one.
    pub(crate) continuous: Option<Continuous>,
    /// Whether states get noise before every step.
    pub(crate) noise: bool,
    pub(crate) trace: bool,
}

impl PlanKey {
    /// Key of the plan that computes only a stage.
    pub(crate) const fn of(stage: Stage) -> Self {
        let (choose, follow) = (Choose::Nothing, Follow::Feed);
        let (checks, continuous, logprobs) = (None, None, None);
        Self { stage, choose, follow, edits: false, logprobs, checks, continuous, noise: false, trace: false }
    }

    /// Key of the plan that computes a token and chooses the next one.
    pub(crate) fn choosing(choosing: &Choosing) -> Self {
        let (choose, edits, logprobs) = (Choose::of(choosing), choosing.edits(), choosing.logprobs);
        Self { choose, edits, logprobs, ..Self::of(Stage::Token) }
    }
}

/// Row table and states that chosen tokens are written to, if they belong to another plan cache.
#[derive(Clone)]
pub(crate) struct Next {
    pub(crate) rows: Buffer,
    pub(crate) state: Buffer,
}

/// Inputs that plans are recorded with, besides the buffers of their plan cache.
pub(crate) struct PlanInputs<'a> {
    pub(crate) device: &'a Device,
    pub(crate) looped: &'a Looped,
    pub(crate) kv: &'a KvCache,
    pub(crate) tables: &'a SequenceTables,
    pub(crate) next: Option<&'a Next>,
    pub(crate) parallel_sites: Option<&'a ParallelSites>,
}

impl PlanInputs<'_> {
    /// Buffers of the wavefront under way.
    pub(crate) fn wavefront(&self) -> Result<(&ParallelSites, &WavefrontSites), Error> {
        self.parallel_sites
            .and_then(|parallel_sites| Some((parallel_sites, parallel_sites.wavefront.as_ref()?)))
            .ok_or(Error::bug("a plan of diffusion forcing has the buffers of its wavefront"))
    }
}

/// Buffers for edited logits.
struct EditSites {
    marks: Buffer,
    edited: Buffer,
}

/// Buffers for the chosen and the most likely tokens `[outputs, 1 + count]`.
pub(crate) struct RankSites {
    pub(crate) ranked: Buffer,
    pub(crate) logprobs: Buffer,
}

/// Buffers and plans for passes of up to a number of rows.
pub(crate) struct PlanCache {
    pub(crate) sites: Sites,
    pub(crate) chosen: Buffer,
    edits: Option<EditSites>,
    pub(crate) ranks: Option<RankSites>,
    /// Buffers for exit checks.
    pub(crate) exits: Option<ExitSites>,
    capacity: u32,
    outputs: u32,
    width: u32,
    vocab: u32,
    plans: HashMap<PlanKey, (u64, Plan)>,
}

impl PlanCache {
    pub(crate) fn new(device: &Device, spec: &Spec, capacity: u32, outputs: u32) -> Result<Self, Error> {
        let n = spec.width;
        let vocab = spec.padded_vocab;
        let buffer = |name: &str, bytes| device.buffer(&format!("{name} of {capacity} rows"), bytes);
        let table = |rows: u32| u64::from(rows) * size_of::<Row>() as u64;
        Ok(Self {
            sites: Sites {
                rows: buffer("row table", table(capacity))?,
                embedding: buffer("embedding", activation_bytes(capacity, n))?,
                state: buffer("state", activation_bytes(capacity, n))?,
                picked: buffer("picked rows", table(outputs))?,
                logits: buffer("logits", activation_bytes(outputs, vocab))?,
            },
            chosen: buffer("chosen tokens", u64::from(outputs) * 4)?,
            edits: None,
            ranks: None,
            exits: None,
            capacity,
            outputs,
            width: n,
            vocab,
            plans: HashMap::new(),
        })
    }

    /// Plan for a key. Records it if it is missing, or if the cache has grown since.
    pub(crate) fn plan(&mut self, inputs: &PlanInputs<'_>, key: PlanKey) -> Result<&Plan, Error> {
        let (device, generation) = (inputs.device, inputs.kv.generation());
        let fresh = self.plans.get(&key).is_some_and(|(recorded, _)| *recorded == generation);
        if !fresh {
            self.plans.retain(|_, (recorded, _)| *recorded == generation);
            self.exit_sites(device, key.checks)?;
            self.choice_sites(device, key)?;
            let graph = self.record(inputs, key)?;
            self.plans.insert(key, (generation, device.plan(graph)?));
        }
        Ok(&self.plans[&key].1)
    }

    fn exit_sites(&mut self, device: &Device, checks: Option<Checks>) -> Result<(), Error> {
        let Some(checks) = checks else { return Ok(()) };
        let buffer = |name: &str, bytes| device.buffer(&format!("{name} of {} rows", self.capacity), bytes);
        if self.exits.is_none() {
            let memo = buffer("memos of checks", memo_bytes(self.capacity))?;
            let values = buffer("values of checks", value_bytes(self.capacity))?;
            self.exits = Some(ExitSites { states: None, read_outs: None, kept: None, memo, values });
        }
        let Some(exits) = &mut self.exits else { return Ok(()) };
        if (checks.states || checks.gate) && exits.states.is_none() {
            exits.states = Some(buffer("last states checked", self.sites.state.size())?);
        }
        if checks.rule == Rule::Never && exits.kept.is_none() {
            exits.kept = Some(buffer("states to leave with", self.sites.state.size())?);
        }
        if checks.reads_out && exits.read_outs.is_none() {
            exits.read_outs = Some(buffer("last read-outs checked", self.sites.logits.size())?);
        }
        Ok(())
    }

    /// Creates the buffers that choosing a token needs besides the logits.
    fn choice_sites(&mut self, device: &Device, key: PlanKey) -> Result<(), Error> {
        let Self { outputs, vocab, capacity, .. } = *self;
        let buffer = |name: &str, bytes| device.buffer(&format!("{name} of {capacity} rows"), bytes);
        if key.edits && self.edits.is_none() {
            let marks = buffer("marks of tokens", marks_bytes(outputs, vocab))?;
            self.edits = Some(EditSites { marks, edited: buffer("edited logits", activation_bytes(outputs, vocab))? });
        }
        if key.logprobs.is_some() && self.ranks.is_none() {
            let bytes = ranked_bytes(outputs, MAX_LOGPROBS);
            let (ranked, logprobs) = (buffer("ranked tokens", bytes)?, buffer("log-probabilities", bytes)?);
            self.ranks = Some(RankSites { ranked, logprobs });
        }
        Ok(())
    }

    /// Intermediate that a traced plan kept.
    pub(crate) fn traced(&self, stage: Stage, name: &str) -> Option<&Buffer> {
        let plans = self.plans.iter().filter(|(key, _)| key.stage == stage && key.trace);
        plans.filter_map(|(_, (_, plan))| plan.tensor(name)).next()
    }

    fn record(&self, inputs: &PlanInputs<'_>, key: PlanKey) -> Result<Graph, Error> {
        let PlanInputs { device, looped, kv, tables, .. } = *inputs;
        let PlanKey { stage, checks, trace, .. } = key;
        let noise = key.noise.then_some(&tables.sequence_noise);
        let mut graph = Graph::new(&format!("{stage:?} for {} rows", self.capacity));
        let (wavefront, shape) = match key.follow {
            Follow::Wavefront(rows, current) => (Some(current), ReadOut { rows, outputs: rows }),
            Follow::Batch(shape) => (None, shape),
            _ => (None, ReadOut { rows: self.capacity, outputs: self.outputs }),
        };
        let sequences = &tables.sequences;
        let mut pass = Pass { graph: &mut graph, device, kv, sequences, sites: &self.sites, shape, noise, trace };
        if matches!(stage, Stage::Token | Stage::Begin) {
            looped.begin(&mut pass)?;
        }
        if let Some(current) = wavefront {
            current.begin_round(&mut pass, inputs.wavefront()?.1, self.width)?;
        }
        if matches!(stage, Stage::Token | Stage::Iterate) {
            match checks.and_then(|checks| Some((checks, self.exits.as_ref()?, &tables.exit_params))) {
                leaving if matches!(key.follow, Follow::Guess | Follow::Batch(_)) => {
                    let steps = pass.graph.count("steps");
                    looped.iterate_to_the_end(&mut pass, leaving, steps)?;
                    let rows = pass.rows();
                    let of_batch = matches!(key.follow, Follow::Batch(_));
                    let wake = if of_batch { batch_wake(shape.rows) } else { exit_wake(shape.rows) };
                    pass.graph.launch(wake, &[rows])?;
                }
                None => {
                    let steps = pass.graph.count("steps");
                    looped.iterate(&mut pass, steps)?;
                }
                Some(exit) => {
                    let loops = ["steps before checks", "rounds", "last check", "steps after it"];
                    let loops = loops.map(|name| pass.graph.count(name));
                    looped.iterate_until_exit(&mut pass, exit, loops)?;
                }
            }
        }
        let mut latents = None;
        if matches!(stage, Stage::Token | Stage::Finish) {
            latents = Some(looped.finish(&mut pass)?);
        }
        if let Some(current) = wavefront {
            current.judge(&mut pass, inputs.wavefront()?.1, self.width)?;
        }
        if key.choose != Choose::Nothing {
            // Must come before the next row overwrites this one.
            self.carry(&mut graph, inputs, key, latents)?;
            self.choose(&mut graph, inputs, key, shape.outputs)?;
        }
        Ok(graph)
    }

    /// Records the choice of a token and its way back into the row table.
    fn choose(&self, graph: &mut Graph, inputs: &PlanInputs<'_>, key: PlanKey, outputs: u32) -> Result<(), Error> {
        let PlanInputs { device, kv, tables, .. } = *inputs;
        let (caps, vocab) = (device.caps(), self.vocab);
        let (sequences, context) = (kv.sequences(), kv.context());
        let (picked, raw) = (graph.import(&self.sites.picked), graph.import(&self.sites.logits));
        let (chosen, history) = (graph.import(&self.chosen), graph.import(&tables.history));
        let mut logits = raw;
        if let (true, Some(by), Some(sites)) = (key.edits, &tables.penalties, &self.edits) {
            let [rules, bias, breakers] = [&by.rules, &by.bias, &by.breakers].map(|table| graph.import(table));
            let marks = graph.import(&sites.marks);
            logits = graph.import(&sites.edited);
            let launch = penalize(outputs, vocab, sequences, context);
            graph.launch(launch, &[picked, rules, history, bias, breakers, raw, marks, logits])?;
        }
        if key.choose == Choose::Sample {
            let (seeds, samplers) = (graph.import(&tables.sequences), graph.import(&tables.samplers));
            let launch = device.pick(sample_variants(&caps, sample(&caps, outputs, vocab, sequences)));
            graph.launch(launch, &[picked, seeds, samplers, logits, chosen])?;
        } else if key.choose == Choose::Argmax {
            let launch = device.pick(argmax_variants(&caps, argmax(&caps, outputs, vocab)));
            graph.launch(launch, &[picked, logits, chosen])?;
        }
        if let (Some(count), Some(sites)) = (key.logprobs, &self.ranks) {
            let (ranked, values) = (graph.import(&sites.ranked), graph.import(&sites.logprobs));
            graph.launch(logprobs(&caps, outputs, vocab, count), &[picked, raw, chosen, ranked, values])?;
        }
        if key.choose == Choose::Given {
            return Ok(());
        }
        let next = graph.import(inputs.next.map_or(&self.sites.rows, |next| &next.rows));
        let parallel_sites = || inputs.parallel_sites.ok_or(Error::bug("a plan of parallel decoding has its buffers"));
        let feed = feed(outputs, sequences, context, key.continuous.is_some());
        match key.follow {
            Follow::Feed => graph.launch(feed, &[picked, chosen, history, next])?,
            Follow::Draft(rows) => {
                let table = graph.import(&parallel_sites()?.table);
                graph.launch(feed, &[picked, chosen, history, next])?;
                graph.launch(enlist(rows), &[next, table])?;
            }
            Follow::Start(_) => {
                let table = graph.import(&parallel_sites()?.table);
                graph.launch(feed, &[picked, chosen, history, table])?;
            }
            Follow::Verify(threshold) => {
                let judge = Judge { threshold: f32::from_bits(threshold), sampled: key.choose == Choose::Sample };
                let [table, emitted] = [&self.sites.rows, &parallel_sites()?.emitted].map(|it| graph.import(it));
                let launch = verify(outputs, vocab, (sequences, context), judge);
                graph.launch(launch, &[chosen, logits, table, next, history, emitted])?;
            }
            Follow::Batch(ReadOut { rows: count, .. }) => {
                let [rows, results] = [&self.sites.rows, &parallel_sites()?.emitted].map(|it| graph.import(it));
                let exit_params = graph.import(&tables.exit_params);
                graph.launch(
                    follow((count, outputs), (sequences, context)),
                    &[exit_params, chosen, rows, history, results],
                )?;
            }
            Follow::Wavefront(rows, current) => {
                current.end_round(graph, inputs, &self.sites, (rows, self.width), chosen)?;
            }
            Follow::Guess => {
                let parallel_sites = parallel_sites()?;
                let front = parallel_sites
                    .front
                    .as_ref()
                    .ok_or(Error::bug("pipelined decoding has a buffer for its positions"))?;
                let [rows, front, emitted] =
                    [&self.sites.rows, front, &parallel_sites.emitted].map(|it| graph.import(it));
                graph.launch(guess(outputs, (sequences, context)), &[chosen, rows, front, history, emitted])?;
            }
        }
        Ok(())
    }

    /// Records the copy of the state that was read out to the row of the chosen token.
    fn carry(
        &self,
        graph: &mut Graph,
        inputs: &PlanInputs<'_>,
        key: PlanKey,
        latents: Option<Tensor>,
    ) -> Result<(), Error> {
        let state = graph.import(&self.sites.state);
        let to = inputs.next.map_or(state, |next| graph.import(&next.state));
        let from = match key.continuous {
            None => return Ok(()),
            Some(Continuous::Raw) => state,
            Some(Continuous::Normed) => latents.unwrap_or(state),
        };
        if from == to && self.capacity == 1 {
            return Ok(());
        }
        let (rows, picked) = (graph.import(&self.sites.rows), graph.import(&self.sites.picked));
        if let Follow::Batch(shape) = key.follow {
            // A raw state is already in its entry.
            let exit_params = graph.import(&inputs.tables.exit_params);
            let launch = carry(shape.rows, inputs.kv.sequences(), self.width);
            return Ok(graph.launch(launch, &[rows, exit_params, from, to])?);
        }
        let pick = |rows| select(rows, self.outputs, self.width);
        if from != to {
            return Ok(graph.launch(pick(self.capacity), &[rows, from, to, picked])?);
        }
        // The last row of a prompt shares the table with the row that follows, so its state moves through a scratch buffer.
        let held = graph.scratch("carried states", activation_bytes(self.outputs, self.width));
        let noted = graph.scratch("carried rows", u64::from(self.outputs) * size_of::<Row>() as u64);
        graph.launch(pick(self.capacity), &[rows, from, held, picked])?;
        Ok(graph.launch(pick(self.outputs), &[picked, held, to, noted])?)
    }
}
