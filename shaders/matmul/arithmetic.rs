//! Arithmetic modes: the number formats in which products are computed.

use crate::Caps;
use crate::weight::{Dtype, Form};

/// Arithmetic mode of a model's matrix products. The final sums are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Arithmetic {
    /// f32, which holds weights and rows exactly.
    #[default]
    F32,
    /// f16 where many rows are computed at once, over 16 products at a time, on devices that compute in f16: on most GPUs, twice as many products at once.
    /// Values beyond 65,504 become infinite.
    F16,
    /// int8 for weights in blocks: rows are rounded to blocks of 32 with a common factor as well. Other weights are multiplied in f32.
    Int8,
    /// Cooperative matrices, which subgroups multiply together, where many rows are computed at once, on devices with units for them: in f16 with sums in f32,
    /// or in f32, depending on the device.
    Cooperative,
}

impl Arithmetic {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Int8, Self::Cooperative];

    /// Name in options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Cooperative => "cooperative",
        }
    }

    /// Suffix for the names of cases and shape classes. int8 needs none, because the input shows it.
    pub(super) const fn said(self) -> &'static str {
        match self {
            Self::F32 | Self::Int8 => "",
            Self::F16 => " in f16",
            Self::Cooperative => " in cooperative matrices",
        }
    }

    /// Whether rows are rounded to int8 for weights of a dtype.
    #[must_use]
    pub const fn rounds(self, dtype: Dtype) -> bool {
        matches!(self, Self::Int8) && dtype.in_blocks()
    }

    /// Form of a matrix on a device: the one that the device prefers, or row by row for kernels that support no other order.
    #[must_use]
    pub fn form(self, caps: &Caps, dtype: Dtype) -> Form {
        let in_rows = self.rounds(dtype) || matches!(self, Self::F16 | Self::Cooperative);
        if in_rows { dtype.into() } else { Form::preferred(caps, dtype) }
    }
}
