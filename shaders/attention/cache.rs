//! Layout of the KV cache, shared by the kernels, their references and the host that fills the tables.
//!
//! A layer's cache is a list of segments, each one buffer of pages. A page holds 32 positions of one slot: first the keys of every head, then the values, each
//! head's vector padded to chunks of eight. Layers outside the recurrence use slot 0. The core layers use one slot per step or fewer, according to the slot
//! table. All layers of a kind share the page numbers.
//!
//! In q8, vectors are padded to blocks of 32 whole numbers from -127 to 127, each block with an f16 factor as in weights: 8.5 bits per value. A page then holds
//! the keys of every head (16 bytes of all 32 positions side by side), the values (position by position), and for every head, block and position a word with
//! the factors of the key and of the value. `kv_q8.wgsl` and `CacheShape::q8_unit` define the offsets.
//!
//! `tables` holds, in u32: `slot_of_step[steps]`; `filled[steps + 1]`, the number of slots that a position fills by storing that number of steps; and
//! `pages[sequences][slots][pages_per_slot]`. `depth[sequence][position]` counts the stored steps.

use half::f16;

use crate::weight::{self, BLOCKS, Dtype, FACTOR, ROUND, round_block};
use crate::{Axis, Binding, Caps, Const, NONE, Part, Place};

/// Positions per page.
pub const PAGE: u32 = 32;

/// Ways to store keys and values, the most exact first.
pub const KV_DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::Q8];

pub(super) const CACHE: Part = Part::new("cache", include_str!("cache.wgsl")).with_consts(&[
    Const::u32("PAGE", PAGE),
    Const::u32("LOOKUP_LATEST", Lookup::Latest.code()),
    Const::u32("LOOKUP_ALWAYS_LAST", Lookup::AlwaysLast.code()),
]);

/// WGSL that several options share: attention over f32 and bf16; offsets, attention and rounding in q8.
const PLAIN: &str = include_str!("kv_plain.wgsl");
const PLACES: &str = include_str!("kv_q8.wgsl");
const ATTEND_Q8: &str = include_str!("kv_attend_q8.wgsl");
const ROUND_Q8: &str = include_str!("kv_round_q8.wgsl");

/// Options for kernels that read: the segment, and in q8 the segment once more, as words.
pub(super) const KV_READ: Axis = Axis {
    name: "kv",
    options: &[
        Part::new("kv_f32", include_str!("kv_read_f32.wgsl"))
            .using(&[PLAIN])
            .with(&[Binding::read("keys", "vec4<f32>")]),
        Part::new("kv_bf16", include_str!("kv_read_bf16.wgsl"))
            .using(&[PLAIN])
            .with(&[Binding::read("keys", "vec4<u32>")]),
        Part::new("kv_q8", include_str!("kv_read_q8.wgsl"))
            .using(&[PLACES, ATTEND_Q8, BLOCKS])
            .with(&[Binding::read("keys", "vec4<u32>"), Binding::read("values", "u32")]),
    ],
};

/// Options for kernels that read chunks of eight. Bindings are those of [`KV_READ`], so that launches of both kinds are interchangeable.
pub(super) const KV_TILES: Axis = Axis {
    name: "kv",
    options: &[
        Part::new("kv_f32", include_str!("kv_read_f32.wgsl")).using(&[TILE_PLAIN]).with(KV_READ.options[0].bindings),
        Part::new("kv_bf16", include_str!("kv_read_bf16.wgsl")).using(&[TILE_PLAIN]).with(KV_READ.options[1].bindings),
        Part::new("kv_q8", include_str!("kv_read_q8.wgsl"))
            .using(&[PLACES, include_str!("tile_q8.wgsl"), BLOCKS])
            .with(KV_READ.options[2].bindings),
    ],
};

const TILE_PLAIN: &str = include_str!("tile_plain.wgsl");

