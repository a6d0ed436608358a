//! First half of the gated MLP: `silu(gate·x) · (up·x)` as the last stage of one matmul (Shazeer, arXiv 2002.05202).
//!
//! Rows of W alternate between gate and up, so that each workgroup has both sums of an output, and a matrix can be split between any two pairs. The second half
//! is a plain matmul with a residual.

/// Last stage of a matmul whose rows alternate between gate and up.
pub(crate) const GATE_UP: &str = include_str!("output_gate_up.wgsl");

/// `v · sigmoid(v)`.
pub(crate) fn silu(v: f64) -> f64 {
    v / (1.0 + (-v).exp())
}
