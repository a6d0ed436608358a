//! What products are made of.

use crate::Caps;
use crate::weight::{Dtype, Form};

/// What the products of a model's matrices are made of. Sums are f32 in the end, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Arithmetic {
    /// f32: what weights and rows are, to the last bit that they have.
    #[default]
    F32,
    /// f16 where many rows are computed at once, 16 products at a time, on devices that compute in it: twice as many at once on most GPUs. Values beyond 65,504 become infinite.
    F16,
    /// Whole numbers of eight bits, for weights in blocks: rows are rounded to blocks of 32 with a common factor too. Others stay as they are.
    Int8,
    /// Matrices that subgroups multiply together, where many rows are computed at once, on devices that have units for it: in f16, whose sums are f32, or in f32,
    /// as the device has them.
    Cooperative,
}

impl Arithmetic {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Int8, Self::Cooperative];

    /// Name as users write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Cooperative => "cooperative",
        }
    }

    /// How it is told in the name of a shape of tiles; whole numbers show in what they take.
    pub(super) const fn said(self) -> &'static str {
        match self {
            Self::F32 | Self::Int8 => "",
            Self::F16 => " in f16",
            Self::Cooperative => " in cooperative matrices",
        }
    }

    /// Whether rows are rounded to whole numbers for weights of a dtype.
    #[must_use]
    pub const fn rounds(self, dtype: Dtype) -> bool {
        matches!(self, Self::Int8) && dtype.in_blocks()
    }

    /// How a matrix is held: as suits the device, but row after row for kernels that know no other order.
    #[must_use]
    pub fn form(self, caps: &Caps, dtype: Dtype) -> Form {
        let in_rows = self.rounds(dtype) || matches!(self, Self::F16 | Self::Cooperative);
        if in_rows { dtype.into() } else { Form::preferred(caps, dtype) }
    }
}
