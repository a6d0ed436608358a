//! DX12: HLSL as wgpu-hal's `dx12/device.rs` asks naga for it, then DXIL as its `dx12/shader_compilation.rs` asks DXC for it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use naga::ShaderStage;
use naga::back::hlsl::{BindTarget, Options, PipelineOptions, ShaderModel, Writer};

use super::dxc::Dxc;
use super::{Checked, ENTRY, Resource};

/// Shader models: the oldest that wgpu takes with DXC, and the newest that this DXC and most drivers have. wgpu takes the newest
/// that both have.
const MODELS: [ShaderModel; 2] = [ShaderModel::V6_0, ShaderModel::V6_6];

/// The shader models that a module must compile for: both, but for f16, which wgpu does not offer below 6.2, and for products of four bytes, of which DXC makes
/// calls of 64 bits where it has an instruction for them: they are not used on DX12.
/// wgpu has no matrices of subgroups there.
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

/// Where `tests/get-compilers` puts the library of DXC, if it is there.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dxc/libdxcompiler.so");
    (cfg!(target_os = "linux") && path.is_file()).then_some(path)
}

/// The HLSL of a module and the name of its entry point.
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
            // Storage textures count as written, whatever a kernel does with them.
            Resource::Storage { writable: true } | Resource::StorageTexture { .. } => &mut written,
        };
        options.binding_map.insert(bound.place, *register);
        register.register += 1;
    }
    // The number of workgroups comes in a root constant behind all others.
    options.special_constants_binding = Some(constants);
    let pipeline = PipelineOptions { entry_point: Some((ShaderStage::Compute, ENTRY.to_owned())) };
    let mut text = String::new();
    let info =
        Writer::new(&mut text, &options, &pipeline).write(&checked.module, &checked.info, None).context("HLSL")?;
    let name = info.entry_point_names.into_iter().next().context("HLSL without an entry point")?;
    Ok((text, name.map_err(|error| anyhow!("HLSL: {error}"))?))
}

/// The DXIL container of a module.
///
/// # Errors
/// If naga cannot express the module, or what compiler and validator said.
pub fn compile(dxc: &Dxc, checked: &Checked, model: ShaderModel) -> Result<Vec<u8>> {
    let (text, entry) = translate(checked, model)?;
    let profile = format!("{}_{}", naga::back::hlsl::shader_stage_to_hlsl_str(ShaderStage::Compute), model.to_str());
    // wgpu's arguments: HLSL 2018, which naga writes, and strictness.
    let mut arguments = vec!["-E", &entry, "-T", &profile, "-HV", "2018", "-no-warnings", "-Ges"];
    if checked.f16 {
        arguments.push("-enable-16bit-types");
    }
    let container = dxc.compile(&text, &arguments).with_context(|| profile.clone())?;
    ensure!(parts(&container)?.contains(b"DXIL"), "{profile}: a container without DXIL");
    Ok(container)
}

/// Names of a container's parts. Its header: magic, digest of 16 bytes, version, size, count, then the offset of each part.
fn parts(container: &[u8]) -> Result<Vec<[u8; 4]>> {
    let word = |at: usize| {
        let bytes = container.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        bytes.context("a container that is cut off")
    };
    let number = |at: usize| word(at).map(|bytes| u32::from_le_bytes(bytes) as usize);
    ensure!(word(0)? == *b"DXBC", "no DXIL container");
    ensure!(number(24)? == container.len(), "a container of {} bytes that claims {}", container.len(), number(24)?);
    (0..number(28)?).map(|part| word(number(32 + 4 * part)?)).collect()
}
