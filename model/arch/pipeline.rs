//! Work on many pieces, some of it by several threads, the rest by the caller's.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use crate::error::Error;

/// Threads that read and round, at most: more than that outrun any upload, and any disk.
const THREADS: usize = 8;

/// A few threads `make` something of each job, each with a state of its own, and the caller's thread takes what they finish, in any order. No more
/// than a few results are in memory at once. The first error ends it.
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
                // Threads that wait for room in the channel are woken when it is dropped.
                stop.store(true, Relaxed);
                return taken;
            }
        }
        Ok(())
    })
}
