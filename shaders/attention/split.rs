//! Scores and weighted sums of values over one split of the keys, with the online softmax (Milakov and Gimelshein,
//! arXiv 1805.02867) and the split along the keys of flash-decoding (Dao et al., 2023).

use super::cache::{CACHE, CacheShape, KV_READ, PAGE};
use super::reference::{self, Bound};
use super::tiled::{preferred_tile, rest_cases, run_at};
use super::{ATTENTION_LANES, MAX_HEAD_DIM, testbed};
use crate::shared::params;
use crate::weight::{Dtype, EIGHT, TEST_LANES};
use crate::{
    Axis, Binding, Caps, Case, Choice, Const, Cost, Kernel, Launch, Noise, Params, Part, Place, ROW, Row, Slots,
    Workload, activation_bytes, reduce, stride,
};

/// Largest score of a split without keys: below every score, and far enough from the end of the range that differences stay finite.
pub(super) const LOWEST: f32 = -1e30;

/// [`LOWEST`] and [`MAX_HEAD_DIM`] in WGSL.
pub(super) const SCORES: Part =
    Part::shared(&[Const::f32("LOWEST", LOWEST), Const::u32("MAX_CHUNKS", MAX_HEAD_DIM / 8)], &[]);

/// Attention over one split of the keys.
pub static ATTENTION: Kernel = Kernel {
    name: "attention",
    wgsl: include_str!("attention.wgsl"),
    parts: &[ROW, EIGHT, CACHE, SCORES, Part::new("ready", include_str!("query_ready.wgsl")).trusted()],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("q", "vec4<f32>"),
        Binding::read("tables", "u32"),
        Binding::read("depth", "u32"),
        Binding::write("partial_sums", "vec2<f32>"),
    ],
    axes: &[KV_READ, reduce::REDUCE, OUT, HEADS],
    overrides: &["WG"],
    params: AttentionParams::FIELDS,
    params_size: size_of::<AttentionParams>(),
    reference,
    cases,
    random,
    at,
};

/// Output of a launch: one of several parts, or, if there is only one, the result that [`combine`](super::combine()) would compute from it.
pub(super) const OUT: Axis = Axis {
    name: "out",
    options: &[Part::new("parts", include_str!("out_parts.wgsl")), Part::new("whole", include_str!("out_whole.wgsl"))],
};

/// Heads of a group that a workgroup attends for: it reads each key and value once for all of them.
pub(super) const HEADS: Axis = Axis {
    name: "heads",
    options: &[
        Part::new("heads1", include_str!("heads_1.wgsl"))
            .using(&[HEADS_VECTOR])
            .with_consts(&[Const::u32("HEADS", GROUPS[0])]),
        Part::new("heads2", include_str!("heads_2.wgsl"))
            .using(&[HEADS_VECTOR])
            .with_consts(&[Const::u32("HEADS", GROUPS[1])]),
        Part::new("heads4", include_str!("heads_4.wgsl"))
            .using(&[HEADS_VECTOR])
            .with_consts(&[Const::u32("HEADS", GROUPS[2])]),
        Part::new("heads8", include_str!("heads_8.wgsl")).with_consts(&[Const::u32("HEADS", GROUPS[3])]),
    ],
};

const HEADS_VECTOR: &str = include_str!("heads_vector.wgsl");

/// Heads per workgroup, by option of [`HEADS`].
const GROUPS: [u32; 4] = [1, 2, 4, 8];

/// Index of [`HEADS`] among the axes of [`ATTENTION`].
const HEADS_AXIS: usize = 3;

/// Index of [`OUT`] among the axes of every kernel that has it.
pub(super) const OUT_AXIS: usize = 2;

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
        /// Index of the first split among all parts.
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
        /// Floats from row to row of the attended values, if they are written whole.
        pub y_stride: u32,
        /// Rows of a tile of [`ATTENTION_TILED`](super::ATTENTION_TILED); 0 if there are no tiles.
        pub tile_rows: u32,
        /// Heads that share keys in such a tile.
        pub tile_heads: u32,
        /// Minimum number of active rows in a run; all must be of one sequence at one step.
        pub run_rows: u32,
    }
}

