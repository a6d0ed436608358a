//! Generation: an iterator over tokens that keeps the device one token ahead of the host.
//!
//! The choice of a token and its way back into the row table happen on the device, so the pass for the next token is submitted before
//! this token has been read. What the host learns late (a stop token, a stop string) costs one pass that nobody looks at.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ruminate_engine::ReadBack;

use crate::error::Error;
use crate::options::{GenerateOptions, Sampling};
use crate::session::Session;
use crate::stop::StopStrings;
use crate::tokenizer::{Specials, StreamDecoder};

/// Passes that are submitted before the oldest has been read.
const AHEAD: usize = 2;

/// What is continued: text, or token ids as they stand.
#[derive(Clone, Copy, Debug)]
pub enum Prompt<'a> {
    /// Text, encoded by the model's tokenizer.
    Text(&'a str),
    /// Token ids.
    Tokens(&'a [u32]),
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

/// One generated token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Token id.
    pub token: u32,
    /// Text that is complete with this token: perhaps none, if a character or a possible stop string is still open.
    pub text: String,
    /// Recurrence steps that the token took.
    pub steps: u32,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model chose one of its end tokens.
    EndToken(u32),
    /// A stop string appeared.
    StopString,
    /// As many tokens as asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
}

/// Figures of a generation.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Tokens of the prompt that were computed.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub tokens: u32,
    /// Recurrence steps of all generated tokens together.
    pub steps: u64,
    /// From the start to the first token.
    pub prompt_time: Duration,
    /// From the first token to the last.
    pub decode_time: Duration,
}

impl Statistics {
    /// Prompt tokens per second.
    #[must_use]
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_time)
    }

    /// Decoded tokens per second; the first token belongs to the prompt.
    #[must_use]
    pub fn decode_rate(&self) -> f64 {
        rate(self.tokens.saturating_sub(1), self.decode_time)
    }
}

fn rate(tokens: u32, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { f64::from(tokens) / time.as_secs_f64() }
}

/// Tokens as they are generated. Drop it to stop early; the session can go on from there.
pub struct Generation<'s> {
    session: &'s mut Session,
    steps: u32,
    sampling: Sampling,
    end_tokens: Vec<u32>,
    left_to_submit: u32,
    limited_by_context: bool,
    pending: VecDeque<ReadBack>,
    decoder: StreamDecoder,
    stop: StopStrings,
    start: Instant,
    first: Option<Instant>,
    origin: u32,
    statistics: Statistics,
    finished: Option<StopReason>,
}

impl Session {
    /// Encodes text for this session. Text that the context cannot hold, whatever its tokens, is refused before it is read: a book
    /// would take its time.
    ///
    /// # Errors
    /// The tokenizer's, or [`Error::PromptTooLong`] with the least number of tokens that the text can have.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, Error> {
        let (tokens, context) = (self.model().tokenizer().least(text), self.context());
        if tokens > context as usize {
            return Err(Error::PromptTooLong { tokens, context, most: self.model().config().block_size });
        }
        self.model().tokenizer().encode(text, specials)
    }

    /// Continues the session with a prompt and generates from it.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::PromptTooLong`], [`Error::Option`], the tokenizer's, or the device's.
    pub fn generate<'p>(
        &mut self,
        prompt: impl Into<Prompt<'p>>,
        options: &GenerateOptions,
    ) -> Result<Generation<'_>, Error> {
        options.sampling.validate()?;
        let start = Instant::now();
        let steps = options.steps.unwrap_or(self.model().config().mean_recurrence);
        let tokens = match prompt.into() {
            Prompt::Tokens(tokens) => tokens.to_vec(),
            Prompt::Text("") => return Err(Error::EmptyPrompt),
            Prompt::Text(text) => {
                let specials = if options.add_bos && self.position() == 0 { Specials::Bos } else { Specials::None };
                self.encode(text, specials)?
            }
        };
        let decoder = self.model().tokenizer().stream(true);
        let stop = StopStrings::new(options.stop.clone())?;
        let wanted = options.max_tokens.unwrap_or(u32::MAX);
        if wanted == 0 {
            return Err(Error::Option { name: "max_tokens", value: "0".to_owned(), allowed: "at least 1" });
        }
        let end_tokens = options.end_tokens.clone().unwrap_or_else(|| self.model().tokenizer().eos().to_vec());
        let first = self.prefill(&tokens, steps, options.sampling)?;
        // The last token that is generated need not be computed itself, so it takes no position.
        let room = self.context() - self.position() + 1;
        Ok(Generation {
            steps,
            sampling: options.sampling,
            end_tokens,
            left_to_submit: wanted.min(room) - 1,
            limited_by_context: room < wanted,
            pending: VecDeque::from([first]),
            decoder,
            stop,
            start,
            first: None,
            origin: self.position(),
            statistics: Statistics { prompt_tokens: tokens.len() as u32, ..Statistics::default() },
            finished: None,
            session: self,
        })
    }
}

