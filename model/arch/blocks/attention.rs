//! Attention over the pages of the cache.

use ruminate_engine::Tensor;
use ruminate_shaders::attention::{
    Attention, RotaryKv, attention_fresh, attention_variants, beside, combine, partial_bytes, preferred_splits,
    qk_norm, rotary_kv,
};
use ruminate_shaders::{Dtype, weight};

use super::Block;
use crate::arch::pass::Pass;
use crate::arch::spec::Spec;
use crate::error::Error;

impl Block {
    /// Records attention up to, but without, the output projection.
    pub(super) fn attend(&self, pass: &mut Pass<'_>, spec: &Spec, qkv: Tensor) -> Result<Tensor, Error> {
        let (heads, head_dim, count) = (spec.heads, spec.head_dim, pass.shape.rows);
        let caps = pass.device.caps();
        let rows = pass.rows();
        let names = spec.names();
        let site = |part: &str| format!("{}.{}.{part}", self.name, names.attention);
        let segments = pass.kv.segments(self.recurrent, self.layer);
        let chunks = segments.first().map_or(weight::chunks(head_dim), |(cache, _)| cache.chunks());
        let freqs = pass.graph.import(pass.kv.rotary());
        let bias = self.qk_bias.as_ref().map_or(freqs, |bias| pass.graph.import(bias));
        let (tables, depth) = (pass.graph.import(pass.kv.page_tables()), pass.graph.import(pass.kv.depth()));
        let biased = self.qk_bias.is_some();
        let marks = |segment| segment == 0 && self.recurrent && self.layer == 0;
        if let Some(w) = &self.qk_norm {
            let w = pass.graph.import(w);
            let launch = qk_norm(&caps, count, (heads, spec.kv_heads), head_dim, spec.norm_eps as f32);
            pass.graph.launch(launch, &[rows, w, qkv])?;
        }

        let splits = segments.first().map_or(1, |(cache, _)| preferred_splits(&caps, cache, count, heads));
        let parts = splits * u32::try_from(segments.len()).unwrap_or(u32::MAX);
        let shape = |segment, cache| {
            let segments = parts / splits;
            Attention { rows: count, heads, cache, splits, segment, segments }
        };
        let y = pass.activation(&site("values"), heads * head_dim);
        // If one part holds all keys, no launch has to combine parts.
        let at_once = pass.attends_at_once();
        let whole = segments.first().is_some_and(|(cache, _)| shape(0, *cache).whole());
        let partial = if whole { y } else { pass.scratch(&site("parts"), partial_bytes(count, heads, parts, chunks)) };
        if at_once {
            for (segment, (cache, buffer)) in (0..).zip(&segments) {
                let kv = pass.graph.import(buffer);
                let launch = attention_fresh(&caps, shape(segment, *cache), biased, marks(segment));
                pass.graph.launch(launch, &[rows, qkv, bias, freqs, tables, depth, partial, kv])?;
            }
        } else {
            let q = pass.scratch(&site("q_rope"), Dtype::F32.matrix_bytes(count * heads, chunks));
            for (segment, (cache, buffer)) in (0..).zip(&segments) {
                let kv = pass.graph.import(buffer);
                let (write_q, mark_depth) = (segment == 0, marks(segment));
                let launch = rotary_kv(RotaryKv { rows: count, heads, cache: *cache, biased, write_q, mark_depth });
                pass.graph.launch(launch, &[rows, qkv, bias, freqs, tables, depth, q, kv])?;
            }
            for (segment, (cache, buffer)) in (0..).zip(&segments) {
                let kv = pass.graph.import(buffer);
                let bound = [rows, q, tables, depth, partial, kv, kv];
                let launch = pass.device.pick(attention_variants(&caps, shape(segment, *cache)));
                let rest = beside(&caps, shape(segment, *cache), &launch);
                for launch in std::iter::once(launch).chain(rest) {
                    let bindings = launch.sizes.len();
                    pass.graph.launch(launch, &bound[..bindings])?;
                }
            }
        }
        if !whole {
            pass.graph.launch(combine(count, heads, (head_dim, chunks), parts), &[rows, partial, y])?;
        }
        Ok(y)
    }
}
