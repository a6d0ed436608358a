//! Scores and weighted sums of values over one split of the keys, with the online softmax (Milakov and Gimelshein,
//! arXiv 1805.02867) and the split along the keys of flash-decoding (Dao et al., 2023).

use super::MAX_HEAD_DIM;
use super::cache::{CACHE, CacheShape, KV_READ, PAGE, Vector};
use super::combine::combine;
use super::testbed::{self, CacheParams};
use crate::kernel::LANES;
use crate::matmul::{M, SUMS, TOKENS_1, TOKENS_8};
use crate::shared::params;
use crate::weight::{Dtype, EIGHT, TEST_LANES};
use crate::{
    Axis, Binding, Caps, Case, Choice, Const, Cost, Kernel, Launch, Noise, Params, Part, Place, ROW, Row, Slot, Slots,
    Workload, activation_bytes, reduce, stride,
};

/// Below every score, and far enough from the end of the range that differences stay finite: what a split without keys has for its largest one.
pub(super) const LOWEST: f32 = -1e30;

/// [`LOWEST`] and [`MAX_HEAD_DIM`] in WGSL.
pub(super) const SCORES: Part =
    Part::shared(&[Const::f32("LOWEST", LOWEST), Const::u32("MAX_CHUNKS", MAX_HEAD_DIM / 8)], &[]);

/// Attention over one split of the keys.
pub static ATTENTION: Kernel = Kernel {
    name: "attention",
    wgsl: include_str!("attention.wgsl"),
    parts: &[ROW, EIGHT, CACHE, SCORES, Part::new("ready", include_str!("query_ready.wgsl"))],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("q", "vec4<f32>"),
        Binding::read("tables", "u32"),
        Binding::read("depth", "u32"),
        Binding::write("partial_sums", "vec2<f32>"),
    ],
    axes: &[KV_READ, reduce::REDUCE],
    overrides: &["WG"],
    params: AttentionParams::FIELDS,
    params_size: size_of::<AttentionParams>(),
    reference,
    cases,
    random,
    at,
};

/// The same by subgroups of a known size, with the cache in textures, for a row or for eight at a time.
pub static ATTENTION_LANES: Kernel = Kernel {
    name: "attention_lanes",
    wgsl: include_str!("attention_lanes.wgsl"),
    parts: &[ROW, EIGHT, CACHE, SCORES, Part::new("sums", SUMS).using(&[include_str!("kv_texture_bf16.wgsl")])],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("q", "vec4<f32>"),
        Binding::read("tables", "u32"),
        Binding::read("depth", "u32"),
        Binding::write("partial_sums", "vec2<f32>"),
        Binding::read("kv", "vec4<u32>").in_texture(),
    ],
    axes: &[
        Axis {
            name: "rows",
            options: &[
                Part::new("rows1", include_str!("lanes_1.wgsl"))
                    .using(&[TOKENS_1])
                    .with_consts(&[M[0]])
                    .with_subgroups(),
                Part::new("rows8", include_str!("lanes_8.wgsl"))
                    .using(&[TOKENS_8])
                    .with_consts(&[M[2]])
                    .with_subgroups(),
            ],
        },
        Axis {
            name: "width",
            options: &[
                Part::new("narrow", include_str!("chunks_1.wgsl")),
                Part::new("wide", include_str!("chunks_2.wgsl")),
            ],
        },
        Axis {
            name: "out",
            options: &[
                Part::new("parts", include_str!("out_parts.wgsl")),
                Part::new("whole", include_str!("out_whole.wgsl")),
            ],
        },
    ],
    overrides: &[LANES],
    params: AttentionParams::FIELDS,
    params_size: size_of::<AttentionParams>(),
    reference: reference_lanes,
    cases: cases_lanes,
    random: random_lanes,
    at: at_lanes,
};

