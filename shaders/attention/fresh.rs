//! Attention for rows that are alone in their sequence, as in decoding: one launch adds the bias, rotates, writes the cache and attends. If a pass has several
//! rows of one sequence, a row needs keys that other rows are about to write, which takes two launches.

use super::cache::{CACHE, KV_BOTH};
use super::reference::Bound;
use super::rotary_kv::{RotaryKv, TURNED, rotary_kv};
use super::split::{Attention, AttentionParams, HEADS, OUT, OUT_AXIS, SCORES, attend, attention};
use super::{ROTARY_KV, testbed};
use crate::weight::EIGHT;
use crate::{
    Binding, Caps, Case, Kernel, Launch, Noise, Params, Part, ROW, Row, Slot, Slots, Workload, reduce, stride,
};

/// Bias, rotation, cache write and attention over one split of the keys.
pub static ATTENTION_FRESH: Kernel = Kernel {
    name: "attention_fresh",
    wgsl: include_str!("attention.wgsl"),
    parts: &[
        ROW,
        EIGHT,
        CACHE,
        SCORES,
        Part::new("fresh", include_str!("query_fresh.wgsl")).using(&[TURNED]).trusted(),
    ],
    bindings: &[
        Binding::read("rows", "Row"),
        Binding::read("qkv", "vec2<f32>"),
        Binding::read("bias", "vec2<f32>"),
        Binding::read("freqs", "vec2<f32>"),
        Binding::read("tables", "u32"),
        Binding::write("depth", "u32"),
        Binding::write("partial_sums", "vec2<f32>"),
    ],
    axes: &[KV_BOTH, reduce::REDUCE, OUT, HEADS],
    overrides: &["WG"],
    params: AttentionParams::FIELDS,
    params_size: size_of::<AttentionParams>(),
    reference,
    cases,
    random,
    at,
};

/// Rotates `qkv [rows, (heads + 2·kv_heads)·head_dim]`, fills the cache and attends over the keys in one segment.
///
/// `biased` and `mark_depth` are those of [`RotaryKv`]. Each row must be the only one of its sequence. Bindings: rows, qkv, bias, freqs, tables, depth,
/// partial_sums, kv segment. If the shape is [`Attention::whole`], the attended values are bound in place of partial_sums, as in [`attention`].
#[must_use]
pub fn attention_fresh(caps: &Caps, shape: Attention, biased: bool, mark_depth: bool) -> Launch {
    let Attention { rows, heads, cache, .. } = shape;
    let rotary = rotary_kv(RotaryKv { rows, heads, cache, biased, write_q: false, mark_depth });
    let ready = attention(caps, shape);
    let params = AttentionParams {
        qkv_stride: stride((heads + 2 * cache.kv_heads) * cache.head_dim),
        biased: u32::from(biased),
        mark_depth: u32::from(mark_depth),
        ..ready.params()
    };
    let mut sizes = rotary.sizes;
    // The partial sums are bound in place of the rotated queries.
    sizes[6] = ready.sizes[4];
    Launch { kernel: &ATTENTION_FRESH, params: bytemuck::bytes_of(&params).to_vec(), sizes, ..ready }
}

/// Whether one launch is faster than two. Not on lavapipe: loads of pairs are loops over lanes there, and each head repeats them (at 55 heads and 12 keys, 3.8
/// ms against 2.4 ms and 0.2 ms).
#[must_use]
pub const fn fresh_pays(caps: &Caps) -> bool {
    caps.lanes.is_none()
}

/// Runs the references of both launches, one after the other.
fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: AttentionParams = launch.params();
    let (rows, qkv, bias) = (slots.read::<Row>(), slots.read::<u32>(), slots.read::<u32>());
    let (freqs, tables) = (slots.read::<u32>(), slots.read::<u32>());
    let (depth, partial, kv) = (slots.write::<u32>(), slots.write::<f32>(), slots.write::<u32>());
    let cache = testbed::shape_of(&params, launch.option(0));
    let rotary = rotary_kv(RotaryKv {
        rows: params.rows,
        heads: params.heads,
        cache,
        biased: params.biased != 0,
        write_q: true,
        mark_depth: params.mark_depth != 0,
    });
    let mut q = vec![0; (params.rows * params.heads * params.chunks * 8) as usize];
    let table: &[u32] = bytemuck::cast_slice(rows);
    let bound = vec![
        Slot::Read(table),
        Slot::Read(qkv),
        Slot::Read(bias),
        Slot::Read(freqs),
        Slot::Read(tables),
        Slot::Write(depth),
        Slot::Write(&mut q),
        Slot::Write(kv),
    ];
    (ROTARY_KV.reference)(&rotary, Slots::new(bound));
    // The newest position counts as stored: its key and value are at hand.
    let mut stored = depth.to_vec();
    for row in rows.iter().take(params.rows as usize).filter(|row| row.live != 0) {
        stored[(row.sequence * params.context + row.position) as usize] = row.step + 1;
    }
    let q = bytemuck::cast_slice(&q);
    attend(launch, launch.option(OUT_AXIS), Bound { rows, q, tables, depth: &stored, kv }, partial);
}

fn cases() -> Vec<Case> {
    testbed::buffers().map(|(name, bed)| bed.alone().fresh_case(name, &Caps::default())).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    // Only in decoding are rows alone in their sequence.
    if work.rows > 1 || !fresh_pays(&work.caps) {
        return Vec::new();
    }
    let beds = testbed::Testbed::at(work).into_iter();
    beds.map(|bed| {
        let mut case = bed.fresh_case("model", &work.caps);
        case.launch.cost = bed.cost();
        case
    })
    .collect()
}

fn random(seed: u64) -> Case {
    let bed = testbed::Testbed::random(&mut Noise::new(seed), seed);
    bed.alone().fresh_case(&format!("seed {seed}"), &Caps::default())
}