/// Lanes per workgroup, and so keys per tile, the unit of splits. With at most 16 chunks of eight per value, 64 lanes sum four values or more at a time.
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
    /// Index of this segment among the segments of the layer.
    pub segment: u32,
    /// Segments of the layer.
    pub segments: u32,
}

impl Attention {
    /// Whether the launch sees all keys and writes what [`combine`](super::combine()) would.
    #[must_use]
    pub const fn whole(&self) -> bool {
        self.splits * self.segments == 1
    }

    /// Query heads that share a key.
    #[must_use]
    pub const fn group(&self) -> u32 {
        self.heads / self.cache.kv_heads
    }

    /// Option of [`HEADS`] for the launch: as few workgroups per group as possible, and as few heads per workgroup as these need.
    pub(super) fn heads_option(&self) -> u8 {
        let most = GROUPS[GROUPS.len() - 1];
        let heads = self.group().div_ceil(self.group().div_ceil(most));
        (0..).zip(GROUPS).find(|&(_, of)| of >= heads).map_or(0, |(option, _)| option)
    }

    /// Workgroups per group of heads that share keys.
    pub(super) fn workgroups_of_group(&self) -> u32 {
        self.group().div_ceil(GROUPS[usize::from(self.heads_option())])
    }

    /// Work of a launch that reads its keys `passes` times. The number of keys is unknown here, so half of a full context is assumed.
    pub(super) fn cost(&self, passes: u32) -> Cost {
        let keys = u64::from(self.cache.context.div_ceil(2));
        let queries = Dtype::F32.matrix_bytes(self.rows * self.heads, self.cache.chunks());
        Cost {
            bytes: u64::from(passes) * keys * self.cache.page_bytes() / u64::from(PAGE) + 2 * queries,
            flops: u64::from(self.rows) * keys * u64::from(self.heads) * u64::from(self.cache.head_dim) * 4,
        }
    }
}

/// Bytes of `partial_sums`: per row, head and part the largest score, the sum of the weights and the sums of the values.
#[must_use]
pub const fn partial_bytes(rows: u32, heads: u32, parts: u32, chunks: u32) -> u64 {
    rows as u64 * heads as u64 * parts as u64 * (4 * chunks as u64 + 1) * 8
}

/// Attends row by row with `q [rows, heads, padded head_dim]` over the keys in one segment.
///
/// Bindings: rows, q, tables, depth, partial_sums, the segment, and in q8 the segment again. If the shape is [`Attention::whole`], the attended values
/// `[rows, heads·head_dim]` are bound in place of partial_sums. [`attention_variants`](super::attention_variants) has faster ways for many rows.
#[must_use]
pub fn attention(caps: &Caps, shape: Attention) -> Launch {
    let params = shape.params();
    let sizes = shape.sizes(shape.whole());
    let mut choice = Choice::default();
    choice.0[OUT_AXIS] = u8::from(shape.whole());
    let Attention { rows, heads, cache, splits, .. } = shape;
    if cache.place == Place::Texture {
        let together = rows > 3;
        choice.0[0] = u8::from(together);
        let passes = if together { rows.div_ceil(8) } else { rows };
        let workgroups = [heads, splits, passes];
        let lanes = caps.lanes.unwrap_or(TEST_LANES);
        choice.0[1] = u8::from(cache.chunks() > lanes);
        let cost = shape.cost(passes * shape.group());
        let params = bytemuck::bytes_of(&params).to_vec();
        return Launch { kernel: &ATTENTION_LANES, choice, overrides: vec![lanes], params, workgroups, sizes, cost };
    }
    choice.0[0] = cache.kv_option();
    choice.0[1] = reduce::preferred(caps);
    choice.0[HEADS_AXIS] = shape.heads_option();
    let of_group = shape.workgroups_of_group();
    let (params, workgroups) = (bytemuck::bytes_of(&params).to_vec(), [cache.kv_heads * of_group, splits, rows]);
    let cost = shape.cost(rows * of_group);
    Launch { kernel: &ATTENTION, choice, overrides: vec![TILE], params, workgroups, sizes, cost }
}

