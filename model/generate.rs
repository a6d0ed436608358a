//! Generation in two forms: an iterator over tokens that keeps the device busy, and bounded steps for hosts that draw frames on the same device.
//!
//! [`Generation`] borrows its session. A host that keeps a session from frame to frame starts the generation in the session itself: [`Session::start`], then
//! [`Session::step`] in every frame. Both use the same [`ActiveGeneration`].

use std::time::Duration;

use crate::error::Error;
use crate::generation::ActiveGeneration;
use crate::options::GenerateOptions;
use crate::session::Session;
use crate::tokenizer::Specials;

/// Input of a generation: text or token ids. It comes after everything that the session holds, including the last token of the generation before it
/// ([`Session::next_token`]) unless that is an end token.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Prompt<'a> {
    /// Text, encoded by the model's tokenizer.
    Text(&'a str),
    /// Token ids.
    Tokens(&'a [u32]),
    /// No new input: generation continues where the last one stopped, after its last token, even if that is an end token.
    Continue,
}

impl<'a> From<&'a str> for Prompt<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Prompt<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u32]> for Prompt<'a> {
    fn from(tokens: &'a [u32]) -> Self {
        Self::Tokens(tokens)
    }
}

impl<'a> From<&'a Vec<u32>> for Prompt<'a> {
    fn from(tokens: &'a Vec<u32>) -> Self {
        Self::Tokens(tokens)
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for Prompt<'a> {
    fn from(tokens: &'a [u32; N]) -> Self {
        Self::Tokens(tokens)
    }
}

/// One generated token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Token id.
    pub token: u32,
    /// Text that this token completes. It may be empty while a character or a possible stop string is incomplete.
    pub text: String,
    /// Recurrence steps of the row that the token was chosen from.
    pub steps: u32,
    /// Natural logarithm of the probability that the model gave the token, before bias, penalties, temperature and filters, if [`GenerateOptions::logprobs`] is
    /// set.
    pub logprob: Option<f32>,
    /// The most likely tokens with their log-probabilities, best first; as many as [`GenerateOptions::logprobs`] sets.
    pub top: Vec<(u32, f32)>,
}

/// Result of a bounded step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// The device is still working.
    Working,
    /// A token was generated.
    Token(Piece),
    /// Generation has ended.
    Done(StopReason),
}

/// Reason why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The model chose one of its end tokens.
    EndToken(u32),
    /// A stop string appeared.
    StopString,
    /// The text is complete under [`GenerateOptions::constraint`]: nothing may follow.
    Complete,
    /// The requested number of tokens was generated.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The sequence was cancelled: [`Batch::cancel`](crate::Batch::cancel).
    Cancelled,
    /// An error occurred, which the call returned.
    Failed,
}

/// Statistics of a generation.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Tokens of the prompt that were computed.
    pub prompt_tokens: u32,
    /// Prompt tokens whose keys and values were taken from the prefix cache: see [`BatchOptions::prefix_cache`](crate::BatchOptions::prefix_cache).
    pub cached_tokens: u32,
    /// Tokens generated.
    pub tokens: u32,
    /// Recurrence steps of all generated tokens, summed.
    pub steps: u64,
    /// Passes over the core's weights for the tokens after the first: one for each step, shared by all rows.
    pub core_passes: u64,
    /// Time from the start to the first token.
    pub prompt_time: Duration,
    /// Time from the first token to the last.
    pub decode_time: Duration,
    /// Time that the host spent on encoding passes on this device. The device computes meanwhile, because passes are submitted ahead.
    pub host_time: Duration,
}

impl Statistics {
    /// Prompt tokens per second.
    #[must_use]
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_time)
    }

    /// Passes over the core's weights per token after the first.
    #[must_use]
    pub fn passes_per_token(&self) -> f64 {
        self.core_passes as f64 / f64::from(self.tokens.saturating_sub(1).max(1))
    }

    /// Decoded tokens per second; the first token counts as part of the prompt.
    #[must_use]
    pub fn decode_rate(&self) -> f64 {
        rate(self.tokens.saturating_sub(1), self.decode_time)
    }
}

/// Checks that a session can hold a number of tokens.
fn check_fits(tokens: usize, session: &Session) -> Result<(), Error> {
    let (context, most) = (session.context(), session.model().spec().context);
    if tokens > context as usize {
        return Err(Error::PromptTooLong { tokens, context, most });
    }
    Ok(())
}

fn rate(tokens: u32, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { f64::from(tokens) / time.as_secs_f64() }
}

/// Iterator over tokens as they are generated. Drop it to stop early; the session can continue from there.
///
/// If it is dropped before the whole prompt was submitted, the session returns to its state before the prompt.
pub struct Generation<'s> {
    pub(crate) session: &'s mut Session,
    pub(crate) active: ActiveGeneration,
}

