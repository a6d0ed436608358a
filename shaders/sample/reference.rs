//! CPU reference of sampling: the same filters, by sorting, and the same exponential clocks.

use super::sampling::{SampleParams, Sampler};
use crate::recur::{Threefry, unit};
use crate::{Launch, Row, Sequence, Slots};

/// Stream of random numbers; not 0, so that they differ from those of the initial states.
pub(super) const STREAM: u32 = 0x7361_6d70;

pub(super) fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: SampleParams = launch.params();
    let (picked, sequences) = (slots.read::<Row>(), slots.read::<Sequence>());
    let (samplers, probs, chosen) = (slots.read::<Sampler>(), slots.write::<f32>(), slots.write::<u32>());
    for (output, logits) in probs.chunks_mut(params.stride as usize).enumerate().take(params.outputs as usize) {
        let row = picked[output];
        if row.live == 0 {
            continue;
        }
        let rule = &samplers[row.sequence as usize];
        let logits = &mut logits[..params.vocab as usize];
        let kept = filter(logits, rule);
        let mass: f64 = kept.iter().sum();
        let [low, high] = sequences[row.sequence as usize].seed;
        let clocks = Threefry::from_words([low, high ^ STREAM]);
        let mut winner = (0, -1.0);
        for ((token, logit), p) in (0..).zip(logits).zip(kept) {
            *logit = (p / mass) as f32;
            if p > 0.0 {
                let t = unit(clocks.block([row.position, token])[0]);
                let score = p / mass / -(-t).ln_1p();
                if score > winner.1 {
                    winner = (token, score);
                }
            }
        }
        chosen[output] = winner.0;
    }
}

/// Probabilities after temperature and softmax, with 0 for tokens that top-k, top-p and min-p drop.
fn filter(logits: &[f32], rule: &Sampler) -> Vec<f64> {
    let temperature = if rule.temperature > 0.0 { f64::from(rule.temperature) } else { 1.0 };
    let scaled: Vec<f64> =
        logits.iter().map(|&logit| (f64::from(logit) / temperature).clamp(-1.5e38, 1.5e38)).collect();
    let largest = scaled.iter().copied().fold(f64::MIN, f64::max);
    let total: f64 = scaled.iter().map(|v| (v - largest).exp()).sum();
    let mut probs: Vec<f64> = scaled.iter().map(|v| (v - largest).exp() / total).collect();

    // Most likely first; of equal ones, the lower token first.
    let mut order: Vec<usize> = (0..probs.len()).collect();
    order.sort_by(|&a, &b| probs[b].total_cmp(&probs[a]).then(a.cmp(&b)));
    let mut keep = order.len();
    if rule.temperature <= 0.0 {
        keep = 1;
    } else {
        if rule.top_k > 0 && (rule.top_k as usize) < order.len() {
            let last = probs[order[rule.top_k as usize - 1]];
            keep = order.iter().take_while(|&&token| probs[token] >= last).count();
        }
        if rule.top_p < 1.0 {
            let mut before = 0.0;
            let reached = order.iter().take_while(|&&token| {
                let needed = before < f64::from(rule.top_p);
                before += probs[token];
                needed
            });
            keep = keep.min(reached.count().max(1));
        }
        let floor = f64::from(rule.min_p) * probs[order[0]];
        keep = keep.min(order.iter().take_while(|&&token| probs[token] >= floor).count());
    }
    for &token in &order[keep..] {
        probs[token] = 0.0;
    }
    probs
}
