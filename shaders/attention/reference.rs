//! CPU reference of attention. All attention kernels share it: they compute the same result for their rows, however they divide the work.

use super::cache::{CacheShape, Vector};
use super::combine::combine;
use super::split::{AttentionParams, LOWEST, partial_bytes};
use crate::{Row, Slot, Slots};

/// Buffers that the kernels read.
#[derive(Clone, Copy)]
pub(super) struct Bound<'a> {
    pub(super) rows: &'a [Row],
    pub(super) q: &'a [f32],
    pub(super) tables: &'a [u32],
    pub(super) depth: &'a [u32],
    pub(super) kv: &'a [u32],
}

/// Positions per split for a row of the table; `None` for rows that the kernel skips.
pub(super) type Shares<'a> = &'a dyn Fn(usize, &Row) -> Option<u32>;

/// Computes the largest score, the sum of weights and the sums of values of each split.
pub(super) fn parts(
    params: &AttentionParams,
    cache: &CacheShape,
    shares: Shares<'_>,
    bound: Bound<'_>,
    partial: &mut [f32],
) {
    let Bound { rows, q, tables, depth, kv } = bound;
    let (head_dim, width) = (params.head_dim as usize, params.chunks as usize * 8);
    let mut held = vec![0.0; head_dim];
    for (place, row) in rows.iter().enumerate().take(params.rows as usize).filter(|(_, row)| row.live != 0) {
        let Some(share) = shares(place, row) else { continue };
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

/// Computes the attended values `[rows, heads·head_dim]` of launches that see all keys in one part, as [`combine`](super::combine()) would.
pub(super) fn whole(params: &AttentionParams, cache: &CacheShape, shares: Shares<'_>, bound: Bound<'_>, y: &mut [f32]) {
    let mut partial = vec![0.0; partial_bytes(params.rows, params.heads, 1, params.chunks) as usize / 4];
    parts(params, cache, shares, bound, &mut partial);
    let taken = |(place, row): (usize, &Row)| if shares(place, row).is_some() { *row } else { Row::RESTING };
    let table: Vec<Row> = bound.rows.iter().take(params.rows as usize).enumerate().map(taken).collect();
    let combine = combine(params.rows, params.heads, (params.head_dim, params.chunks), 1);
    let slots = vec![
        Slot::Read(bytemuck::cast_slice(&table)),
        Slot::Read(bytemuck::cast_slice(&partial)),
        Slot::Write(bytemuck::cast_slice_mut(y)),
    ];
    (combine.kernel.reference)(&combine, Slots::new(slots));
}

/// Runs the reference that a launch's option on the axis [`OUT`](super::split::OUT) selects.
pub(super) fn attend(
    params: &AttentionParams,
    (cache, out): (&CacheShape, usize),
    shares: Shares<'_>,
    bound: Bound<'_>,
    written: &mut [f32],
) {
    if out == 0 {
        parts(params, cache, shares, bound, written);
    } else {
        whole(params, cache, shares, bound, written);
    }
}

/// Takes the bindings of a launch that only reads the cache: the buffers that it reads, and the one that it writes.
pub(super) fn bound<'a>(slots: &mut Slots<'a>) -> (Bound<'a>, &'a mut [f32]) {
    let (rows, q, tables, depth) = (slots.read(), slots.read(), slots.read(), slots.read());
    let written = slots.write();
    (Bound { rows, q, tables, depth, kv: slots.read() }, written)
}
