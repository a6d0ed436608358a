//! Tokens as an asynchronous stream: the form of [`Generation::next`](Iterator::next) that never blocks.

use std::task::{Context, Poll};
use std::time::Duration;

use ruminate_engine::Device;

use crate::error::Error;
use crate::generate::{Generation, Piece, Progress};
use crate::schedule::{Batch, Event};
use crate::session::Session;

/// Device time of one submission: most passes are one, and a dropped generation leaves no more than that behind.
const BUDGET: Duration = Duration::from_millis(100);

impl Generation<'_> {
    /// The next token, or the end, without blocking: while the device is at work, the task's waker is kept and called when there is something to go on with.
    /// `std::future::poll_fn(|cx| generation.poll_next(cx))` is a future of it, and `futures::stream::poll_fn` makes a stream; any executor will do.
    ///
    /// A thread of the engine waits for the device and calls the waker, see [`Device::wake_when_done`]. What the task itself does is encoding, as in
    /// [`Self::step`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Error>>> {
        let device = self.session.model().device().clone();
        poll(&device, cx, || self.step(BUDGET))
    }
}

impl Session {
    /// The next token of what [`Self::start`] began, as [`Generation::poll_next`] gives it.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Error>>> {
        let device = self.model().device().clone();
        poll(&device, cx, || self.step(BUDGET))
    }
}

impl Batch {
    /// The next event of any sequence, or none when all are finished, without blocking: the form of [`Self::wait`] for tasks, as
    /// [`Generation::poll_next`] is that of the iterator.
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
