//! The stepwise interface for research: begin, iterate by one or more steps, inspect and change states, read out.

use ruminate_engine::Buffer;
use ruminate_shaders::stride;

use crate::arch::{Kept, Module, When};
use crate::error::Error;
use crate::options::State;
use crate::plans::{PlanKey, Stage};
use crate::session::Session;
use crate::statistics::{RowStatistics, entropy, rel_residual, residual_diff};

/// Rows of a stepwise computation.
#[derive(Clone, Copy)]
pub(crate) struct Opened {
    capacity: u32,
    rows: u32,
    steps: u32,
    steps_left: u32,
    /// Whether the rows have been read out.
    read_out: bool,
}

/// Results of [`Session::read_out`], on the host.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Rows that were read out.
    pub rows: u32,
    /// Logits `[rows, vocab]`.
    pub logits: Vec<f32>,
    /// States as the layers after the loop receive them, normed if the model norms them there `[rows, width]`: `latent_states` in the authors' code.
    pub latents: Vec<f32>,
    /// Input of the head `[rows, width]`.
    pub head: Vec<f32>,
}

impl Outputs {
    /// Statistics of every row.
    #[must_use]
    pub fn statistics(&self) -> Vec<RowStatistics> {
        // Rows are empty only if a caller created this value by hand.
        let width = |values: &[f32]| (values.len() / self.rows.max(1) as usize).max(1);
        let rows = self.head.chunks(width(&self.head)).zip(self.latents.chunks(width(&self.latents)));
        let of = |((head, latent), logits): ((&[f32], &[f32]), &[f32])| RowStatistics {
            entropy: entropy(logits),
            residual_diff: residual_diff(head, latent),
            rel_residual: rel_residual(head, latent),
        };
        rows.zip(self.logits.chunks(width(&self.logits))).map(of).collect()
    }
}

/// Key of the plan for a stage that keeps every intermediate.
fn traced(stage: Stage) -> PlanKey {
    PlanKey { trace: true, ..PlanKey::of(stage) }
}

impl Session {
    /// Appends tokens, at most 256, and computes them up to their initial states, for use with [`Self::iterate`].
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn begin(&mut self, tokens: &[u32], steps: u32, state: State<'_>) -> Result<(), Error> {
        self.check(tokens, steps, state)?;
        if tokens.len() > self.store.most_rows() as usize {
            let value = format!("{} tokens", tokens.len());
            return Err(Error::Option {
                name: "tokens",
                value,
                allowed: "at most 256 at a time, or 8 in invariant mode",
            });
        }
        self.stop();
        let key = self.passes().prepare(tokens, steps, state, tokens.len())?;
        self.passes().execute(key, traced(Stage::Begin), &[])?;
        self.own.position += tokens.len() as u32;
        self.own.opened =
            Some(Opened { capacity: key.0, rows: tokens.len() as u32, steps: 0, steps_left: steps, read_out: false });
        Ok(())
    }

    /// Applies the core block `steps` times to the rows that [`Self::begin`] appended.
    ///
    /// # Errors
    /// [`Error::NotBegun`]; [`Error::Option`] if the steps in total exceed those passed to [`Self::begin`]; device errors.
    pub fn iterate(&mut self, steps: u32) -> Result<(), Error> {
        let (key, _) = self.opened()?;
        let opened = self.own.opened.as_mut().ok_or(Error::bug("rows that were begun stay so during a call"))?;
        let left = opened.steps_left.checked_sub(steps).ok_or_else(|| Error::Option {
            name: "steps",
            value: steps.to_string(),
            allowed: "in total no more than the steps passed to begin()",
        })?;
        opened.steps_left = left;
        opened.steps += steps;
        self.passes().execute(key, traced(Stage::Iterate), &[steps])
    }

    /// Current recurrent states `[rows, width]`, before the final norm.
    ///
    /// # Errors
    /// [`Error::NotBegun`], or device errors.
    pub fn states(&self) -> Result<Vec<f32>, Error> {
        let (key, rows) = self.opened()?;
        self.read_rows(&self.own.plan_caches[&key].sites.state, rows, self.store.model.spec().width)
    }

