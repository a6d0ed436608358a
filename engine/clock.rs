//! The clocks of engine and library: the only place that names them. Browsers have no `std::time::Instant`; web-time is the standard library's elsewhere.

pub use web_time::{Instant, SystemTime, UNIX_EPOCH};
