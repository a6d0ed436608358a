//! Sequences of a request: admission, events, and cancellation when the client disconnects.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as commands};
use std::time::Instant;

use ruminate::{GenerateOptions, Piece, PromptToken, StopReason};
use tokio::sync::{mpsc, oneshot};

use crate::app::{App, Loaded};
use crate::engine::{Command, Figures, Happening, Job, Order};
use crate::error::ApiError;
use crate::usage::Usage;

/// Maximum number of choices per request.
pub(crate) const MOST_CHOICES: usize = 256;

/// Maximum number of log-probabilities per request: each takes about 150 bytes of memory while the answer is written.
const MOST_LOGPROBS: u64 = 1 << 20;

/// Maximum number of DRY breakers over all choices of a request: the engine searches the whole vocabulary for each.
const MOST_BREAKERS: usize = 4 * MOST_CHOICES;

/// Maximum number of events of one sequence that wait for the client. Most sequences have fewer events, and a client that does not read is disconnected
/// by the send timeout.
const PENDING_EVENTS: usize = 8192;

/// Next order number.
static ORDERS: AtomicU64 = AtomicU64::new(0);

/// Sequences requested from the engine: prompts, and the number of choices for each.
pub(crate) struct Wanted {
    pub(crate) prompts: Vec<Vec<u32>>,
    pub(crate) choices: u32,
    pub(crate) options: GenerateOptions,
    pub(crate) seed: Option<u64>,
}

/// Running sequences of a request. Dropping it cancels the unfinished ones.
pub(crate) struct Running {
    app: Arc<App>,
    events: mpsc::Receiver<(usize, Happening)>,
    guard: Guard,
    choices: u32,
    /// Number of unfinished sequences.
    left: usize,
    usage: Usage,
    request_id: String,
    arrived: Instant,
    outcome: &'static str,
}

/// Cancels a request on drop.
struct Guard {
    commands: commands::Sender<Command>,
    order: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The send fails only if the engine has ended, and then nothing is left to cancel.
        let _ = self.commands.send(Command::Cancel(self.order));
    }
}

/// Finished sequence.
#[derive(Default)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) prompt: Vec<PromptToken>,
    pub(crate) stop: Option<StopReason>,
}

impl Wanted {
    fn check(&self, app: &App, loaded: &Loaded) -> Result<(), ApiError> {
        let most = app.options.max_prompt.unwrap_or(loaded.context).min(loaded.context) as usize;
        if let Some(tokens) = self.prompts.iter().map(Vec::len).find(|&tokens| tokens > most) {
            let message = format!("the prompt has {tokens} tokens; this server takes at most {most}");
            return Err(ApiError::field("prompt", message).with_code("context_length_exceeded"));
        }
        let total = self.prompts.len().saturating_mul(self.choices as usize);
        let room = MOST_CHOICES.min((loaded.sequences + app.options.queue) as usize);
        if total > room {
            let message = format!("the request needs {total} choices (prompts times `n`); at most {room} are allowed");
            return Err(ApiError::field("n", message));
        }
        let breakers = self.options.dry_breakers.len().saturating_mul(total);
        if self.options.sampling.dry.multiplier > 0.0 && breakers > MOST_BREAKERS {
            let message = format!(
                "the request has {breakers} DRY breakers, summed over its choices; at most {MOST_BREAKERS} are allowed"
            );
            return Err(ApiError::field("dry_sequence_breakers", message));
        }
        let ranked = self.log_probabilities(loaded);
        if ranked > MOST_LOGPROBS {
            let message = format!(
                "the answer would have up to {ranked} log-probabilities; at most {MOST_LOGPROBS} are allowed: ask for fewer choices, tokens or log-probabilities"
            );
            return Err(ApiError::field("logprobs", message));
        }
        Ok(())
    }

    /// Maximum number of log-probabilities in the answer.
    fn log_probabilities(&self, loaded: &Loaded) -> u64 {
        let Some(each) = self.options.logprobs else { return 0 };
        let most = self.options.max_tokens.unwrap_or(u32::MAX);
        let of_prompt = |prompt: &Vec<u32>| {
            let scored = if self.options.prompt_logprobs { prompt.len() as u64 } else { 0 };
            scored + u64::from(most.min(loaded.context.saturating_sub(prompt.len() as u32) + 1))
        };
        let tokens: u64 = self.prompts.iter().map(of_prompt).sum();
        tokens * u64::from(self.choices) * (u64::from(each) + 1)
    }

