//! Passes of a single sequence: a session, or a sequence of a batch that cannot share passes.
//!
//! Rows are written to one table on the device, one plan computes them, and results come back through a ticket. [`Session::forward`](crate::Session::forward)
//! (`forward.rs`) and the stepwise calls (`stepwise.rs`) wait for all results, as research code wants; generation (`decoding.rs`, `generation`) waits only for
//! its tokens. This module holds the parts that all of them share.

use std::collections::HashMap;

use ruminate_shaders::{NONE, Row, stride};

use super::store::Store;
use crate::error::Error;
use crate::options::State;
use crate::parallel_decoding::ParallelBuffers;
use crate::plans::{Choose, Follow, Next, PlanCache, PlanKey};
use crate::sampling::Choosing;
use crate::session::padded;
use crate::stepwise::Opened;

/// State of a sequence's own passes, besides its part of the [`Store`].
pub(crate) struct OwnPasses {
    /// Slot in the store.
    pub(crate) slot: u32,
    /// Seed of its random draws.
    pub(crate) seed: u64,
    /// Plan caches, by rows and read-outs.
    pub(crate) plan_caches: HashMap<(u32, u32), PlanCache>,
    /// Buffers of parallel decoding, by rows of the table.
    pub(crate) parallel_buffers: HashMap<u32, ParallelBuffers>,
    choosing: Option<Choosing>,
    /// Number of positions that hold a token.
    pub(crate) position: u32,
    /// Plan cache and row that hold the state of the last row, unless it was overwritten.
    pub(crate) last: Option<((u32, u32), u32)>,
    /// Token that the last generation ended with. It is not computed yet.
    pub(crate) next: Option<u32>,
    /// Rows of a stepwise call.
    pub(crate) opened: Option<Opened>,
}

/// Summary of what a sequence holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Number of positions that hold a token.
    pub(crate) position: u32,
    /// Next token, if one was chosen.
    pub(crate) next: Option<u32>,
    /// Whether the state of the last row is available to continue from.
    pub(crate) carries: bool,
}

/// A sequence and the store of its passes.
pub(crate) struct Passes<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) own: &'a mut OwnPasses,
}

impl OwnPasses {
    /// Passes of an empty sequence.
    pub(crate) fn new(slot: u32, seed: u64) -> Self {
        Self {
            slot,
            seed,
            plan_caches: HashMap::new(),
            parallel_buffers: HashMap::new(),
            choosing: None,
            position: 0,
            last: None,
            next: None,
            opened: None,
        }
    }

    /// Reuses the buffers and plans of an ended sequence for an empty one.
    pub(crate) fn reuse(self, slot: u32, seed: u64) -> Self {
        let Self { plan_caches, parallel_buffers, .. } = self;
        Self { plan_caches, parallel_buffers, ..Self::new(slot, seed) }
    }

    pub(crate) fn held(&self) -> Held {
        Held { position: self.position, next: self.next, carries: self.last.is_some() }
    }

    /// State that can be carried on, padded.
    pub(crate) fn last_state(&self, store: &Store) -> Result<Option<Vec<u8>>, Error> {
        let Some((key, row)) = self.last else { return Ok(None) };
        let bytes = u64::from(stride(store.model.spec().width)) * 4;
        let range = u64::from(row) * bytes..u64::from(row + 1) * bytes;
        Ok(Some(store.model.device().read(&self.plan_caches[&key].sites.state, range)?))
    }
}

