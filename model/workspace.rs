//! The buffers that passes over a number of rows work on, and the plans recorded for them.

use std::collections::HashMap;

use ruminate_engine::{Buffer, Device, Graph, Plan};
use ruminate_shaders::sample::{argmax, argmax_variants, feed, sample, sample_variants, seen_bytes};
use ruminate_shaders::{Row, activation_bytes};

use crate::arch::{Pass, Raven, ReadOut, Sites};
use crate::config::Config;
use crate::error::Error;
use crate::kv::KvCache;

/// Which part of a token's computation a plan covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// From the row table to the read-out.
    Token,
    /// Embedding, prelude, initial state.
    Begin,
    /// The core block, as often as asked.
    Iterate,
    /// Final norm, coda, head.
    Finish,
}

/// What follows the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Choose {
    /// Nothing.
    Nothing,
    /// The largest logit becomes the next row.
    Argmax,
    /// A draw becomes the next row.
    Sample,
}

/// What a plan is recorded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PlanKey {
    pub(crate) stage: Stage,
    pub(crate) outputs: u32,
    pub(crate) choose: Choose,
    pub(crate) trace: bool,
}

/// Tables of the sequences, shared by all workspaces of a session.
pub(crate) struct Tables {
    pub(crate) sequences: Buffer,
    pub(crate) samplers: Buffer,
    pub(crate) history: Buffer,
}

/// Buffers for passes of up to a number of rows.
pub(crate) struct Workspace {
    pub(crate) sites: Sites,
    pub(crate) chosen: Buffer,
    seen: Buffer,
    capacity: u32,
    outputs: u32,
    vocab: u32,
    plans: HashMap<PlanKey, (u64, Plan)>,
}

impl Workspace {
    pub(crate) fn new(device: &Device, config: &Config, capacity: u32, outputs: u32) -> Result<Self, Error> {
        let n = config.n_embd;
        let vocab = config.padded_vocab_size;
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
            seen: buffer("seen tokens", seen_bytes(outputs, vocab))?,
            capacity,
            outputs,
            vocab,
            plans: HashMap::new(),
        })
    }

    /// Rows that may be read out.
    pub(crate) const fn outputs(&self) -> u32 {
        self.outputs
    }

    /// The plan for a key, recorded if there is none or the cache has grown since. `next` is the row table that chosen tokens
    /// are written to, if it is another workspace's.
    pub(crate) fn plan(
        &mut self,
        device: &Device,
        raven: &Raven,
        kv: &KvCache,
        tables: &Tables,
        key: PlanKey,
        next: Option<&Buffer>,
    ) -> Result<&Plan, Error> {
        let fresh = self.plans.get(&key).is_some_and(|(generation, _)| *generation == kv.generation());
        if !fresh {
            self.plans.retain(|_, (generation, _)| *generation == kv.generation());
            let graph = self.record(device, raven, kv, tables, key, next)?;
            self.plans.insert(key, (kv.generation(), device.plan(graph)?));
        }
        Ok(&self.plans[&key].1)
    }

    /// An intermediate that a traced plan kept.
    pub(crate) fn traced(&self, stage: Stage, name: &str) -> Option<&Buffer> {
        let plans = self.plans.iter().filter(|(key, _)| key.stage == stage && key.trace);
        plans.filter_map(|(_, (_, plan))| plan.tensor(name)).next()
    }

    fn record(
        &self,
        device: &Device,
        raven: &Raven,
        kv: &KvCache,
        tables: &Tables,
        key: PlanKey,
        next: Option<&Buffer>,
    ) -> Result<Graph, Error> {
        let PlanKey { stage, outputs, choose, trace } = key;
        let mut graph = Graph::new(&format!("{stage:?} for {} rows", self.capacity));
        let steps = graph.count("steps");
        let shape = ReadOut { rows: self.capacity, outputs };
        let sequences = &tables.sequences;
        let mut pass = Pass { graph: &mut graph, device, kv, sequences, sites: &self.sites, shape, trace };
        if matches!(stage, Stage::Token | Stage::Begin) {
            raven.begin(&mut pass)?;
        }
        if matches!(stage, Stage::Token | Stage::Iterate) {
            raven.iterate(&mut pass, steps)?;
        }
        if matches!(stage, Stage::Token | Stage::Finish) {
            raven.finish(&mut pass)?;
        }
        if choose != Choose::Nothing {
            let rows = next.unwrap_or(&self.sites.rows);
            self.choose(&mut graph, device, kv, tables, (outputs, choose), rows)?;
        }
        Ok(graph)
    }

    /// Records the choice of a token and its way back into the row table.
    fn choose(
        &self,
        graph: &mut Graph,
        device: &Device,
        kv: &KvCache,
        tables: &Tables,
        (outputs, choose): (u32, Choose),
        next: &Buffer,
    ) -> Result<(), Error> {
        let caps = device.caps();
        let (sequences, context) = (kv.sequences(), kv.context());
        let (picked, logits) = (graph.import(&self.sites.picked), graph.import(&self.sites.logits));
        let (chosen, history) = (graph.import(&self.chosen), graph.import(&tables.history));
        if choose == Choose::Sample {
            let (seeds, samplers) = (graph.import(&tables.sequences), graph.import(&tables.samplers));
            let seen = graph.import(&self.seen);
            let launch = sample(&caps, outputs, self.vocab, sequences, context);
            let launch = device.pick(sample_variants(&caps, launch));
            graph.launch(launch, &[picked, seeds, samplers, history, seen, logits, chosen])?;
        } else {
            let launch = device.pick(argmax_variants(&caps, argmax(&caps, outputs, self.vocab)));
            graph.launch(launch, &[picked, logits, chosen])?;
        }
        let next = graph.import(next);
        Ok(graph.launch(feed(outputs, sequences, context), &[picked, chosen, history, next])?)
    }
}
