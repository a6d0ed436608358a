//! The KV cache: pages of keys and values per layer, and the tables that map (sequence, slot, positions) to pages.
//!
//! The cache grows by whole segments and never copies. A segment is one buffer or texture per layer, at most as large as the device can bind. Layers of the
//! core have one slot per step, or fewer if steps share keys; all of these layers use the same page numbers. Prelude and coda use slot 0 of the tables and have
//! a pool of their own, since they need far fewer pages. Growing makes recorded plans stale, which [`KvCache::generation`] reports.
//!
//! Forked caches share pages. A full page is not written again, so a fork (`kv_pages.rs`) binds the segments of its original and takes new pages from its own
//! segments. A cache that rewinds into shared positions drops their pages and takes new ones.
//!
//! Sequences of one cache share pages, too. A page counts its holders: table entries and entries of the prefix cache that refer to it. It is free again when
//! the last of them releases it.

use std::sync::Arc;

use ruminate_engine::{Buffer, Device};
use ruminate_shaders::attention::cache::{CacheShape, KvShare, PAGE};
use ruminate_shaders::{NONE, Place};

use crate::error::Error;
use crate::model::Model;
use crate::options::SessionOptions;

/// Keys and values of a set of sequences.
pub(crate) struct KvCache {
    pub(crate) device: Device,
    pub(crate) shape: CacheShape,
    /// Prelude and coda, then the core.
    pub(crate) pools: [Pool; 2],
    pub(crate) page_tables: Buffer,
    pub(crate) depth: Buffer,
    /// Cosine and sine per position and pair `[context, head_dim/2, 2]`.
    pub(crate) rotary: Buffer,
    pub(crate) share: KvShare,
    pub(crate) mirror: Vec<u32>,
    pub(crate) generation: u64,
    /// Whether each pool is a single segment.
    pub(crate) whole: bool,
    /// The first `frozen` pages of each slot may be shared with forked caches.
    pub(crate) frozen: u32,
    /// Held by all caches that share pages with this one.
    pub(crate) family: Arc<()>,
    /// Pages of each pool beyond those that the tables can refer to, for the prefix cache.
    pub(crate) spare: [u32; 2],
}

/// Pages of one kind of layers: those outside the loop, or the core.
#[derive(Clone)]
pub(crate) struct Pool {
    pub(crate) layers: usize,
    pub(crate) used: u32,
    /// Released pages below `used`.
    pub(crate) free: Vec<u32>,
    /// Number of holders of each page below `used`.
    pub(crate) holders: Vec<u32>,
    /// Used pages that are in no table any more.
    pub(crate) lost: u32,
    /// The first `borrowed` segments belong to another cache.
    pub(crate) borrowed: usize,
    pub(crate) segments: Vec<Segment>,
}

/// A range of page numbers, with one buffer per layer.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) base: u32,
    pub(crate) count: u32,
    pub(crate) layers: Vec<Buffer>,
}

impl Pool {
    /// Number of pages in all segments.
    pub(crate) fn held(&self) -> u32 {
        self.segments.last().map_or(0, |last| last.base + last.count)
    }

    /// Number of pages that have a holder.
    pub(crate) fn live(&self) -> u32 {
        self.used - self.free.len() as u32
    }

    /// Releases a page, which is free once it has no holder.
    pub(crate) fn give_back(&mut self, page: u32) {
        let holders = &mut self.holders[page as usize];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
    }
}

/// Bytes of a layer's first segment, unless two pages of every slot need more. Later segments double the pool.
const FIRST_SEGMENT: u64 = 1 << 20;

impl KvCache {
    /// Creates an empty cache for `sequences` of up to `context` positions and up to `steps` steps; [`Self::reserve`] grows it for more steps.
    pub(crate) fn new(
        model: &Model,
        options: &SessionOptions,
        (sequences, context, steps): (u32, u32, u32),
    ) -> Result<Self, Error> {
        let (device, spec) = (model.device(), model.spec());
        let SessionOptions { kv_dtype: dtype, lookup, share, .. } = *options;
        let shape = CacheShape {
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            dtype,
            place: CacheShape::preferred(&device.caps(), dtype),
            sequences,
            context,
            steps,
            slots: 1 + share.slots(steps),
            lookup,
            recurrent: true,
            page_base: 0,
            page_count: 0,
        };
        let outside = (spec.layers.before + spec.layers.after) as usize;
        let pool = |layers| Pool {
            layers,
            used: 0,
            free: Vec::new(),
            holders: Vec::new(),
            lost: 0,
            borrowed: 0,
            segments: Vec::new(),
        };
        let mirror = empty_page_tables(&shape, share);
        let page_tables = device.buffer("kv tables", mirror.len() as u64 * 4)?;
        device.write(&page_tables, 0, bytemuck::cast_slice(&mirror))?;
        let depth = device.buffer("kv depth", u64::from(sequences) * u64::from(context) * 4)?;
        let cache = Self {
            device: device.clone(),
            shape,
            pools: [pool(outside), pool(spec.layers.core as usize)],
            page_tables,
            depth,
            rotary: model.rotary(context)?,
            share,
            mirror,
            generation: 0,
            whole: options.invariant,
            frozen: 0,
            family: Arc::new(()),
            spare: [0; 2],
        };
        if cache.whole {
            cache.check_whole(context)?;
        }
        Ok(cache)
    }

