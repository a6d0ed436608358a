//! Bias, rotary position embedding and the write into the KV cache, in one launch.
//!
//! Adjacent pairs (2i, 2i+1) rotate by `position / rope_base^(2i/head_dim)` (Su et al., arXiv 2104.09864). Cosines and sines come from a table, because the
//! checkpoints store one and devices disagree about sines of large angles.

use super::cache::{CACHE, CacheShape, KV_WRITE, Vector};
use super::testbed;
use crate::shared::params;
use crate::weight::{Dtype, EIGHT};
use crate::{
    Binding, Case, Choice, Cost, Kernel, Launch, Noise, Params, Part, ROW, Row, Slots, Workload, activation_bytes,
    stride,
};

/// WGSL that loads chunks of a row's q, k and v and rotates them.
pub(super) const TURNED: &str = include_str!("turned.wgsl");

/// Bias, rotation and cache write.
pub static ROTARY_KV: Kernel = Kernel {
    name: "rotary_kv",
    wgsl: include_str!("rotary_kv.wgsl"),
    parts: &[ROW, EIGHT, CACHE, Part::new("turned", TURNED)],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("qkv", "vec2<f32>"),
        Binding::read("bias", "vec2<f32>"),
        Binding::read("freqs", "vec2<f32>"),
        Binding::read("tables", "u32"),
        Binding::write("depth", "u32"),
        Binding::write("q", "vec4<f32>"),
    ],
    axes: &[KV_WRITE],
    overrides: &["WG"],
    params: RotaryKvParams::FIELDS,
    params_size: size_of::<RotaryKvParams>(),
    reference,
    cases,
    random,
    at,
};

params! {
    /// Parameters of [`ROTARY_KV`]; see [`CacheShape`].
    pub struct RotaryKvParams {
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
        /// Floats from row to row of qkv.
        pub qkv_stride: u32,
        /// Positions per sequence.
        pub context: u32,
        /// 1 if the bias is added.
        pub biased: u32,
        /// 1 if q is written; only in the first segment's launch.
        pub write_q: u32,
        /// 1 if the position's number of stored steps is set to step + 1.
        pub mark_depth: u32,
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
    }
}

/// Shape of the launch.
#[derive(Clone, Copy, Debug)]
pub struct RotaryKv {
    /// Rows of the table.
    pub rows: u32,
    /// Query heads.
    pub heads: u32,
    /// The cache and its bound segment.
    pub cache: CacheShape,
    /// Whether the bias is added to q and k.
    pub biased: bool,
    /// Whether this launch writes q. Only the first segment's does.
    pub write_q: bool,
    /// Whether this launch records that the row's step is stored. Only the first core layer's does.
    pub mark_depth: bool,
}

