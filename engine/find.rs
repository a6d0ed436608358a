//! Choosing a device without opening it.

use crate::adapter::{self, AdapterSummary, OpenOptions};
use crate::error::Result;

/// Summary of the adapter that [`Device::open`](crate::Device::open) would open with the same options, for callers that check for a device before they begin.
/// The adapter's tuning is read, too.
///
/// # Errors
/// [`Error::NoAdapter`](crate::Error::NoAdapter), or [`Error::Tuning`](crate::Error::Tuning) for a tuning file that does not belong to the adapter.
pub fn find(options: &OpenOptions) -> Result<AdapterSummary> {
    let (_, summary) = adapter::select(options)?;
    options.tuning.of(&summary)?;
    Ok(summary)
}
