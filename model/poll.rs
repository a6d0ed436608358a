//! Tokens as an asynchronous stream: [`Generation::next`](Iterator::next) without blocking.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;
use ruminate_engine::Device;

use crate::error::Error;
use crate::generate::{Generation, Piece};
use crate::schedule::{Batch, Event};
use crate::session::Session;

/// Wakes the task that polled last, even for work that was submitted when another task polled.
#[derive(Default)]
pub(crate) struct Alarm(Arc<Latest>);

/// Waker of the last poll.
#[derive(Default)]
struct Latest(AtomicWaker);

impl Wake for Latest {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

impl Alarm {
    /// Sets the task to wake.
    pub(crate) fn set(&self, waker: &Waker) {
        self.0.0.register(waker);
    }

    /// Wakes the task once everything that was submitted so far is done.
    pub(crate) fn ring_when_done(&self, device: &Device) -> Result<(), Error> {
        Ok(device.wake_when_done(&Waker::from(Arc::clone(&self.0)))?)
    }
}

impl Generation<'_> {
    /// Polls for the next token, or the end, without blocking. While the device is working, the task's waker is stored, and called when the generation can
    /// continue. `std::future::poll_fn(|cx| generation.poll_next(cx))` is a future for it, and `futures::stream::poll_fn` makes a stream; any executor works.
    ///
    /// A thread of the engine waits for the device and calls the waker: see [`Device::wake_when_done`]. The task itself only encodes passes, in pieces of about
    /// 100 ms of device time. It encodes a token's pass while the device works on the one before, so that the device is never idle.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Error>>> {
        self.active.poll(&mut self.session.passes(), cx)
    }
}

impl Session {
    /// Polls for the next token of the generation begun by [`Self::start`], as [`Generation::poll_next`] does.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Error>>> {
        let Some(mut active) = self.generation.take() else { return Poll::Ready(Some(Err(Error::NotStarted))) };
        let polled = active.poll(&mut self.passes(), cx);
        self.generation = Some(active);
        polled
    }
}

impl Batch {
    /// Polls for the next event of any sequence without blocking. Ready with none when all sequences have ended. It is [`Self::wait`] for asynchronous tasks.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        match self.poll(cx.waker()) {
            Ok(Some(event)) => Poll::Ready(Some(Ok(event))),
            Ok(None) if self.is_idle() => Poll::Ready(None),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}
