//! Test data for the kernels that use a cache: filled caches and rows.

use super::cache::{CacheShape, KV_DTYPES, Lookup, PAGE, Vector};
use super::fresh::attention_fresh;
use super::rotary_kv::{RotaryKv, RotaryKvParams, rotary_kv};
use super::split::{Attention, AttentionParams, attention, preferred_splits};
use super::tiled::attention_variants;
use crate::weight::Dtype;
use crate::{Caps, Case, Check, Cost, Data, Launch, Noise, Place, Row, Variants, Workload};

/// Reads the cache's shape back from a launch's parameters.
pub(super) trait CacheParams {
    /// The shape, except for the number of sequences, which the parameters do not contain.
    fn shape(&self, dtype: Dtype, place: Place) -> CacheShape;
}

macro_rules! cache_params {
    ($name:ident) => {
        impl CacheParams for $name {
            fn shape(&self, dtype: Dtype, place: Place) -> CacheShape {
                CacheShape {
                    kv_heads: self.kv_heads,
                    head_dim: self.head_dim,
                    dtype,
                    place,
                    sequences: 0,
                    context: self.context,
                    steps: self.steps,
                    slots: self.slots,
                    lookup: Lookup::of(self.lookup),
                    recurrent: self.recurrent != 0,
                    page_base: self.page_base,
                    page_count: self.page_count,
                }
            }
        }
    };
}
cache_params!(RotaryKvParams);
cache_params!(AttentionParams);

/// Shape of the cache that a launch was made for; `option` is its choice on the kv axis.
pub(super) fn shape_of(params: &impl CacheParams, option: usize) -> CacheShape {
    let in_texture = || params.shape(Dtype::Bf16, Place::Texture);
    KV_DTYPES.get(option).map_or_else(in_texture, |&dtype| params.shape(dtype, Place::Buffer))
}

/// A cache and the rows that use it.
#[derive(Clone, Debug)]
pub(super) struct Testbed {
    cache: CacheShape,
    heads: u32,
    rows: Vec<Row>,
    splits: u32,
    seed: u64,
}

/// Shapes that deserve a case of their own.
pub(super) fn shapes() -> Vec<(&'static str, Testbed)> {
    let bed = |heads, kv_heads, head_dim, context, dtype, rows: &[(u32, u32, u32)], splits| {
        let cache = CacheShape {
            kv_heads,
            head_dim,
            dtype,
            place: Place::Buffer,
            sequences: 3,
            context,
            steps: 6,
            slots: 7,
            lookup: Lookup::Latest,
            recurrent: true,
            page_base: 0,
            page_count: 3 * 7 * context.div_ceil(PAGE),
        };
        let rows =
            rows.iter().map(|&(sequence, position, step)| Row { step, ..Row::new(sequence, position, 0) }).collect();
        Testbed { cache, heads, rows, splits, seed: u64::from(heads * head_dim) }
    };
    let prefill: Vec<(u32, u32, u32)> = (0..70).map(|position| (1, position, 2)).collect();
    let mixed = [(0, 0, 0), (0, 63, 5), (1, 64, 3), (2, 99, 4), (2, 98, 0), (0, 31, 1)];
    let mut all = vec![
        ("decode, first position", bed(4, 4, 16, 32, Dtype::F32, &[(0, 0, 0)], 1)),
        ("decode, 4 splits", bed(2, 2, 96, 300, Dtype::Bf16, &[(1, 299, 3)], 4)),
        ("prefill", bed(5, 5, 26, 100, Dtype::F32, &prefill, 1)),
        ("mixed rows", bed(3, 3, 32, 100, Dtype::Bf16, &mixed, 2)),
        ("grouped queries", bed(8, 2, 128, 100, Dtype::F32, &mixed, 3)),
        ("keys shared by 2 heads", bed(4, 2, 80, 100, Dtype::Bf16, &mixed, 1)),
        ("keys shared by 8 heads, 2 splits", bed(16, 2, 128, 600, Dtype::Bf16, &[(1, 590, 3), (2, 200, 5)], 2)),
        ("keys shared by more heads than a workgroup has", bed(11, 1, 40, 300, Dtype::F32, &[(0, 290, 2)], 1)),
    ];
    let mut full = bed(3, 1, 8, 100, Dtype::F32, &mixed, 1);
    full.cache.lookup = Lookup::Full;
    all.push(("positions without the step are skipped", full));
    let mut last = bed(3, 1, 8, 100, Dtype::Bf16, &mixed, 1);
    last.cache.lookup = Lookup::AlwaysLast;
    all.push(("positions show their last step", last));
    let mut outside = bed(2, 2, 96, 100, Dtype::Bf16, &mixed, 1);
    outside.cache.recurrent = false;
    all.push(("outside the recurrence", outside));
    let mut second = bed(2, 2, 24, 100, Dtype::F32, &mixed, 2);
    second.cache.page_base = 20;
    second.cache.page_count = 30;
    all.push(("a later segment", second));
    let many: Vec<(u32, u32, u32)> = (0..4000).map(|i| (i % 3, i / 3, i % 6)).collect();
    all.push(("4000 rows", bed(1, 1, 8, 1400, Dtype::F32, &many, 1)));
    all
}

