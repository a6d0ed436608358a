//! CPU reference: compares every earlier position with the end, token by token.

use std::collections::HashMap;

use super::rule::{MOST, Penalties, breaker_words};
use super::{Launch, PenalizeParams};
use crate::{Row, Slots};

pub(super) fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: PenalizeParams = launch.params();
    let (picked, penalties) = (slots.read::<Row>(), slots.read::<Penalties>());
    let (history, bias, breakers) = (slots.read::<u32>(), slots.read::<f32>(), slots.read::<u32>());
    let (logits, _marks, edited) = (slots.read::<f32>(), slots.write::<u32>(), slots.write::<f32>());
    let (vocab, width) = (params.vocab as usize, params.stride as usize);
    let read_outs = logits.chunks(width).zip(edited.chunks_mut(width));
    for (row, (logits, edited)) in picked.iter().zip(read_outs).take(params.outputs as usize) {
        if row.live == 0 {
            continue;
        }
        let sequence = row.sequence as usize;
        let rule = &penalties[sequence];
        let past = &history[sequence * params.context as usize..][..=row.position as usize];
        let bits = &breakers[sequence * breaker_words(params.vocab) as usize..];
        let breaks = |token: u32| token < params.vocab && bits[token as usize / 32] >> (token % 32) & 1 != 0;
        let held = last(past, rule.repeat_window);
        let lengths = repeats(last(past, rule.dry_range), rule.dry_longest as usize, breaks);
        let bias = &bias[sequence * vocab..];
        for (token, (edited, &logit)) in (0..).zip(edited.iter_mut().zip(&logits[..vocab])) {
            let mut logit = f64::from(logit);
            if rule.biased != 0 {
                logit += f64::from(bias[token as usize]);
            }
            logit = sane(logit);
            if rule.repeat_penalty != 1.0 && held.contains(&token) {
                let penalty = f64::from(rule.repeat_penalty);
                logit = if logit > 0.0 { logit / penalty } else { logit * penalty };
            }
            let length = lengths.get(&token).copied().unwrap_or(0);
            if rule.dry_multiplier > 0.0 && length >= rule.dry_allowed {
                let exponent = f64::from(length - rule.dry_allowed);
                logit -= f64::from(rule.dry_multiplier) * f64::from(rule.dry_base).powf(exponent);
            }
            *edited = sane(logit) as f32;
        }
    }
}

fn sane(logit: f64) -> f64 {
    let most = f64::from(MOST);
    if logit.is_nan() { -most } else { logit.clamp(-most, most) }
}

fn last(past: &[u32], window: u32) -> &[u32] {
    let window = if window == 0 { past.len() } else { past.len().min(window as usize) };
    &past[past.len() - window..]
}

/// For each token that continued an earlier occurrence of the last tokens: the length of the longest such match.
fn repeats(past: &[u32], longest: usize, breaks: impl Fn(u32) -> bool) -> HashMap<u32, u32> {
    let mut found = HashMap::new();
    for next in 1..past.len() {
        let before = past[..next].iter().rev().zip(past.iter().rev());
        let length = before.take_while(|(a, b)| a == b && !breaks(**a)).take(longest).count() as u32;
        if length > 0 && !breaks(past[next]) {
            let most = found.entry(past[next]).or_insert(0);
            *most = length.max(*most);
        }
    }
    found
}
