//! Owner of the data that passes work on: the model, keys and values, and the tables of sequences.

use ruminate_shaders::activation_bytes;

use super::passes::Held;
use crate::error::Error;
use crate::kv::KvCache;
use crate::memory_budget;
use crate::model::Model;
use crate::options::{SessionOptions, State};
use crate::parallel_decoding::ParallelSites;
use crate::plans::{Next, PlanInputs};
use crate::sequence_tables::SequenceTables;
use crate::session::{INVARIANT_ROWS, MAX_ROWS, capacity, check_steps, check_tokens};

/// Keys, values and tables of one sequence (a session) or of several (a batch).
pub(crate) struct Store {
    pub(crate) model: Model,
    pub(crate) options: SessionOptions,
    pub(crate) kv: KvCache,
    pub(crate) tables: SequenceTables,
    /// Steps that the cache was planned for.
    pub(crate) planned: u32,
}

impl Store {
    /// Creates a store for `sequences` sequences.
    ///
    /// # Errors
    /// [`Error::Option`] if an option is invalid for this model, [`Error::Engine`] if the device fails.
    pub(crate) fn new(model: &Model, options: SessionOptions, sequences: u32) -> Result<Self, Error> {
        let (context, planned) = memory_budget::checked(model.spec(), &options, model.device())?;
        let kv = KvCache::new(model, &options, (sequences, context, planned))?;
        let tables = SequenceTables::new(model.device(), sequences, context)?;
        Ok(Self { model: model.clone(), options, kv, tables, planned })
    }

    /// Positions per sequence.
    pub(crate) fn context(&self) -> u32 {
        self.kv.context()
    }

    /// Inputs that plans are recorded with.
    pub(crate) fn plan_inputs<'a>(
        &'a self,
        next: Option<&'a Next>,
        sites: Option<&'a ParallelSites>,
    ) -> PlanInputs<'a> {
        self.model.plan_inputs(&self.kv, &self.tables, next, sites)
    }

    /// Writes the seeds of a sequence and its `steps`, which apply if rows of different depths share passes.
    pub(crate) fn write_sequence(&self, slot: u32, seed: u64, steps: u32) -> Result<(), Error> {
        let entry = SessionOptions { seed, ..self.options.clone() }.sequence(self.model.spec(), steps);
        self.tables.write_sequence(self.model.device(), slot, entry)
    }

    /// Writes tokens of a sequence, starting at `position`.
    pub(crate) fn write_history(&self, slot: u32, position: u32, tokens: &[u32]) -> Result<(), Error> {
        let offset = (u64::from(slot) * u64::from(self.context()) + u64::from(position)) * 4;
        Ok(self.model.device().write(&self.tables.history, offset, bytemuck::cast_slice(tokens))?)
    }

    /// Key of the plan cache for decoded rows: its rows and read-outs.
    pub(crate) fn single(&self) -> (u32, u32) {
        let rows = self.fixed_rows().unwrap_or(1);
        (rows, rows)
    }

    /// Rows of every pass, if sums must not depend on the number of rows.
    pub(crate) fn fixed_rows(&self) -> Option<u32> {
        self.options.invariant.then_some(INVARIANT_ROWS)
    }

    /// Maximum rows of a pass.
    pub(crate) fn most_rows(&self) -> u32 {
        self.fixed_rows().unwrap_or(MAX_ROWS)
    }

    /// Key of the plan cache for a pass over `count` tokens, with one read-out or one for each token.
    pub(crate) fn key(&self, count: u32, all: bool) -> (u32, u32) {
        match self.fixed_rows() {
            Some(rows) => (rows, rows),
            None => (capacity(count), if all { capacity(count) } else { 1 }),
        }
    }

    /// Maximum number of read-outs per pass: as many as have room for their logits in one binding.
    pub(crate) fn most_outputs(&self) -> u32 {
        let fits = |&rows: &u32| activation_bytes(rows, self.padded_vocab()) <= self.model.device().caps().max_binding;
        let mut counts = std::iter::successors(Some(MAX_ROWS), |rows| Some(rows / 2).filter(|&rows| rows > 0));
        self.fixed_rows().unwrap_or_else(|| counts.find(fits).unwrap_or(1))
    }

    pub(crate) fn padded_vocab(&self) -> u32 {
        self.model.spec().padded_vocab
    }

    /// Checks the arguments of a pass against what the sequence holds.
    pub(crate) fn check(&self, held: Held, tokens: &[u32], steps: u32, state: State<'_>) -> Result<(), Error> {
        let spec = self.model.spec();
        check_steps(steps)?;
        check_tokens(spec, tokens, held.position as usize, self.context())?;
        if state == State::Carried && (tokens.len() > 1 || !held.carries) {
            let allowed = "a single token after another one, if its state is carried on";
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
}
