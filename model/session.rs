//! A session: one sequence in a store of its own, with the passes over it (`schedule/passes.rs`).

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

/// Rows of one pass, at most: longer prompts are fed in several.
pub(crate) const MAX_ROWS: u32 = 256;

/// Rows of every pass in the invariant mode, whatever there is to compute: the most that read the weights once.
pub(crate) const INVARIANT_ROWS: u32 = 8;

/// Steps of one token, at most: the tables of the cache have an entry for each.
pub const MAX_STEPS: u32 = 1 << 16;

/// One sequence of a model.
pub struct Session {
    pub(crate) store: Store,
    pub(crate) own: OwnPasses,
    /// What [`Self::start`] began.
    pub(crate) generation: Option<Box<ActiveGeneration>>,
}

impl Session {
    pub(crate) fn new(model: Model, options: SessionOptions) -> Result<Self, Error> {
        let (seed, store) = (options.seed, Store::new(&model, options, 1)?);
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

    /// The options that the session was made with.
    #[must_use]
    pub fn options(&self) -> &SessionOptions {
        &self.store.options
    }

    /// The options of another session like this one.
    pub(crate) fn resolved_options(&self) -> SessionOptions {
        SessionOptions { context: Some(self.context()), ..self.store.options.clone() }
    }

    /// Positions that hold a token.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.own.position
    }

    /// The token that the last generation ended with, if nothing has happened since. It is not computed yet and holds no position: the next prompt
    /// comes after it, unless it is one of the tokens that end a generation (see [`Prompt`](crate::Prompt)).
    #[must_use]
    pub const fn next_token(&self) -> Option<u32> {
        self.own.next
    }

    /// Positions that the session can hold.
    #[must_use]
    pub fn context(&self) -> u32 {
        self.store.kv.context()
    }

    /// Bytes of the KV cache on the device. What a fork has of its original counts there alone.
    #[must_use]
    pub fn kv_bytes(&self) -> u64 {
        self.store.kv.bytes()
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
        self.store.kv.unshare(position)?;
        self.own.position = position;
        self.own.next = None;
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

    /// Reads `[rows, width]` without the padding.
    pub(crate) fn read_rows(&self, buffer: &Buffer, rows: impl TryInto<u64>, width: u32) -> Result<Vec<f32>, Error> {
        let padded = stride(width);
        let rows = rows.try_into().unwrap_or(0);
        let bytes = self.store.model.device().read(buffer, 0..rows * u64::from(padded) * 4)?;
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let values: Vec<f32> = values.collect();
        Ok(values.chunks(padded as usize).flat_map(|row| &row[..width as usize]).copied().collect())
    }

    /// What the session holds once a generation under way is ended.
    pub(crate) fn held(&self) -> Held {
        self.generation.as_ref().map_or(self.own.held(), |generation| generation.held(&self.own))
    }

    /// Checks the arguments of a pass, as of the end of a generation under way.
    pub(crate) fn check(&self, tokens: &[u32], steps: u32, state: State<'_>) -> Result<(), Error> {
        self.store.check(self.held(), tokens, steps, state)
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
