//! Saved sessions and forked sessions.
//!
//! [`Session::save`] writes everything that a continuation depends on to one safetensors file; its format is described in `file.rs`. [`Model::resume`] creates
//! a session that continues exactly as the saved one would have, provided that the model is the same. To verify that, it compares the configuration, the dtypes
//! and a fingerprint of the weights. The fingerprint is computed when weights are loaded, from some bytes of every stored tensor, or from shape and seed if the
//! weights are synthetic.
//!
//! [`Session::fork`] creates another session with the positions of this one.

#[cfg(feature = "files")]
mod file;
mod problem;
#[cfg(feature = "files")]
mod settings;

pub use problem::SnapshotProblem;

#[cfg(feature = "files")]
use std::path::Path;

#[cfg(feature = "files")]
use ruminate_shaders::stride;

#[cfg(feature = "files")]
use self::file::{Reader, Writer};
#[cfg(feature = "files")]
use self::settings::{About, Settings};
use crate::error::Error;
#[cfg(feature = "files")]
use crate::model::Model;
use crate::session::Session;

impl Session {
    /// Writes the session to a safetensors file, from which [`Model::resume`] creates a session that produces the same tokens on the same device. The file
    /// holds keys and values, tokens, seed and settings, the state that continuous compute may carry on, and [`Self::next_token`]. A generation under way is
    /// ended first, as by [`Self::stop`]. Rows appended by [`Self::begin`] are saved with the steps that they have had.
    ///
    /// The file is as large as the positions' keys and values on the device: 2.8 MB per position for Huginn-0125 at 32 steps in bf16. It gets its name when it
    /// is complete, and replaces an existing file as [`OutputFile`](crate::OutputFile) does. Saving needs memory for one page of 32 positions of one layer.
    ///
    /// # Errors
    /// [`Error::Output`], [`Error::Write`], or device errors.
    #[cfg(feature = "files")]
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.stop();
        let device = self.store.model.device().clone();
        let tokens = device.read(&self.store.tables.history, 0..u64::from(self.own.position) * 4)?;
        let depth = self.store.kv.stored_steps(self.own.position)?;
        let (layout, pages) = self.store.kv.layout();
        let state = self.own.last_state(&self.store)?;
        let settings = Settings::of(self, layout);
        let tensors = settings.tensors(self.store.model.spec(), &self.store.kv, &depth, state.is_some());
        let mut out = Writer::create(path.as_ref(), &About::of(&self.store.model), &settings, &tensors)?;
        out.write(&tokens)?;
        out.write(bytemuck::cast_slice(&depth))?;
        out.write(bytemuck::cast_slice(pages))?;
        if let Some(state) = state {
            out.write(&state[..self.store.model.spec().width as usize * 4])?;
        }
        for (layer, slot) in settings::places(&self.store.kv, &depth) {
            self.store.kv.read_slot((layer, slot), &self.store.kv.in_slot(&depth, slot), |bytes| out.write(bytes))?;
        }
        out.finish()
    }

    /// Creates another session of the same model, with the same options and everything that this one has computed. It continues as this one would, so sessions
    /// whose prompts start with the same text can compute that part once. A generation under way is ended first, as by [`Self::stop`].
    ///
    /// Nothing is computed and little is copied. Full pages of 32 positions belong to both sessions until one of them rewinds into them ([`Self::rewind`]),
    /// which copies the pages that it needs. A last page that is not full is copied through the host, together with the tables: at most 90 MB for Huginn-0125
    /// at 32 steps in bf16. Later positions take memory in each session.
    ///
    /// Each generation of forks adds segments to the cache, and attention has one launch per segment. Sums are added segment by segment, so logits may differ
    /// in the last bits from those of a session that computed everything itself.
    ///
    /// Rows appended by [`Self::begin`] cannot be iterated further in the fork.
    ///
    /// # Errors
    /// [`Error::Together`] in invariant mode, in which all keys of a layer must be in one buffer; device errors.
    pub fn fork(&mut self) -> Result<Self, Error> {
        if self.options().invariant {
            let why = "a fork has keys in buffers of two sessions, and sums are added buffer by buffer";
            return Err(Error::Together { one: "fork", other: "invariant", why });
        }
        self.stop();
        let (model, device) = (self.store.model.clone(), self.store.model.device().clone());
        let mut fork = Self::new(&model, self.resolved_options())?;
        fork.store.kv = self.store.kv.fork(self.own.position)?;
        let tokens = device.read(&self.store.tables.history, 0..u64::from(self.own.position) * 4)?;
        device.write(&fork.store.tables.history, 0, &tokens)?;
        if let Some(state) = self.own.last_state(&self.store)? {
            fork.passes().set_last_state(&state)?;
        }
        (fork.own.position, fork.own.next) = (self.own.position, self.own.next);
        Ok(fork)
    }
}