    /// Allows `groups` groups of [`PAGE`] positions beyond those of the sequences.
    ///
    /// # Errors
    /// [`Error::Option`] if sums must not depend on segments and a single segment cannot hold them.
    pub(crate) fn make_spare(&mut self, groups: u32) -> Result<(), Error> {
        let slots = self.shape.slots - 1;
        let fits = self.most_pages() / slots.max(1);
        let tables = self.shape.pages_per_slot() * self.shape.sequences;
        if self.whole && groups.saturating_add(tables) > fits {
            let allowed = "fewer bytes in invariant mode: one buffer of the device must hold a layer's keys";
            return Err(Error::Option { name: "prefix_cache", value: format!("{groups} pages"), allowed });
        }
        self.spare = [groups, groups.saturating_mul(slots)];
        Ok(())
    }

    /// Bytes that a group of [`PAGE`] positions takes at `steps` steps.
    pub(crate) fn group_bytes(&self, steps: u32) -> u64 {
        let slots = [1, u64::from(self.share.slots(steps))];
        self.pools.iter().zip(slots).map(|(pool, slots)| slots * pool.layers as u64 * self.shape.page_bytes()).sum()
    }

    /// Bytes of the pages that have a holder.
    pub(crate) fn live_bytes(&self) -> u64 {
        let bytes = |pool: &Pool| u64::from(pool.live()) * pool.layers as u64 * self.shape.page_bytes();
        self.pools.iter().map(bytes).sum()
    }

    /// Bytes of the pages that [`Self::reserve`] would take.
    pub(crate) fn missing_bytes(&self, sequence: u32, end: u32, steps: u32) -> u64 {
        let mut missing = [0_u64; 2];
        // Slots beyond those of the tables have no pages yet.
        let slots = self.share.slots(steps);
        let known = slots.min(self.shape.slots - 1);
        for page in 0..end.div_ceil(PAGE) {
            for slot in 0..=known {
                let none = self.mirror[self.entry(sequence, slot, page)] == NONE;
                missing[usize::from(slot > 0)] += u64::from(none);
            }
        }
        missing[1] += u64::from(end.div_ceil(PAGE)) * u64::from(slots - known);
        self.pools.iter().zip(missing).map(|(pool, pages)| pages * pool.layers as u64 * self.shape.page_bytes()).sum()
    }

    /// Pages of a sequence for a group of [`PAGE`] positions, with their slots.
    pub(crate) fn pages_of(&self, sequence: u32, group: u32) -> Vec<(u32, u32)> {
        let pages = (0..self.shape.slots).map(|slot| (slot, self.mirror[self.entry(sequence, slot, group)]));
        pages.filter(|&(_, page)| page != NONE).collect()
    }

    /// Bytes of the given pages.
    pub(crate) fn bytes_of(&self, pages: &[(u32, u32)]) -> u64 {
        let layers = |&(slot, _): &(u32, u32)| self.pools[usize::from(slot > 0)].layers as u64;
        pages.iter().map(layers).sum::<u64>() * self.shape.page_bytes()
    }

    /// Adds a holder to each page.
    pub(crate) fn hold(&mut self, pages: &[(u32, u32)]) {
        for &(slot, page) in pages {
            self.pools[usize::from(slot > 0)].holders[page as usize] += 1;
        }
    }

    /// Releases pages held by [`Self::hold`].
    pub(crate) fn let_go(&mut self, pages: &[(u32, u32)]) {
        for &(slot, page) in pages {
            self.pools[usize::from(slot > 0)].give_back(page);
        }
    }