/// Options for kernels that read and write.
pub(super) const KV_BOTH: Axis = Axis {
    name: "kv",
    options: &[
        Part::new("kv_f32", include_str!("kv_both_f32.wgsl"))
            .using(&[PLAIN, KEEP])
            .with(&[Binding::write("kv", "vec4<f32>")]),
        Part::new("kv_bf16", include_str!("kv_both_bf16.wgsl"))
            .using(&[PLAIN, KEEP])
            .with(&[Binding::write("kv", "vec4<u32>")]),
        Part::new("kv_q8", include_str!("kv_both_q8.wgsl"))
            .using(&[PLACES, ATTEND_Q8, BLOCKS, ROUND_Q8, ROUND[0], ROUND[1]])
            .with(&[Binding::write("kv", "vec4<u32>")]),
    ],
};

const KEEP: &str = include_str!("kv_keep.wgsl");

/// Options for kernels that write.
pub(super) const KV_WRITE: Axis = Axis {
    name: "kv",
    options: &[
        Part::new("kv_f32", include_str!("kv_store_f32.wgsl"))
            .using(&[STORE_PLAIN])
            .with(&[Binding::write("kv", "vec4<f32>")]),
        Part::new("kv_bf16", include_str!("kv_store_bf16.wgsl"))
            .using(&[STORE_PLAIN])
            .with(&[Binding::write("kv", "vec4<u32>")]),
        Part::new("kv_q8", include_str!("kv_store_q8.wgsl"))
            .using(&[PLACES, ROUND_Q8, ROUND[0], ROUND[1]])
            .with(&[Binding::write("kv", "vec2<u32>")]),
        Part::new("kv_bf16_texture", include_str!("kv_store_texture.wgsl"))
            .using(&[STORE_PLAIN])
            .with(&[Binding::write("kv", "vec4<u32>").in_texture()]),
    ],
};

const STORE_PLAIN: &str = include_str!("kv_store_plain.wgsl");

/// Rule for looking up a position that has not stored the row's step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Lookup {
    /// Skips the position, as the authors' cache "full" silently does.
    Full,
    /// Uses its newest earlier step of the same layer ("latest-m4"; as steps are stored without gaps, "available-m4" is the same).
    #[default]
    Latest,
    /// As [`Self::Latest`], but if any position before a row lacks the row's step, the row sees the last step of every position, even of those that have stored
    /// later steps ("always-last-m4").
    AlwaysLast,
}

impl Lookup {
    pub(super) const fn code(self) -> u32 {
        match self {
            Self::Full => 0,
            Self::Latest => 1,
            Self::AlwaysLast => 2,
        }
    }

    /// Inverse of [`Self::code`].
    pub(super) const fn of(code: u32) -> Self {
        match code {
            0 => Self::Full,
            1 => Self::Latest,
            _ => Self::AlwaysLast,
        }
    }
}

/// Sharing of cache slots among the steps of a position: a later step overwrites what an earlier one stored in its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum KvShare {
    /// Each step has its own slot.
    #[default]
    None,
    /// Steps this far apart, at least 1, share a slot. On a core block of four layers, 1 is the authors' "compress-s4", 4 their "compress-s16".
    Steps(u32),
    /// All steps from the ninth on share a slot ("compress-anchor").
    Anchor,
}

/// Steps that own a slot under [`KvShare::Anchor`].
const ANCHORS: u32 = 8;

impl KvShare {
    /// Slot of a step, from 0.
    #[must_use]
    pub const fn slot(self, step: u32) -> u32 {
        match self {
            Self::None => step,
            Self::Steps(apart) => step % apart,
            Self::Anchor => {
                if step < ANCHORS {
                    step
                } else {
                    ANCHORS
                }
            }
        }
    }

    /// Number of slots that `steps` steps fill.
    #[must_use]
    pub const fn slots(self, steps: u32) -> u32 {
        let most = match self {
            Self::None => u32::MAX,
            Self::Steps(apart) => apart,
            Self::Anchor => ANCHORS + 1,
        };
        if steps < most { steps } else { most }
    }
}

