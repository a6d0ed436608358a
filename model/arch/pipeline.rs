//! Parallel pipeline: several threads prepare jobs, and the caller's thread takes the results.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use crate::error::Error;

/// Maximum number of threads that read and round; more than these outpace any disk and any upload.
const THREADS: usize = 8;

/// Runs `make` on every job in a few threads, each with its own state; the caller's thread passes the results to `take` as they finish, in any order.
///
/// Only a few results are in memory at once. The first error stops all threads and is returned.
pub(crate) fn pipeline<Job: Sync, State: Default, Made: Send>(
    jobs: &[Job],
    make: impl Fn(&mut State, &Job) -> Result<Made, Error> + Sync,
    mut take: impl FnMut(&Job, Made) -> Result<(), Error>,
) -> Result<(), Error> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS).min(jobs.len());
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let (finished, inbox) = mpsc::sync_channel(threads);
        for _ in 0..threads {
            let (finished, make, next, stop) = (finished.clone(), &make, &next, &stop);
            scope.spawn(move || {
                let mut state = State::default();
                while let Some(job) = jobs.get(next.fetch_add(1, Relaxed)).filter(|_| !stop.load(Relaxed)) {
                    let made = make(&mut state, job);
                    if finished.send((job, made)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(finished);
        for (job, made) in inbox {
            let taken = made.and_then(|made| take(job, made));
            if taken.is_err() {
                // Threads that wait for room in the channel wake up when it is dropped.
                stop.store(true, Relaxed);
                return taken;
            }
        }
        Ok(())
    })
}