impl Generation<'_> {
    /// Figures so far.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Why generation ended, once it has.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.finished
    }

    /// Whether the next token can be taken without waiting.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.pending.front().is_none_or(ReadBack::ready)
    }

    /// Does a bounded piece of work: submits what may be submitted, and takes a token if one is there. For hosts that have frames to
    /// draw in between; `Ok(None)` while there is none, and for good once [`Self::stop_reason`] says why.
    ///
    /// # Errors
    /// The device's.
    pub fn step(&mut self) -> Result<Option<Piece>, Error> {
        self.submit()?;
        if self.finished.is_none() && self.ready() { self.take() } else { Ok(None) }
    }

    /// Keeps the device busy: submits passes up to the limit.
    fn submit(&mut self) -> Result<(), Error> {
        while self.finished.is_none() && self.pending.len() < AHEAD && self.left_to_submit > 0 {
            // On a driver that computes while it takes commands, the first token is there by now; it must not count as if it had come
            // with the next.
            if self.first.is_none() && self.ready() {
                self.first = Some(Instant::now());
            }
            self.left_to_submit -= 1;
            let ticket = self.session.decode(self.steps, self.sampling)?;
            self.pending.push_back(ticket);
        }
        Ok(())
    }

    /// Waits for the oldest pass and takes its token.
    fn take(&mut self) -> Result<Option<Piece>, Error> {
        let Some(ticket) = self.pending.pop_front() else { return Ok(None) };
        let bytes = ticket.wait()?.concat();
        let token = bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        let now = Instant::now();
        let first = *self.first.get_or_insert(now);
        self.statistics.prompt_time = first - self.start;
        self.statistics.decode_time = now - first;
        self.statistics.tokens += 1;
        self.statistics.steps += u64::from(self.steps);

        if self.end_tokens.contains(&token) {
            self.finished = Some(StopReason::EndToken(token));
            return Ok(Some(Piece { token, text: self.flush(), steps: self.steps }));
        }
        let fresh = self.decoder.push(token);
        let (mut text, stopped) = self.stop.push(&fresh);
        if stopped {
            self.finished = Some(StopReason::StopString);
        } else if self.pending.is_empty() && self.left_to_submit == 0 {
            let full = self.limited_by_context;
            self.finished = Some(if full { StopReason::ContextFull } else { StopReason::MaxTokens });
            text.push_str(&self.flush());
        }
        Ok(Some(Piece { token, text, steps: self.steps }))
    }

    /// Text that was held back.
    fn flush(&mut self) -> String {
        let rest = self.decoder.flush();
        let (mut text, _) = self.stop.push(&rest);
        text.push_str(&self.stop.flush());
        text
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.submit() {
            self.finished = Some(StopReason::MaxTokens);
            self.pending.clear();
            return Some(Err(error));
        }
        if self.finished.is_some() {
            return None;
        }
        self.take().transpose()
    }
}

impl Drop for Generation<'_> {
    /// Sets the session to what was handed out: the tokens before the last one are computed, the last one is not yet.
    fn drop(&mut self) {
        let computed = self.origin + self.statistics.tokens.saturating_sub(1);
        self.session.settle(computed);
    }
}
