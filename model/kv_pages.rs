//! Contents of pages: copying positions to and from the host, and sharing pages between caches.

use std::sync::Arc;

use ruminate_shaders::NONE;
use ruminate_shaders::attention::cache::{CacheShape, PAGE};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::kv::{KvCache, Pool};

/// Layout of a cache in segments, and its used pages. Sums are added segment by segment, so results of a cache with another layout may differ in the last bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// Steps that the tables hold.
    pub(crate) steps: u32,
    /// Pages of every segment: those of prelude and coda, then those of the core.
    pub(crate) segments: [Vec<u32>; 2],
    /// Pages used so far.
    pub(crate) used: [u32; 2],
    /// Used pages that are in no table any more.
    pub(crate) lost: [u32; 2],
}

/// Part of a page's content for each of its positions: `len` bytes at `start + position * stride`.
struct Piece {
    start: usize,
    stride: usize,
    len: usize,
}

/// Parts of a page that hold one position's bytes, in order: keys by head, then values, and for dtypes with blocks their scales. The layout is documented in
/// `cache.rs` of the shaders.
fn pieces(shape: &CacheShape) -> Vec<Piece> {
    let (heads, page) = (shape.kv_heads as usize, PAGE as usize);
    if !shape.dtype.in_blocks() {
        let len = shape.page_bytes() as usize / (2 * heads * page);
        return (0..2 * heads).map(|vector| Piece { start: vector * page * len, stride: len, len }).collect();
    }
    let (units, blocks) = (shape.chunks() as usize / 2, shape.chunks() as usize / 4);
    let all = heads * page * units * 16;
    let keys = (0..heads * units).map(|unit| Piece { start: unit * page * 16, stride: 16, len: 16 });
    let values = (0..heads).map(|head| {
        let len = units * 16;
        Piece { start: all + head * page * len, stride: len, len }
    });
    let factors = (0..heads * blocks).map(|block| Piece { start: 2 * all + block * page * 4, stride: 4, len: 4 });
    keys.chain(values).chain(factors).collect()
}

impl KvCache {
    /// Bytes of one layer for a position at one step.
    pub(crate) fn position_bytes(&self) -> usize {
        self.shape.position_bytes() as usize
    }

    /// Number of layers of prelude and coda, or of the core.
    pub(crate) fn layers(&self, recurrent: bool) -> usize {
        self.pools[usize::from(recurrent)].layers
    }

