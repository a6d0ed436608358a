//! DX12: HLSL from naga, with the options of wgpu-hal's `dx12/device.rs`, then DXIL from DXC, with those of its `dx12/shader_compilation.rs`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use naga::ShaderStage;
use naga::back::hlsl::{BindTarget, Options, PipelineOptions, ShaderModel, Writer};

use super::dxc::Dxc;
use super::{Checked, ENTRY, Resource};

/// Shader models: the oldest that wgpu supports with DXC, and the newest that this DXC and most drivers support. wgpu uses the newest that both support.
const MODELS: [ShaderModel; 2] = [ShaderModel::V6_0, ShaderModel::V6_6];

/// Shader models that a module must compile for. Both, with three exceptions: wgpu offers f16 only from 6.2 on; with an instruction for products of four
/// bytes, DXC emits 64-bit calls for them, so they are not used on DX12; and wgpu does not support cooperative matrices there.
#[must_use]
pub fn models(checked: &Checked) -> &'static [ShaderModel] {
    if checked.matrices.is_some() {
        return &[];
    }
    match (checked.f16, checked.bytes) {
        (true, _) => &MODELS[1..],
        (_, true) => &MODELS[..1],
        _ => &MODELS,
    }
}

/// Path of the DXC library that `tests/get-compilers` installs, if present.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dxc/libdxcompiler.so");
    (cfg!(target_os = "linux") && path.is_file()).then_some(path)
}

/// Translates a module to HLSL, and returns it with the name of its entry point.
///
/// # Errors
/// If naga cannot express the module.
pub fn translate(checked: &Checked, model: ShaderModel) -> Result<(String, String)> {
    let (mut constants, mut read, mut written) = (BindTarget::default(), BindTarget::default(), BindTarget::default());
    let mut options = Options {
        shader_model: model,
        fake_missing_bindings: false,
        zero_initialize_workgroup_memory: false,
        restrict_indexing: !checked.trusted,
        force_loop_bounding: !checked.trusted,
        ..Options::default()
    };
    for bound in &checked.bindings {
        let register = match bound.resource {
            Resource::Uniform => &mut constants,
            Resource::Storage { writable: false } | Resource::Texture => &mut read,
            // Storage textures count as writable, even if a kernel only reads them.
            Resource::Storage { writable: true } | Resource::StorageTexture { .. } => &mut written,
        };
        options.binding_map.insert(bound.place, *register);
        register.register += 1;
    }
    // The number of workgroups is a root constant after all others.
    options.special_constants_binding = Some(constants);
    let pipeline = PipelineOptions { entry_point: Some((ShaderStage::Compute, ENTRY.to_owned())) };
    let mut text = String::new();
    let info =
        Writer::new(&mut text, &options, &pipeline).write(&checked.module, &checked.info, None).context("HLSL")?;
    let name = info.entry_point_names.into_iter().next().context("HLSL without an entry point")?;
    Ok((text, name.map_err(|error| anyhow!("HLSL: {error}"))?))
}

/// Compiles a module to a DXIL container.
///
/// # Errors
/// If naga cannot express the module, or the compiler or validator rejects it.
pub fn compile(dxc: &Dxc, checked: &Checked, model: ShaderModel) -> Result<Vec<u8>> {
    let (text, entry) = translate(checked, model)?;
    let profile = format!("{}_{}", naga::back::hlsl::shader_stage_to_hlsl_str(ShaderStage::Compute), model.to_str());
    // wgpu's arguments: HLSL 2018, which naga writes, and strict mode.
    let mut arguments = vec!["-E", &entry, "-T", &profile, "-HV", "2018", "-no-warnings", "-Ges"];
    if checked.f16 {
        arguments.push("-enable-16bit-types");
    }
    let container = dxc.compile(&text, &arguments).with_context(|| profile.clone())?;
    ensure!(parts(&container)?.contains(b"DXIL"), "{profile}: the container has no DXIL part");
    Ok(container)
}

/// Names of a container's parts. The header has magic, a digest of 16 bytes, version, size, count, then the offset of each part.
fn parts(container: &[u8]) -> Result<Vec<[u8; 4]>> {
    let word = |at: usize| {
        let bytes = container.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        bytes.context("truncated container")
    };
    let number = |at: usize| word(at).map(|bytes| u32::from_le_bytes(bytes) as usize);
    ensure!(word(0)? == *b"DXBC", "not a DXIL container");
    ensure!(
        number(24)? == container.len(),
        "the container has {} bytes, its header says {}",
        container.len(),
        number(24)?
    );
    (0..number(28)?).map(|part| word(number(32 + 4 * part)?)).collect()
}
