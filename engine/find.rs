//! Choosing a device without opening it.

use crate::adapter::{self, AdapterSummary, OpenOptions};
use crate::error::Result;

/// Summary of the adapter that [`Device::open`](crate::Device::open) would open with the same options: for callers that want to know whether there is one before
/// they begin something. Its tuning is read too.
///
/// # Errors
/// [`Error::NoAdapter`](crate::Error::NoAdapter), or [`Error::Tuning`](crate::Error::Tuning) for a file that is not for it.
pub fn find(options: &OpenOptions) -> Result<AdapterSummary> {
    let (_, summary) = adapter::select(options)?;
    options.tuning.of(&summary)?;
    Ok(summary)
}
