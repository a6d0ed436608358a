//! The thread that owns the batch. It alone talks to the device; requests come and events go over channels.
//!
//! Nothing here waits for a client: the channel of a request has room for a number of events, and a client that lets it run full is cut off. Between two
//! passes the engine looks for commands, so a sequence whose client has gone is out of the batch within a pass.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use ruminate::engine::Buffer;
use ruminate::{Batch, Error, Event, GenerateOptions, Piece, PromptToken, SequenceId, Statistics, StopReason};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::app::App;
use crate::error::ApiError;

/// A sequence that is asked for.
pub(crate) struct Job {
    pub(crate) prompt: Vec<u32>,
    pub(crate) seed: u64,
    pub(crate) options: GenerateOptions,
}

/// Sequences that belong to one request.
pub(crate) struct Order {
    /// By which they are cancelled.
    pub(crate) number: u64,
    pub(crate) jobs: Vec<Job>,
    /// Where their events go, each with the place of its job.
    pub(crate) events: mpsc::Sender<(usize, Happening)>,
    /// Hears whether they were accepted.
    pub(crate) accepted: oneshot::Sender<Result<(), ApiError>>,
    /// Room that they take, given back when all have ended.
    pub(crate) room: OwnedSemaphorePermit,
    /// When the request came.
    pub(crate) arrived: Instant,
}

/// What the engine is told.
pub(crate) enum Command {
    /// Compute these.
    Add(Order),
    /// Drop the sequences of a request.
    Cancel(u64),
    /// Fail what is under way, and end.
    Stop,
}

/// What a request hears of one of its sequences.
pub(crate) enum Happening {
    /// How likely the tokens of its prompt are.
    Prompt(Vec<PromptToken>),
    /// A token.
    Token(Piece),
    /// Its last event.
    Done(StopReason, Figures),
    /// Its last event, if it failed.
    Failed(ApiError),
}

/// What a sequence took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) tokens: u32,
    pub(crate) steps: u64,
    pub(crate) core_passes: u64,
}

impl From<&Statistics> for Figures {
    fn from(statistics: &Statistics) -> Self {
        let Statistics { prompt_tokens, cached_tokens, tokens, steps, core_passes, .. } = *statistics;
        Self { prompt_tokens, cached_tokens, tokens, steps, core_passes }
    }
}

/// A sequence under way.
struct Sequence {
    order: u64,
    place: usize,
    begun: Instant,
    last: Option<Instant>,
    /// Why it cannot go on; sent with its last event.
    failed: Option<ApiError>,
}

/// A request under way.
struct Client {
    events: mpsc::Sender<(usize, Happening)>,
    sequences: Vec<SequenceId>,
    /// Given back when the client is dropped.
    _room: OwnedSemaphorePermit,
}

struct Engine<'a> {
    app: &'a App,
    batch: Batch,
    sequences: HashMap<SequenceId, Sequence>,
    clients: HashMap<u64, Client>,
    /// Read to see whether the device is still there.
    heartbeat: Buffer,
}

/// Serves until it is told to stop.
///
/// # Errors
/// The device's, after all requests under way have been told.
pub(crate) fn run(app: &Arc<App>, batch: Batch, commands: &Receiver<Command>) -> Result<(), Error> {
    let heartbeat = batch.model().device().buffer("heartbeat", 4)?;
    let mut engine = Engine { app, batch, sequences: HashMap::new(), clients: HashMap::new(), heartbeat };
    let outcome = engine.serve(commands);
    match &outcome {
        Ok(()) => engine.fail_all(&ApiError::unavailable("the server is shutting down", "draining", 5)),
        Err(error) => {
            app.enter(crate::app::Phase::Lost);
            engine.fail_all(&ApiError::from(error));
        }
    }
    outcome
}

/// Time between two looks at an idle device.
const IDLE_CHECK: Duration = Duration::from_secs(5);