/// Rotates q and k of `qkv [rows, (heads + 2·kv_heads)·head_dim]` and fills the cache. Bindings: rows, qkv, bias
/// `[heads + kv_heads, head_dim]`, freqs `[context, head_dim/2, 2]`, tables, depth `[sequences, context]`, q
/// `[rows, heads, padded head_dim]`, kv segment.
#[must_use]
pub fn rotary_kv(shape: RotaryKv) -> Launch {
    let RotaryKv { rows, heads, cache, .. } = shape;
    let chunks = cache.chunks();
    let qkv_width = (heads + 2 * cache.kv_heads) * cache.head_dim;
    let params = RotaryKvParams {
        rows,
        heads,
        kv_heads: cache.kv_heads,
        head_dim: cache.head_dim,
        chunks,
        qkv_stride: stride(qkv_width),
        context: cache.context,
        biased: u32::from(shape.biased),
        write_q: u32::from(shape.write_q),
        mark_depth: u32::from(shape.mark_depth),
        recurrent: u32::from(cache.recurrent),
        lookup: cache.lookup.code(),
        steps: cache.steps,
        slots: cache.slots,
        pages_per_slot: cache.pages_per_slot(),
        page_base: cache.page_base,
        page_count: cache.page_count,
    };
    let mut choice = Choice::default();
    choice.0[0] = cache.kv_option();
    let invocations = (heads + 2 * cache.kv_heads) * chunks;
    let q_bytes = Dtype::F32.matrix_bytes(rows * heads, chunks);
    let pair = 8;
    let sizes = vec![
        u64::from(rows) * size_of::<Row>() as u64,
        activation_bytes(rows, qkv_width),
        if shape.biased { u64::from((heads + cache.kv_heads) * cache.head_dim) * 4 } else { pair },
        u64::from(cache.context) * u64::from(cache.head_dim) * 4,
        cache.table_words() * 4,
        u64::from(cache.sequences) * u64::from(cache.context) * 4,
        q_bytes,
        cache.segment_bytes(),
    ];
    Launch {
        kernel: &ROTARY_KV,
        choice,
        overrides: vec![64],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [invocations.div_ceil(64), rows, 1],
        cost: Cost { bytes: 2 * sizes[1], flops: u64::from(rows) * u64::from(invocations) * 32 },
        sizes,
    }
}

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: RotaryKvParams = launch.params();
    let cache = testbed::shape_of(&params, launch.option(0));
    let (rows, qkv, bias) = (slots.read::<Row>(), slots.read::<f32>(), slots.read::<f32>());
    let (freqs, tables) = (slots.read::<f32>(), slots.read::<u32>());
    let (depth, q, kv) = (slots.write::<u32>(), slots.write::<f32>(), slots.write::<u32>());
    let (head_dim, width) = (params.head_dim as usize, params.chunks as usize * 8);
    for (place, row) in rows.iter().enumerate().take(params.rows as usize).filter(|(_, row)| row.live != 0) {
        if params.mark_depth != 0 {
            depth[(row.sequence * params.context + row.position) as usize] = row.step + 1;
        }
        let slot = if cache.recurrent { 1 + tables[row.step.min(cache.steps - 1) as usize] } else { 0 };
        let page = cache.page_of(tables, row.sequence, slot, row.position);
        for head in 0..(params.heads + 2 * params.kv_heads) as usize {
            let is_value = head >= (params.heads + params.kv_heads) as usize;
            let mut vector = vec![0.0_f32; width];
            vector[..head_dim]
                .copy_from_slice(&qkv[place * params.qkv_stride as usize + head * head_dim..][..head_dim]);
            if !is_value {
                let angles = &freqs[row.position as usize * head_dim..][..head_dim];
                for i in (0..head_dim).step_by(2) {
                    let added = |i: usize| if params.biased != 0 { f64::from(bias[head * head_dim + i]) } else { 0.0 };
                    let (x, y) = (f64::from(vector[i]) + added(i), f64::from(vector[i + 1]) + added(i + 1));
                    let (cos, sin) = (f64::from(angles[i]), f64::from(angles[i + 1]));
                    vector[i] = (x * cos - y * sin) as f32;
                    vector[i + 1] = (y * cos + x * sin) as f32;
                }
            }
            if head < params.heads as usize {
                if params.write_q != 0 {
                    q[(place * params.heads as usize + head) * width..][..width].copy_from_slice(&vector);
                }
            } else if let Some(page) = page {
                let kv_head = (head as u32 - params.heads) % params.kv_heads;
                let at = Vector { page, which: u32::from(is_value), head: kv_head, position: row.position };
                cache.store(kv, at, &vector);
            }
        }
    }
}

fn cases() -> Vec<Case> {
    let texture = testbed::shapes().into_iter().map(|(name, bed)| (name, bed.in_texture()));
    testbed::buffers().chain(texture).map(|(name, bed)| bed.rotary_case(name)).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    testbed::Testbed::at(work).iter().map(|bed| bed.rotary_case("model")).collect()
}

fn random(seed: u64) -> Case {
    let bed = testbed::Testbed::random(&mut Noise::new(seed), seed);
    let bed = if seed.is_multiple_of(3) { bed.in_texture() } else { bed };
    bed.rotary_case(&format!("seed {seed}"))
}