params! {
    /// Parameters of [`ATTENTION`]; see [`CacheShape`].
    pub struct AttentionParams {
        /// Rows of the table.
        pub rows: u32,
        /// Query heads.
        pub heads: u32,
        /// Key and value heads.
        pub kv_heads: u32,
        /// Values per head.
        pub head_dim: u32,
        /// Chunks of eight per padded head.
        pub chunks: u32,
        /// Factor applied to scores: 1/sqrt(head_dim).
        pub scale: f32,
        /// Positions per sequence.
        pub context: u32,
        /// Splits of the keys in this launch.
        pub splits: u32,
        /// Place of the first split among all parts.
        pub first_part: u32,
        /// Parts per row and head: splits times segments.
        pub parts: u32,
        /// 1 for layers of the recurrence.
        pub recurrent: u32,
        /// Lookup rule.
        pub lookup: u32,
        /// Steps that the slot table covers.
        pub steps: u32,
        /// Slots per sequence.
        pub slots: u32,
        /// Pages per slot.
        pub pages_per_slot: u32,
        /// First page of the segment.
        pub page_base: u32,
        /// Pages of the segment.
        pub page_count: u32,
        /// Floats from row to row of qkv; see [`attention_fresh`](super::attention_fresh).
        pub qkv_stride: u32,
        /// 1 if the bias is added to q and k.
        pub biased: u32,
        /// 1 if the position's number of stored steps is set to step + 1.
        pub mark_depth: u32,
        /// Floats from row to row of the attended values, where they are written whole.
        pub y_stride: u32,
    }
}

/// Lanes per workgroup, and so keys per tile: a pair of values each covers head_dim 128.
pub(super) const TILE: u32 = 64;

/// Shape of the launch.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Rows of the table.
    pub rows: u32,
    /// Query heads, a multiple of the key and value heads.
    pub heads: u32,
    /// The cache and its bound segment.
    pub cache: CacheShape,
    /// Splits of the keys.
    pub splits: u32,
    /// This segment's place among the segments of the layer.
    pub segment: u32,
    /// Segments of the layer.
    pub segments: u32,
}

impl Attention {
    /// Whether one launch sees all keys and writes what [`combine`](super::combine()) would: only for a cache in textures.
    #[must_use]
    pub const fn whole(&self) -> bool {
        matches!(self.cache.place, Place::Texture) && self.splits * self.segments == 1
    }
}

/// Bytes of `partial`: per row, head and part the largest score, the sum of the weights and the sum of the values.
#[must_use]
pub const fn partial_bytes(rows: u32, heads: u32, parts: u32, chunks: u32) -> u64 {
    rows as u64 * heads as u64 * parts as u64 * (4 * chunks as u64 + 1) * 8
}

/// Attends with `q [rows, heads, padded head_dim]` over the keys in one segment. Bindings: rows, q, tables, depth, partial, the
/// segment as keys, the same as values; or the segment once, if it is a texture. If it is [`Attention::whole`], the attended values `[rows, heads·head_dim]`
/// take the place of partial.
#[must_use]
pub fn attention(caps: &Caps, shape: Attention) -> Launch {
    let Attention { rows, heads, cache, splits, segment, segments } = shape;
    let chunks = cache.chunks();
    let params = AttentionParams {
        rows,
        heads,
        kv_heads: cache.kv_heads,
        head_dim: cache.head_dim,
        chunks,
        scale: (1.0 / f64::from(cache.head_dim).sqrt()) as f32,
        context: cache.context,
        splits,
        first_part: segment * splits,
        parts: splits * segments,
        recurrent: u32::from(cache.recurrent),
        lookup: cache.lookup.code(),
        steps: cache.steps,
        slots: cache.slots,
        pages_per_slot: cache.pages_per_slot(),
        page_base: cache.page_base,
        page_count: cache.page_count,
        y_stride: stride(heads * cache.head_dim),
        ..AttentionParams::default()
    };
    let kv = cache.segment_bytes();
    // How many keys there will be is not known here: half of a full context stands for it.
    let keys = u64::from(rows) * u64::from(cache.context.div_ceil(2));
    let cost = Cost {
        bytes: keys * cache.page_bytes() / u64::from(super::cache::PAGE),
        flops: keys * u64::from(heads) * u64::from(cache.head_dim) * 4,
    };
    let mut sizes = vec![
        u64::from(rows) * size_of::<Row>() as u64,
        Dtype::F32.matrix_bytes(rows * heads, chunks),
        cache.table_words() * 4,
        u64::from(cache.sequences) * u64::from(cache.context) * 4,
        partial_bytes(rows, heads, splits * segments, chunks),
        kv,
    ];
    let params = bytemuck::bytes_of(&params).to_vec();
    let mut choice = Choice::default();
    if cache.place == Place::Texture {
        let together = rows > 3;
        choice.0[0] = u8::from(together);
        let workgroups = [heads, splits, if together { rows.div_ceil(8) } else { rows }];
        let lanes = caps.lanes.unwrap_or(TEST_LANES);
        choice.0[1] = u8::from(chunks > lanes);
        choice.0[2] = u8::from(shape.whole());
        if shape.whole() {
            sizes[4] = activation_bytes(rows, heads * cache.head_dim);
        }
        let overrides = vec![lanes];
        return Launch { kernel: &ATTENTION_LANES, choice, overrides, params, workgroups, sizes, cost };
    }
    sizes.push(kv);
    choice.0[0] = cache.kv_option();
    choice.0[1] = reduce::preferred(caps);
    let workgroups = [heads, splits, rows];
    Launch { kernel: &ATTENTION, choice, overrides: vec![TILE], params, workgroups, sizes, cost }
}

