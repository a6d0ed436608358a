//! How a matrix is held: in which numbers, and in which order.

use super::Dtype;
use crate::Caps;

/// How a matrix is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// In which numbers.
    pub dtype: Dtype,
    /// In which order.
    pub order: Order,
}

/// The order in which a matrix lies in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Row after row, in a buffer.
    #[default]
    Rows,
    /// For subgroups of so many lanes, in a texture. A subgroup takes a group of `4·lanes` rows, a lane four neighbouring ones. Texels are
    /// ordered by group, place in the row, row of a lane, lane: what a subgroup loads at once lies side by side, and it reads one long
    /// line. Rows are padded to whole groups, and along k to whole blocks of 32, with zeros.
    Lanes(u32),
}

impl From<Dtype> for Form {
    /// Row after row.
    fn from(dtype: Dtype) -> Self {
        Self { dtype, order: Order::Rows }
    }
}

impl Form {
    /// What suits a device.
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

    /// Rows that lie together.
    #[must_use]
    pub const fn group(self) -> u32 {
        match self.order {
            Order::Rows => 1,
            Order::Lanes(lanes) => 4 * lanes,
        }
    }

    /// Lanes of the subgroups that it is made for, or 0.
    #[must_use]
    pub const fn lanes(self) -> u32 {
        match self.order {
            Order::Rows => 0,
            Order::Lanes(lanes) => lanes,
        }
    }

    /// Whether it is held in a texture.
    #[must_use]
    pub const fn in_texture(self) -> bool {
        matches!(self.order, Order::Lanes(_))
    }
}
