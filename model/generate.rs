//! Generation, two ways: an iterator over tokens that keeps the device busy, and bounded steps for hosts that draw frames on it.
//!
//! [`Generation`] borrows its session. A host that keeps a session from frame to frame starts the generation in the session itself:
//! [`Session::start`], then [`Session::step`] in every frame. Both drive the same [`ActiveGeneration`].

use std::time::Duration;

use crate::error::Error;
use crate::generation::ActiveGeneration;
use crate::options::GenerateOptions;
use crate::session::Session;
use crate::tokenizer::Specials;

/// What is continued: text, or token ids as they stand. It comes after all that the session holds, and after the last token of the generation before it
/// ([`Session::next_token`]), unless that is one of the tokens that end a generation.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Prompt<'a> {
    /// Text, encoded by the model's tokenizer.
    Text(&'a str),
    /// Token ids.
    Tokens(&'a [u32]),
    /// Nothing new: the generation goes on where the last one stopped, after its last token, whichever that is.
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
    /// Text that is complete with this token: perhaps none, if a character or a possible stop string is still open.
    pub text: String,
    /// Recurrence steps that the token took.
    pub steps: u32,
    /// Natural logarithm of the probability that the model gave the token, before bias, penalties, temperature and filters; if
    /// [`GenerateOptions::logprobs`] asks for it.
    pub logprob: Option<f32>,
    /// The most likely tokens and theirs, the first one first: as many as asked for.
    pub top: Vec<(u32, f32)>,
}

/// What a bounded step came to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// The device is at work.
    Working,
    /// A token is there.
    Token(Piece),
    /// Generation has ended.
    Done(StopReason),
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The model chose one of its end tokens.
    EndToken(u32),
    /// A stop string appeared.
    StopString,
    /// The text is complete as [`GenerateOptions::constraint`] has it: nothing may follow.
    Complete,
    /// As many tokens as asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The sequence was cancelled: [`Batch::cancel`](crate::Batch::cancel).
    Cancelled,
    /// An error, which the call returned.
    Failed,
}

/// Figures of a generation.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Tokens of the prompt that were computed.
    pub prompt_tokens: u32,
    /// Those of them whose keys and values others had computed: see [`BatchOptions::prefix_cache`](crate::BatchOptions::prefix_cache).
    pub cached_tokens: u32,
    /// Tokens generated.
    pub tokens: u32,
    /// Recurrence steps of all generated tokens together.
    pub steps: u64,
    /// Passes over the core's weights for the tokens behind the first: one for each step, however many rows shared it.
    pub core_passes: u64,
    /// From the start to the first token.
    pub prompt_time: Duration,
    /// From the first token to the last.
    pub decode_time: Duration,
    /// What the host spent on encoding passes on this device: the device computes meanwhile, for passes are submitted ahead of it.
    pub host_time: Duration,
}

impl Statistics {
    /// Prompt tokens per second.
    #[must_use]
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_time)
    }

    /// Passes over the core's weights per token behind the first.
    #[must_use]
    pub fn passes_per_token(&self) -> f64 {
        self.core_passes as f64 / f64::from(self.tokens.saturating_sub(1).max(1))
    }

    /// Decoded tokens per second; the first token belongs to the prompt.
    #[must_use]
    pub fn decode_rate(&self) -> f64 {
        rate(self.tokens.saturating_sub(1), self.decode_time)
    }
}

/// Whether a session can hold a number of tokens.
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

/// Tokens as they are generated. Drop it to stop early; the session can go on from there.
///
/// Dropped before the whole prompt was submitted, it leaves the session as if there had been no prompt.
pub struct Generation<'s> {
    pub(crate) session: &'s mut Session,
    active: ActiveGeneration,
}

impl Session {
    /// Encodes text for this session, as [`Tokenizer::encode`](crate::Tokenizer::encode) does.
    ///
    /// # Errors
    /// The tokenizer's, or [`Error::PromptTooLong`] or [`Error::TextTooLong`] if the context is too short for it.
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
    /// The first time, kernels are compiled, which can take seconds; the device computes nothing yet.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::PromptTooLong`], [`Error::TextTooLong`], [`Error::NoRoom`], [`Error::Option`], the tokenizer's, or the device's.
    pub fn generate<'p>(
        &mut self,
        prompt: impl Into<Prompt<'p>>,
        options: &GenerateOptions,
    ) -> Result<Generation<'_>, Error> {
        let active = self.begin_generation(prompt.into(), options)?;
        Ok(Generation { session: self, active })
    }

    /// Begins what [`Self::generate`] does for a host that keeps the session, and drives it with [`Self::step`]. The host may do this on
    /// another thread than its frames, since it compiles kernels the first time. A generation under way ends, unless the new one is refused because of
    /// its prompt or options.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn start<'p>(&mut self, prompt: impl Into<Prompt<'p>>, options: &GenerateOptions) -> Result<(), Error> {
        self.generation = Some(Box::new(self.begin_generation(prompt.into(), options)?));
        Ok(())
    }

    /// Ends a generation under way and makes the next one ready. A request that is refused changes nothing.
    fn begin_generation(&mut self, prompt: Prompt<'_>, options: &GenerateOptions) -> Result<ActiveGeneration, Error> {
        let mut active = ActiveGeneration::new(&self.store, self.held(), prompt, (options, false))?;
        self.stop();
        active.make_ready(&mut self.passes())?;
        Ok(active)
    }

    /// Goes on with what [`Self::start`] began, as [`Generation::step`] does.
    ///
    /// # Errors
    /// [`Error::NotStarted`], or the device's, which ends the generation.
    pub fn step(&mut self, budget: Duration) -> Result<Progress, Error> {
        let mut active = self.generation.take().ok_or(Error::NotStarted)?;
        let outcome = active.step(&mut self.passes(), budget);
        self.generation = Some(active);
        outcome
    }

    /// Figures of what [`Self::start`] began, until [`Self::stop`].
    #[must_use]
    pub fn statistics(&self) -> Option<&Statistics> {
        self.generation.as_ref().map(|active| active.statistics())
    }

    /// Ends what [`Self::start`] began, as dropping a [`Generation`] does. Every call that computes something else does it first, once its arguments are
    /// checked.
    pub fn stop(&mut self) {
        if let Some(active) = self.generation.take() {
            active.finish(&mut self.passes());
        }
    }
}

impl Generation<'_> {
    /// Figures so far.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        self.active.statistics()
    }

    /// Share of the prompt that is submitted to the device, 0 to 1: with [`Self::step`] not much more than what it has computed.
    #[must_use]
    pub fn prefilled(&self) -> f64 {
        self.active.prefilled()
    }

    /// Why generation ended, once it has.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.active.stop_reason()
    }

    /// Does a bounded piece of work and returns, for hosts that have frames to draw in between.
    ///
    /// If the device is done with the last piece, another is submitted that keeps it busy for about `budget`: at most one submission, behind
    /// which the host's own commands may queue. The time that the call itself takes is bounded by `budget` too, but for a launch that is
    /// longer alone, and for the rare call at which the cache grows. It never waits for the device. Called once per frame, `budget` is the share
    /// of the frame that generation gets; called more often, it fills the gaps.
    ///
    /// On a GPU with timestamps, pieces are measured, and fit the budget after the first few.
    ///
    /// # Errors
    /// The device's, which ends the generation.
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
