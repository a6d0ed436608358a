//! From logits to the next token, without leaving the device: editing the logits, argmax or sampling, log-probabilities, and feeding the token back as a row.

mod argmax;
mod feed;
mod logprobs;
pub mod penalize;
mod reference;
mod sampling;

pub use argmax::{ARGMAX, ArgmaxParams, argmax, argmax_variants};
pub use feed::{FEED, FeedParams, feed};
pub use logprobs::{LOGPROBS, LogprobsParams, logprobs, ranked_bytes};
pub use sampling::{SAMPLE, SampleParams, Sampler, sample, sample_variants};

use crate::{Trial, Workload};

pub(crate) fn trials(work: &Workload) -> Vec<Trial> {
    let mut all = argmax::trials(work);
    all.extend(sampling::trials(work));
    all
}
