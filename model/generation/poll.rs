//! Passes for a task that polls: like the iterator, it keeps a pass submitted ahead, but it never waits.

use std::task::{Context, Poll, Waker};

use ruminate_engine::ReadBack;
use ruminate_engine::clock::Instant;

use super::ActiveGeneration;
use crate::error::Error;
use crate::generate::{Piece, Progress};
use crate::schedule::PIECE;
use crate::schedule::passes::Passes;

impl ActiveGeneration {
    /// See [`crate::Generation::poll_next`].
    pub(crate) fn poll(&mut self, passes: &mut Passes<'_>, cx: &Context<'_>) -> Poll<Option<Result<Piece, Error>>> {
        if self.finished.is_some() {
            return Poll::Ready(passes.store.model.device().check().err().map(|error| Err(error.into())));
        }
        match self.ahead(passes, cx.waker()) {
            Ok(Progress::Working) => Poll::Pending,
            Ok(Progress::Token(piece)) => Poll::Ready(Some(Ok(piece))),
            Ok(Progress::Done(_)) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    /// Takes the next token if it has come, and otherwise submits passes. The device wakes the task when a call can do more.
    pub(crate) fn ahead(&mut self, passes: &mut Passes<'_>, waker: &Waker) -> Result<Progress, Error> {
        self.alarm.set(waker);
        let outcome = self.timed(passes, Self::go_ahead);
        self.or_fail(outcome)
    }

    /// Takes the next token if it has come, and otherwise submits pieces, also of the pass after the one that the device works on.
    fn go_ahead(&mut self, passes: &mut Passes<'_>) -> Result<Progress, Error> {
        let (start, device) = (Instant::now(), passes.store.model.device().clone());
        let mut submitted = false;
        loop {
            if !self.arrived.is_empty() || self.pending.front().is_some_and(ReadBack::ready) {
                match self.said()? {
                    Progress::Working => continue,
                    said => return Ok(said),
                }
            }
            let left = PIECE.saturating_sub(start.elapsed());
            if submitted && left.is_zero() || !self.begin(passes)? {
                break;
            }
            let Some(execution) = self.under_way.as_mut() else { break };
            let done = execution.advance(left)?;
            self.alarm.ring_when_done(&device)?;
            submitted = true;
            // Parts of the prompt that bring no token are awaited, or all of them would be submitted at once.
            let brings = self.fed == self.prompt.len() && !self.decoding.silent;
            if !(done || brings && execution.is_submitted()) {
                break;
            }
            self.submit()?;
        }
        if !submitted {
            self.alarm.ring_when_done(&device)?;
        }
        Ok(self.silence().map_or(Progress::Working, Progress::Done))
    }
}