    /// Steps stored at each of the first `positions` positions.
    ///
    /// # Errors
    /// Device errors.
    pub(crate) fn stored_steps(&self, positions: u32) -> Result<Vec<u32>, Error> {
        let bytes = self.device.read(&self.depth, 0..u64::from(positions) * 4)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Positions with keys in `slot`, in ascending order, for positions that have stored `depth` steps.
    pub(crate) fn in_slot(&self, depth: &[u32], slot: u32) -> Vec<u32> {
        let fills = |steps: u32| slot == 0 || self.share.slots(steps) >= slot;
        (0..).zip(depth).filter(|&(_, &steps)| fills(steps)).map(|(position, _)| position).collect()
    }

    /// Number of slots, without slot 0, that positions with these stored steps fill.
    pub(crate) fn slots_of(&self, depth: &[u32]) -> u32 {
        self.share.slots(depth.iter().copied().max().unwrap_or(0))
    }

    /// Reads the content of a layer's slot at the given positions, in ascending order, and passes it to `take` page by page: `[positions, position_bytes]` in
    /// total.
    ///
    /// # Errors
    /// Device errors, and errors of `take`.
    pub(crate) fn read_slot(
        &self,
        (layer, slot): (usize, u32),
        positions: &[u32],
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let pieces = pieces(&self.shape);
        for positions in positions.chunk_by(|a, b| a / PAGE == b / PAGE) {
            let page =
                self.read_page(layer, usize::from(slot > 0), self.mirror[self.entry(0, slot, positions[0] / PAGE)])?;
            let mut out = Vec::with_capacity(positions.len() * self.position_bytes());
            for position in positions {
                for Piece { start, stride, len } in &pieces {
                    out.extend_from_slice(&page[start + (position % PAGE) as usize * stride..][..*len]);
                }
            }
            take(&out)?;
        }
        Ok(())
    }

    /// Writes what [`Self::read_slot`] reads: `give` fills `[positions, position_bytes]`, page by page. The pages must have been reserved.
    ///
    /// # Errors
    /// Device errors, and errors of `give`.
    pub(crate) fn write_slot(
        &self,
        (layer, slot): (usize, u32),
        positions: &[u32],
        mut give: impl FnMut(&mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let pieces = pieces(&self.shape);
        for positions in positions.chunk_by(|a, b| a / PAGE == b / PAGE) {
            let mut bytes = vec![0; positions.len() * self.position_bytes()];
            give(&mut bytes)?;
            let mut page = vec![0; self.shape.page_bytes() as usize];
            let mut rest = &bytes[..];
            for position in positions {
                for Piece { start, stride, len } in &pieces {
                    let (now, later) = rest.split_at(*len);
                    page[start + (position % PAGE) as usize * stride..][..*len].copy_from_slice(now);
                    rest = later;
                }
            }
            self.write_page(
                layer,
                usize::from(slot > 0),
                self.mirror[self.entry(0, slot, positions[0] / PAGE)],
                &page,
            )?;
        }
        Ok(())
    }

    /// Writes the steps stored at each position.
    ///
    /// # Errors
    /// Device errors.
    pub(crate) fn write_stored_steps(&self, depth: &[u32]) -> Result<(), Error> {
        Ok(self.device.write(&self.depth, 0, bytemuck::cast_slice(depth))?)
    }

    /// Layout of this cache, and its page table `[slots, pages]`.
    pub(crate) fn layout(&self) -> (Layout, &[u32]) {
        let each = |of: &dyn Fn(&Pool) -> u32| [of(&self.pools[0]), of(&self.pools[1])];
        let counts = |pool: &Pool| pool.segments.iter().map(|segment| segment.count).collect();
        let layout = Layout {
            steps: self.shape.steps,
            segments: [counts(&self.pools[0]), counts(&self.pools[1])],
            used: each(&|pool| pool.used),
            lost: each(&|pool| pool.lost),
        };
        (layout, &self.mirror[self.entry(0, 0, 0)..])
    }

    /// Gives an empty cache the layout of another one. Returns false if `pages` is inconsistent. If this device cannot hold segments of that size, only the
    /// number of steps is adopted.
    ///
    /// # Errors
    /// Device errors.
    pub(crate) fn lay_out(&mut self, layout: &Layout, pages: &[u32]) -> Result<bool, Error> {
        let Layout { steps, segments, used, lost } = layout;
        if *steps > self.shape.steps {
            self.widen(*steps)?;
        }
        let first = self.entry(0, 0, 0);
        if *steps != self.shape.steps || pages.len() != self.mirror.len() - first {
            return Ok(false);
        }
        let (outside, core) = pages.split_at(self.shape.pages_per_slot() as usize);
        let most = self.most_pages();
        for (pool, pages) in [outside, core].into_iter().enumerate() {
            let held = segments[pool].iter().try_fold(0u32, |sum, &count| sum.checked_add(count));
            let mut given: Vec<u32> = pages.iter().copied().filter(|&page| page != NONE).collect();
            given.sort_unstable();
            let twice = given.windows(2).any(|pair| pair[0] == pair[1]);
            let beyond = given.last().is_some_and(|&page| page >= used[pool]);
            let counted = given.len() as u64 + u64::from(lost[pool]) <= u64::from(used[pool]);
            // A cache adds a page only if its tables lack one, so it never holds more pages than its tables and the lost ones.
            let most_held = pages.len() as u64 + u64::from(lost[pool]) + 1;
            let too_many = held.is_none_or(|held| used[pool] > held || u64::from(held) > most_held);
            if twice || beyond || !counted || too_many || segments[pool].contains(&0) {
                return Ok(false);
            }
        }
        let bytes = |pool: usize| {
            let held = segments[pool].iter().fold(0_u64, |sum, &count| sum.saturating_add(count.into()));
            held.saturating_mul(self.shape.page_bytes()).saturating_mul(self.pools[pool].layers as u64)
        };
        if self.device.memory().available.is_some_and(|available| bytes(0).saturating_add(bytes(1)) > available) {
            let what = "the keys and values of the saved session".to_owned();
            return Err(ruminate_engine::Error::OutOfMemory { what }.into());
        }
        if segments.iter().flatten().any(|&count| count > most) {
            return Ok(true);
        }
        for (pool, counts) in segments.iter().enumerate() {
            for &count in counts {
                self.add_segment(pool, count)?;
            }
            (self.pools[pool].used, self.pools[pool].lost) = (used[pool], lost[pool]);
            self.pools[pool].holders = vec![1; used[pool] as usize];
        }
        self.mirror[first..].copy_from_slice(pages);
        self.write_page_tables()?;
        Ok(true)
    }

    /// Creates a cache that starts with the first positions of this one. Full pages are shared; a last page that is not full is copied, one page for every slot
    /// and layer.
    ///
    /// # Errors
    /// Device errors.
    pub(crate) fn fork(&mut self, positions: u32) -> Result<Self, Error> {
        let full = positions / PAGE;
        let pages = self.shape.pages_per_slot();
        let first = self.entry(0, 0, 0);
        let mut pools = self.pools.clone();
        for pool in &mut pools {
            pool.borrowed = pool.segments.len();
            pool.used = pool.held();
            pool.holders.resize(pool.used as usize, 1);
            pool.lost = pool.held();
        }
        let mut mirror = self.mirror.clone();
        for (entry, page) in (0..).zip(&mut mirror[first..]) {
            if entry % pages >= full {
                *page = NONE;
            } else if *page != NONE {
                pools[usize::from(entry >= pages)].lost -= 1;
            }
        }
        let page_tables = self.device.buffer("kv tables", self.page_tables.size())?;
        let depth = self.device.buffer("kv depth", self.depth.size())?;
        let family = self.family.clone();
        let (device, shape, share) = (self.device.clone(), self.shape, self.share);
        let (rotary, whole) = (self.rotary.clone(), self.whole);
        let (generation, frozen, spare) = (0, full, self.spare);
        let mut fork = Self {
            device,
            shape,
            pools,
            page_tables,
            depth,
            rotary,
            share,
            mirror,
            generation,
            whole,
            frozen,
            family,
            spare,
        };
        fork.write_stored_steps(&self.stored_steps(positions)?)?;
        if !positions.is_multiple_of(PAGE) {
            for slot in 0..shape.slots {
                fork.copy_page(slot, full, self.mirror[self.entry(0, slot, full)])?;
            }
        }
        fork.write_page_tables()?;
        self.frozen = self.frozen.max(full);
        Ok(fork)
    }

    /// Makes sure that positions from `position` on use no page that is shared with another cache.
    ///
    /// # Errors
    /// Device errors.
    pub(crate) fn unshare(&mut self, position: u32) -> Result<(), Error> {
        if Arc::strong_count(&self.family) == 1 {
            self.frozen = 0;
        }
        let first = position / PAGE;
        if first >= self.frozen {
            return Ok(());
        }
        for slot in 0..self.shape.slots {
            for page in first..self.frozen {
                let entry = self.entry(0, slot, page);
                let shared = std::mem::replace(&mut self.mirror[entry], NONE);
                if shared == NONE {
                    continue;
                }
                self.pools[usize::from(slot > 0)].lost += 1;
                if page == first && !position.is_multiple_of(PAGE) {
                    self.copy_page(slot, page, shared)?;
                }
            }
        }
        self.frozen = first;
        self.write_page_tables()
    }

    /// Gives a slot its own copy of the page `from`, if there is one.
    fn copy_page(&mut self, slot: u32, page: u32, from: u32) -> Result<(), Error> {
        if from == NONE {
            return Ok(());
        }
        let pool = usize::from(slot > 0);
        let to = self.take(pool)?;
        for layer in 0..self.pools[pool].layers {
            self.write_page(layer, pool, to, &self.read_page(layer, pool, from)?)?;
        }
        let entry = self.entry(0, slot, page);
        self.mirror[entry] = to;
        Ok(())
    }

    fn write_page_tables(&self) -> Result<(), Error> {
        Ok(self.device.write(&self.page_tables, 0, bytemuck::cast_slice(&self.mirror))?)
    }

    fn read_page(&self, layer: usize, pool: usize, page: u32) -> Result<Vec<u8>, Error> {
        let bytes = self.shape.page_bytes();
        let Some((buffer, start)) = self.place(layer, pool, page) else { return Ok(vec![0; bytes as usize]) };
        Ok(self.device.read(buffer, start..start + bytes)?)
    }

    fn write_page(&self, layer: usize, pool: usize, page: u32, content: &[u8]) -> Result<(), Error> {
        let Some((buffer, start)) = self.place(layer, pool, page) else {
            return Err(Error::bug("a page that is written lies in a segment"));
        };
        Ok(self.device.write(buffer, start, content)?)
    }

    /// Buffer of a page and its byte offset there; none if the page does not exist.
    fn place(&self, layer: usize, pool: usize, page: u32) -> Option<(&ruminate_engine::Buffer, u64)> {
        let segments = &self.pools[pool].segments;
        let segment = segments.iter().find(|segment| (segment.base..segment.base + segment.count).contains(&page))?;
        Some((&segment.layers[layer], u64::from(page - segment.base) * self.shape.page_bytes()))
    }
}
