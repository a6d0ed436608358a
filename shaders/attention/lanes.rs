//! Attention by subgroups of a known size, with the cache in textures: for software drivers, which read textures best.

use super::cache::{CACHE, PAGE};
use super::reference;
use super::split::{AttentionParams, OUT, SCORES, met};
use super::testbed::{self, CacheParams, Testbed};
use crate::kernel::LANES;
use crate::matmul::{M, SUMS, TOKENS_1, TOKENS_8};
use crate::weight::{Dtype, EIGHT};
use crate::{Axis, Binding, Caps, Case, Kernel, Launch, Noise, Params, Part, Place, ROW, Slots, Workload};

/// Attention for one row, or for eight rows at a time, which load the keys that they see together.
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
        OUT,
    ],
    overrides: &[LANES],
    params: AttentionParams::FIELDS,
    params_size: size_of::<AttentionParams>(),
    reference,
    cases,
    random,
    at,
};

fn reference(launch: &Launch, mut slots: Slots<'_>) {
    let params: AttentionParams = launch.params();
    let cache = params.shape(Dtype::Bf16, Place::Texture);
    let share = params.pages_per_slot.div_ceil(params.splits) * PAGE;
    let (bound, written) = reference::bound(&mut slots);
    reference::attend(&params, (&cache, launch.option(2)), &|_, _| Some(share), bound, written);
}

fn cases() -> Vec<Case> {
    let beds = testbed::shapes().into_iter();
    beds.map(|(name, bed)| bed.in_texture().attention_case(name, &Caps::default())).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    met(work, &ATTENTION_LANES)
}

fn random(seed: u64) -> Case {
    let bed = Testbed::random(&mut Noise::new(seed), seed);
    bed.in_texture().attention_case(&format!("seed {seed}"), &Caps::default())
}