    /// Sends the sequences to the engine.
    ///
    /// # Errors
    /// 400 for invalid requests, 429 if the queue is full, 503 if the engine has ended.
    pub(crate) async fn start(self, app: &Arc<App>, request_id: &str, arrived: Instant) -> Result<Running, ApiError> {
        let loaded = app.ready()?;
        self.check(app, loaded)?;
        let total = self.prompts.len() * self.choices as usize;
        let full = || {
            app.metrics.refused.inc();
            let waiting = app.options.queue;
            let message = format!("the queue of {waiting} sequences is full; try again later, or another server");
            ApiError::busy(message, app.retry_after())
        };
        let room = app.room.get().ok_or_else(full)?;
        let room = Arc::clone(room).try_acquire_many_owned(total as u32).map_err(|_| full())?;
        let (sender, events) = mpsc::channel(total * PENDING_EVENTS.min(loaded.context as usize + 2));
        let (accepted, answer) = oneshot::channel();
        let number = ORDERS.fetch_add(1, Ordering::Relaxed);
        let mut jobs = Vec::with_capacity(total);
        // Without a seed, sampling differs from request to request.
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        for prompt in &self.prompts {
            for choice in 0..self.choices {
                let (prompt, options) = (prompt.clone(), self.options.clone());
                jobs.push(Job { prompt, seed: seed.wrapping_add(choice.into()), options });
            }
        }
        let order = Order { number, jobs, events: sender, accepted, room, arrived };
        let ended = || ApiError::unavailable("the server is shutting down", "draining", 5);
        app.commands.send(Command::Add(order)).map_err(|_| ended())?;
        let guard = Guard { commands: app.commands.clone(), order: number };
        answer.await.map_err(|_| ended())??;
        Ok(Running {
            app: Arc::clone(app),
            events,
            guard,
            choices: self.choices,
            left: total,
            usage: Usage::default(),
            request_id: request_id.to_owned(),
            arrived,
            outcome: "client went away",
        })
    }
}

impl Running {
    /// Next event, with the index of its sequence. `None` after the last event.
    ///
    /// # Errors
    /// If a sequence failed.
    pub(crate) async fn next(&mut self) -> Result<Option<(usize, Happening)>, ApiError> {
        if self.left == 0 {
            return Ok(None);
        }
        match self.events.recv().await {
            Some((place, Happening::Done(reason, figures))) => {
                self.count(place, &figures);
                Ok(Some((place, Happening::Done(reason, figures))))
            }
            Some((_, Happening::Failed(error))) => {
                self.outcome = "failed";
                Err(error)
            }
            Some(event) => Ok(Some(event)),
            None => {
                self.outcome = "cut off";
                Err(ApiError::unavailable(
                    "the answer was cut off: the client did not read it, or the server is shutting down",
                    "cut_off",
                    1,
                ))
            }
        }
    }

    fn count(&mut self, place: usize, figures: &Figures) {
        self.left -= 1;
        self.usage.add(figures, place.is_multiple_of(self.choices as usize));
        if self.left == 0 {
            self.outcome = "done";
        }
    }

    /// Waits for all sequences.
    ///
    /// # Errors
    /// If one of them failed.
    pub(crate) async fn collect(mut self) -> Result<(Vec<Choice>, Usage), ApiError> {
        let mut choices: Vec<Choice> = (0..self.left).map(|_| Choice::default()).collect();
        while let Some((place, happening)) = self.next().await? {
            let choice = &mut choices[place];
            match happening {
                Happening::Prompt(tokens) => choice.prompt = tokens,
                Happening::Token(piece) => {
                    choice.text.push_str(&piece.text);
                    choice.pieces.push(piece);
                }
                Happening::Done(reason, _) => choice.stop = Some(reason),
                Happening::Failed(error) => return Err(error),
            }
        }
        Ok((choices, self.usage))
    }

    /// Usage of the sequences that have ended.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        tracing::info!(
            request_id = %self.request_id,
            order = self.guard.order,
            outcome = self.outcome,
            tokens = self.usage.tokens(),
            steps = self.usage.steps(),
            seconds = self.arrived.elapsed().as_secs_f64(),
            "generated"
        );
        self.app.metrics.request_time.observe(self.arrived.elapsed().as_secs_f64());
    }
}

/// Name of a stop reason in OpenAI's API.
pub(crate) fn finish_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::MaxTokens | StopReason::ContextFull => "length",
        _ => "stop",
    }
}
