//! Passes of a generation: the prompt in chunks, then token after token.
//!
//! The device chooses a token and writes it back into the row table itself. So iterators and asynchronous tasks submit the pass of the next token before this one has been
//! read. If the host then finds that the text has ended (end token or stop string), that one pass was wasted. Bounded steps leave no work behind: they begin a pass only
//! when the one before it is done.
//!
//! Passes that compute ahead of the known tokens are grouped in rounds. The last pass of a round may return tokens.

mod poll;
mod start;

use std::collections::VecDeque;
use std::time::Duration;

use ruminate_engine::clock::Instant;
use ruminate_engine::{Execution, ReadBack};

use crate::constraint::Matching;
use crate::decoding::{Chosen, Decoding};
use crate::diffusion::{self, RowSpan};
use crate::error::Error;
use crate::generate::{Piece, Progress, Statistics, StopReason};
use crate::options::StepsOf;
use crate::parallel_decoding::{ParallelDecoding, emitted};
use crate::poll::Alarm;
use crate::schedule::passes::{Held, OwnPasses, Passes};
use crate::text_output::TextOutput;

/// Passes that are submitted before the oldest one is read.
pub(crate) const QUEUE_DEPTH: usize = 2;

/// A generation under way. Every call takes the passes of the sequence that it was created for.
pub(crate) struct ActiveGeneration {
    decoding: Decoding,
    steps_of: Option<StepsOf>,
    /// Tokens begun after the prompt.
    begun: u32,
    prompt: Vec<u32>,
    /// Progress in the grammar, if there is a constraint.
    matching: Option<Matching>,
    /// Prompt and generated tokens, if rules depend on them.
    said: Vec<u32>,
    /// Whether tokens follow the first one, which the prompt's pass chooses.
    goes_on: bool,
    /// Maximum prompt tokens of a pass.
    rows_of_prompt: u32,
    /// Prompt tokens whose passes have begun.
    fed: usize,
    /// Passes over the core's weights of the prompt.
    prompt_passes: u64,
    /// Tokens that may still be begun, not counting the first, which the prompt's pass chooses.
    left: u32,
    /// Passes of the round that is being begun; 0 between rounds.
    in_round: u32,
    /// Rounds since the last token.
    without: u32,
    /// Extent of the wavefront after the last received round.
    wavefront: RowSpan,
    /// Tokens received.
    come: u32,
    /// Received tokens that have not been taken.
    arrived: VecDeque<Chosen>,
    limited_by_context: bool,
    /// The pass that is being submitted.
    under_way: Option<Execution>,
    /// Submitted passes that each bring tokens.
    pending: VecDeque<ReadBack>,
    /// Wakes the task that awaits a token.
    alarm: Alarm,
    /// Whether the prompt is submitted.
    prompted: bool,
    text_output: TextOutput,
    start: Instant,
    first: Option<Instant>,
    /// Positions held before the prompt.
    origin: u32,
    /// Next token of the sequence before the prompt.
    next: Option<u32>,
    /// Token that was returned last.
    given: Option<u32>,
    statistics: Statistics,
    finished: Option<StopReason>,
}

impl ActiveGeneration {
    /// Limits the rows of a prompt pass.
    pub(crate) fn limit_rows(&mut self, rows: u32) {
        self.rows_of_prompt = self.rows_of_prompt.min(rows.max(1));
    }

    /// Records tokens before the prompt whose keys and values were shared.
    pub(crate) fn add_cached(&mut self, tokens: u32) {
        self.statistics.prompt_tokens += tokens;
        self.statistics.cached_tokens = tokens;
    }

    /// Steps of a token that does not exit early.
    pub(crate) fn steps(&self) -> u32 {
        self.decoding.depth.steps
    }

