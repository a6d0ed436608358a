//! Compiles every variant of every kernel with the compilers used on real devices, without such a device.
//!
//! A variant is compiled from the same text, constants and options that the engine passes to wgpu (`engine/pipeline.rs`): naga translates it like wgpu-hal
//! 30, then the tools of each platform check it.
//!
//! | module | checks | needs |
//! |---|---|---|
//! | [`spirv`] | Vulkan: valid SPIR-V for the oldest and the newest version that wgpu writes | `spirv-val` |
//! | [`dxil`] | DX12: Microsoft's compiler turns the HLSL into DXIL, and its validator accepts it | libdxcompiler |
//! | [`msl`] | Metal: naga translates to MSL; its compiler exists only on macOS | nothing |
//! | [`amd`] | AMD: the registers of three GPU generations suffice, by Mesa's compiler | RADV |
//!
//! `tests/get-compilers` installs these tools.

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

/// Description of a pipeline: a kernel, one part per axis, a value per constant.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Kernel.
    pub kernel: &'static Kernel,
    /// Chosen parts.
    pub choice: Choice,
    /// Values of [`Kernel::overrides`].
    pub overrides: Vec<u32>,
}

impl Variant {
    /// Label in reports: `matvec.bf16.plain.store.rows1.subgroup`.
    #[must_use]
    pub fn label(&self) -> String {
        self.kernel.label(self.choice)
    }

    /// Subgroup size that the variant is made for, if any.
    #[must_use]
    pub fn lanes(&self) -> Option<u32> {
        let constants = self.kernel.overrides.iter().zip(&self.overrides);
        constants.filter(|(name, _)| **name == LANES).map(|(_, &lanes)| lanes).next()
    }

    /// Whether GPUs of a family ever run the variant: variants for other subgroup sizes are never launched there.
    #[must_use]
    pub fn runs_on(&self, family: &str) -> bool {
        let matrices = self.kernel.needs_matrices(self.choice);
        self.lanes().is_none_or(|lanes| amd::subgroups(family).contains(&lanes))
            && matrices.is_none_or(|matrices| amd::multiplies(family, matrices))
    }

    /// Constants in reports: `WG=128`; empty without constants.
    #[must_use]
    pub fn constants(&self) -> String {
        let constants = self.kernel.overrides.iter().zip(&self.overrides);
        constants.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
    }

    /// Module as seen by backends. A variant without subgroup operations is validated without them, as on a device that lacks them.
    ///
    /// # Errors
    /// If naga rejects the text or the constants; the message shows the location.
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

/// Valid module without override constants.
#[derive(Debug)]
pub struct Checked {
    /// Module.
    pub module: naga::Module,
    /// Result of naga's validator.
    pub info: ModuleInfo,
    /// Bindings, in the order of their numbers.
    pub bindings: Vec<Bound>,
    /// Whether it uses subgroup operations.
    pub subgroups: bool,
    /// Whether it computes in f16.
    pub f16: bool,
    /// Whether it uses products of four bytes at once.
    pub bytes: bool,
    /// Rows of its cooperative matrices, if it uses any.
    pub matrices: Option<u32>,
    /// Whether it is compiled without checks; see [`Part::trusted`](ruminate_shaders::Part::trusted).
    pub trusted: bool,
}

impl Checked {
    /// Parses and validates a text for devices with `features`, and substitutes its constants.
    ///
    /// # Errors
    /// If naga rejects the text; the message shows the location.
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

/// All variants of a kernel, with every set of constants used by the kernel's cases. Launches choose constants by shape, not by parts, so all parts are
/// combined with all sets.
#[must_use]
pub fn variants(kernel: &'static Kernel) -> Vec<Variant> {
    let constants: BTreeSet<Vec<u32>> = (kernel.cases)().into_iter().map(|case| case.launch.overrides).collect();
    let mut found = Vec::new();
    for choice in kernel.variants() {
        found.extend(constants.iter().map(|overrides| Variant { kernel, choice, overrides: overrides.clone() }));
    }
    found
}

/// Every choice of a kernel's parts once, with the sets of constants in turn.
#[must_use]
pub fn one_set_each(kernel: &'static Kernel) -> Vec<Variant> {
    let all = variants(kernel);
    let sets = all.iter().take_while(|variant| variant.choice == all[0].choice).count().max(1);
    // Shifted after each round, so that no part always meets the same constants.
    let turn = |at: usize| (at + at / sets) % sets;
    all.chunks(sets).enumerate().filter_map(|(at, of_choice)| of_choice.get(turn(at)).cloned()).collect()
}

/// All variants of all kernels, in the order of the registry.
#[must_use]
pub fn all_variants() -> Vec<Variant> {
    KERNELS.iter().copied().flat_map(variants).collect()
}

/// Variants with a name: those of a kernel (`matvec`), or of one choice of its parts (`matvec.bf16.plain.store.rows1.subgroup`).
///
/// # Errors
/// If the kernel or variant is unknown.
pub fn named(name: &str) -> Result<Vec<Variant>> {
    let (kernel, _) = name.split_once('.').unwrap_or((name, ""));
    let kernel = KERNELS.iter().find(|it| it.name == kernel).with_context(|| format!("unknown kernel `{kernel}`"))?;
    let mut found = variants(kernel);
    found.retain(|variant| name == kernel.name || name == variant.label());
    ensure!(!found.is_empty(), "the kernel `{}` has no variant `{name}`", kernel.name);
    Ok(found)
}
