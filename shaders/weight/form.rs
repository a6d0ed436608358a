//! How a matrix lies in device memory: how its values are stored, and in which order.

use super::Dtype;
use crate::{Caps, TEXTURE_WIDTH};

/// How a matrix lies in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// How a value is stored.
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
    /// For subgroups of so many lanes, in a texture, a chunk of eight bf16 per texel. A subgroup takes a group of `4·lanes` rows, a lane
    /// four neighbouring ones. Texels are ordered by group, chunk, row of a lane, lane: what a subgroup loads at once lies side by side,
    /// and it reads one long line. Rows are padded to whole groups, chunks to whole blocks of four, with zeros.
    Lanes(u32),
}

/// Chunks that a subgroup takes at once.
const BLOCK: u32 = 4;

/// Bytes of a chunk of bf16.
const TEXEL: u64 = 16;

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
        let order = match (caps.lanes, dtype) {
            (Some(lanes), Dtype::Bf16) => Order::Lanes(lanes),
            _ => Order::Rows,
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

    /// Bytes of `rows` rows of `chunks` chunks.
    #[must_use]
    pub const fn bytes(self, rows: u32, chunks: u32) -> u64 {
        self.dtype.matrix_bytes(rows.next_multiple_of(self.group()), self.padded(chunks))
    }

    /// The same, up to the end of the last line of a texture: what a device sets aside.
    #[must_use]
    pub const fn memory(self, rows: u32, chunks: u32) -> u64 {
        let grain = if self.in_texture() { TEXTURE_WIDTH as u64 * TEXEL } else { TEXEL };
        self.bytes(rows, chunks).next_multiple_of(grain)
    }

    /// Chunks of a row, with those that pad it.
    const fn padded(self, chunks: u32) -> u32 {
        match self.order {
            Order::Rows => chunks,
            Order::Lanes(_) => chunks.next_multiple_of(BLOCK),
        }
    }

    /// Where a chunk of a row of `chunks` is, in chunks.
    const fn place(self, chunks: u32, row: u32, chunk: u32) -> u64 {
        match self.order {
            Order::Rows => row as u64 * chunks as u64 + chunk as u64,
            Order::Lanes(lanes) => {
                let line = (row / self.group()) as u64 * self.padded(chunks) as u64 + chunk as u64;
                line * self.group() as u64 + (row % 4 * lanes + row / 4 % lanes) as u64
            }
        }
    }

    /// The value at a column of a row of `chunks` chunks.
    #[must_use]
    pub fn decode(self, words: &[u32], chunks: u32, row: u32, column: u32) -> f32 {
        let place = self.place(chunks, row, column / 8) * 8 + u64::from(column % 8);
        self.dtype.decode(words, place as usize)
    }

    /// Brings rows of `chunks` chunks, encoded one after the other from the start of a group on, into this form. The last group may be
    /// incomplete.
    #[must_use]
    pub fn arrange(self, chunks: u32, rows: Vec<u8>) -> Vec<u8> {
        if self.order == Order::Rows {
            return rows;
        }
        let row_bytes = chunks as usize * TEXEL as usize;
        let mut out = vec![0; self.bytes((rows.len() / row_bytes.max(1)) as u32, chunks) as usize];
        for (row, texels) in (0..).zip(rows.chunks_exact(row_bytes)) {
            for (chunk, texel) in (0..).zip(texels.chunks_exact(TEXEL as usize)) {
                let at = (self.place(chunks, row, chunk) * TEXEL) as usize;
                out[at..at + TEXEL as usize].copy_from_slice(texel);
            }
        }
        out
    }
}
