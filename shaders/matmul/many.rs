//! Choice of the kernel that multiplies many rows by a matrix. Launches, checks of options and reports all use this module, so that they agree.

use std::fmt;

use super::Arithmetic;
use super::launch::{COOPERATIVE_LINE, COOPERATIVE_SUBGROUPS, COOPERATIVE_TILE};
use crate::weight::{Dtype, Form};
use crate::{Caps, Cooperative};

/// Kernel for passes of many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManyRows {
    /// `matmul_lanes`: weights in textures, read by subgroups of a known size.
    Lanes,
    /// `matmul_tiled`, with products in f32.
    Tiled,
    /// `matmul_tiled`, with products in f16.
    TiledF16,
    /// `matmul_tiled_int8`.
    TiledInt8,
    /// `matmul_cooperative`.
    Cooperative(Matrices),
}

/// Configuration of cooperative matrices on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrices {
    /// Kind of matrices.
    pub kind: Cooperative,
    /// Lanes of a workgroup.
    pub lanes: u32,
    /// Slices of k in workgroup memory, 1 or 2.
    pub buffers: u32,
}

impl Matrices {
    /// The best configuration that fits a device's limits, if any: with two slices if there is memory for them, and lanes to hold one slice while the other is
    /// multiplied.
    #[must_use]
    pub fn of(caps: &Caps) -> Option<Self> {
        let (kind, (_, most)) = caps.matrices().zip(caps.subgroups)?;
        let lanes = COOPERATIVE_SUBGROUPS * most;
        let all = [2, 1].map(|buffers| Self { kind, lanes, buffers });
        all.into_iter().find(|it| it.fits(caps))
    }

    pub(super) fn fits(&self, caps: &Caps) -> bool {
        // Slices of x and W, and one matrix of sums per subgroup.
        let value = if self.kind.rounds() { 2 } else { 4 };
        let slices = self.buffers * 2 * COOPERATIVE_TILE * COOPERATIVE_LINE * value;
        let memory = slices + COOPERATIVE_SUBGROUPS * self.kind.side().pow(2) * 4;
        self.lanes <= caps.max_invocations
            && memory <= caps.max_workgroup_memory
            && (self.buffers == 1 || self.lanes >= LANES_OF_TWO)
    }
}

/// Minimum lanes to hold the next slice, at two items per lane.
const LANES_OF_TWO: u32 = 128;

impl ManyRows {
    /// Kernel for a matrix on a device. Unsupported arithmetic modes fall back to f32; [`ManyRows::lacks`] reports them.
    #[must_use]
    pub fn of(caps: &Caps, arithmetic: Arithmetic, form: Form) -> Self {
        if form.in_texture() {
            return Self::Lanes;
        }
        match (arithmetic, Self::lacks(caps, arithmetic)) {
            (Arithmetic::F16, None) => Self::TiledF16,
            (Arithmetic::Int8, None) if form.dtype.in_blocks() => Self::TiledInt8,
            (Arithmetic::Cooperative, None) => Matrices::of(caps).map_or(Self::Tiled, Self::Cooperative),
            _ => Self::Tiled,
        }
    }

    /// The reason why a device does not support an arithmetic mode, worded as what is allowed instead; `None` if it supports the mode.
    #[must_use]
    pub fn lacks(caps: &Caps, arithmetic: Arithmetic) -> Option<&'static str> {
        let (has, lacks) = match arithmetic {
            Arithmetic::F32 => return None,
            Arithmetic::F16 => (caps.f16, "a dtype with another arithmetic mode: f16 is not supported on this device"),
            Arithmetic::Int8 => (caps.bytes, "a dtype with another arithmetic mode: DX12's compiler gets int8 wrong"),
            Arithmetic::Cooperative => (
                Matrices::of(caps).is_some(),
                "a dtype with another arithmetic mode: cooperative matrices are not supported on this device, or it was opened without them",
            ),
        };
        (!has).then_some(lacks)
    }

    /// Kernels for prompts on a device, one for each arithmetic mode that it supports: `f32 by matmul_tiled`. Weights are in bf16, or in q8 for int8.
    #[must_use]
    pub fn report(caps: &Caps) -> String {
        let all = Arithmetic::ALL.into_iter().filter(|&arithmetic| Self::lacks(caps, arithmetic).is_none());
        let line = |arithmetic: Arithmetic| {
            let dtype = if arithmetic == Arithmetic::Int8 { Dtype::Q8 } else { Dtype::Bf16 };
            format!("{} by {}", arithmetic.name(), Self::of(caps, arithmetic, arithmetic.form(caps, dtype)))
        };
        all.map(line).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for ManyRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = match self {
            Self::Lanes => super::MATMUL_LANES.name,
            Self::Tiled | Self::TiledF16 => super::MATMUL_TILED.name,
            Self::TiledInt8 => super::MATMUL_TILED_INT8.name,
            Self::Cooperative(_) => super::MATMUL_COOPERATIVE.name,
        };
        f.write_str(kernel)?;
        if let Self::Cooperative(Matrices { kind, buffers, .. }) = self {
            let (side, of) = (kind.side(), if kind.rounds() { "f16" } else { "f32" });
            let buffers = if *buffers == 2 { ", double-buffered" } else { "" };
            write!(f, " ({side} × {side} in {of}{buffers})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps() -> Caps {
        let cooperative = [true, false, false];
        Caps { subgroups: Some((32, 32)), cooperative, max_workgroup_memory: 32 << 10, ..Caps::WEBGPU }
    }

    #[test]
    fn cooperative_tiles_are_double_buffered_where_memory_allows() {
        let buffers = |caps: Caps| Matrices::of(&caps).map(|it| it.buffers);
        assert_eq!(buffers(caps()), Some(2));
        assert_eq!(buffers(Caps { max_workgroup_memory: 16 << 10, ..caps() }), Some(1));
        // Subgroups of 8 are too few lanes to hold a slice.
        assert_eq!(buffers(Caps { subgroups: Some((8, 8)), ..caps() }), Some(1));
        assert_eq!(buffers(Caps { max_invocations: 64, ..caps() }), None);
        assert_eq!(buffers(Caps { cooperative: [false; 3], ..caps() }), None);
    }

    #[test]
    fn arithmetic_decides_among_what_the_device_has() {
        let of = |caps: &Caps, arithmetic, dtype: Dtype| ManyRows::of(caps, arithmetic, dtype.into());
        let (all, none) = (caps(), Caps { bytes: false, ..Caps::WEBGPU });
        assert!(matches!(of(&all, Arithmetic::Cooperative, Dtype::Bf16), ManyRows::Cooperative(_)));
        assert_eq!(of(&all, Arithmetic::Int8, Dtype::Q4), ManyRows::TiledInt8);
        assert_eq!(of(&all, Arithmetic::Int8, Dtype::Bf16), ManyRows::Tiled);
        for arithmetic in Arithmetic::ALL {
            assert_eq!(of(&none, arithmetic, Dtype::Q8), ManyRows::Tiled);
        }
        assert_eq!(ManyRows::report(&none), "f32 by matmul_tiled");
        assert_eq!(
            ManyRows::report(&all),
            "f32 by matmul_tiled, int8 by matmul_tiled_int8, cooperative by matmul_cooperative (16 × 16 in f16, double-buffered)"
        );
    }
}