    /// Replaces the recurrent states `[rows, width]`: by those of another run (activation patching), or by modified ones (steering). The next step continues
    /// from them.
    ///
    /// # Errors
    /// [`Error::NotBegun`], [`Error::State`] for a wrong number of values, or device errors.
    pub fn set_states(&mut self, states: &[f32]) -> Result<(), Error> {
        let (key, rows) = self.opened()?;
        let n = self.store.model.spec().width;
        let expected = rows as usize * n as usize;
        if states.len() != expected {
            return Err(Error::State { found: states.len(), expected });
        }
        let gap = (stride(n) - n) as usize;
        let padded = states.chunks(n as usize).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, gap)));
        let padded: Vec<f32> = padded.collect();
        let device = self.store.model.device().clone();
        Ok(device.write(&self.passes().plans_for(key)?.sites.state, 0, bytemuck::cast_slice(&padded))?)
    }

    /// Adds a vector to the states: one row for all of them `[width]`, or one per row `[rows, width]`.
    ///
    /// # Errors
    /// As [`Self::set_states`].
    pub fn add_to_states(&mut self, direction: &[f32]) -> Result<(), Error> {
        let mut states = self.states()?;
        let one = self.store.model.spec().width as usize;
        if direction.len() != one && direction.len() != states.len() {
            return Err(Error::State { found: direction.len(), expected: states.len() });
        }
        states.iter_mut().zip(direction.iter().cycle()).for_each(|(state, more)| *state += more);
        self.set_states(&states)
    }

    /// Applies the core block `steps` times and calls `change` after every step, with the number of steps since [`Self::begin`] and the states `[rows, width]`,
    /// which it may change. Before the very first step, it is called with 0. Every step waits for the device.
    ///
    /// # Errors
    /// As [`Self::iterate`], and errors of `change`.
    pub fn iterate_with<E: From<Error>>(
        &mut self,
        steps: u32,
        mut change: impl FnMut(u32, &mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut meet = |session: &mut Self| {
            let done = session.own.opened.ok_or(Error::NotBegun)?.steps;
            let before = session.states()?;
            let mut states = before.clone();
            change(done, &mut states)?;
            // Compare bits, so that an unchanged NaN counts as unchanged.
            if before.iter().zip(&states).any(|(a, b)| a.to_bits() != b.to_bits()) {
                session.set_states(&states)?;
            }
            Ok::<(), E>(())
        };
        if self.own.opened.is_some_and(|opened| opened.steps == 0) {
            meet(self)?;
        }
        for _ in 0..steps {
            self.iterate(1)?;
            meet(self)?;
        }
        Ok(())
    }

    /// Output of the prelude `[rows, width]`.
    ///
    /// # Errors
    /// [`Error::NotBegun`], or device errors.
    pub fn embeddings(&self) -> Result<Vec<f32>, Error> {
        let (key, rows) = self.opened()?;
        self.read_rows(&self.own.plan_caches[&key].sites.embedding, rows, self.store.model.spec().width)
    }

    /// Reads the current states out: computes everything after the loop, up to the logits.
    ///
    /// # Errors
    /// [`Error::NotBegun`], or device errors.
    pub fn read_out(&mut self) -> Result<Outputs, Error> {
        let (key, rows) = self.opened()?;
        self.passes().execute(key, traced(Stage::Finish), &[])?;
        let n = self.store.model.spec().width;
        if let Some(opened) = &mut self.own.opened {
            opened.read_out = true;
        }
        let read = |name| {
            self.read_rows(
                self.traced(Stage::Finish, name).ok_or(Error::bug("a read-out keeps its intermediates"))?,
                rows,
                n,
            )
        };
        let latents = match self.store.model.spec().latents() {
            Some(name) => read(name)?,
            None => self.states()?,
        };
        let head = read("head")?;
        let logits = self.read_rows(&self.own.plan_caches[&key].sites.logits, rows, self.store.padded_vocab())?;
        Ok(Outputs { rows, logits, latents, head })
    }

    /// Intermediate of the last [`Self::begin`], [`Self::iterate`] or [`Self::read_out`], `[rows, width]`, by its module's name in the checkpoint, such as
    /// `core_block.1.attn.proj`. The width is that of the module's output.
    ///
    /// # Errors
    /// [`Error::NotBegun`] without rows; [`Error::Intermediate`] if the model does not have it, or if it has not been computed yet; device errors.
    pub fn trace(&self, name: &str) -> Result<Vec<f32>, Error> {
        let (_, rows) = self.opened()?;
        let modules = self.store.model.spec().modules();
        let module = modules.iter().find(|module| module.name == name && self.has(module));
        let Some(module) = module else {
            let known = modules.iter().filter(|module| self.has(module)).map(|module| module.name.clone()).collect();
            return Err(Error::Intermediate { name: name.to_owned(), known });
        };
        let kept = match (&module.kept, module.heads) {
            (Kept::Embedding, _) => self.embeddings()?,
            (Kept::State, _) => self.states()?,
            (Kept::Buffer(name), heads) => {
                let buffer = self
                    .traced(stage_of(module.when), name)
                    .ok_or(Error::bug("an intermediate that was computed is kept"))?;
                match heads {
                    // Each head has its own padding.
                    Some((heads, head_dim)) => self.read_rows(buffer, rows * heads, head_dim)?,
                    None => self.read_rows(buffer, rows, module.row())?,
                }
            }
        };
        Ok(module.take(&kept))
    }

    /// Whether an intermediate has been computed.
    fn has(&self, module: &Module) -> bool {
        let Some(Opened { steps, read_out, .. }) = self.own.opened else { return false };
        let done = match module.when {
            When::Begin => true,
            When::Step => steps > 0,
            When::Finish => read_out,
        };
        done && match &module.kept {
            Kept::Embedding | Kept::State => true,
            Kept::Buffer(name) => self.traced(stage_of(module.when), name).is_some(),
        }
    }

    /// Number of rows that were begun.
    pub(crate) fn rows(&self) -> Result<u32, Error> {
        Ok(self.opened()?.1)
    }

    fn opened(&self) -> Result<((u32, u32), u32), Error> {
        let Opened { capacity, rows, .. } = self.own.opened.ok_or(Error::NotBegun)?;
        Ok(((capacity, capacity), rows))
    }

    /// Buffer of an intermediate that a stage has computed.
    fn traced(&self, stage: Stage, name: &str) -> Option<&Buffer> {
        let Opened { capacity, .. } = self.own.opened?;
        self.own.plan_caches.get(&(capacity, capacity))?.traced(stage, name)
    }
}

/// Stage that computes a module.
const fn stage_of(when: When) -> Stage {
    match when {
        When::Begin => Stage::Begin,
        When::Step => Stage::Iterate,
        When::Finish => Stage::Finish,
    }
}
