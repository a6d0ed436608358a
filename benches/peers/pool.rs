//! Amount of work per measurement: more matrices in turn than caches hold, and passes over them until the time is reliable.
//!
//! `ggml_kernels.py` uses the same numbers.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cell::Cell;

/// Bytes of the matrices that are read in turn for few rows, which are bound by memory: more than the last-level cache that this machine reports (480 MiB,
/// shared with others).
const POOL: u64 = 640 << 20;

/// Maximum operations of one pass, unless a single matrix has more.
const WORK: f64 = 4e9;

/// Number of matrices in a pass.
pub fn matrices(cell: Cell, bytes: u64) -> Result<u32> {
    let work = (WORK / cell.flops()?) as u32;
    let pool = u32::try_from(POOL.div_ceil(bytes.max(1)))?;
    Ok(if cell.rows <= 8 { pool } else { work.clamp(1, pool) })
}

/// The median time of a pass. The first pass, in which kernels are compiled and chosen, does not count.
pub fn time(mut pass: impl FnMut() -> Result<()>) -> Result<Duration> {
    pass()?;
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || begin.elapsed() < Duration::from_millis(600) {
        let start = Instant::now();
        pass()?;
        times.push(start.elapsed());
        if begin.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
