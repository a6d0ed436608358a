//! Watchdog: reports a hang of the driver when a submission does not end within a time limit.
//!
//! The clock of a submission starts when it is made, or when the previous one ends. Only time between two nearby checks counts, so a device is not taken for
//! hung because the process was stopped, or because the host rarely checks.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// Limit of a submission whose work is estimated to be short. It is far longer than operating systems let a GPU compute, and long enough for a driver that
/// compiles shaders at their first dispatch.
const USUAL: Duration = Duration::from_secs(120);
/// Minimum limit as a multiple of the work's estimated time. Estimates are right within a factor of ten, and a software driver may have to share its cores.
const SLACK: f64 = 20.0;
/// Maximum time that the host sleeps in the driver between two checks.
const SLICE: Duration = Duration::from_secs(5);

/// State of the unfinished submissions, and the time without progress.
#[derive(Debug, Default)]
pub(crate) struct Watchdog(Mutex<Watch>);

#[derive(Debug, Default)]
struct Watch {
    /// Limit set by the host; `None` for the default.
    limit: Option<Duration>,
    /// Estimated seconds of each unfinished submission, oldest first.
    pending: VecDeque<f64>,
    /// Watched time since the last submission ended.
    waited: Duration,
    /// Last check while a submission was pending.
    looked: Option<Instant>,
    calls: Calls,
}

/// Calls of the driver that should return soon, but block if some drivers hang.
#[derive(Debug, Default)]
struct Calls {
    /// Number of threads inside such a call.
    inside: u32,
    /// Watched time since the last one returned.
    waited: Duration,
    /// Last check while a thread was inside.
    looked: Option<Instant>,
}

impl Watch {
    fn limit(&self) -> Duration {
        let estimate = self.pending.front().copied().unwrap_or_default();
        let scaled = || Duration::try_from_secs_f64(SLACK * estimate).unwrap_or(Duration::MAX);
        self.limit.unwrap_or_else(|| USUAL.max(scaled()))
    }

    fn slice(&self) -> Duration {
        SLICE.min(self.limit() / 4)
    }
}

impl Watchdog {
    /// Sets the limit of a submission; `None` for the default.
    pub(crate) fn set_limit(&self, limit: Option<Duration>) {
        self.watch().limit = limit;
    }

    /// Records a submission.
    pub(crate) fn submitted(&self, now: Instant) {
        let mut watch = self.watch();
        if watch.pending.is_empty() {
            watch.waited = Duration::ZERO;
            watch.looked = Some(now);
        }
        watch.pending.push_back(0.0);
    }

    /// Records the estimated time of the last submission.
    pub(crate) fn estimate(&self, seconds: f64) {
        if let Some(last) = self.watch().pending.back_mut() {
            *last = seconds;
        }
    }

    /// Records that the oldest submission has ended.
    pub(crate) fn finished(&self) {
        let mut watch = self.watch();
        watch.pending.pop_front();
        watch.waited = Duration::ZERO;
    }

    /// Time to sleep in the driver before the next check.
    pub(crate) fn slice(&self) -> Duration {
        self.watch().slice()
    }

    /// Returns the limit if the oldest submission has exceeded it. Call it after a poll of the driver.
    pub(crate) fn exceeded(&self, now: Instant) -> Option<Duration> {
        let mut watch = self.watch();
        if watch.pending.is_empty() {
            watch.looked = None;
            return None;
        }
        let before = watch.looked.replace(now).unwrap_or(now);
        // Checks are about a slice apart. If much more time has passed, the host was doing other work, or the process was stopped, so the excess does not
        // count.
        let most = 2 * watch.slice();
        watch.waited += now.saturating_duration_since(before).min(most);
        Some(watch.limit()).filter(|&limit| watch.waited >= limit)
    }

    /// Makes a call of the driver, watched by [`Self::blocked`].
    pub(crate) fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.watch().calls.inside += 1;
        let _inside = Inside(self);
        call()
    }

    /// Returns the limit if a call of the driver has blocked its thread for longer. Call it from a thread that does not call the driver.
    pub(crate) fn blocked(&self, now: Instant) -> Option<Duration> {
        let mut watch = self.watch();
        let (limit, most) = (watch.limit(), 2 * watch.slice());
        let calls = &mut watch.calls;
        if calls.inside == 0 {
            (calls.waited, calls.looked) = (Duration::ZERO, None);
            return None;
        }
        let before = calls.looked.replace(now).unwrap_or(now);
        calls.waited += now.saturating_duration_since(before).min(most);
        Some(limit).filter(|&limit| calls.waited >= limit)
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records the end of a call when dropped, so also if the call panics.
struct Inside<'a>(&'a Watchdog);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut watch = self.0.watch();
        watch.calls = Calls { inside: watch.calls.inside - 1, ..Calls::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks once per second for `seconds` seconds. Returns the first second at which the limit was exceeded.
    fn watched(watchdog: &Watchdog, from: Instant, seconds: u64) -> Option<u64> {
        (1..=seconds).find(|&second| watchdog.exceeded(from + Duration::from_secs(second)).is_some())
    }

    #[test]
    fn submission_without_end_exceeds_the_limit() {
        let (watchdog, start) = (Watchdog::default(), Instant::now());
        watchdog.submitted(start);
        assert_eq!(watched(&watchdog, start, 200), Some(120));
        let hasty = Watchdog::default();
        hasty.set_limit(Some(Duration::from_secs(7)));
        hasty.submitted(start);
        assert_eq!(watched(&hasty, start, 200), Some(7));
    }

    #[test]
    fn each_end_of_a_submission_starts_the_clock_again() {
        let (watchdog, start) = (Watchdog::default(), Instant::now());
        (0..3).for_each(|_| watchdog.submitted(start));
        assert_eq!(watched(&watchdog, start, 100), None);
        watchdog.finished();
        let later = start + Duration::from_secs(100);
        assert_eq!(watched(&watchdog, later, 119), None);
        watchdog.finished();
        watchdog.finished();
        let idle = later + Duration::from_secs(119);
        assert_eq!(watched(&watchdog, idle, 1000), None, "an idle device does not hang");
    }

    #[test]
    fn limit_follows_the_estimate_of_long_work() {
        let (watchdog, start) = (Watchdog::default(), Instant::now());
        watchdog.submitted(start);
        watchdog.estimate(10.0);
        assert_eq!(watched(&watchdog, start, 1000), Some(200));
    }

    #[test]
    fn call_that_does_not_return_exceeds_the_limit() {
        let (watchdog, start) = (Watchdog::default(), Instant::now());
        let blocked = |from, seconds: u64| {
            (0..=seconds).find(|&second| watchdog.blocked(from + Duration::from_secs(second)).is_some())
        };
        assert_eq!(blocked(start, 500), None, "nobody is inside");
        watchdog.call(|| assert_eq!(blocked(start, 100), None));
        let later = start + Duration::from_secs(100);
        watchdog.call(|| assert_eq!(blocked(later, 500), Some(120)));
        assert_eq!(blocked(later, 500), None, "the call has returned");
    }

    #[test]
    fn time_that_nobody_watched_does_not_count() {
        let (watchdog, start) = (Watchdog::default(), Instant::now());
        watchdog.submitted(start);
        let hour = start + Duration::from_secs(3600);
        assert_eq!(watchdog.exceeded(hour), None, "the process was stopped for an hour");
        assert_eq!(watched(&watchdog, hour, 200), Some(110));
    }
}
