//! How the KV cache is laid out, shared by the kernels, their twins and the host that fills the tables.
//!
//! A layer's cache is a list of segments, each one buffer of pages. A page holds 32 positions of one slot: first the keys of
//! every head, then the values, each head's vector padded to chunks of eight. Layers outside the recurrence use slot 0, the core
//! layers one slot per step or fewer, as the slot table says. All layers of a kind share the page numbers.
//!
//! `tables` holds, in u32: `slot_of_step[steps]`, `filled[steps + 1]` (how many slots a position fills that has stored so many
//! steps), and `pages[sequences][slots][pages_per_slot]`. `depth[sequence][position]` counts the steps that are stored.

use crate::weight::{self, Dtype};
use crate::{Axis, Binding, Caps, NONE, Part, Place};

/// Positions per page.
pub const PAGE: u32 = 32;

pub(super) const CACHE: Part = Part::new("cache", include_str!("cache.wgsl"));

pub(super) const KV_READ: Axis = Axis {
    name: "kv",
    options: &[
        Part::new("kv_f32", include_str!("kv_read_f32.wgsl"))
            .with(&[Binding::read("keys", "vec4<f32>"), Binding::read("values", "vec2<f32>")]),
        Part::new("kv_bf16", include_str!("kv_read_bf16.wgsl"))
            .with(&[Binding::read("keys", "vec4<u32>"), Binding::read("values", "u32")]),
    ],
};

const BOTH_F32: Part = Part::new("kv_f32", include_str!("kv_both_f32.wgsl")).with(&[Binding::write("kv", "vec4<f32>")]);
const BOTH_BF16: Part =
    Part::new("kv_bf16", include_str!("kv_both_bf16.wgsl")).with(&[Binding::write("kv", "vec4<u32>")]);

/// For kernels that read and write.
pub(super) const KV_BOTH: Axis = Axis { name: "kv", options: &[BOTH_F32, BOTH_BF16] };

/// For kernels that write.
pub(super) const KV_WRITE: Axis = Axis {
    name: "kv",
    options: &[
        BOTH_F32,
        BOTH_BF16,
        Part::new("kv_bf16_texture", include_str!("kv_store_bf16.wgsl"))
            .with(&[Binding::write("kv", "vec4<u32>").in_texture()]),
    ],
};

/// What a position that has not stored the step in question offers to later rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing: the position is skipped, as the authors' cache "full" silently does.
    Full,
    /// Its newest earlier step ("latest-m4").
    #[default]
    Latest,
}

impl Lookup {
    pub(super) const fn code(self) -> u32 {
        match self {
            Self::Full => 0,
            Self::Latest => 1,
        }
    }
}

/// Shape of the cache as one launch sees it.
#[derive(Clone, Copy, Debug)]
pub struct CacheShape {
    /// Heads that have keys and values.
    pub kv_heads: u32,
    /// Values per head, even, at most 128.
    pub head_dim: u32,
    /// F32 or Bf16.
    pub dtype: Dtype,
    /// Where segments are; those in textures are Bf16.
    pub place: Place,
    /// Sequences in the tables.
    pub sequences: u32,
    /// Positions per sequence, at most.
    pub context: u32,
    /// Steps that the slot table covers, at least 1.
    pub steps: u32,
    /// Slots per sequence in the page table, slot 0 included.
    pub slots: u32,
    /// How unstored steps are looked up.
    pub lookup: Lookup,
    /// Whether the layer is part of the recurrence.
    pub recurrent: bool,
    /// First page of the bound segment.
    pub page_base: u32,
    /// Pages of the bound segment.
    pub page_count: u32,
}

impl CacheShape {
    /// Where a device has a cache of this dtype: in textures, if that is where its subgroups read best.
    #[must_use]
    pub const fn preferred(caps: &Caps, dtype: Dtype) -> Place {
        if caps.lanes.is_some() && matches!(dtype, Dtype::Bf16) { Place::Texture } else { Place::Buffer }
    }

    /// Chunks of eight per key.
    #[must_use]
    pub const fn chunks(&self) -> u32 {
        weight::chunks(self.head_dim)
    }

    /// Pages that cover the context of one slot.
    #[must_use]
    pub const fn pages_per_slot(&self) -> u32 {
        self.context.div_ceil(PAGE)
    }

    /// Bytes of one page of one layer.
    #[must_use]
    pub const fn page_bytes(&self) -> u64 {
        self.dtype.matrix_bytes(2 * self.kv_heads * PAGE, self.chunks())
    }

    /// Bytes of the bound segment.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        self.page_bytes() * self.page_count as u64
    }

    /// Words of `tables`.
    #[must_use]
    pub const fn table_words(&self) -> u64 {
        self.page_entry(self.sequences, 0, 0)
    }

    /// Index in `tables` of the page number for a page of positions.
    #[must_use]
    pub const fn page_entry(&self, sequence: u32, slot: u32, page: u32) -> u64 {
        let entry = (sequence as u64 * self.slots as u64 + slot as u64) * self.pages_per_slot() as u64 + page as u64;
        2 * self.steps as u64 + 1 + entry
    }

    /// The option of [`KV_WRITE`].
    pub(super) const fn kv_option(&self) -> u8 {
        match (self.dtype, self.place) {
            (Dtype::F32, _) => 0,
            (_, Place::Buffer) => 1,
            (_, Place::Texture) => 2,
        }
    }

    /// The slot of a position's keys as a row at `step` sees them, if the position has stored `depth` steps.
    pub(super) fn slot_seen(&self, tables: &[u32], step: u32, depth: u32) -> u32 {
        if !self.recurrent {
            return 0;
        }
        let slot = tables[step.min(self.steps - 1) as usize];
        let filled = tables[(self.steps + depth.min(self.steps)) as usize];
        let missing = slot >= filled;
        if missing && self.lookup == Lookup::Latest {
            return if depth == 0 { NONE } else { 1 + tables[depth.min(self.steps) as usize - 1] };
        }
        if missing { NONE } else { 1 + slot }
    }

    /// The page of a position within the bound segment.
    pub(super) fn page_of(&self, tables: &[u32], sequence: u32, slot: u32, position: u32) -> Option<u32> {
        if slot == NONE {
            return None;
        }
        let page = tables[self.page_entry(sequence, slot, position / PAGE) as usize];
        page.checked_sub(self.page_base).filter(|&page| page < self.page_count)
    }

    /// Index of the first value of a key (`which` = 0) or value (1).
    pub(super) const fn vector(&self, page: u32, which: u32, head: u32, position: u32) -> usize {
        let vector = ((page * 2 + which) * self.kv_heads + head) * PAGE + position % PAGE;
        vector as usize * self.chunks() as usize * 8
    }
}