#[cfg(feature = "files")]
impl Model {
    /// Resumes a session saved by [`Session::save`], with the options and the context that it had.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read; [`Error::Snapshot`] if it is not a saved session, is truncated or damaged, or belongs to another model or to
    /// this model with weights in another dtype; [`Error::Memory`] or device errors if the session does not fit.
    pub fn resume(&self, path: impl AsRef<Path>) -> Result<Session, Error> {
        let mut file = Reader::open(path.as_ref())?;
        file.about.check(self).map_err(|problem| file.wrong(problem))?;
        let settings = file.settings.clone();
        let damaged = |file: &Reader, reason| file.wrong(SnapshotProblem::contradicts(reason));
        let options = settings.options().ok_or_else(|| damaged(&file, "its settings are unknown"))?;
        let mut session = self.session(options)?;
        let (spec, count) = (self.spec().clone(), settings.position);
        if count > session.context() || settings.next.is_some_and(|token| token >= session.store.padded_vocab()) {
            return Err(damaged(&file, "its position, context or next token is too large"));
        }
        let tokens = file.words("tokens", u64::from(count))?;
        let depth = file.words("depth", u64::from(count))?;
        let too_deep = depth.iter().any(|&steps| steps > settings.layout.steps);
        if too_deep || tokens.iter().any(|&token| token >= session.store.padded_vocab()) {
            return Err(damaged(&file, "its tokens or steps are too large"));
        }
        crate::session::check_steps(settings.layout.steps)?;
        let slots = 1 + session.store.kv.share.slots(settings.layout.steps);
        let pages = file.words("pages", u64::from(slots) * u64::from(session.store.kv.shape.pages_per_slot()))?;
        if !session.store.kv.lay_out(&settings.layout, &pages)? {
            return Err(damaged(&file, "its page table is inconsistent"));
        }
        if count > 0 {
            session.store.kv.reserve(0, count, depth.iter().copied().max().unwrap_or(1).max(1))?;
        }
        let expected = settings.tensors(&spec, &session.store.kv, &depth, file.has("state"));
        file.check(&expected)?;

        let device = self.device();
        device.write(&session.store.tables.history, 0, bytemuck::cast_slice(&tokens))?;
        session.store.kv.write_stored_steps(&depth)?;
        if file.has("state") {
            let mut state = vec![0; stride(spec.width) as usize * 4];
            file.read("state", 0, &mut state[..spec.width as usize * 4])?;
            session.passes().set_last_state(&state)?;
        }
        for (layer, slot) in settings::places(&session.store.kv, &depth) {
            let name = settings::name(layer, slot);
            let mut done = 0;
            session.store.kv.write_slot((layer, slot), &session.store.kv.in_slot(&depth, slot), |bytes| {
                file.read(&name, done, bytes)?;
                done += bytes.len() as u64;
                Ok(())
            })?;
        }
        (session.own.position, session.own.next) = (count, settings.next);
        Ok(session)
    }
}
