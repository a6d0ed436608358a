//! Counters of a device's work, which tests check and reports quote.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$meta:meta])* $field:ident),* $(,)?) => {
        /// A snapshot of a device's counters. The difference of two snapshots counts what happened in between.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters { $($(#[$meta])* pub $field: u64),* }

        impl Sub for Counters {
            type Output = Self;

            /// Counts since `earlier`; a live count that has fallen gives 0.
            fn sub(self, earlier: Self) -> Self {
                Self { $($field: self.$field.saturating_sub(earlier.$field)),* }
            }
        }

        /// The counters themselves.
        #[derive(Debug, Default)]
        pub(crate) struct Tally { $(pub(crate) $field: AtomicU64),* }

        impl Tally {
            pub(crate) fn snapshot(&self) -> Counters {
                Counters { $($field: self.$field.load(Relaxed)),* }
            }
        }
    };
}

counters! {
    /// Submissions to the queue: of executions, profiles, reads, and uploads of more than 32 MiB.
    submissions,
    /// Times that the host blocked until the device had caught up.
    waits,
    /// Tickets for results, and blocking reads.
    read_backs,
    /// Dispatches, or calls of CPU references.
    launches,
    /// Nanoseconds that the host spent encoding commands, without the time that a driver works or waits during a submission.
    encoding_nanos,
    /// Compute pipelines created.
    pipelines,
    /// Device buffers created, staging and uniform buffers included.
    buffers,
    /// Bind groups created.
    bind_groups,
    /// Bind groups that are alive now.
    live_bind_groups,
    /// Storage buffers that are alive now.
    live_buffers,
    /// Bytes of the storage buffers that are alive now.
    live_bytes,
    /// Bytes written by the host.
    bytes_written,
    /// Bytes read by the host.
    bytes_read,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
