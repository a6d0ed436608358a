//! Form of a matrix in memory: its dtype and the order of its values.

use super::Dtype;
use crate::Caps;

/// Form of a matrix in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// Format of the values.
    pub dtype: Dtype,
    /// Order of the values.
    pub order: Order,
}

/// Order of a matrix's values in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Row after row, in a buffer.
    #[default]
    Rows,
    /// For subgroups of this many lanes, in a texture. A subgroup processes a group of `4·lanes` rows, each lane four neighboring ones. Texels are ordered by
    /// group, position in the row, row of a lane, and lane: the texels that a subgroup loads at once are adjacent, and it reads memory in order. Rows are
    /// padded with zeros to whole groups, and along k to whole blocks of 32.
    Lanes(u32),
}

impl From<Dtype> for Form {
    /// The dtype, row after row.
    fn from(dtype: Dtype) -> Self {
        Self { dtype, order: Order::Rows }
    }
}

impl Form {
    /// Form that suits a device.
    #[must_use]
    pub const fn preferred(caps: &Caps, dtype: Dtype) -> Self {
        let order = match caps.lanes {
            Some(lanes) => Order::Lanes(lanes),
            None => Order::Rows,
        };
        Self { dtype, order }
    }

    /// Name in labels and reports: `bf16`, `bf16 for 8 lanes`.
    #[must_use]
    pub fn name(self) -> String {
        match self.order {
            Order::Rows => self.dtype.name().to_owned(),
            Order::Lanes(lanes) => format!("{} for {lanes} lanes", self.dtype.name()),
        }
    }

    /// Rows that are stored together.
    #[must_use]
    pub const fn group(self) -> u32 {
        match self.order {
            Order::Rows => 1,
            Order::Lanes(lanes) => 4 * lanes,
        }
    }

    /// Subgroup size that the form is made for, or 0.
    #[must_use]
    pub const fn lanes(self) -> u32 {
        match self.order {
            Order::Rows => 0,
            Order::Lanes(lanes) => lanes,
        }
    }

    /// Whether the matrix is in a texture.
    #[must_use]
    pub const fn in_texture(self) -> bool {
        matches!(self.order, Order::Lanes(_))
    }
}