    /// Passes over the core's weights so far, those of the prompt included.
    pub(crate) fn passes(&self) -> u64 {
        self.prompt_passes + self.statistics.core_passes
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Fraction of the prompt that is submitted, 0 to 1.
    pub(crate) fn prefilled(&self) -> f64 {
        let most = self.rows_of_prompt as usize;
        // Unsubmitted share of the pass under way, which holds the last tokens fed.
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
    pub(crate) fn step(&mut self, passes: &mut Passes<'_>, budget: Duration) -> Result<Progress, Error> {
        if let Some(reason) = self.finished {
            // Report a lost device on every call: retrying cannot succeed.
            passes.store.model.device().check()?;
            return Ok(Progress::Done(reason));
        }
        let outcome = self.timed(passes, |active, passes| active.go_on(passes, budget));
        self.or_fail(outcome)
    }

    /// Waits for the next token.
    pub(crate) fn next(&mut self, passes: &mut Passes<'_>) -> Option<Result<Piece, Error>> {
        if self.finished.is_some() {
            return None;
        }
        let outcome = self.next_of_all(passes);
        self.or_fail(outcome).transpose()
    }

    /// Runs one pass and waits for it if it brings a token. For sequences of a batch with their own passes.
    pub(crate) fn pass(&mut self, passes: &mut Passes<'_>) -> Result<Progress, Error> {
        if let Some(reason) = self.finished {
            return Ok(Progress::Done(reason));
        }
        let outcome = self.timed(passes, |active, passes| {
            if active.arrived.is_empty() && active.begin(passes)? {
                active.submit()?;
            }
            Ok(())
        });
        self.or_fail(outcome)?;
        let said = self.said();
        let said = self.or_fail(said)?;
        Ok(self.silence().map_or(said, Progress::Done))
    }

    /// Runs passes until one has brought a token.
    fn next_of_all(&mut self, passes: &mut Passes<'_>) -> Result<Option<Piece>, Error> {
        loop {
            self.fill_queue(passes)?;
            if self.arrived.is_empty() && self.pending.is_empty() {
                self.silence();
                return Ok(None);
            }
            if let Some(piece) = self.take()? {
                return Ok(Some(piece));
            }
        }
    }

    /// Sets the sequence to the returned tokens: those before the last one are computed, the last one is not. Results of passes beyond them are discarded, and
    /// so is a partial prompt.
    pub(crate) fn finish(&self, passes: &mut Passes<'_>) {
        let held = self.held(passes.own);
        passes.discard_beyond(held.position);
        passes.own.next = held.next;
        if self.decoding.continuous.is_some() && self.given.is_some() && passes.own.last.is_some() {
            // The token's first step starts from the state there.
            passes.own.last = Some((passes.store.single(), 0));
        }
    }

    /// State of the sequence after [`Self::finish`].
    pub(crate) fn held(&self, own: &OwnPasses) -> Held {
        let given = self.prompt.len() as u32 + self.statistics.tokens.saturating_sub(1);
        // A prompt inside the first wavefront counts once its first token has been returned.
        let prompted = self.prompted && (self.decoding.begins_with_the_prompt() || self.given.is_some());
        let position = self.origin + if prompted { given } else { 0 };
        Held {
            position: position.min(own.position),
            next: if prompted { self.given } else { self.next },
            carries: own.last.is_some() && position >= own.position,
        }
    }

    fn or_fail<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        if outcome.is_err() {
            self.finished = Some(StopReason::Failed);
            self.under_way = None;
            self.pending.clear();
        }
        outcome
    }

    fn go_on(&mut self, passes: &mut Passes<'_>, budget: Duration) -> Result<Progress, Error> {
        let start = Instant::now();
        // Passes submitted ahead by the iterator come first.
        if !self.arrived.is_empty() {
            return self.said();
        }
        if let Some(ticket) = self.pending.front() {
            return if ticket.ready() { self.said() } else { Ok(Progress::Working) };
        }
        let mut progress = Progress::Working;
        while self.begin(passes)? {
            let left = budget.saturating_sub(start.elapsed());
            // At least one launch, unless a token has already used up the budget.
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
        Ok(self.silence().map_or(progress, Progress::Done))
    }

    /// Ends a generation without tokens, once its prompt is computed.
    fn silence(&mut self) -> Option<StopReason> {
        let over = self.decoding.silent && self.prompted;
        self.finished = self.finished.or(over.then_some(StopReason::MaxTokens));
        self.finished.filter(|_| over)
    }

    fn said(&mut self) -> Result<Progress, Error> {
        Ok(self.take()?.map_or(Progress::Working, Progress::Token))
    }

    /// Begins the next pass unless one is under way. Returns false if no pass may begin.
    fn begin(&mut self, passes: &mut Passes<'_>) -> Result<bool, Error> {
        let rest = self.prompt.len() - self.fed;
        if self.under_way.is_some() {
            return Ok(true);
        }
        let execution = if rest > 0 {
            let chunk = &self.prompt[self.fed..][..rest.min(self.rows_of_prompt as usize)];
            let part = (self.fed, chunk);
            self.fed += chunk.len();
            self.prompt_passes += u64::from(self.decoding.depth.steps);
            passes.begin_prompt(part, chunk.len() == rest, &self.decoding)?
        } else if self.finished.is_some() || self.left == 0 {
            return Ok(false);
        } else if let Some((parallel, rows)) = self.decoding.parallel {
            let rounds = self.pending.len() as u32 + 1;
            // Every round under way may bring a token. The first token, which comes with the prompt, is not counted in `left`.
            let owed = rounds - u32::from(self.come == 0 && rounds > 1);
            if self.in_round == 0 && (rounds > QUEUE_DEPTH as u32 || owed > self.left) {
                return Ok(false);
            }
            let index = self.in_round;
            self.in_round = (index + 1) % parallel.passes();
            let known = self.origin + self.prompt.len() as u32 + self.come - 1;
            passes.begin_parallel(index, &self.decoding, parallel.row_span(rounds, rows, known, self.wavefront))?
        } else if self.may_begin() {
            self.left -= 1;
            self.begun += 1;
            if !self.decoding.choosing.rules.is_empty() {
                self.decoding.choosing.look(self.begun, &self.said);
                if let Some(matching) = &mut self.matching {
                    self.decoding.choosing.constrain(matching)?;
                }
                passes.set_choosing(&self.decoding.choosing)?;
            }
            let steps = self.steps_of.as_ref().map_or(self.decoding.depth.steps, |of| of.steps(self.begun));
            passes.begin_token(steps, &self.decoding)?
        } else {
            return Ok(false);
        };
        self.under_way = Some(execution);
        Ok(true)
    }

    /// Whether the next token may be begun. If rules depend on earlier tokens, the one before it must be known.
    fn may_begin(&self) -> bool {
        match self.decoding.choosing.rules.look_back() {
            true => self.pending.is_empty() && self.arrived.is_empty(),
            false => self.pending.len() < QUEUE_DEPTH,
        }
    }

    /// Submits the rest of the pass under way.
    fn submit(&mut self) -> Result<(), Error> {
        let Some(execution) = self.under_way.take() else { return Ok(()) };
        self.prompted |= self.decoding.silent && self.fed == self.prompt.len();
        if let Some(ticket) = execution.finish()? {
            self.prompted = true;
            self.pending.push_back(ticket);
        }
        Ok(())
    }

    /// Submits passes up to the limit, to keep the device busy.
    fn fill_queue(&mut self, passes: &mut Passes<'_>) -> Result<(), Error> {
        self.timed(passes, |active, passes| {
            while active.begin(passes)? {
                active.submit()?;
            }
            Ok(())
        })
    }

    /// Runs `work` and counts the host time spent on encoding.
    fn timed<T>(&mut self, passes: &mut Passes<'_>, work: impl FnOnce(&mut Self, &mut Passes<'_>) -> T) -> T {
        let encoding = |passes: &Passes<'_>| passes.store.model.device().counters().encoding_nanos;
        let before = encoding(passes);
        let done = work(self, passes);
        self.statistics.host_time += Duration::from_nanos(encoding(passes) - before);
        done
    }

    /// Takes the next token, and waits for the oldest pass if none has been received. Returns none if the pass brought no token.
    fn take(&mut self) -> Result<Option<Piece>, Error> {
        if self.arrived.is_empty() {
            self.arrive()?;
        }
        let Some(Chosen { token, steps, logprob, top }) = self.arrived.pop_front() else { return Ok(None) };
        self.statistics.tokens += 1;
        self.given = Some(token);
        if self.decoding.choosing.rules.look_back() {
            self.said.push(token);
        }
        self.statistics.steps += u64::from(steps);

        let (mut text, ended) = self.text_output.say_matching(token, self.matching.as_mut())?;
        self.finished = ended;
        if ended.is_none() && self.arrived.is_empty() && self.left == 0 && self.nothing_wanted() {
            let full = self.limited_by_context;
            self.finished = Some(if full { StopReason::ContextFull } else { StopReason::MaxTokens });
            text.push_str(&self.text_output.flush());
        }
        Ok(Some(Piece { token, text, steps, logprob, top }))
    }

    /// Whether all wanted tokens have been received. Rounds that computed further ahead are dropped then.
    fn nothing_wanted(&mut self) -> bool {
        if self.decoding.parallel.is_some() {
            self.pending.clear();
            self.under_way = None;
        }
        self.pending.is_empty() && self.under_way.is_none()
    }

    /// Waits for the oldest pass and collects its tokens.
    fn arrive(&mut self) -> Result<(), Error> {
        let Some(ticket) = self.pending.pop_front() else { return Ok(()) };
        // The time of this call would be too late: the host may have been busy encoding the next token.
        let now = ticket.done_at()?;
        let results = ticket.wait()?;
        let lost = || Error::from(ruminate_engine::Error::ReadBack("no token came back".to_owned()));
        let ranked = self.decoding.choosing.logprobs;
        match self.decoding.parallel.filter(|_| self.come > 0 || !self.decoding.begins_with_the_prompt()) {
            None => {
                let chosen = Chosen::from_results(&results, ranked).ok_or_else(lost)?;
                self.statistics.core_passes += u64::from(chosen.steps) * u64::from(self.come > 0);
                self.arrived.push_back(chosen);
            }
            Some((parallel, rows)) => {
                self.statistics.core_passes += parallel.core_passes(self.decoding.depth.steps);
                let tokens = if let ParallelDecoding::Wavefront(_) = parallel {
                    let (tokens, wavefront) = diffusion::emitted(&results, rows, ranked).ok_or_else(lost)?;
                    self.wavefront = wavefront;
                    tokens
                } else {
                    emitted(&results, rows, ranked).ok_or_else(lost)?
                };
                self.without = if tokens.is_empty() { self.without + 1 } else { 0 };
                if self.without > parallel.patience(rows) {
                    return Err(lost());
                }
                self.arrived.extend(tokens.into_iter().take(self.left as usize));
                self.left -= self.arrived.len() as u32;
            }
        }
        if self.arrived.is_empty() {
            return Ok(());
        }
        self.come += self.arrived.len() as u32;
        let first = *self.first.get_or_insert(now);
        self.statistics.prompt_time = first - self.start;
        self.statistics.decode_time = now - first;
        Ok(())
    }
}
