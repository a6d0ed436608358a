//! What a generation does, pass by pass: the prompt in chunks, then token after token.
//!
//! The choice of a token and its way back into the row table happen on the device. So for the iterator the pass of the next token is
//! submitted before this token has been read; what the host learns late (a stop token, a stop string) costs one pass that nobody
//! looks at. Bounded steps leave no work behind: there a pass begins when the one before it is done.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ruminate_engine::{Execution, ReadBack};

use crate::error::Error;
use crate::exit::Depth;
use crate::generate::{Piece, Progress, Prompt, Statistics, StopReason};
use crate::noise::Stir;
use crate::options::{GenerateOptions, StepsOf};
use crate::policy::{Chosen, Policy};
use crate::sampling::Choosing;
use crate::session::{MAX_ROWS, Session};
use crate::stop::StopStrings;
use crate::tokenizer::{Specials, StreamDecoder};

/// Passes that the iterator submits before the oldest has been read.
const AHEAD: usize = 2;

/// A generation under way. Every call takes the session that it was made for.
pub(crate) struct Run {
    policy: Policy,
    steps_of: Option<StepsOf>,
    /// Tokens that were begun behind the prompt.
    begun: u32,
    end_tokens: Vec<u32>,
    prompt: Vec<u32>,
    /// Tokens of the prompt that have their pass.
    fed: usize,
    /// Tokens that may be begun, the first one aside, which comes with the prompt.
    left: u32,
    limited_by_context: bool,
    /// The pass that is being submitted.
    under_way: Option<Execution>,
    /// Passes that are submitted, each with a token to bring.
    pending: VecDeque<ReadBack>,
    /// Whether the prompt is submitted.
    prompted: bool,
    decoder: StreamDecoder,
    stop: StopStrings,
    start: Instant,
    first: Option<Instant>,
    /// Positions of the session before the prompt.
    origin: u32,
    statistics: Statistics,
    finished: Option<StopReason>,
}

impl Run {
    /// Checks everything, makes room for the prompt, and makes the plans of all passes ready.
    pub(crate) fn new(session: &mut Session, prompt: Prompt<'_>, options: &GenerateOptions) -> Result<Self, Error> {
        options.exit.map_or(Ok(()), |exit| exit.validate())?;
        session.model().device().check()?;
        let start = Instant::now();
        let model = session.model();
        let choosing = Choosing::new(options, model.tokenizer(), session.vocab())?;
        let noise = options.noise.map(|noise| noise.rule(model.config())).transpose()?.map(|rule| Stir::of(&rule));
        let steps = options.steps.unwrap_or(model.config().mean_recurrence);
        let prompt = match prompt {
            Prompt::Tokens(tokens) => tokens.to_vec(),
            Prompt::Text("") => return Err(Error::EmptyPrompt),
            Prompt::Text(text) => {
                let specials = if options.add_bos && session.position() == 0 { Specials::Bos } else { Specials::None };
                session.encode(text, specials)?
            }
        };
        let decoder = model.tokenizer().stream(true);
        let stop = StopStrings::new(options.stop.clone())?;
        let wanted = options.max_tokens.unwrap_or(u32::MAX);
        if wanted == 0 {
            return Err(Error::Option { name: "max_tokens", value: "0".to_owned(), allowed: "at least 1" });
        }
        let end_tokens = options.end_tokens.clone().unwrap_or_else(|| model.tokenizer().eos().to_vec());
        let depth = Depth { steps, exit: options.exit };
        let policy = Policy { depth, continuous: options.continuous, noise, choosing };
        session.make_ready(&prompt, &policy, wanted > 1)?;
        let origin = session.position();
        let count = prompt.len() as u32;
        // The last token that is generated need not be computed itself, so it takes no position.
        let room = session.context() - origin - count + 1;
        Ok(Self {
            policy,
            steps_of: options.steps_of.clone(),
            begun: 0,
            end_tokens,
            prompt,
            fed: 0,
            left: wanted.min(room) - 1,
            limited_by_context: room < wanted,
            under_way: None,
            pending: VecDeque::new(),
            prompted: false,
            decoder,
            stop,
            start,
            first: None,
            origin,
            statistics: Statistics { prompt_tokens: count, ..Statistics::default() },
            finished: None,
        })
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Share of the prompt that is submitted, 0 to 1.
    pub(crate) fn prefilled(&self) -> f64 {
        let most = MAX_ROWS as usize;
        // Of the pass under way, which has the last tokens that were fed.
        let open = self.under_way.as_ref().filter(|_| !self.prompted).map_or(0.0, |pass| {
            let rows = self.fed - (self.fed - 1) / most * most;
            (1.0 - pass.progress()) * rows as f64
        });
        (self.fed as f64 - open) / self.prompt.len() as f64
    }

    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        self.finished
    }

    /// See [`crate::Generation::step`].
    pub(crate) fn step(&mut self, session: &mut Session, budget: Duration) -> Result<Progress, Error> {
        if let Some(reason) = self.finished {
            return Ok(Progress::Done(reason));
        }
        let outcome = self.go_on(session, budget);
        self.or_fail(outcome)
    }