/// Shapes whose tables contain runs of rows, and interruptions of runs: inactive rows, other sequences, other steps, the end of the table.
pub(super) fn runs() -> Vec<(&'static str, Testbed)> {
    let run = |sequence: u32, positions: std::ops::Range<u32>, step: u32| {
        positions.map(move |position| Row { step, ..Row::new(sequence, position, 0) })
    };
    let bed = |heads, kv_heads, head_dim, context, rows: Vec<Row>, splits| {
        let (_, mut bed) = shapes().swap_remove(0);
        bed.cache = CacheShape { kv_heads, head_dim, context, ..bed.cache };
        bed.cache.page_count = 3 * bed.cache.slots * bed.cache.pages_per_slot();
        Testbed { heads, rows, splits, seed: u64::from(heads * head_dim), ..bed }
    };
    let mut resting: Vec<Row> = run(1, 10..143, 2).collect();
    resting.iter_mut().step_by(3).for_each(|row| row.live = 0);
    // A tile that is mostly inactive.
    resting[70..128].iter_mut().for_each(|row| row.live = 0);
    let others: Vec<Row> =
        run(0, 0..70, 1).chain(run(2, 30..100, 4)).chain(run(1, 5..9, 4)).chain(run(1, 9..40, 5)).collect();
    let mut skipping = bed(3, 1, 24, 200, run(2, 60..190, 3).collect(), 1);
    skipping.cache.lookup = Lookup::Full;
    let mut outside = bed(2, 2, 128, 150, run(0, 7..120, 0).collect(), 1);
    outside.cache.recurrent = false;
    let mut second = bed(2, 2, 96, 200, run(0, 0..150, 2).collect(), 2);
    second.cache.page_base = 20;
    second.cache.page_count = 30;
    vec![
        ("run, resting rows", bed(5, 5, 26, 150, resting, 1)),
        ("runs of several sequences", bed(4, 2, 40, 100, others, 1)),
        ("run, 3 splits, keys shared by 4 heads", bed(8, 2, 128, 300, run(1, 200..280, 3).collect(), 3)),
        ("run, keys shared by more heads than a tile has", bed(66, 1, 8, 40, run(1, 20..32, 3).collect(), 1)),
        ("run, positions without the step are skipped", skipping),
        ("run outside the recurrence", outside),
        ("run, a later segment", second),
    ]
}

/// [`shapes`] with caches in buffers, in each shape's own dtype and in q8.
pub(super) fn buffers() -> impl Iterator<Item = (&'static str, Testbed)> {
    shapes().into_iter().flat_map(|(name, bed)| [(name, bed.clone()), (name, bed.quantized())])
}

