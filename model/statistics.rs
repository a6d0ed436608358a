//! Statistics of read-outs, as the authors' code reports them for every position.

/// Statistics of one read-out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowStatistics {
    /// [`entropy`] of the read-out, in nats.
    pub entropy: f32,
    /// [`residual_diff`] of the head's input and the latent state.
    pub residual_diff: f32,
    /// [`rel_residual`] of the head's input and the latent state.
    pub rel_residual: f32,
}

/// Entropy of the softmax distribution of logits, in nats.
#[must_use]
pub fn entropy(logits: &[f32]) -> f32 {
    let normalizer = log_sum_exp(logits);
    let logs = logits.iter().map(|&logit| f64::from(logit) - normalizer);
    logs.map(|log| -log.exp() * log).sum::<f64>() as f32
}

/// Natural logarithm of a token's probability; minus infinity for an unknown token.
#[must_use]
pub fn log_probability(logits: &[f32], token: usize) -> f32 {
    logits.get(token).map_or(f32::NEG_INFINITY, |&logit| (f64::from(logit) - log_sum_exp(logits)) as f32)
}

/// Distance between the input of the head and the latent state after the final norm, both `[n_embd]`.
#[must_use]
pub fn residual_diff(head: &[f32], latent: &[f32]) -> f32 {
    let squares = head.iter().zip(latent).map(|(&x, &l)| (f64::from(x) - f64::from(l)).powi(2));
    squares.sum::<f64>().sqrt() as f32
}

/// [`residual_diff`] relative to the length of the latent state.
#[must_use]
pub fn rel_residual(head: &[f32], latent: &[f32]) -> f32 {
    let length = latent.iter().map(|&l| f64::from(l).powi(2)).sum::<f64>().sqrt();
    (f64::from(residual_diff(head, latent)) / length) as f32
}

pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(largest)).exp()).sum();
    f64::from(largest) + sum.ln()
}
