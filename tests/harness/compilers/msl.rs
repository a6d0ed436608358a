//! Metal: MSL from naga, with the options of wgpu-hal's `metal/device.rs`.

use anyhow::{Context, Result, anyhow, ensure};
use naga::ShaderStage;
use naga::back::msl::{BindTarget, EntryPointResources, Options, PipelineOptions, Slot, write_string};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

use super::{Checked, ENTRY, Resource};

/// Oldest version of Metal that kernels must support: 2.4, of macOS 12 and iOS 15 (2021).
const VERSION: (u8, u8) = (2, 4);

/// Maximum number of buffers of a Metal function (Metal feature set tables: 31 on all families).
const MOST_BUFFERS: Slot = 31;

/// Whether Metal supports a module: of cooperative matrices, only those of 8 rows.
#[must_use]
pub fn has(checked: &Checked) -> bool {
    checked.matrices.is_none_or(|rows| rows == 8)
}

/// Translates a module to MSL.
///
/// # Errors
/// If naga cannot express the module, or it has too many buffers for Metal.
pub fn translate(checked: &Checked) -> Result<String> {
    let mut resources = EntryPointResources::default();
    let (mut buffers, mut textures): (Slot, Slot) = (0, 0);
    for bound in &checked.bindings {
        let mut target = BindTarget::default();
        let next = |count: &mut Slot| std::mem::replace(count, *count + 1);
        match bound.resource {
            Resource::Uniform => target.buffer = Some(next(&mut buffers)),
            Resource::Storage { writable } => {
                target.buffer = Some(next(&mut buffers));
                target.mutable = writable;
            }
            Resource::StorageTexture { writable } => {
                target.texture = Some(next(&mut textures));
                target.mutable = writable;
            }
            Resource::Texture => target.texture = Some(next(&mut textures)),
        }
        resources.resources.insert(bound.place, target);
    }
    // Lengths of the buffers, for bounds checks.
    resources.sizes_buffer = Some(buffers);
    ensure!(buffers < MOST_BUFFERS, "{buffers} buffers and one for sizes; Metal supports {MOST_BUFFERS}");
    let policy = if checked.trusted { BoundsCheckPolicy::Unchecked } else { BoundsCheckPolicy::Restrict };
    let options = Options {
        lang_version: VERSION,
        per_entry_point_map: [(ENTRY.to_owned(), resources)].into(),
        fake_missing_bindings: false,
        spirv_cross_compatibility: false,
        bounds_check_policies: BoundsCheckPolicies {
            index: policy,
            buffer: policy,
            image_load: policy,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: !checked.trusted,
        ..Options::default()
    };
    let pipeline =
        PipelineOptions { entry_point: Some((ShaderStage::Compute, ENTRY.to_owned())), ..PipelineOptions::default() };
    let (text, info) = write_string(&checked.module, &checked.info, &options, &pipeline).context("MSL")?;
    let name = info.entry_point_names.first().ok_or_else(|| anyhow!("MSL without an entry point"))?;
    let name = name.as_ref().map_err(|error| anyhow!("MSL: {error}"))?;
    ensure!(text.contains(&format!("kernel void {name}")), "MSL has no kernel `{name}`");
    Ok(text)
}
