//! The gated MLP's first half: `silu(gate·x) · (up·x)` at the end of one matmul (Shazeer, arXiv 2002.05202).
//!
//! W holds gate and up rows in turn, so that each workgroup has both sums of an output and a matrix can be split anywhere
//! between pairs. The second half is a plain matmul with a residual.

/// The end of a matmul whose rows alternate gate and up.
pub(crate) const GATE_UP: &str = include_str!("output_gate_up.wgsl");

/// `v · sigmoid(v)`.
pub(crate) fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}