    /// Gives a sequence without pages the shared pages of its first groups. `depth` holds the steps stored at each of their positions.
    ///
    /// # Errors
    /// [`Error::Engine`] if the device is lost.
    pub(crate) fn begin_with(&mut self, sequence: u32, groups: &[Vec<(u32, u32)>], depth: &[u32]) -> Result<(), Error> {
        for (group, pages) in (0..).zip(groups) {
            self.hold(pages);
            for &(slot, page) in pages {
                let entry = self.entry(sequence, slot, group);
                self.mirror[entry] = page;
            }
        }
        let offset = u64::from(sequence) * u64::from(self.shape.context) * 4;
        self.device.write(&self.depth, offset, bytemuck::cast_slice(depth))?;
        self.write_page_tables_of(sequence)
    }

    fn write_page_tables_of(&self, sequence: u32) -> Result<(), Error> {
        let last = (self.shape.slots - 1, self.shape.pages_per_slot() - 1);
        let (from, to) = (self.entry(sequence, 0, 0), self.entry(sequence, last.0, last.1));
        Ok(self.device.write(&self.page_tables, from as u64 * 4, bytemuck::cast_slice(&self.mirror[from..=to]))?)
    }

    /// Checks that one segment can hold the whole cache. Attention sums segment by segment, so invariant mode allows only one.
    fn check_whole(&self, context: u32) -> Result<(), Error> {
        let slots = self.shape.slots.saturating_sub(1).max(1);
        let needed = self.shape.pages_per_slot() * slots * self.shape.sequences;
        let most = self.most_pages();
        if needed <= most {
            return Ok(());
        }
        let positions = most / (slots * self.shape.sequences) * PAGE;
        let value = format!(
            "{context}, but in invariant mode one buffer of this device must hold a layer's keys, which limits the context to {positions}"
        );
        Err(Error::Option { name: "context", value, allowed: "at most that, or more if steps share keys (kv_share)" })
    }

    /// Makes sure that positions `0..end` of a sequence have pages for `steps` steps.
    ///
    /// # Errors
    /// [`Error::Engine`] if the device has no memory left.
    pub(crate) fn reserve(&mut self, sequence: u32, end: u32, steps: u32) -> Result<(), Error> {
        if steps > self.shape.steps {
            if self.whole {
                let allowed = "at most the steps that the session was created with, in invariant mode";
                return Err(Error::Option { name: "steps", value: steps.to_string(), allowed });
            }
            self.widen(steps)?;
        }
        let mut touched = Vec::new();
        for page in 0..end.div_ceil(PAGE) {
            for slot in 0..=self.share.slots(steps) {
                let entry = self.entry(sequence, slot, page);
                if self.mirror[entry] == NONE {
                    self.mirror[entry] = self.take(usize::from(slot > 0))?;
                    touched.push(entry);
                }
            }
        }
        // Entries of one slot are adjacent, so each run is written at once.
        touched.sort_unstable();
        for run in touched.chunk_by(|a, b| a + 1 == *b) {
            let words = &self.mirror[run[0]..=run[run.len() - 1]];
            self.device.write(&self.page_tables, run[0] as u64 * 4, bytemuck::cast_slice(words))?;
        }
        Ok(())
    }

    /// Releases the pages of a sequence.
    ///
    /// # Errors
    /// [`Error::Engine`] if the device is lost.
    pub(crate) fn release(&mut self, sequence: u32) -> Result<(), Error> {
        let pages = self.shape.pages_per_slot();
        for slot in 0..self.shape.slots {
            for page in 0..pages {
                let entry = self.entry(sequence, slot, page);
                let held = std::mem::replace(&mut self.mirror[entry], NONE);
                if held != NONE {
                    self.pools[usize::from(slot > 0)].give_back(held);
                }
            }
        }
        self.write_page_tables_of(sequence)
    }

    /// Segments of a layer: each buffer with the cache shape for a launch over that segment.
    pub(crate) fn segments(&self, recurrent: bool, layer: usize) -> Vec<(CacheShape, &Buffer)> {
        let shape = |segment: &Segment| CacheShape {
            recurrent,
            page_base: segment.base,
            page_count: segment.count,
            ..self.shape
        };
        let segments = &self.pools[usize::from(recurrent)].segments;
        segments.iter().map(|segment| (shape(segment), &segment.layers[layer])).collect()
    }

    /// Number of sequences in the tables.
    pub(crate) const fn sequences(&self) -> u32 {
        self.shape.sequences
    }

    /// Positions per sequence.
    pub(crate) const fn context(&self) -> u32 {
        self.shape.context
    }

    /// Slot and page tables.
    pub(crate) const fn page_tables(&self) -> &Buffer {
        &self.page_tables
    }

    /// The rotary table.
    pub(crate) const fn rotary(&self) -> &Buffer {
        &self.rotary
    }

