//! Fused sums: a block's sums with what the following norms need, so that norms need no launches.
//!
//! A sandwich block norms each sum twice: `x = norm_o(t)` is the block's value and the next residual, `norm_i(x)` the input of the next matmul. Each norm is a
//! factor per row and a weight per column, `norm_o(t) = t·r_o·w_o` and `norm_i(x) = t·w_o·w_i·r_o·r_i`, with
//!
//! ```text
//! r_o = 1/sqrt(mean(t²) + eps)        r_i = 1/sqrt(r_o²·mean((t·w_o)²) + eps)
//! ```
//!
//! So the matmul that computes t also writes u = t·w_o·w_i, and the sums of t² and (t·w_o)² over each group of outputs that a workgroup has. The matmul that
//! takes `norm_i(x)` reads u and multiplies its sums by `r_o·r_i`; the matmul that adds `norm_o(t)` reads t.

use crate::stride;
use crate::weight::Form;

/// Shape of fused sums: per row, t `[width]` and u `[width]`, padded like activations, then two sums of squares per group of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedSums {
    /// Values of t.
    pub width: u32,
    /// Outputs per group: those of one workgroup of the matmul that writes the fused sums.
    pub grain: u32,
}

impl FusedSums {
    /// Fused sums written by a matmul with a matrix in this form.
    #[must_use]
    pub const fn of(width: u32, form: Form) -> Self {
        let group = form.group();
        Self { width, grain: if group < 4 { 4 } else { group } }
    }

    /// Groups of outputs.
    #[must_use]
    pub const fn parts(&self) -> u32 {
        stride(self.width).div_ceil(self.grain)
    }

    /// Floats from row to row.
    #[must_use]
    pub const fn floats(&self) -> u32 {
        2 * stride(self.width) + 4 * self.parts().div_ceil(2)
    }

    /// Bytes of `rows` rows.
    #[must_use]
    pub const fn bytes(&self, rows: u32) -> u64 {
        rows as u64 * self.floats() as u64 * 4
    }
}

/// Fused sums that a launch reads, and the norms to apply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normed {
    /// Shape of the fused sums.
    pub fused: FusedSums,
    /// Whether there is an outer norm.
    pub outer: bool,
    /// Epsilon of the norms.
    pub eps: f32,
}