impl Passes<'_> {
    /// Makes sure that the first `end` positions have pages for `steps` steps.
    pub(crate) fn reserve(&mut self, end: u32, steps: u32) -> Result<(), Error> {
        self.store.kv.reserve(self.own.slot, end, steps)
    }

    /// Writes the sequence's seeds and `steps` to the device.
    pub(crate) fn write_sequence(&self, steps: u32) -> Result<(), Error> {
        self.store.write_sequence(self.own.slot, self.own.seed, steps)
    }

    pub(crate) fn execute(&mut self, key: (u32, u32), plan: PlanKey, counts: &[u32]) -> Result<(), Error> {
        let device = self.store.model.device().clone();
        let plan = self.plan(key, plan)?;
        device.execute(plan, counts, &[])?;
        Ok(())
    }

    pub(crate) fn plan(&mut self, key: (u32, u32), plan: PlanKey) -> Result<&ruminate_engine::Plan, Error> {
        let next = match plan.choose {
            Choose::Nothing => None,
            _ if key == self.store.single() => None,
            _ => Some(self.next_row()?),
        };
        let OwnPasses { plan_caches, parallel_buffers, .. } = &mut *self.own;
        let plans = plan_caches.get_mut(&key).ok_or(Error::bug("the plan cache of a pass exists before its plans"))?;
        let sites = match plan.follow {
            Follow::Draft(rows) | Follow::Start(rows) => parallel_buffers.get(&rows).map(|buffers| &buffers.sites),
            _ => None,
        };
        plans.plan(&self.store.plan_inputs(next.as_ref(), sites), plan)
    }

    /// Buffers of the decoded row and its state.
    pub(crate) fn next_row(&mut self) -> Result<Next, Error> {
        let sites = &self.plans_for(self.store.single())?.sites;
        Ok(Next { rows: sites.rows.clone(), state: sites.state.clone() })
    }

    pub(crate) fn plans_for(&mut self, key: (u32, u32)) -> Result<&mut PlanCache, Error> {
        if !self.own.plan_caches.contains_key(&key) {
            let plans = PlanCache::new(self.store.model.device(), self.store.model.spec(), key.0, key.1)?;
            self.own.plan_caches.insert(key, plans);
        }
        self.own.plan_caches.get_mut(&key).ok_or(Error::bug("the plan cache of a pass exists before its plans"))
    }

    /// Writes the sampling options to the device, if they have changed.
    pub(crate) fn set_choosing(&mut self, choosing: &Choosing) -> Result<(), Error> {
        if self.own.choosing.as_ref() == Some(choosing) {
            return Ok(());
        }
        self.own.choosing = None;
        let (device, vocab) = (self.store.model.device().clone(), self.store.padded_vocab());
        self.store.tables.write_choosing(&device, self.own.slot, choosing, vocab)?;
        self.own.choosing = Some(choosing.clone());
        Ok(())
    }

    /// Writes a padded state as the state that the next row may start from.
    pub(crate) fn set_last_state(&mut self, padded: &[u8]) -> Result<(), Error> {
        let (key, device) = (self.store.single(), self.store.model.device().clone());
        device.write(&self.plans_for(key)?.sites.state, 0, padded)?;
        self.own.last = Some((key, 0));
        Ok(())
    }

    /// Reserves pages and fills the row table of a fitting plan cache, and the states if they are given. Returns the key of the plan cache.
    pub(crate) fn prepare(
        &mut self,
        tokens: &[u32],
        steps: u32,
        state: State<'_>,
        outputs: usize,
    ) -> Result<(u32, u32), Error> {
        let count = tokens.len() as u32;
        let (slot, position) = (self.own.slot, self.own.position);
        let key = self.store.key(count, outputs > 1);
        // A state that is already in its buffer is not copied, so there is nothing to wait for.
        let moves = state == State::Carried && self.own.last != Some((key, 0));
        let carried = if moves { self.own.last_state(self.store)? } else { None };
        self.own.opened = None;
        self.reserve(position + count, steps)?;
        let device = self.store.model.device().clone();
        let n = self.store.model.spec().width;
        self.store.write_history(self.own.slot, position, tokens)?;

        let first_output = count - outputs as u32;
        let mut rows: Vec<Row> = (0..count)
            .zip(tokens)
            .map(|(i, &token)| Row {
                output: if i >= first_output { i - first_output } else { NONE },
                draw: u32::from(state == State::Seeded),
                ..Row::new(slot, position + i, token)
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
        self.own.last = Some((key, count - 1));
        self.own.next = None;
        Ok(key)
    }
}
