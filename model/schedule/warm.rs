//! Warming up a batch: compiles kernels before the first sequence is added.

use super::Batch;
use super::member::shares_passes;
use super::prefix::Shared;
use crate::error::Error;
use crate::generate::Prompt;
use crate::options::GenerateOptions;
use crate::session::{MAX_ROWS, capacity};

impl Batch {
    /// Compiles all kernels that sequences with these options need, for prompts of up to `prompt_tokens` tokens and any number of sequences decoding together,
    /// and has the driver finish them. Nothing is computed. For sequences that cannot share passes (see [`Self::add`]), it also creates one set of buffers,
    /// which the first of them takes over.
    ///
    /// Without it, the first rounds compile missing kernels. Kernels belong to the device: batches and sessions of models with the same shape share them.
    ///
    /// # Errors
    /// [`Error::Option`] while there are sequences; otherwise as [`Self::add`].
    pub fn warm_up(&mut self, prompt_tokens: u32, options: &GenerateOptions) -> Result<(), Error> {
        if !self.is_idle() {
            let value = "a batch whose sequences have not all ended".to_owned();
            return Err(Error::Option { name: "warm_up", value, allowed: "a batch without sequences" });
        }
        let device = self.store.model.device().clone();
        // The tokens are placeholders, so limits on the length of the text do not apply.
        let options = &GenerateOptions { max_length: None, ..options.clone() };
        let length = prompt_tokens.clamp(1, MAX_ROWS.min(self.store.context()));
        device.warming(|| {
            let outcome = self.record_plans(length, options);
            self.store.kv.release(0)?;
            outcome
        })
    }

    fn record_plans(&mut self, length: u32, options: &GenerateOptions) -> Result<(), Error> {
        let tokens = vec![0; length as usize];
        if !shares_passes(options) {
            return self.record_own_passes(&tokens, options);
        }
        let member = self.member_of(Prompt::Tokens(&tokens), 0, options)?;
        // Attention has one launch for each segment of the cache, so there must be at least one.
        self.store.kv.reserve(0, length, member.most_steps(self.store.planned))?;
        let sequences = self.members.len() as u32;
        let prompts = (1..=length).map(|rows| (rows, 1));
        let decoding = (1..=sequences).map(|rows| (rows, rows));
        // Prompts of several sequences that enter together, each with one read-out.
        let together = (1..=sequences).map(|outputs| (length.max(outputs), outputs));
        let mut shapes: Vec<(u32, u32)> = prompts
            .chain(decoding)
            .chain(together)
            .map(|(rows, outputs)| (capacity(rows), capacity(outputs)))
            .collect();
        shapes.sort_unstable();
        shapes.dedup();
        shapes.into_iter().try_for_each(|shape| {
            let plan = self.plan_of(&std::iter::once(&member), shape);
            self.record(plan)
        })
    }

    fn record_own_passes(&mut self, tokens: &[u32], options: &GenerateOptions) -> Result<(), Error> {
        let mut own = self.own_passes(0, 0);
        let mut sizes: Vec<u32> = (1..=tokens.len() as u32).map(capacity).collect();
        sizes.dedup();
        // The largest first: plans are recorded again when the cache grows.
        let outcome = sizes.into_iter().rev().try_for_each(|size| {
            let tokens = &tokens[..(size as usize).min(tokens.len())];
            let member = self.member_of(Prompt::Tokens(tokens), 0, options)?;
            self.start_guest(&mut own, &member, options, &Shared::default()).map(drop)
        });
        self.idle.push(own);
        outcome
    }
}