impl Session {
    /// Encodes text for this session, as [`Tokenizer::encode`](crate::Tokenizer::encode) does.
    ///
    /// # Errors
    /// Tokenizer errors; [`Error::PromptTooLong`] or [`Error::TextTooLong`] if the text does not fit the context.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, Error> {
        self.model().tokenizer().check_fits(text, self.context(), self.model().spec().context)?;
        let tokens = self.model().tokenizer().encode(text, specials)?;
        check_fits(tokens.len(), self)?;
        Ok(tokens)
    }

    /// Encodes text for this session, as [`Tokenizer::encode_plain`](crate::Tokenizer::encode_plain) does.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_plain(&self, text: &str, specials: Specials) -> Result<Vec<u32>, Error> {
        self.model().tokenizer().check_fits(text, self.context(), self.model().spec().context)?;
        let tokens = self.model().tokenizer().encode_plain(text, specials)?;
        check_fits(tokens.len(), self)?;
        Ok(tokens)
    }

    /// Continues the session with a prompt and generates from it.
    ///
    /// The first call compiles kernels, which can take seconds, but does not compute anything on the device yet.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::PromptTooLong`], [`Error::TextTooLong`], [`Error::NoRoom`], [`Error::Option`], tokenizer errors, or device errors.
    pub fn generate<'p>(
        &mut self,
        prompt: impl Into<Prompt<'p>>,
        options: &GenerateOptions,
    ) -> Result<Generation<'_>, Error> {
        let active = self.begin_generation(prompt.into(), options)?;
        Ok(Generation { session: self, active })
    }

    /// Starts a generation as [`Self::generate`] does, for a host that keeps the session and continues with [`Self::step`]. The first call compiles kernels, so
    /// the host may make it on another thread than the one that draws frames. It ends a generation under way, unless the new prompt or its options are invalid.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn start<'p>(&mut self, prompt: impl Into<Prompt<'p>>, options: &GenerateOptions) -> Result<(), Error> {
        self.generation = Some(Box::new(self.begin_generation(prompt.into(), options)?));
        Ok(())
    }

    /// Ends a generation under way and prepares the next one. An invalid request changes nothing.
    fn begin_generation(&mut self, prompt: Prompt<'_>, options: &GenerateOptions) -> Result<ActiveGeneration, Error> {
        let mut active = ActiveGeneration::new(&self.store, self.held(), prompt, (options, false))?;
        self.stop();
        active.make_ready(&mut self.passes())?;
        Ok(active)
    }

    /// Continues the generation begun by [`Self::start`], as [`Generation::step`] does.
    ///
    /// # Errors
    /// [`Error::NotStarted`], or device errors, which end the generation.
    pub fn step(&mut self, budget: Duration) -> Result<Progress, Error> {
        let mut active = self.generation.take().ok_or(Error::NotStarted)?;
        let outcome = active.step(&mut self.passes(), budget);
        self.generation = Some(active);
        outcome
    }

    /// Statistics of the generation begun by [`Self::start`], until [`Self::stop`].
    #[must_use]
    pub fn statistics(&self) -> Option<&Statistics> {
        self.generation.as_ref().map(|active| active.statistics())
    }

    /// Ends the generation begun by [`Self::start`], as dropping a [`Generation`] does. Other calls that compute do this first, after they have checked their
    /// arguments.
    pub fn stop(&mut self) {
        if let Some(active) = self.generation.take() {
            active.finish(&mut self.passes());
        }
    }
}

impl Generation<'_> {
    /// Statistics so far.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        self.active.statistics()
    }

    /// Fraction of the prompt that has been submitted to the device, 0 to 1. With [`Self::step`], it is close to the fraction computed.
    #[must_use]
    pub fn prefilled(&self) -> f64 {
        self.active.prefilled()
    }

    /// Reason why generation ended, once it has.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.active.stop_reason()
    }

    /// Does a bounded piece of work and returns, so that hosts can draw frames in between.
    ///
    /// If the device has finished the last piece, another one is submitted that keeps it busy for about `budget`. It is at most one submission, after which the
    /// host's own commands may queue. The call itself also takes at most `budget`, except if a single launch takes longer, and in the rare call in which the
    /// cache grows. It never waits for the device. If called once per frame, `budget` is the time of the frame that generation gets; if called more often, it
    /// fills the gaps.
    ///
    /// On a GPU with timestamps, pieces are measured, and fit the budget after the first few.
    ///
    /// # Errors
    /// Device errors, which end the generation.
    pub fn step(&mut self, budget: Duration) -> Result<Progress, Error> {
        self.active.step(&mut self.session.passes(), budget)
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.active.next(&mut self.session.passes())
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        self.active.finish(&mut self.session.passes());
    }
}
