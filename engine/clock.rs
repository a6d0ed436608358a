//! Clocks of the engine and the library; no other module names them. Browsers have no `std::time::Instant`; elsewhere web-time is the standard library's.

pub use web_time::{Instant, SystemTime, UNIX_EPOCH};
