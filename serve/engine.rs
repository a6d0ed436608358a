//! The engine thread, which owns the batch and alone uses the device. It receives commands and sends events over channels.
//!
//! The engine never waits for a client: a request's channel holds a limited number of events, and a client that lets it fill up is cut off. The engine checks
//! for commands between two passes, so a sequence whose client has disconnected leaves the batch within one pass.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use ruminate::engine::Buffer;
use ruminate::{Batch, Error, Event, GenerateOptions, Piece, PromptToken, SequenceId, Statistics, StopReason};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::app::App;
use crate::error::ApiError;

/// A requested sequence.
pub(crate) struct Job {
    pub(crate) prompt: Vec<u32>,
    pub(crate) seed: u64,
    pub(crate) options: GenerateOptions,
}

/// The sequences of one request.
pub(crate) struct Order {
    /// Number of the request, by which it is cancelled.
    pub(crate) number: u64,
    pub(crate) jobs: Vec<Job>,
    /// Channel for their events, each with the index of its job.
    pub(crate) events: mpsc::Sender<(usize, Happening)>,
    /// Channel for the answer whether they are accepted.
    pub(crate) accepted: oneshot::Sender<Result<(), ApiError>>,
    /// Permits for the sequences, released when all have ended.
    pub(crate) room: OwnedSemaphorePermit,
    /// Time when the request arrived.
    pub(crate) arrived: Instant,
}

/// A command to the engine.
pub(crate) enum Command {
    /// Generate the sequences of a request.
    Add(Order),
    /// Drop the sequences of a request.
    Cancel(u64),
    /// Fail all sequences under way, and end.
    Stop,
}

/// An event of one of a request's sequences.
pub(crate) enum Happening {
    /// Log-probabilities of the prompt's tokens.
    Prompt(Vec<PromptToken>),
    /// A generated token.
    Token(Piece),
    /// The last event.
    Done(StopReason, Figures),
    /// The last event of a sequence that failed.
    Failed(ApiError),
}

/// Counts for a finished sequence.
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
    /// Error that ended it, sent as its last event.
    failed: Option<ApiError>,
}

/// A request under way.
struct Client {
    events: mpsc::Sender<(usize, Happening)>,
    sequences: Vec<SequenceId>,
    /// A permit for each sequence that has not ended.
    room: OwnedSemaphorePermit,
}

struct Engine<'a> {
    app: &'a App,
    batch: Batch,
    sequences: HashMap<SequenceId, Sequence>,
    clients: HashMap<u64, Client>,
    /// Read while idle, to check that the device still works.
    heartbeat: Buffer,
}

/// Serves until a command to stop.
///
/// # Errors
/// A fault of the device. All requests under way have been sent an error before.
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

/// Time between two checks of an idle device.
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
            let event = self.batch.wait_round()?;
            // The counters are updated before clients are told, so that a client with an answer finds it counted.
            self.app.metrics.note(&self.batch, self.batch.model().device());
            if let Some(event) = event {
                self.hear(event)?;
            }
        }
    }

    /// Waits for a command. Meanwhile it regularly checks the device, so that the server does not report itself healthy with a failed device until the next
    /// request.
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

    /// Adds all sequences of a request, or if one is rejected, none.
    fn add(&mut self, order: Order) -> Result<(), Error> {
        let Order { number, jobs, events, accepted, room, arrived } = order;
        // The client has already disconnected.
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
        self.clients.insert(number, Client { events, sequences: added, room });
        // If this fails, the client has disconnected, and a command to cancel follows.
        let _ = accepted.send(Ok(()));
        Ok(())
    }

    /// Drops the remaining sequences of a request.
    fn cancel(&mut self, number: u64) -> Result<(), Error> {
        let Some(Client { sequences, room, .. }) = self.clients.remove(&number) else { return Ok(()) };
        // The places are free by the time the sequences are counted.
        drop(room);
        for id in sequences {
            if self.sequences.remove(&id).is_some() {
                self.app.metrics.cancelled.inc();
                self.batch.cancel(id)?;
            }
        }
        Ok(())
    }

    /// Passes an event on to its client. Ignores events of sequences whose client has disconnected.
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
                // The place is freed before the client is told, so that its next request finds room.
                if let Some(client) = self.clients.get_mut(&sequence.order) {
                    drop(client.room.split(1));
                }
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

    /// Sends an event to its client, or cuts the client off if its channel is full.
    fn tell(&mut self, id: SequenceId, happening: Happening) -> Result<(), Error> {
        let Some(sequence) = self.sequences.get(&id) else { return Ok(()) };
        let (number, place) = (sequence.order, sequence.place);
        let sent = self.clients.get(&number).map(|client| client.events.try_send((place, happening)));
        if let Some(Err(mpsc::error::TrySendError::Full(_))) = sent {
            tracing::warn!(order = number, "a client that does not read its response was cut off");
            self.app.metrics.cut_off.inc();
        }
        if matches!(sent, Some(Err(_))) { self.cancel(number) } else { Ok(()) }
    }

    /// Removes a sequence that has ended, and its request if no other sequence is left.
    fn leave(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences.remove(&id) else { return };
        let Some(client) = self.clients.get_mut(&sequence.order) else { return };
        client.sequences.retain(|other| *other != id);
        if client.sequences.is_empty() {
            self.clients.remove(&sequence.order);
        }
    }

    /// Sends an error to all clients as their last event.
    fn fail_all(&mut self, error: &ApiError) {
        for (_, sequence) in self.sequences.drain() {
            if let Some(client) = self.clients.get(&sequence.order) {
                let _ = client.events.try_send((sequence.place, Happening::Failed(error.clone())));
            }
        }
        self.clients.clear();
    }
}

/// Returns an error of adding a sequence if it also ends all other sequences.
fn fatal(error: Error) -> Result<(), Error> {
    use ruminate::engine::Error as Device;
    match error {
        Error::Engine(Device::Lost(_) | Device::Timeout { .. }) => Err(error),
        _ => Ok(()),
    }
}