impl Testbed {
    /// Rows at the end of a full context, in the first layer of the recurrence and outside the recurrence, and once more in q8. Two steps: more would only take
    /// more memory.
    pub(super) fn at(work: &Workload) -> Vec<Self> {
        let Workload { heads, kv_heads, head_dim, positions, rows, .. } = *work;
        let context = positions.max(rows);
        let bed = |recurrent, dtype| {
            let cache = CacheShape {
                kv_heads,
                head_dim,
                dtype,
                place: CacheShape::preferred(&work.caps, dtype),
                sequences: 1,
                context,
                steps: 2,
                slots: 3,
                lookup: Lookup::Latest,
                recurrent,
                page_base: 0,
                page_count: 3 * context.div_ceil(PAGE),
            };
            let table = (context - rows..context).map(|position| Row { step: 1, ..Row::new(0, position, 0) });
            Self {
                cache,
                heads,
                rows: table.collect(),
                splits: preferred_splits(&work.caps, &cache, rows, heads),
                seed: 6,
            }
        };
        vec![bed(true, Dtype::Bf16), bed(false, Dtype::Bf16), bed(true, Dtype::Q8)]
    }

    /// A random shape, with rows of which most are in runs.
    pub(super) fn random_run(noise: &mut Noise, seed: u64) -> Self {
        let mut bed = Self::random(noise, seed);
        if bed.cache.lookup == Lookup::AlwaysLast {
            bed.cache.lookup = Lookup::Latest;
        }
        let CacheShape { context, steps, .. } = bed.cache;
        let (mut rows, mut step) = (Vec::new(), 0);
        for position in 0..context {
            if position == 0 || noise.below(40) == 0 {
                step = noise.below(steps);
            }
            let live = u32::from(noise.below(7) > 0);
            rows.push(Row { step, live, ..Row::new(u32::from(position > context / 2), position, 0) });
        }
        Self { rows, ..bed }
    }

    /// Changes the cache to bf16.
    pub(super) fn in_bf16(mut self) -> Self {
        self.cache.dtype = Dtype::Bf16;
        self
    }

    /// A random shape and random rows.
    pub(super) fn random(noise: &mut Noise, seed: u64) -> Self {
        let (kv_heads, group) = (1 + noise.below(4), 1 + noise.below(4));
        let (context, steps) = (1 + noise.below(200), 1 + noise.below(8));
        let pages = 2 * (steps + 1) * context.div_ceil(PAGE);
        let page_base = if noise.below(3) == 0 { noise.below(pages) } else { 0 };
        let cache = CacheShape {
            kv_heads,
            head_dim: 2 * (1 + noise.below(64)),
            dtype: KV_DTYPES[noise.below(3) as usize],
            place: Place::Buffer,
            sequences: 2,
            context,
            steps,
            slots: steps + 1,
            lookup: Lookup::of(noise.below(3)),
            recurrent: noise.below(4) > 0,
            page_base,
            page_count: pages - page_base,
        };
        // Every (sequence, position) occurs at most once: two rows must not write the same page entry in one launch.
        let count = 1 + noise.below(context.min(20));
        let rows = (0..count)
            .map(|i| {
                let (step, active) = (noise.below(steps), u32::from(noise.below(5) > 0));
                Row { step, live: active, ..Row::new(i % 2, i * (context / count), 0) }
            })
            .collect();
        Self { cache, heads: kv_heads * group, rows, splits: 1 + noise.below(4), seed }
    }

    /// Tables with one slot per step and pages in scrambled order.
    fn page_tables(&self) -> Vec<u32> {
        let cache = &self.cache;
        let pages = cache.sequences * cache.slots * cache.pages_per_slot();
        let scramble = (1..pages).rev().find(|step| gcd(*step, pages) == 1).unwrap_or(1);
        let slots = 0..cache.steps;
        let filled = 0..=cache.steps;
        slots.chain(filled).chain((0..pages).map(|entry| entry * scramble % pages)).collect()
    }

