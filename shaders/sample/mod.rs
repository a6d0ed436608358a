//! From logits to the next token, without leaving the device: argmax, sampling, and feeding the choice back as a row.

mod argmax;
mod feed;
mod reference;
mod sampling;

pub use argmax::{ARGMAX, ArgmaxParams, argmax, argmax_variants};
pub use feed::{FEED, FeedParams, feed};
pub use sampling::{SAMPLE, SampleParams, Sampler, sample, sample_variants, seen_bytes};

use crate::{Trial, Workload};

pub(crate) fn trials(work: &Workload) -> Vec<Trial> {
    let mut all = argmax::trials(work);
    all.extend(sampling::trials(work));
    all
}
