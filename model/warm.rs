//! Warming up a session: compiles kernels before the first token is needed.

use crate::error::Error;
use crate::generate::Prompt;
use crate::options::GenerateOptions;
use crate::session::{MAX_ROWS, Session, capacity};

impl Session {
    /// Compiles all kernels that generation with these options needs, for prompts of up to `prompt_tokens` tokens, and has the driver finish them. Nothing is
    /// computed, and the session is unchanged, except that a generation under way is ended, as by [`Self::stop`].
    ///
    /// Without it, [`Self::generate`] and [`Self::start`] compile missing kernels, and some drivers finish them only in the first pass. Kernels belong to the
    /// device: warming up one session also warms up others of models with the same shape. On a device with a [`PipelineCache`](crate::PipelineCache), much of
    /// the work is kept for the next run of the program.
    ///
    /// # Errors
    /// As [`Self::generate`]; [`Error::PromptTooLong`] if the session does not have room for a prompt of one token.
    pub fn warm_up(&mut self, prompt_tokens: u32, options: &GenerateOptions) -> Result<(), Error> {
        self.stop();
        let room = self.context().saturating_sub(self.position()).saturating_sub(1).max(1);
        let mut sizes: Vec<u32> = (1..=prompt_tokens.clamp(1, room.min(MAX_ROWS))).map(capacity).collect();
        sizes.dedup();
        let device = self.model().device().clone();
        // The tokens are placeholders, so limits on the length of the text do not apply.
        let options = &GenerateOptions { max_length: None, ..options.clone() };
        device.warming(|| {
            // The largest first: plans are recorded again when the cache grows.
            for size in sizes.into_iter().rev() {
                let tokens = vec![0; size.min(room) as usize];
                self.start(Prompt::Tokens(&tokens), options)?;
                self.stop();
            }
            Ok(())
        })
    }
}