    /// Random numbers of stored steps, but the rows' own positions have stored the rows' steps.
    fn depth(&self, noise: &mut Noise) -> Vec<u32> {
        let CacheShape { sequences, context, steps, .. } = self.cache;
        let mut depth: Vec<u32> = (0..sequences * context).map(|_| 1 + noise.below(steps)).collect();
        for row in &self.rows {
            depth[(row.sequence * context + row.position) as usize] = row.step + 1;
        }
        depth
    }

    fn segment(&self, noise: &mut Noise) -> Vec<u32> {
        let CacheShape { head_dim, kv_heads, page_count, .. } = self.cache;
        let mut words = vec![0; self.cache.segment_bytes() as usize / 4];
        let mut vector = vec![0.0; self.cache.chunks() as usize * 8];
        let heads = (0..2).flat_map(|which| (0..kv_heads).map(move |head| (which, head)));
        let vectors = heads.flat_map(|(which, head)| (0..PAGE).map(move |position| (which, head, position)));
        for (page, (which, head, position)) in
            (0..page_count).flat_map(|page| vectors.clone().map(move |vector| (page, vector)))
        {
            vector[..head_dim as usize].fill_with(|| noise.signed());
            self.cache.store(&mut words, Vector { page, which, head, position }, &vector);
        }
        words
    }

    fn table(&self) -> Vec<u32> {
        bytemuck::cast_slice(&self.rows).to_vec()
    }

    /// Moves the cache to textures, which hold bf16 only.
    pub(super) fn in_texture(mut self) -> Self {
        (self.cache.dtype, self.cache.place) = (Dtype::Bf16, Place::Texture);
        self
    }

    /// Changes the cache to q8.
    pub(super) fn quantized(mut self) -> Self {
        self.cache.dtype = Dtype::Q8;
        self
    }

    /// Random numbers for keys and values. Those for q8 have few bits, so that their rotation, and with it their blocks, are exact on every device.
    fn numbers(&self, noise: &mut Noise, rows: u32, width: u32, stride: u32) -> Vec<u32> {
        let mut words = noise.matrix(rows, width, stride);
        if self.cache.dtype.in_blocks() {
            let coarse = |word: &mut u32| *word = ((f32::from_bits(*word) * 64.0).round() / 64.0).to_bits();
            words.iter_mut().for_each(coarse);
        }
        words
    }

    fn describe(&self, name: &str) -> String {
        let CacheShape { kv_heads, head_dim, dtype, context, recurrent, .. } = self.cache;
        let layer = if recurrent { "recurrent" } else { "outside" };
        let (rows, heads, dtype) = (self.rows.len(), self.heads, dtype.name());
        format!("{name}: {rows} rows, heads {heads}/{kv_heads} of {head_dim}, {context} positions, {dtype}, {layer}")
    }

    fn rotary(&self) -> Launch {
        rotary_kv(RotaryKv {
            rows: self.rows.len() as u32,
            heads: self.heads,
            cache: self.cache,
            biased: self.seed.is_multiple_of(2),
            write_q: true,
            mark_depth: self.cache.recurrent,
        })
    }

    fn rotary_data(&self) -> Vec<Vec<u32>> {
        let mut noise = Noise::new(self.seed);
        let (cache, launch) = (self.cache, self.rotary());
        let words = |binding: usize| launch.sizes[binding] as u32 / 4;
        let width = (self.heads + 2 * cache.kv_heads) * cache.head_dim;
        let qkv = self.numbers(&mut noise, self.rows.len() as u32, width, crate::stride(width));
        let [bias, freqs] = [2, 3].map(|binding| self.numbers(&mut noise, 1, words(binding), words(binding)));
        let depth = vec![0; words(5) as usize];
        let q = vec![0; words(6) as usize];
        vec![self.table(), qkv, bias, freqs, self.page_tables(), depth, q, self.segment(&mut noise)]
    }

    fn rotary_checks(&self) -> Vec<Check> {
        let kv = match self.cache.dtype {
            Dtype::F32 => Check::F32,
            Dtype::Q8 => Check::Exact,
            _ => Check::Bf16,
        };
        [Check::Skip; 5].into_iter().chain([Check::Exact, Check::F32, kv]).collect()
    }