impl Engine<'_> {
    fn serve(&mut self, commands: &Receiver<Command>) -> Result<(), Error> {
        loop {
            loop {
                let command = if self.batch.is_idle() { self.idle(commands)? } else { commands.try_recv() };
                match command {
                    Ok(Command::Add(order)) => self.add(order)?,
                    Ok(Command::Cancel(number)) => self.cancel(number)?,
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(()),
                    Err(TryRecvError::Empty) => break,
                }
            }
            if let Some(event) = self.batch.wait_round()? {
                self.hear(event)?;
            }
            self.app.metrics.note(&self.batch, self.batch.model().device());
        }
    }

    /// Waits for a command. Now and then the device is asked whether it is still there, so that the server does not call itself healthy until the next
    /// request fails.
    fn idle(&self, commands: &Receiver<Command>) -> Result<Result<Command, TryRecvError>, Error> {
        self.app.metrics.note(&self.batch, self.batch.model().device());
        loop {
            match commands.recv_timeout(IDLE_CHECK) {
                Ok(command) => return Ok(Ok(command)),
                Err(RecvTimeoutError::Disconnected) => return Ok(Err(TryRecvError::Disconnected)),
                Err(RecvTimeoutError::Timeout) => {
                    self.batch.model().device().read(&self.heartbeat, 0..4)?;
                }
            }
        }
    }

    /// Adds the sequences of a request: all of them or none.
    fn add(&mut self, order: Order) -> Result<(), Error> {
        let Order { number, jobs, events, accepted, room, arrived } = order;
        // Whoever asked has gone already.
        if accepted.is_closed() {
            return Ok(());
        }
        let mut added = Vec::with_capacity(jobs.len());
        for job in jobs {
            match self.batch.add(&job.prompt, job.seed, &job.options) {
                Ok(id) => added.push(id),
                Err(error) => {
                    added.into_iter().try_for_each(|id| self.batch.cancel(id))?;
                    let _ = accepted.send(Err(ApiError::from(&error)));
                    return fatal(error);
                }
            }
        }
        for (place, &id) in added.iter().enumerate() {
            let sequence = Sequence { order: number, place, begun: arrived, last: None, failed: None };
            self.sequences.insert(id, sequence);
        }
        self.clients.insert(number, Client { events, sequences: added, _room: room });
        // If nobody hears this any more, the command to cancel is on its way.
        let _ = accepted.send(Ok(()));
        Ok(())
    }

    /// Drops what is left of a request.
    fn cancel(&mut self, number: u64) -> Result<(), Error> {
        let Some(client) = self.clients.remove(&number) else { return Ok(()) };
        for id in client.sequences {
            if self.sequences.remove(&id).is_some() {
                self.app.metrics.cancelled.inc();
                self.batch.cancel(id)?;
            }
        }
        Ok(())
    }

    /// Hands an event on. Those of sequences whose client has gone are of no use to anybody.
    fn hear(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Prompt { id, tokens } => self.tell(id, Happening::Prompt(tokens)),
            Event::Token { id, piece } => {
                if let Some(sequence) = self.sequences.get_mut(&id) {
                    let now = Instant::now();
                    let metrics = &self.app.metrics;
                    match sequence.last.replace(now) {
                        None => metrics.first_token.observe(now.duration_since(sequence.begun).as_secs_f64()),
                        Some(last) => metrics.between_tokens.observe(now.duration_since(last).as_secs_f64()),
                    }
                }
                self.tell(id, Happening::Token(piece))
            }
            Event::Failed { id, error } => {
                if let Some(sequence) = self.sequences.get_mut(&id) {
                    sequence.failed = Some(ApiError::from(&error));
                }
                Ok(())
            }
            Event::Done { id, reason, statistics } => {
                let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(()) };
                self.app.note_duration(sequence.begun.elapsed());
                let happening = match sequence.failed.take() {
                    Some(error) => Happening::Failed(error),
                    None => Happening::Done(reason, Figures::from(&statistics)),
                };
                self.tell(id, happening)?;
                self.leave(id);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Sends an event to its client, if that keeps up.
    fn tell(&mut self, id: SequenceId, happening: Happening) -> Result<(), Error> {
        let Some(sequence) = self.sequences.get(&id) else { return Ok(()) };
        let (number, place) = (sequence.order, sequence.place);
        let sent = self.clients.get(&number).map(|client| client.events.try_send((place, happening)));
        if let Some(Err(mpsc::error::TrySendError::Full(_))) = sent {
            tracing::warn!(order = number, "a client that does not read its answer was cut off");
            self.app.metrics.cut_off.inc();
        }
        if matches!(sent, Some(Err(_))) { self.cancel(number) } else { Ok(()) }
    }

    /// Forgets a sequence that has ended, and its request with the last one.
    fn leave(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences.remove(&id) else { return };
        let Some(client) = self.clients.get_mut(&sequence.order) else { return };
        client.sequences.retain(|other| *other != id);
        if client.sequences.is_empty() {
            self.clients.remove(&sequence.order);
        }
    }

    /// Tells everybody why nothing goes on.
    fn fail_all(&mut self, error: &ApiError) {
        for (_, sequence) in self.sequences.drain() {
            if let Some(client) = self.clients.get(&sequence.order) {
                let _ = client.events.try_send((sequence.place, Happening::Failed(error.clone())));
            }
        }
        self.clients.clear();
    }
}

/// An error of adding a sequence that the others do not survive.
fn fatal(error: Error) -> Result<(), Error> {
    use ruminate::engine::Error as Device;
    match error {
        Error::Engine(Device::Lost(_) | Device::Timeout { .. }) => Err(error),
        _ => Ok(()),
    }
}
