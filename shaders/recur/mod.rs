//! The recurrence itself: initial states and the step counter.

mod threefry;

pub use threefry::Threefry;