impl Attention {
    /// Parameters of the launches, without tiles.
    pub(super) fn params(&self) -> AttentionParams {
        let Self { rows, heads, cache, splits, segment, segments } = *self;
        AttentionParams {
            rows,
            heads,
            kv_heads: cache.kv_heads,
            head_dim: cache.head_dim,
            chunks: cache.chunks(),
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
        }
    }

    /// Minimum sizes of their bindings, in bytes.
    pub(super) fn sizes(&self, whole: bool) -> Vec<u64> {
        let Self { rows, heads, cache, splits, segments, .. } = *self;
        let written = if whole {
            activation_bytes(rows, heads * cache.head_dim)
        } else {
            partial_bytes(rows, heads, splits * segments, cache.chunks())
        };
        let kv = cache.segment_bytes();
        let mut sizes = vec![
            u64::from(rows) * size_of::<Row>() as u64,
            Dtype::F32.matrix_bytes(rows * heads, cache.chunks()),
            cache.table_words() * 4,
            u64::from(cache.sequences) * u64::from(cache.context) * 4,
            written,
            kv,
        ];
        // In q8, the segment is bound as units of 16 bytes and as words.
        if cache.dtype.in_blocks() {
            sizes.push(kv);
        }
        sizes
    }
}

/// Number of splits that suits a pass: enough workgroups for a few rows, and at most one split per tile of keys.
#[must_use]
pub fn preferred_splits(caps: &Caps, cache: &CacheShape, rows: u32, heads: u32) -> u32 {
    let shape = Attention { rows, heads, cache: *cache, splits: 1, segment: 0, segments: 1 };
    // Software drivers have a few cores, and pay for empty workgroups and for a launch that combines splits.
    let on_software = |workgroups: u32| 8 / rows.saturating_mul(workgroups).min(8);
    match cache.place {
        Place::Buffer | Place::Uniform => {
            let workgroups = cache.kv_heads * shape.workgroups_of_group();
            let of_rows = if caps.software {
                on_software(workgroups)
            } else {
                // Heads that share a workgroup leave fewer workgroups to keep the device busy.
                (16 / rows.min(16) * heads.div_ceil(workgroups)).min(MOST_SPLITS)
            };
            let tile = preferred_tile(caps, &shape);
            tile.map_or(of_rows.clamp(1, cache.context.div_ceil(TILE)), |tile| tile.splits(cache))
        }
        Place::Texture => on_software(heads).clamp(1, cache.pages_per_slot()),
    }
}

/// Maximum splits of a row's keys: each needs memory for its sums, and `combine` reads them one after another.
const MOST_SPLITS: u32 = 32;

/// CPU reference of launches over a cache in buffers. Rows whose tile is a run are left to [`ATTENTION_TILED`](super::ATTENTION_TILED) if the launch has tiles.
pub(super) fn attend(launch: &Launch, out: usize, bound: Bound<'_>, written: &mut [f32]) {
    let params: AttentionParams = launch.params();
    let cache = testbed::shape_of(&params, launch.option(0));
    let shares = |place: usize, row: &Row| {
        let share = (row.position + 1).div_ceil(TILE).div_ceil(params.splits) * TILE;
        run_at(&params, bound.rows, place).is_none().then_some(share)
    };
    reference::attend(&params, (&cache, out), &shares, bound, written);
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let (bound, written) = reference::bound(&mut slots);
    attend(launch, launch.option(OUT_AXIS), bound, written);
}

fn cases() -> Vec<Case> {
    let all = testbed::buffers().map(|(name, bed)| bed.attention_case(name, &Caps::default()));
    all.chain(rest_cases()).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    met(work, &ATTENTION)
}

/// Cases at a model's shapes whose launch is of `kernel`.
pub(super) fn met(work: &Workload, kernel: &Kernel) -> Vec<Case> {
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