/// Shape of the cache as seen by one launch.
#[derive(Clone, Copy, Debug)]
pub struct CacheShape {
    /// Heads that have keys and values.
    pub kv_heads: u32,
    /// Values per head, even, at most 128.
    pub head_dim: u32,
    /// One of [`KV_DTYPES`].
    pub dtype: Dtype,
    /// Memory of the segments; textures hold bf16 only.
    pub place: Place,
    /// Sequences in the tables.
    pub sequences: u32,
    /// Maximum positions per sequence.
    pub context: u32,
    /// Steps that the slot table covers, at least 1.
    pub steps: u32,
    /// Slots per sequence in the page table, slot 0 included.
    pub slots: u32,
    /// Rule for looking up steps that are not stored.
    pub lookup: Lookup,
    /// Whether the layer is part of the recurrence.
    pub recurrent: bool,
    /// First page of the bound segment.
    pub page_base: u32,
    /// Pages of the bound segment.
    pub page_count: u32,
}

impl CacheShape {
    /// Memory that a device prefers for a cache of this dtype: textures if its subgroups read them best.
    #[must_use]
    pub const fn preferred(caps: &Caps, dtype: Dtype) -> Place {
        if caps.lanes.is_some() && matches!(dtype, Dtype::Bf16) { Place::Texture } else { Place::Buffer }
    }

    /// Chunks of eight per key, padded to whole blocks of 32 in q8.
    #[must_use]
    pub const fn chunks(&self) -> u32 {
        let chunks = weight::chunks(self.head_dim);
        if self.dtype.in_blocks() { chunks.next_multiple_of(4) } else { chunks }
    }

    /// Pages that cover the context of one slot.
    #[must_use]
    pub const fn pages_per_slot(&self) -> u32 {
        self.context.div_ceil(PAGE)
    }

    /// Bytes of one page of one layer.
    #[must_use]
    pub const fn page_bytes(&self) -> u64 {
        let vectors = 2 * self.kv_heads * PAGE;
        if self.dtype.in_blocks() {
            // A block has 32 bytes of numbers and a factor of 2 bytes.
            return vectors as u64 * (self.chunks() / 4) as u64 * 34;
        }
        self.dtype.matrix_bytes(vectors, self.chunks())
    }

    /// Bytes that one layer takes for one position.
    #[must_use]
    pub const fn position_bytes(&self) -> u64 {
        self.page_bytes() / PAGE as u64
    }