    /// The next token, waited for.
    pub(crate) fn next(&mut self, session: &mut Session) -> Option<Result<Piece, Error>> {
        if self.finished.is_some() {
            return None;
        }
        let outcome = self.submit_ahead(session).and_then(|()| self.take());
        self.or_fail(outcome).transpose()
    }

    /// Sets the session to what was handed out: the tokens before the last one are computed, the last one is not yet. Passes beyond
    /// that were computed for nobody, and a part of a prompt is of no use.
    pub(crate) fn settle(&self, session: &mut Session) {
        let given = self.prompt.len() as u32 + self.statistics.tokens.saturating_sub(1);
        session.settle(self.origin + if self.prompted { given } else { 0 });
    }

    fn or_fail<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        if outcome.is_err() {
            self.finished = Some(StopReason::Failed);
            self.under_way = None;
            self.pending.clear();
        }
        outcome
    }

    fn go_on(&mut self, session: &mut Session, budget: Duration) -> Result<Progress, Error> {
        let start = Instant::now();
        // Passes that the iterator submitted ahead.
        if let Some(ticket) = self.pending.front() {
            return if ticket.ready() { self.said() } else { Ok(Progress::Working) };
        }
        let mut progress = Progress::Working;
        while self.begin(session)? {
            let left = budget.saturating_sub(start.elapsed());
            // One launch at least, but not behind a token that took all the time there was.
            let rest = progress != Progress::Working && left.is_zero();
            let Some(execution) = self.under_way.as_mut().filter(|_| !rest) else { break };
            if !execution.advance(left)? {
                break;
            }
            self.submit()?;
            if !self.pending.is_empty() {
                if progress != Progress::Working {
                    break;
                }
                progress = self.said()?;
            }
        }
        Ok(progress)
    }

    fn said(&mut self) -> Result<Progress, Error> {
        Ok(self.take()?.map_or(Progress::Working, Progress::Token))
    }

    /// Begins the next pass unless one is under way; false if there is none to begin.
    fn begin(&mut self, session: &mut Session) -> Result<bool, Error> {
        let rest = self.prompt.len() - self.fed;
        if self.under_way.is_some() {
            return Ok(true);
        }
        let execution = if rest > 0 {
            let chunk = &self.prompt[self.fed..][..rest.min(MAX_ROWS as usize)];
            self.fed += chunk.len();
            session.begin_prompt(chunk, chunk.len() == rest, &self.policy)?
        } else if self.finished.is_none() && self.pending.len() < AHEAD && self.left > 0 {
            self.left -= 1;
            self.begun += 1;
            let steps = self.steps_of.as_ref().map_or(self.policy.depth.steps, |of| of.steps(self.begun));
            session.begin_token(steps, &self.policy)?
        } else {
            return Ok(false);
        };
        self.under_way = Some(execution);
        Ok(true)
    }

    /// Submits the rest of the pass under way.
    fn submit(&mut self) -> Result<(), Error> {
        let Some(execution) = self.under_way.take() else { return Ok(()) };
        if let Some(ticket) = execution.finish()? {
            self.prompted = true;
            self.pending.push_back(ticket);
        }
        Ok(())
    }

    /// Keeps the device busy: submits passes up to the limit.
    fn submit_ahead(&mut self, session: &mut Session) -> Result<(), Error> {
        let encoding = |session: &Session| session.model().device().counters().encoding_nanos;
        let before = encoding(session);
        while self.begin(session)? {
            self.submit()?;
        }
        self.statistics.host_time += Duration::from_nanos(encoding(session) - before);
        Ok(())
    }

    /// Waits for the oldest pass and takes its token.
    fn take(&mut self) -> Result<Option<Piece>, Error> {
        let Some(ticket) = self.pending.pop_front() else { return Ok(None) };
        // Not the time of this call: the host may have been busy with the next token.
        let now = ticket.done_at()?;
        let results = ticket.wait()?;
        let Chosen { token, steps, logprob, top } = Chosen::from_results(&results, self.policy.choosing.logprobs)
            .ok_or_else(|| Error::from(ruminate_engine::Error::ReadBack("no token came back".to_owned())))?;
        let first = *self.first.get_or_insert(now);
        self.statistics.prompt_time = first - self.start;
        self.statistics.decode_time = now - first;
        self.statistics.tokens += 1;
        self.statistics.steps += u64::from(steps);

        if self.end_tokens.contains(&token) {
            self.finished = Some(StopReason::EndToken(token));
            return Ok(Some(Piece { token, text: self.flush(), steps, logprob, top }));
        }
        let fresh = self.decoder.push(token);
        let (mut text, stopped) = self.stop.push(&fresh);
        if stopped {
            self.finished = Some(StopReason::StopString);
        } else if self.pending.is_empty() && self.under_way.is_none() && self.left == 0 {
            let full = self.limited_by_context;
            self.finished = Some(if full { StopReason::ContextFull } else { StopReason::MaxTokens });
            text.push_str(&self.flush());
        }
        Ok(Some(Piece { token, text, steps, logprob, top }))
    }

    /// Text that was held back.
    fn flush(&mut self) -> String {
        let rest = self.decoder.flush();
        let (mut text, _) = self.stop.push(&rest);
        text.push_str(&self.stop.flush());
        text
    }
}