    /// Steps stored at each position.
    pub(crate) const fn depth(&self) -> &Buffer {
        &self.depth
    }

    /// Counter that changes whenever buffers were added or replaced, which makes recorded plans stale.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes on the device, without segments that belong to another cache.
    pub(crate) fn bytes(&self) -> u64 {
        let own = self.pools.iter().flat_map(|pool| &pool.segments[pool.borrowed..]);
        let segments = own.flat_map(|segment| &segment.layers);
        segments.map(Buffer::size).sum::<u64>() + self.page_tables.size() + self.depth.size()
    }

    pub(crate) fn entry(&self, sequence: u32, slot: u32, page: u32) -> usize {
        self.shape.page_entry(sequence, slot, page) as usize
    }

    /// Takes a free page from a pool, which grows if it has none.
    pub(crate) fn take(&mut self, pool: usize) -> Result<u32, Error> {
        if let Some(page) = self.pools[pool].free.pop() {
            self.pools[pool].holders[page as usize] = 1;
            return Ok(page);
        }
        let page_bytes = self.shape.page_bytes();
        let Pool { used, lost, borrowed, segments, .. } = &self.pools[pool];
        let held = self.pools[pool].held();
        if *used == held {
            let slots = [1, self.shape.slots - 1][pool];
            let first = u32::try_from(FIRST_SEGMENT / page_bytes).unwrap_or(u32::MAX).max(2 * slots);
            let own: u32 = segments[*borrowed..].iter().map(|segment| segment.count).sum();
            // Never more than full contexts and the spare pages need.
            let needed = (self.shape.pages_per_slot() * slots * self.shape.sequences).saturating_add(self.spare[pool]);
            let needed = needed.saturating_sub(held - lost).max(1);
            let count = if self.whole { needed } else { own.max(first).min(self.most_pages()).min(needed) };
            self.add_segment(pool, count)?;
        }
        let pool = &mut self.pools[pool];
        pool.used += 1;
        pool.holders.resize(pool.used as usize, 0);
        pool.holders[pool.used as usize - 1] = 1;
        Ok(pool.used - 1)
    }

    /// Maximum pages of a segment.
    pub(crate) fn most_pages(&self) -> u32 {
        let caps = self.device.caps();
        let largest = if self.shape.place == Place::Texture { caps.max_texture } else { caps.max_binding };
        u32::try_from(largest / self.shape.page_bytes()).unwrap_or(u32::MAX).max(1)
    }

    /// Adds a segment of `count` pages to a pool.
    pub(crate) fn add_segment(&mut self, pool: usize, count: u32) -> Result<(), Error> {
        let Pool { layers, segments, .. } = &self.pools[pool];
        let name = |layer| format!("kv {} {layer}.{}", ["outside", "core"][pool], segments.len());
        let bytes = self.shape.page_bytes() * u64::from(count);
        let buffers = (0..*layers).map(|layer| match self.shape.place {
            Place::Buffer | Place::Uniform => self.device.buffer(&name(layer), bytes),
            Place::Texture => self.device.texels(&name(layer), bytes),
        });
        let (base, layers) = (self.pools[pool].held(), buffers.collect::<Result<_, _>>()?);
        self.pools[pool].segments.push(Segment { base, count, layers });
        self.generation += 1;
        Ok(())
    }

    /// Grows the tables for more steps; page numbers stay the same.
    pub(crate) fn widen(&mut self, steps: u32) -> Result<(), Error> {
        let wide = CacheShape { steps, slots: 1 + self.share.slots(steps), ..self.shape };
        let mut mirror = empty_page_tables(&wide, self.share);
        let pages = self.shape.pages_per_slot() as usize;
        for sequence in 0..self.shape.sequences {
            for slot in 0..self.shape.slots {
                let from = self.entry(sequence, slot, 0);
                let to = wide.page_entry(sequence, slot, 0) as usize;
                mirror[to..to + pages].copy_from_slice(&self.mirror[from..from + pages]);
            }
        }
        self.page_tables = self.device.buffer("kv tables", mirror.len() as u64 * 4)?;
        self.device.write(&self.page_tables, 0, bytemuck::cast_slice(&mirror))?;
        (self.mirror, self.shape) = (mirror, wide);
        self.generation += 1;
        Ok(())
    }
}

/// Page tables without any page.
fn empty_page_tables(shape: &CacheShape, share: KvShare) -> Vec<u32> {
    let slots = (0..shape.steps).map(|step| share.slot(step));
    let mut tables: Vec<u32> = slots.chain((0..=shape.steps).map(|steps| share.slots(steps))).collect();
    tables.resize(shape.table_words() as usize, NONE);
    tables
}
