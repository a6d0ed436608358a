//! A session: one sequence with a store of its own. Its passes are in `schedule/passes.rs`.

use ruminate_engine::Buffer;
use ruminate_shaders::stride;

use crate::arch::Spec;
use crate::error::Error;
use crate::generation::ActiveGeneration;
use crate::model::Model;
use crate::options::{SessionOptions, State};
use crate::plans::PlanKey;
use crate::sampling::{Choosing, Sampling};
use crate::schedule::passes::{Held, OwnPasses, Passes};
use crate::schedule::store::Store;

/// Maximum rows of one pass; longer prompts take several passes.
pub(crate) const MAX_ROWS: u32 = 256;

/// Rows of every pass in invariant mode, however few are needed: the most for which weights are read only once.
pub const INVARIANT_ROWS: u32 = 8;

/// Maximum steps of one token: the tables of the cache have an entry for each step.
pub const MAX_STEPS: u32 = 1 << 16;

/// One sequence of a model.
pub struct Session {
    pub(crate) store: Store,
    pub(crate) own: OwnPasses,
    /// Generation begun by [`Self::start`].
    pub(crate) generation: Option<Box<ActiveGeneration>>,
}

impl Session {
    pub(crate) fn new(model: &Model, options: SessionOptions) -> Result<Self, Error> {
        let (seed, store) = (options.seed, Store::new(model, options, 1)?);
        let mut session = Self { store, own: OwnPasses::new(0, seed), generation: None };
        let planned = session.store.planned;
        session.passes().write_sequence(planned)?;
        Ok(session)
    }

    /// The sequence with its store.
    pub(crate) fn passes(&mut self) -> Passes<'_> {
        Passes { store: &mut self.store, own: &mut self.own }
    }

    /// The model of this session.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.store.model
    }

    /// Options that the session was created with.
    #[must_use]
    pub fn options(&self) -> &SessionOptions {
        &self.store.options
    }

    /// Options for another session like this one, with the context resolved.
    pub(crate) fn resolved_options(&self) -> SessionOptions {
        SessionOptions { context: Some(self.context()), ..self.store.options.clone() }
    }

    /// Number of positions that hold a token.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.own.position
    }

    /// Token that the last generation ended with, if nothing has been computed since. It is not computed yet and holds no position. The next prompt comes after
    /// it, unless it is an end token (see [`Prompt`](crate::Prompt)).
    #[must_use]
    pub const fn next_token(&self) -> Option<u32> {
        self.own.next
    }

    /// Number of positions that the session can hold.
    #[must_use]
    pub fn context(&self) -> u32 {
        self.store.kv.context()
    }

    /// Bytes of the KV cache on the device. Pages that a fork shares count for its original alone.
    #[must_use]
    pub fn kv_bytes(&self) -> u64 {
        self.store.kv.bytes()
    }

    /// Discards all positions from `position` on; earlier positions stay computed.
    ///
    /// # Errors
    /// [`Error::Option`] if `position` is beyond the positions that the session holds; device errors while copying pages that a fork still needs.
    pub fn rewind(&mut self, position: u32) -> Result<(), Error> {
        if position > self.held().position {
            let allowed = "at most the number of positions that the session holds";
            return Err(Error::Option { name: "position", value: position.to_string(), allowed });
        }
        self.stop();
        self.store.kv.unshare(position)?;
        self.own.position = position;
        self.own.next = None;
        Ok(())
    }

    /// Times the kernels of one decoded token. The row is computed, but the session does not advance.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::PromptTooLong`] if the context is full, or device errors.
    pub fn profile(&mut self, steps: u32, sampling: Sampling) -> Result<ruminate_engine::Profile, Error> {
        check_steps(steps)?;
        let position = self.held().position;
        if position == self.context() {
            return Err(Error::PromptTooLong {
                tokens: position as usize + 1,
                context: self.context(),
                most: self.store.model.spec().context,
            });
        }
        let choosing = Choosing::plain(sampling)?;
        self.stop();
        let mut passes = self.passes();
        passes.reserve(position + 1, steps)?;
        passes.set_choosing(&choosing)?;
        let (device, key) = (passes.store.model.device().clone(), passes.store.single());
        passes.plans_for(key)?;
        passes.own.last = None;
        let plan = passes.plan(key, PlanKey::choosing(&choosing))?;
        Ok(device.profile(plan, &[steps])?)
    }

    /// Reads `[rows, width]` and removes the padding.
    pub(crate) fn read_rows(&self, buffer: &Buffer, rows: impl TryInto<u64>, width: u32) -> Result<Vec<f32>, Error> {
        let padded = stride(width);
        let rows = rows.try_into().unwrap_or(0);
        let bytes = self.store.model.device().read(buffer, 0..rows * u64::from(padded) * 4)?;
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let values: Vec<f32> = values.collect();
        Ok(values.chunks(padded as usize).flat_map(|row| &row[..width as usize]).copied().collect())
    }

    /// State of the session after a generation under way has ended.
    pub(crate) fn held(&self) -> Held {
        self.generation.as_ref().map_or(self.own.held(), |generation| generation.held(&self.own))
    }

    /// Checks the arguments of a pass that follows a generation under way.
    pub(crate) fn check(&self, tokens: &[u32], steps: u32, state: State<'_>) -> Result<(), Error> {
        self.store.check(self.held(), tokens, steps, state)
    }
}

/// Checks that the model has these tokens, and that a sequence of `context` positions, `held` of them used, has room for them.
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

/// Pads rows of `n` values each to the device's stride.
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

/// Table size for `count` rows. There are only a few sizes, so that few plans are recorded.
pub(crate) fn capacity(count: u32) -> u32 {
    match count {
        0..=2 => count.max(1),
        3..=8 => count.next_multiple_of(4),
        _ => count.next_power_of_two(),
    }
}