    /// Bytes of the bound segment.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        self.page_bytes() * self.page_count as u64
    }

    /// Length of `tables`, in words.
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

    /// Option on the kv axis.
    pub(super) const fn kv_option(&self) -> u8 {
        match (self.dtype, self.place) {
            (Dtype::F32, _) => 0,
            (Dtype::Q8, _) => 2,
            (_, Place::Buffer | Place::Uniform) => 1,
            (_, Place::Texture) => 3,
        }
    }

    /// Whether a row sees the last step of every position, given the numbers of steps stored by the positions up to its own.
    pub(super) fn sees_last(&self, tables: &[u32], step: u32, depth: &[u32]) -> bool {
        let slot = tables[step.min(self.steps - 1) as usize];
        let lacks = |&stored: &u32| slot >= tables[(self.steps + stored.min(self.steps)) as usize];
        self.recurrent && self.lookup == Lookup::AlwaysLast && depth.iter().any(lacks)
    }

    /// Slot in which a row at `step` finds a position's keys, if the position has stored `depth` steps.
    pub(super) fn slot_seen(&self, tables: &[u32], step: u32, depth: u32, last: bool) -> u32 {
        if !self.recurrent {
            return 0;
        }
        let slot = tables[step.min(self.steps - 1) as usize];
        let filled = tables[(self.steps + depth.min(self.steps)) as usize];
        let missing = slot >= filled;
        if last || missing && self.lookup == Lookup::Latest {
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

    /// Index of the first value of a vector that is not in q8.
    const fn start(&self, at: Vector) -> usize {
        let vector = ((at.page * 2 + at.which) * self.kv_heads + at.head) * PAGE + at.position % PAGE;
        vector as usize * self.chunks() as usize * 8
    }

    /// Index of unit `unit`, 16 bytes, of a vector in q8.
    const fn q8_unit(&self, at: Vector, unit: u32) -> usize {
        let (units, position) = (self.chunks() / 2, at.position % PAGE);
        let keys = self.kv_heads * PAGE * units;
        let place = match at.which {
            0 => (at.head * units + unit) * PAGE + position,
            _ => keys + (at.head * PAGE + position) * units + unit,
        };
        at.page as usize * self.page_bytes() as usize / 16 + place as usize
    }

    /// Index of the factor of a block of a vector in q8, in 16-bit halves.
    const fn q8_factor(&self, at: Vector, block: u32) -> usize {
        let blocks = self.chunks() / 4;
        let start =
            (at.page as usize * self.page_bytes() as usize) / 2 + (2 * self.kv_heads * PAGE * blocks * 16) as usize;
        start + 2 * ((at.head * blocks + block) * PAGE + at.position % PAGE) as usize + at.which as usize
    }

    /// Stores a vector of whole chunks.
    pub(super) fn store(&self, kv: &mut [u32], at: Vector, values: &[f32]) {
        if !self.dtype.in_blocks() {
            let mut bytes = Vec::with_capacity(values.len() * 4);
            self.dtype.encode_row(values, &mut bytes);
            let start = self.start(at) * self.dtype.bytes() as usize;
            bytemuck::cast_slice_mut::<u32, u8>(kv)[start..start + bytes.len()].copy_from_slice(&bytes);
            return;
        }
        for (block, values) in (0..).zip(values.chunks(32)) {
            let (factor, _, numbers) = round_block(self.dtype, values);
            bytemuck::cast_slice_mut::<u32, u16>(kv)[self.q8_factor(at, block)] = factor.to_bits();
            for (unit, numbers) in (2 * block..).zip(numbers.chunks_exact(16)) {
                let words = numbers.chunks_exact(4).map(|n| n[0] | n[1] << 8 | n[2] << 16 | n[3] << 24);
                kv[self.q8_unit(at, unit) * 4..][..4].iter_mut().zip(words).for_each(|(to, word)| *to = word);
            }
        }
    }

    /// Reads a vector, as many values as fit into `values`.
    pub(super) fn load(&self, kv: &[u32], at: Vector, values: &mut [f32]) {
        if !self.dtype.in_blocks() {
            let start = self.start(at);
            values.iter_mut().zip(start..).for_each(|(value, i)| *value = self.dtype.decode(kv, i));
            return;
        }
        for (block, values) in (0..).zip(values.chunks_mut(32)) {
            let stored = bytemuck::cast_slice::<u32, u16>(kv)[self.q8_factor(at, block)];
            let factor = f16::from_bits(stored).to_f32() / FACTOR;
            for (unit, values) in (2 * block..).zip(values.chunks_mut(16)) {
                let numbers: &[u8] = bytemuck::cast_slice(&kv[self.q8_unit(at, unit) * 4..][..4]);
                let numbers = numbers.iter().map(|&n| (f32::from(n) - 128.0) * factor);
                values.iter_mut().zip(numbers).for_each(|(value, number)| *value = number);
            }
        }
    }
}

/// One head's key or value at a position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vector {
    /// Page, counted within the bound segment.
    pub(super) page: u32,
    /// 0 for the key, 1 for the value.
    pub(super) which: u32,
    /// Head.
    pub(super) head: u32,
    /// Position.
    pub(super) position: u32,
}
