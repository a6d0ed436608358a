//! Vulkan: SPIR-V from naga, with the options of wgpu-hal's `vulkan/adapter.rs`, checked by Khronos' validator.

use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use naga::ShaderStage;
use naga::back::spv::{
    BindingInfo, Capability, Options, PipelineOptions, WriterFlags, ZeroInitializeWorkgroupMemoryMode, write_vec,
};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

use super::{Checked, ENTRY};

/// Vulkan version, as distinguished by wgpu.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the environment for `spirv-val`.
    pub environment: &'static str,
    /// SPIR-V version that wgpu writes for this Vulkan version.
    pub version: (u8, u8),
    /// Whether the device checks bounds (`robustBufferAccess2`), so that the shader need not.
    pub robust: bool,
}

/// Vulkan 1.0, the oldest that wgpu supports: no subgroups.
pub const OLDEST: Target = Target { environment: "vulkan1.0", version: (1, 0), robust: false };
/// Vulkan 1.1, the oldest with subgroups: phones.
pub const OLDEST_WITH_SUBGROUPS: Target = Target { environment: "vulkan1.1", version: (1, 3), robust: false };
/// Vulkan 1.3 with robust buffers: desktop drivers.
pub const NEWEST: Target = Target { environment: "vulkan1.3", version: (1, 6), robust: true };

impl Target {
    /// Targets of a module: the oldest that can run it, and the newest. wgpu supports cooperative matrices only with new drivers.
    #[must_use]
    pub fn all(checked: &Checked) -> Vec<Self> {
        if checked.matrices.is_some() { vec![NEWEST] } else { vec![Self::oldest(checked), NEWEST] }
    }

    /// Oldest target that can run a module without cooperative matrices.
    #[must_use]
    const fn oldest(checked: &Checked) -> Self {
        if checked.subgroups { OLDEST_WITH_SUBGROUPS } else { OLDEST }
    }
}

/// Translates a module to SPIR-V.
///
/// # Errors
/// If naga cannot express the module with the capabilities that wgpu grants.
pub fn translate(checked: &Checked, target: Target) -> Result<Vec<u32>> {
    let place = |place: naga::ResourceBinding| BindingInfo {
        descriptor_set: place.group,
        binding: place.binding,
        binding_array_size: None,
    };
    let mut capabilities = vec![
        Capability::Shader,
        Capability::Matrix,
        Capability::Sampled1D,
        Capability::Image1D,
        Capability::ImageQuery,
        Capability::DerivativeControl,
        Capability::StorageImageExtendedFormats,
    ];
    if checked.f16 {
        capabilities.push(Capability::Float16);
    }
    if checked.subgroups {
        capabilities.extend([
            Capability::GroupNonUniform,
            Capability::GroupNonUniformVote,
            Capability::GroupNonUniformArithmetic,
            Capability::GroupNonUniformBallot,
            Capability::GroupNonUniformShuffle,
            Capability::GroupNonUniformShuffleRelative,
            Capability::GroupNonUniformQuad,
        ]);
    }
    if checked.matrices.is_some() {
        capabilities.extend([Capability::CooperativeMatrixKHR, Capability::VulkanMemoryModel]);
    }
    if target.version >= NEWEST.version {
        // Part of Vulkan 1.3; for older versions, naga expands products of bytes.
        capabilities.extend([Capability::DotProduct, Capability::DotProductInput4x8BitPacked]);
    }
    let unless = |free| if free { BoundsCheckPolicy::Unchecked } else { BoundsCheckPolicy::Restrict };
    let unless_robust = unless(target.robust || checked.trusted);
    let options = Options {
        lang_version: target.version,
        flags: WriterFlags::LABEL_VARYINGS | WriterFlags::FORCE_POINT_SIZE,
        fake_missing_bindings: false,
        binding_map: checked.bindings.iter().map(|bound| (bound.place, place(bound.place))).collect(),
        capabilities: Some(capabilities.into_iter().collect()),
        bounds_check_policies: BoundsCheckPolicies {
            index: unless(checked.trusted),
            buffer: unless_robust,
            image_load: unless_robust,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: !checked.trusted,
        use_storage_input_output_16: false,
        debug_info: None,
        emit_int_div_checks: !checked.trusted,
        ..Options::default()
    };
    let entry = PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: ENTRY.to_owned() };
    write_vec(&checked.module, &checked.info, &options, Some(&entry))
        .with_context(|| format!("SPIR-V for {}", target.environment))
}

/// Whether `spirv-val` is in `PATH`. It is not run, because every test process calls this.
#[must_use]
pub fn available() -> bool {
    let name = format!("spirv-val{}", std::env::consts::EXE_SUFFIX);
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(&name).is_file()))
}

/// Whether `spirv-val` supports cooperative matrices: from v2023.4 on.
#[must_use]
pub fn knows_matrices() -> bool {
    let version = || -> Option<(u32, u32)> {
        let output = Command::new("spirv-val").arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (year, rest) = text.split_once(" v")?.1.split_once('.')?;
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((year.parse().ok()?, number.parse().ok()?))
    };
    version().is_some_and(|version| version >= (2023, 4))
}

/// Validates a module with `spirv-val`.
///
/// # Errors
/// Findings of `spirv-val`.
pub fn validate(words: &[u32], target: Target) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytemuck::cast_slice(words))?;
    let output = Command::new("spirv-val")
        .args(["--target-env", target.environment])
        .arg(file.path())
        .output()
        .context("spirv-val")?;
    let found = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success() && found.is_empty(),
        "spirv-val for {}: {}",
        target.environment,
        String::from_utf8_lossy(&found)
    );
    Ok(())
}