/// How many splits suit a pass: enough workgroups for a few rows, no more than there are tiles of keys.
#[must_use]
pub fn preferred_splits(cache: &CacheShape, rows: u32, heads: u32) -> u32 {
    match cache.place {
        Place::Buffer => (16 / rows.min(16)).clamp(1, cache.context.div_ceil(TILE)),
        // A few cores, and neither what is empty nor a launch to combine splits is free there.
        Place::Texture => (8 / rows.saturating_mul(heads).min(8)).clamp(1, cache.pages_per_slot()),
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let (rows, q, tables, depth) = (slots.read::<Row>(), slots.read::<f32>(), slots.read::<u32>(), slots.read::<u32>());
    let (partial, kv) = (slots.write::<f32>(), slots.read::<u32>());
    attend(launch, rows, q, tables, depth, partial, kv);
}

fn reference_lanes(launch: &Launch, mut slots: Slots<'_>) {
    let (rows, q, tables, depth) = (slots.read::<Row>(), slots.read::<f32>(), slots.read::<u32>(), slots.read::<u32>());
    let (out, kv) = (slots.write::<f32>(), slots.read::<u32>());
    let params: AttentionParams = launch.params();
    let cache = params.shape(Dtype::Bf16, Place::Texture);
    let share = params.pages_per_slot.div_ceil(params.splits) * PAGE;
    let attend = |partial: &mut [f32]| attend_in(&params, &cache, &|_| share, rows, q, tables, depth, partial, kv);
    if launch.option(2) == 0 {
        return attend(out);
    }
    let mut partial = vec![0.0; partial_bytes(params.rows, params.heads, 1, params.chunks) as usize / 4];
    attend(&mut partial);
    let bound = vec![
        Slot::Read(bytemuck::cast_slice(rows)),
        Slot::Read(bytemuck::cast_slice(&partial)),
        Slot::Write(bytemuck::cast_slice_mut(out)),
    ];
    let combine = combine(params.rows, params.heads, (params.head_dim, params.chunks), 1);
    (combine.kernel.reference)(&combine, Slots::new(bound));
}

/// The twin, given what the kernels bind.
pub(super) fn attend(
    launch: &Launch,
    rows: &[Row],
    q: &[f32],
    tables: &[u32],
    depth: &[u32],
    partial: &mut [f32],
    kv: &[u32],
) {
    let params: AttentionParams = launch.params();
    let cache = testbed::shape_of(&params, launch.option(0));
    let share = |row: &Row| (row.position + 1).div_ceil(TILE).div_ceil(params.splits) * TILE;
    attend_in(&params, &cache, &share, rows, q, tables, depth, partial, kv);
}

/// The same, with splits of as many positions as `share` says.
#[expect(clippy::too_many_arguments, reason = "what a kernel binds, and how its keys are split")]
fn attend_in(
    params: &AttentionParams,
    cache: &CacheShape,
    share: &dyn Fn(&Row) -> u32,
    rows: &[Row],
    q: &[f32],
    tables: &[u32],
    depth: &[u32],
    partial: &mut [f32],
    kv: &[u32],
) {
    let (head_dim, width) = (params.head_dim as usize, params.chunks as usize * 8);
    let mut held = vec![0.0; head_dim];
    for (place, row) in rows.iter().enumerate().take(params.rows as usize).filter(|(_, row)| row.live != 0) {
        let share = share(row);
        let start = (row.sequence * params.context) as usize;
        let last_steps = cache.sees_last(tables, row.step, &depth[start..=start + row.position as usize]);
        for head in 0..params.heads as usize {
            let query = &q[(place * params.heads as usize + head) * width..][..head_dim];
            let kv_head = head as u32 / (params.heads / params.kv_heads);
            for split in 0..params.splits {
                let end = ((split + 1) * share).min(row.position + 1);
                let found = (split * share..end).filter_map(|position| {
                    let stored = depth[(row.sequence * params.context + position) as usize];
                    let slot = cache.slot_seen(tables, row.step, stored, last_steps);
                    Some((position, cache.page_of(tables, row.sequence, slot, position)?))
                });
                let keys: Vec<(Vector, f64)> = found
                    .map(|(position, page)| {
                        let key = Vector { page, which: 0, head: kv_head, position };
                        cache.load(kv, key, &mut held);
                        let products = query.iter().zip(&held).map(|(&q, &k)| f64::from(q) * f64::from(k));
                        let score = products.sum::<f64>() * f64::from(params.scale);
                        (Vector { which: 1, ..key }, score)
                    })
                    .collect();
                let largest = keys.iter().fold(f64::from(LOWEST), |m: f64, &(_, score)| m.max(score));
                let mut sums = vec![0.0; head_dim];
                let mut weights = 0.0;
                for &(value, score) in &keys {
                    let weight = (score - largest).exp();
                    weights += weight;
                    cache.load(kv, value, &mut held);
                    for (sum, &v) in sums.iter_mut().zip(&held) {
                        *sum += weight * f64::from(v);
                    }
                }
                let part = place * params.heads as usize + head;
                let part = part * params.parts as usize + (params.first_part + split) as usize;
                let part = &mut partial[part * (width + 2)..][..width + 2];
                part[0] = largest as f32;
                part[1] = weights as f32;
                for (out, sum) in part[2..].iter_mut().zip(&sums) {
                    *out = *sum as f32;
                }
            }
        }
    }
}

fn cases() -> Vec<Case> {
    testbed::buffers().map(|(name, bed)| bed.attention_case(name, &Caps::default())).collect()
}

fn cases_lanes() -> Vec<Case> {
    let beds = testbed::shapes().into_iter();
    beds.map(|(name, bed)| bed.in_texture().attention_case(name, &Caps::default())).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    met(work, &ATTENTION)
}

fn at_lanes(work: &Workload) -> Vec<Case> {
    met(work, &ATTENTION_LANES)
}

/// The cases that meet one of the kernels.
fn met(work: &Workload, kernel: &Kernel) -> Vec<Case> {
    let all = testbed::Testbed::at(work);
    let all = all.iter().map(|bed| {
        let mut case = bed.attention_case("model", &work.caps);
        case.launch.cost = bed.cost();
        case
    });
    all.filter(|case| case.launch.kernel.name == kernel.name).collect()
}

fn random(seed: u64) -> Case {
    let bed = testbed::Testbed::random(&mut Noise::new(seed), seed);
    bed.attention_case(&format!("seed {seed}"), &Caps::default())
}

fn random_lanes(seed: u64) -> Case {
    let bed = testbed::Testbed::random(&mut Noise::new(seed), seed);
    bed.in_texture().attention_case(&format!("seed {seed}"), &Caps::default())
}
