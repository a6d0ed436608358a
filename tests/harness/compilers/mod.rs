//! Every variant of every kernel, through the compilers that its text meets on real devices, without such a device.
//!
//! A variant is compiled from the very text, with the very constants and options with which the engine asks wgpu for its
//! pipeline (`engine/pipeline.rs`): naga translates it as wgpu-hal 30 does, then the tools of each platform judge.
//!
//! | module | what it proves | needs |
//! |---|---|---|
//! | [`spirv`] | Vulkan: valid SPIR-V for the oldest and the newest version that wgpu writes | `spirv-val` |
//! | [`dxil`] | DX12: Microsoft's compiler makes DXIL of the HLSL, and its validator accepts it | libdxcompiler |
//! | [`msl`] | Metal: naga translates to MSL; there is no compiler for it outside of macOS | nothing |
//! | [`amd`] | Mesa's compiler fits it into the registers of three generations of AMD GPUs | RADV |
//!
//! `tests/get-compilers` installs what is needed.

pub mod amd;
pub mod dxil;
pub mod listing;
pub mod msl;
pub mod spirv;

mod bindings;
mod dxc;

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow, ensure};
use naga::ShaderStage;
use naga::back::PipelineConstants;
use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use ruminate_shaders::{Choice, KERNELS, Kernel, LANES, assemble};

pub use bindings::{Bound, Resource};
pub use dxc::Dxc;

/// Name of the entry point of every kernel.
pub const ENTRY: &str = "main";

/// What a pipeline is made of: a kernel, one part per axis, a value per constant.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Its parts.
    pub choice: Choice,
    /// Values of [`Kernel::overrides`].
    pub overrides: Vec<u32>,
}

impl Variant {
    /// Its name in reports: `matvec.bf16.plain.store.rows1.subgroup`.
    #[must_use]
    pub fn label(&self) -> String {
        self.kernel.label(self.choice)
    }

    /// The size of subgroups that it is made for, if it is made for one.
    #[must_use]
    pub fn lanes(&self) -> Option<u32> {
        let constants = self.kernel.overrides.iter().zip(&self.overrides);
        constants.filter(|(name, _)| **name == LANES).map(|(_, &lanes)| lanes).next()
    }

    /// Whether GPUs of a family ever run it: what is made for subgroups of another size is never launched there.
    #[must_use]
    pub fn runs_on(&self, family: &str) -> bool {
        let matrices = self.kernel.needs_matrices(self.choice);
        self.lanes().is_none_or(|lanes| amd::subgroups(family).contains(&lanes))
            && matrices.is_none_or(|matrices| amd::multiplies(family, matrices))
    }

    /// Its constants, as reports show them: `WG=128`; empty if it has none.
    #[must_use]
    pub fn constants(&self) -> String {
        let constants = self.kernel.overrides.iter().zip(&self.overrides);
        constants.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
    }

    /// The module as backends see it. One without subgroup operations is validated without them, as on a device that has
    /// none.
    ///
    /// # Errors
    /// If naga rejects the text or the constants: the message shows the place.
    pub fn module(&self) -> Result<Checked> {
        let constants = self.kernel.overrides.iter().zip(&self.overrides);
        let constants = constants.map(|(&name, &value)| (name.to_owned(), f64::from(value))).collect();
        let mut features = Capabilities::empty();
        features.set(Capabilities::SUBGROUP, self.kernel.needs_subgroups(self.choice));
        features.set(Capabilities::SHADER_FLOAT16, self.kernel.needs_f16(self.choice));
        features.set(Capabilities::COOPERATIVE_MATRIX, self.kernel.needs_matrices(self.choice).is_some());
        let checked = Checked::new(&assemble(self.kernel, self.choice), &constants, features)?;
        Ok(Checked { trusted: self.kernel.is_trusted(self.choice), ..checked })
    }
}

/// A valid module without open constants.
#[derive(Debug)]
pub struct Checked {
    /// The module.
    pub module: naga::Module,
    /// What naga's validator found out about it.
    pub info: ModuleInfo,
    /// What it binds, in the order of the binding numbers.
    pub bindings: Vec<Bound>,
    /// Whether it calls subgroup operations.
    pub subgroups: bool,
    /// Whether it computes in f16.
    pub f16: bool,
    /// Whether it multiplies four bytes at once.
    pub bytes: bool,
    /// Rows of the matrices that its subgroups multiply, if they do.
    pub matrices: Option<u32>,
    /// Whether it is compiled without checks: see [`Part::trusted`](ruminate_shaders::Part::trusted).
    pub trusted: bool,
}

impl Checked {
    /// Parses and validates a text for devices with certain features, and puts in its constants.
    ///
    /// # Errors
    /// If naga rejects it: the message shows the place.
    pub fn new(text: &str, constants: &PipelineConstants, features: Capabilities) -> Result<Self> {
        let module = naga::front::wgsl::parse_str(text).map_err(|error| anyhow!(error.emit_to_string(text)))?;
        let subgroups = features.contains(Capabilities::SUBGROUP);
        let f16 = features.contains(Capabilities::SHADER_FLOAT16);
        let bytes = text.contains("dot4I8Packed");
        let matrices = features
            .contains(Capabilities::COOPERATIVE_MATRIX)
            .then(|| if text.contains("coop_mat16x16") { 16 } else { 8 });
        let mut validator = Validator::new(ValidationFlags::all(), features | Capabilities::SHADER_FLOAT16_IN_FLOAT32);
        if subgroups {
            validator.subgroup_operations(SubgroupOperationSet::all()).subgroup_stages(ShaderStages::COMPUTE);
        }
        let info = validator.validate(&module).map_err(|error| anyhow!(error.emit_to_string(text)))?;
        let entry = Some((ShaderStage::Compute, ENTRY));
        let (module, info) = process_overrides(&module, &info, entry, constants).context("constants")?;
        let bindings = bindings::of(&module)?;
        let (module, info) = (module.into_owned(), info.into_owned());
        Ok(Self { bindings, module, info, subgroups, f16, bytes, matrices, trusted: false })
    }
}

/// Every variant of a kernel, with every set of constants that a launch among the kernel's cases has. A launch chooses them by
/// its shape and not by its parts, so every part meets every set.
#[must_use]
pub fn variants(kernel: &'static Kernel) -> Vec<Variant> {
    let constants: BTreeSet<Vec<u32>> = (kernel.cases)().into_iter().map(|case| case.launch.overrides).collect();
    let mut found = Vec::new();
    for choice in kernel.variants() {
        found.extend(constants.iter().map(|overrides| Variant { kernel, choice, overrides: overrides.clone() }));
    }
    found
}

/// Every variant of every kernel, in the order of the registry.
#[must_use]
pub fn all_variants() -> Vec<Variant> {
    KERNELS.iter().copied().flat_map(variants).collect()
}

/// The variants that a name means: a kernel (`matvec`), or one choice of its parts (`matvec.bf16.plain.store.rows1.subgroup`).
///
/// # Errors
/// If there is none.
pub fn named(name: &str) -> Result<Vec<Variant>> {
    let (kernel, _) = name.split_once('.').unwrap_or((name, ""));
    let kernel =
        KERNELS.iter().find(|it| it.name == kernel).with_context(|| format!("there is no kernel `{kernel}`"))?;
    let mut found = variants(kernel);
    found.retain(|variant| name == kernel.name || name == variant.label());
    ensure!(!found.is_empty(), "the kernel `{}` has no variant `{name}`", kernel.name);
    Ok(found)
}
