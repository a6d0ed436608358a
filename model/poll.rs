//! Tokens as an asynchronous stream: [`Generation::next`](Iterator::next) without blocking.

use std::task::{Context, Poll};
use std::time::Duration;

use ruminate_engine::Device;

use crate::error::Error;
use crate::generate::{Generation, Piece, Progress};
use crate::schedule::{Batch, Event};
use crate::session::Session;

/// Device time of one submission. Most passes fit into one, and a dropped generation leaves at most this much work on the device.
const BUDGET: Duration = Duration::from_millis(100);

impl Generation<'_> {
    /// Polls for the next token, or the end, without blocking. While the device is working, the task's waker is stored, and called when the generation can
    /// continue. `std::future::poll_fn(|cx| generation.poll_next(cx))` is a future for it, and `futures::stream::poll_fn` makes a stream; any executor works.
    ///
    /// A thread of the engine waits for the device and calls the waker: see [`Device::wake_when_done`]. The task itself only encodes passes, as in
    /// [`Self::step`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Error>>> {
        let device = self.session.model().device().clone();
        poll(&device, cx, || self.step(BUDGET))
    }
}

impl Session {
    /// Polls for the next token of the generation begun by [`Self::start`], as [`Generation::poll_next`] does.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Error>>> {
        let device = self.model().device().clone();
        poll(&device, cx, || self.step(BUDGET))
    }
}

impl Batch {
    /// Polls for the next event of any sequence without blocking. Ready with none when all sequences have ended. It is [`Self::wait`] for asynchronous tasks.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        match self.step(BUDGET) {
            Ok(Some(event)) => Poll::Ready(Some(Ok(event))),
            Ok(None) if self.is_idle() => Poll::Ready(None),
            Ok(None) => match self.model().device().wake_when_done(cx.waker()) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Some(Err(error.into()))),
            },
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

fn poll(
    device: &Device,
    cx: &Context<'_>,
    step: impl FnOnce() -> Result<Progress, Error>,
) -> Poll<Option<Result<Piece, Error>>> {
    match step() {
        Ok(Progress::Token(piece)) => Poll::Ready(Some(Ok(piece))),
        Ok(Progress::Done(_)) => Poll::Ready(None),
        Ok(Progress::Working) => match device.wake_when_done(cx.waker()) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        },
        Err(error) => Poll::Ready(Some(Err(error))),
    }
}
