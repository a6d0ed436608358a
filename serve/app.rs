//! State shared by all parts of the server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ruminate::{GenerateOptions, KvShare, MAX_STEPS, Model};
use tokio::sync::{Semaphore, watch};

use crate::engine::Command;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::options::Options;

/// Constraints compiled at a time.
const COMPILERS: usize = 2;

/// Requests that may wait for a constraint to be compiled.
const WAITING: usize = 64;

/// Phase of a server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The model is being loaded.
    Loading,
    /// Requests are served.
    Ready,
    /// Running requests are finished; new ones are refused.
    Draining,
    /// The device has failed.
    Lost,
}

/// Loaded model, with its settings.
pub(crate) struct Loaded {
    pub(crate) model: Model,
    /// Name of the model in requests.
    pub(crate) name: String,
    /// Default options of requests.
    pub(crate) defaults: GenerateOptions,
    /// Tokens that end an answer in a conversation.
    pub(crate) answer_ends: Vec<u32>,
    /// Positions of a sequence.
    pub(crate) context: u32,
    /// Sharing of keys and values between steps, a property of the cache.
    pub(crate) kv_share: KvShare,
    /// Sequences computed at a time.
    pub(crate) sequences: u32,
    /// End of loading, in seconds since 1970.
    pub(crate) created: u64,
}

/// State shared by all requests.
pub(crate) struct App {
    pub(crate) options: Options,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) metrics: Metrics,
    pub(crate) commands: mpsc::Sender<Command>,
    loaded: OnceLock<Loaded>,
    /// Permits for sequences, running and waiting.
    pub(crate) room: OnceLock<Arc<Semaphore>>,
    /// Threads that compile constraints.
    pub(crate) compilers: Arc<Semaphore>,
    /// Requests that compile a constraint or wait for it.
    pub(crate) constrained: Semaphore,
    /// Moving average of the duration of sequences, in milliseconds.
    pace: AtomicU64,
}

impl App {
    pub(crate) fn new(options: Options, commands: mpsc::Sender<Command>) -> Self {
        let (loaded, room) = (OnceLock::new(), OnceLock::new());
        let (phase, metrics) = (watch::Sender::new(Phase::Loading), Metrics::new());
        Self {
            options,
            phase,
            metrics,
            commands,
            loaded,
            room,
            compilers: Arc::new(Semaphore::new(COMPILERS)),
            constrained: Semaphore::new(COMPILERS + WAITING),
            pace: AtomicU64::new(1000),
        }
    }

    /// Opens the server for requests.
    pub(crate) fn open(&self, loaded: Loaded) {
        let room = (loaded.sequences + self.options.queue) as usize;
        let _ = self.room.set(Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))));
        let _ = self.loaded.set(loaded);
        // A server that was asked to stop while loading does not open.
        self.enter(Phase::Ready);
    }

    /// Enters a later phase; a server never returns to an earlier one.
    pub(crate) fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = next > *phase;
            if later {
                *phase = next;
            }
            later
        });
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Model, if the server is ready.
    ///
    /// # Errors
    /// 503 unless the server is ready.
    pub(crate) fn ready(&self) -> Result<&Loaded, ApiError> {
        let refuse = |message, code, seconds| Err(ApiError::unavailable(message, code, seconds));
        match (self.phase(), self.loaded.get()) {
            (Phase::Ready, Some(loaded)) => Ok(loaded),
            (Phase::Loading | Phase::Ready, _) => refuse("the model is being loaded", "loading", 2),
            (Phase::Draining, _) => refuse("the server is shutting down; try another one", "draining", 5),
            (Phase::Lost, _) => refuse("the device has failed; the server is shutting down", "device_failed", 10),
        }
    }

    /// Model, in any phase after loading.
    pub(crate) fn loaded(&self) -> Option<&Loaded> {
        self.loaded.get()
    }

    /// Maximum steps of a request.
    pub(crate) fn max_steps(&self) -> u32 {
        self.options.max_steps.unwrap_or(MAX_STEPS)
    }

    /// Records the duration of a sequence.
    pub(crate) fn note_duration(&self, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).min(600_000);
        let before = self.pace.load(Ordering::Relaxed);
        self.pace.store((before * 7 + millis) / 8, Ordering::Relaxed);
    }

    /// Seconds until the queue may have room again: the average duration of a sequence.
    pub(crate) fn retry_after(&self) -> u64 {
        self.pace.load(Ordering::Relaxed).div_ceil(1000).clamp(1, 60)
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