    pub(super) fn rotary_case(&self, name: &str) -> Case {
        let bed = self.clone();
        let data = Data::new(move || bed.rotary_data());
        Case { name: self.describe(name), launch: self.rotary(), data, checks: self.rotary_checks() }
    }

    /// Keeps the first row of each sequence only.
    pub(super) fn alone(mut self) -> Self {
        let mut seen = Vec::new();
        self.rows.retain(|row| {
            let new = !seen.contains(&row.sequence);
            seen.push(row.sequence);
            new
        });
        self
    }

    pub(super) fn fresh_case(&self, name: &str, caps: &Caps) -> Case {
        let cache = self.cache;
        let launch = attention_fresh(caps, self.shape(), self.seed.is_multiple_of(2), cache.recurrent);
        let mut checks = self.rotary_checks();
        checks[6] = Check::F32;
        let (bed, stored, partial) = (self.clone(), self.attention_case(name, caps).data, launch.sizes[6]);
        let data = Data::new(move || {
            let mut data = bed.rotary_data();
            // Other positions have stored something; the rows' own positions have not stored the rows' steps.
            data[5].clone_from(&stored[3]);
            for row in &bed.rows {
                data[5][(row.sequence * cache.context + row.position) as usize] = row.step;
            }
            data[6] = vec![0; partial as usize / 4];
            data
        });
        Case { name: self.describe(name), launch, data, checks }
    }

    /// Minimum work for the rows of a case: every key up to the last position once, and the products of each row with the keys that it sees.
    pub(super) fn cost(&self) -> Cost {
        let cache = &self.cache;
        let seen: u64 = self.rows.iter().map(|row| u64::from(row.position) + 1).sum();
        let keys = self.rows.iter().map(|row| u64::from(row.position) + 1).max().unwrap_or(0);
        let partial = 8 * (4 * u64::from(cache.chunks()) + 1) * u64::from(self.heads) * self.rows.len() as u64;
        Cost {
            bytes: keys * cache.page_bytes() / u64::from(PAGE) + partial,
            flops: seen * u64::from(self.heads) * u64::from(cache.head_dim) * 4,
        }
    }

    pub(super) fn attention_case(&self, name: &str, caps: &Caps) -> Case {
        self.case_of(name, caps, attention)
    }

    /// All variants of attention for the rows.
    pub(super) fn variants(&self, caps: &Caps) -> Variants {
        attention_variants(caps, self.shape())
    }

    /// The second of two segments, or the only segment if there are no splits to join.
    fn shape(&self) -> Attention {
        let (segment, segments) = if self.splits == 1 { (0, 1) } else { (1, 2) };
        let (rows, cache, splits) = (self.rows.len() as u32, self.cache, self.splits);
        Attention { rows, heads: self.heads, cache, splits, segment, segments }
    }

    /// A case of the launch that `make` returns for the shape.
    pub(super) fn case_of(&self, name: &str, caps: &Caps, make: impl FnOnce(&Caps, Attention) -> Launch) -> Case {
        let (rows, cache) = (self.rows.len() as u32, self.cache);
        let launch = make(caps, self.shape());
        let mut checks = vec![Check::Skip; launch.sizes.len()];
        checks[4] = Check::F32;
        let (bed, written, bindings) = (self.clone(), launch.sizes[4], launch.sizes.len());
        let data = Data::new(move || {
            let mut noise = Noise::new(bed.seed);
            let q = noise.matrix(rows * bed.heads, cache.head_dim, cache.chunks() * 8);
            let segment = bed.segment(&mut noise);
            let written = vec![0; written as usize / 4];
            let depth = bed.depth(&mut noise);
            let mut data = vec![bed.table(), q, bed.page_tables(), depth, written];
            // In q8, the segment is bound twice.
            data.resize(bindings, segment);
            data
        });
        Case { name: self.describe(name), launch, data, checks }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
