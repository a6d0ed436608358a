//! Classification of stored tensors by name: whether they are read, and whether they are weights.

use std::collections::BTreeSet;

use super::quantized::base;
use crate::arch::Manifest;

/// Returns a test for stored names that are not read: buffers, and the second copy of a tensor with two names. `stored` tells whether a name is stored.
pub(super) fn unread(manifest: &Manifest, stored: impl Fn(&str) -> bool) -> impl Fn(&str) -> bool {
    let mut known: BTreeSet<String> = manifest.tensors().map(|tensor| tensor.name.clone()).collect();
    let has = |name: &str| stored(name) || super::quantized::SUFFIXES.iter().any(|it| stored(&format!("{name}{it}")));
    let mut copies = BTreeSet::new();
    for (name, copy) in manifest.copies() {
        known.insert(copy.to_owned());
        if has(name) {
            copies.insert(copy.to_owned());
        }
    }
    move |name| {
        let name = base(name);
        copies.contains(name) || !(known.contains(name) || is_weight_name(name))
    }
}

/// Whether an unknown tensor is a weight, so that the model would compute something else without it. All others are buffers that training code stores with its
/// weights: rotary frequencies, position ids, masks, counters.
pub(super) fn is_weight(name: &str, is_float: bool, shape: &[usize]) -> bool {
    // GPT-2 calls its causal mask `attn.bias`: `[1, 1, positions, positions]`.
    let is_mask = last(name) == "bias" && matches!(shape, [_, .., rows, columns] if rows == columns);
    is_float && is_weight_name(name) && !is_mask
}

/// Whether a name alone looks like that of a weight.
fn is_weight_name(name: &str) -> bool {
    let last = last(name);
    let part = ["weight", "bias", "lora_", "scale", "gamma", "beta", "min"].iter().any(|part| last.contains(part));
    (part && last != "masked_bias") || super::quantized::SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
