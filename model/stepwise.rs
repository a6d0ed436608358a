//! The step-wise interface for research: begin, iterate one step or several, look at the states, read out.

use crate::error::Error;
use crate::options::State;
use crate::session::Session;
use crate::workspace::{PlanKey, Stage};

/// Rows that are iterated step by step.
#[derive(Clone, Copy)]
pub(crate) struct Opened {
    capacity: u32,
    rows: u32,
    steps_left: u32,
}

/// What a pass reads out, on the host.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Logits of the rows that were read out `[outputs, vocab]`.
    pub logits: Vec<f32>,
    /// The state after the final norm `[rows, n_embd]`: the authors' `latent_states`.
    pub latents: Vec<f32>,
    /// Input of the head `[outputs, n_embd]`.
    pub head: Vec<f32>,
}

/// The plan of a stage that keeps every intermediate.
fn traced(stage: Stage) -> PlanKey {
    PlanKey { trace: true, ..PlanKey::of(stage) }
}

impl Session {
    /// Appends tokens and computes them up to their initial state, for [`Self::iterate`] to go on; at most 256 at a time.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn begin(&mut self, tokens: &[u32], steps: u32, state: State<'_>) -> Result<(), Error> {
        self.stop();
        self.check(tokens, steps, state)?;
        if tokens.len() > self.most_rows() as usize {
            let value = format!("{} tokens", tokens.len());
            return Err(Error::Option {
                name: "tokens",
                value,
                allowed: "at most 256 at a time, and 8 in the invariant mode",
            });
        }
        let key = self.prepare(tokens, steps, state, tokens.len())?;
        self.execute(key, traced(Stage::Begin), &[])?;
        self.position += tokens.len() as u32;
        self.opened = Some(Opened { capacity: key.0, rows: tokens.len() as u32, steps_left: steps });
        Ok(())
    }

    /// Applies the core block to the rows that [`Self::begin`] appended.
    ///
    /// # Errors
    /// [`Error::NotBegun`], [`Error::Option`] if these are more steps together than were announced there, or the device's.
    pub fn iterate(&mut self, steps: u32) -> Result<(), Error> {
        let (key, _) = self.opened()?;
        let opened = self.opened.as_mut().ok_or(Error::NotBegun)?;
        let left = opened.steps_left.checked_sub(steps).ok_or_else(|| Error::Option {
            name: "steps",
            value: steps.to_string(),
            allowed: "together no more than were announced when the rows were begun",
        })?;
        opened.steps_left = left;
        self.execute(key, traced(Stage::Iterate), &[steps])
    }

    /// The current recurrent states `[rows, n_embd]`, before the final norm.
    ///
    /// # Errors
    /// [`Error::NotBegun`], or the device's.
    pub fn states(&self) -> Result<Vec<f32>, Error> {
        let (key, rows) = self.opened()?;
        self.read_rows(&self.spaces[&key].sites.state, rows, self.model.config().n_embd)
    }

    /// Output of the prelude `[rows, n_embd]`.
    ///
    /// # Errors
    /// [`Error::NotBegun`], or the device's.
    pub fn embeddings(&self) -> Result<Vec<f32>, Error> {
        let (key, rows) = self.opened()?;
        self.read_rows(&self.spaces[&key].sites.embedding, rows, self.model.config().n_embd)
    }

    /// Reads the current states out: final norm, coda, head.
    ///
    /// # Errors
    /// [`Error::NotBegun`], or the device's.
    pub fn read_out(&mut self) -> Result<Outputs, Error> {
        let (key, rows) = self.opened()?;
        self.execute(key, traced(Stage::Finish), &[])?;
        let n = self.model.config().n_embd;
        let latents = self.traced(Stage::Finish, "ln_f", n)?;
        let head = self.traced(Stage::Finish, "head", n)?;
        let logits = self.read_rows(&self.spaces[&key].sites.logits, rows, self.vocab())?;
        Ok(Outputs { logits, latents, head })
    }

    /// An intermediate of the last [`Self::begin`], [`Self::iterate`] or [`Self::read_out`], `[rows, width]`, by the name that the
    /// module has in the checkpoint.
    ///
    /// # Errors
    /// [`Error::NotBegun`] if there is none of that name yet.
    pub fn trace(&self, name: &str, width: u32) -> Result<Vec<f32>, Error> {
        let stages = [Stage::Begin, Stage::Iterate, Stage::Finish];
        let found = stages.into_iter().find_map(|stage| self.traced(stage, name, width).ok());
        found.ok_or(Error::NotBegun)
    }

    fn opened(&self) -> Result<((u32, u32), u32), Error> {
        let Opened { capacity, rows, .. } = self.opened.ok_or(Error::NotBegun)?;
        Ok(((capacity, capacity), rows))
    }

    fn traced(&self, stage: Stage, name: &str, width: u32) -> Result<Vec<f32>, Error> {
        let (key, rows) = self.opened()?;
        let buffer = self.spaces[&key].traced(stage, name).ok_or(Error::NotBegun)?;
        self.read_rows(buffer, rows, width)
    }
}
