//! Adapters: lists them, and requests a device with all features and limits that the engine can use.

use std::time::Duration;

use ruminate_shaders::{Caps, Cooperative};

use crate::error::{Error, Result};
use crate::identity::{self, PciAddress, Uuid};
use crate::memory::{self, Heaps, Memory};
use crate::pipeline_cache::PipelineCache;
use crate::pretend::Pretend;
use crate::select::Select;
use crate::texels;
use crate::tune::TuningFrom;

/// Tier of features and limits to request from an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// All limits of the adapter, and those of its features that kernels use.
    #[default]
    Full,
    /// WebGPU's default limits and no features, whatever the adapter offers: for tests of the lowest tier.
    WebGpuDefaults,
}

/// Kind of device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A card with its own memory.
    Discrete,
    /// A GPU that shares the host's memory.
    Integrated,
    /// A GPU seen through a hypervisor.
    Virtual,
    /// A software driver.
    Cpu,
    /// Unknown.
    #[default]
    Other,
}

impl Kind {
    pub(crate) fn rank(self) -> u8 {
        match self {
            Self::Discrete => 0,
            Self::Integrated => 1,
            Self::Virtual => 2,
            Self::Other => 3,
            Self::Cpu => 4,
        }
    }
}

/// Properties of an adapter by which it is chosen and reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterSummary {
    /// Index among the adapters of all native backends, even if only some backends are listed.
    pub index: usize,
    /// Name of the device.
    pub name: String,
    /// PCI address, if the device has one and its driver reports it. On DX12, two GPUs of one model share the address of the first, because wgpu looks the
    /// address up by model.
    pub pci: Option<PciAddress>,
    /// UUID, reported by Vulkan only. It does not change when the GPU is moved to another slot.
    pub uuid: Option<Uuid>,
    /// Name and version of the driver.
    pub driver: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Kind of device.
    pub kind: Kind,
    /// Capabilities by which launch functions choose kernel variants.
    pub caps: Caps,
    /// Whether the device can time passes.
    pub timestamps: bool,
    /// Maximum bytes of one buffer.
    pub max_buffer: u64,
    /// Memory at the time when the adapter was listed.
    pub memory: Memory,
}

/// Options for opening a device.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Adapter to open.
    pub select: Select,
    /// Graphics interfaces (Vulkan, Metal, DX12) among whose adapters to choose.
    pub backends: wgpu::Backends,
    /// Features and limits to request.
    pub limits: Tier,
    /// Source of the tuned kernel choices.
    pub tuning: TuningFrom,
    /// Whether to use cooperative matrices where the adapter has them. wgpu calls this feature experimental, so it is off on devices of host apps.
    pub cooperative: bool,
    /// Cache of the pipelines that earlier runs of the program compiled.
    pub pipeline_cache: PipelineCache,
    /// Time that a submission may take before the device counts as hung: see [`Device::set_timeout`](crate::Device::set_timeout).
    pub timeout: Option<Duration>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            select: Select::Best,
            backends: native(),
            limits: Tier::Full,
            tuning: TuningFrom::Defaults,
            cooperative: false,
            pipeline_cache: PipelineCache::Off,
            timeout: None,
        }
    }
}

/// All backends other than those in a browser.
fn native() -> wgpu::Backends {
    wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12
}

/// Lists the adapters of the given backends. An adapter has the same index whichever backends are listed.
#[must_use]
pub fn adapters(backends: wgpu::Backends) -> Vec<AdapterSummary> {
    listed(backends).into_iter().filter(|listed| listed.wanted).map(|listed| listed.summary).collect()
}

/// An adapter of this machine.
struct Listed {
    adapter: wgpu::Adapter,
    summary: AdapterSummary,
    /// Whether its backend is among the requested ones.
    wanted: bool,
}

/// Lists the adapters of all native backends, because an index counts all of them.
fn listed(wanted: wgpu::Backends) -> Vec<Listed> {
    let all = enumerate(native() | wanted, flags()).into_iter().enumerate();
    let listed = |(index, adapter): (usize, wgpu::Adapter)| {
        let wanted = wanted.contains(adapter.get_info().backend.into());
        Listed { summary: summarize(&adapter, index), wanted, adapter }
    };
    all.map(listed).collect()
}

/// Finds the adapter that the options select.
pub(crate) fn select(options: &OpenOptions) -> Result<(wgpu::Adapter, AdapterSummary)> {
    let (wanted, others): (Vec<_>, Vec<_>) = listed(options.backends).into_iter().partition(|listed| listed.wanted);
    let (adapters, summaries): (Vec<_>, Vec<_>) = wanted.into_iter().map(|it| (it.adapter, it.summary)).unzip();
    let chosen = options.select.choose(&summaries).cloned().map_err(|error| match error {
        Error::NoAdapter { asked, .. } => {
            let asked = match options.select {
                Select::Best => interfaces(options.backends),
                _ if options.backends.contains(native()) => asked,
                _ => format!("{asked} on {}", interfaces(options.backends)),
            };
            let mut all: Vec<&AdapterSummary> = summaries.iter().chain(others.iter().map(|it| &it.summary)).collect();
            all.sort_unstable_by_key(|it| it.index);
            Error::NoAdapter { asked, found: all.iter().map(ToString::to_string).collect() }
        }
        other => other,
    })?;
    let opened = adapters.into_iter().zip(&summaries).find(|(_, summary)| summary.index == chosen.index);
    let (adapter, _) = opened.expect("the chosen adapter is in the list");
    Ok((adapter, chosen))
}

/// Names of the native backends in a set, as their vendors write them: `Vulkan or DX12`.
fn interfaces(backends: wgpu::Backends) -> String {
    let all = [(wgpu::Backends::VULKAN, "Vulkan"), (wgpu::Backends::METAL, "Metal"), (wgpu::Backends::DX12, "DX12")];
    let named = all.into_iter().filter(|(backend, _)| backends.contains(*backend)).map(|(_, name)| name);
    named.collect::<Vec<_>>().join(" or ")
}

/// Features of the adapter that the engine uses.
pub(crate) fn features(adapter: &wgpu::Adapter) -> wgpu::Features {
    adapter.features()
        & (wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES
            | wgpu::Features::PIPELINE_CACHE)
}

/// Subgroup sizes for kernels that need a known size. In these, eight lanes share a block of a row.
const LANES: std::ops::RangeInclusive<u32> = 8..=128;

/// Subgroup sizes for kernels that work with any size. Their workgroup memory has one entry per four lanes, so smaller subgroups would overflow it. wgpu
/// promises at least 4, but passes on the driver's value unchecked.
const SUBGROUPS: std::ops::RangeInclusive<u32> = 4..=128;

/// Feature that cooperative matrices need.
const COOPERATIVE: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;

/// Whether the adapter multiplies each kind of cooperative matrix that has kernels. All false without the feature.
fn cooperative(adapter: &wgpu::Adapter) -> [bool; Cooperative::ALL.len()] {
    use wgpu::wgt::CooperativeScalarType::{F16, F32};
    let features = adapter.features();
    let offered = adapter.cooperative_matrix_properties();
    Cooperative::ALL.map(|matrices| {
        let mut needed = COOPERATIVE | wgpu::Features::SUBGROUP;
        needed.set(wgpu::Features::SHADER_F16, matrices.rounds());
        let (side, of) = (matrices.side(), if matrices.rounds() { F16 } else { F32 });
        let same = |it: &wgpu::wgt::CooperativeMatrixProperties| {
            [it.m_size, it.n_size, it.k_size] == [side; 3] && it.ab_type == of && it.cr_type == F32
        };
        features.contains(needed) && offered.iter().any(same)
    })
}

/// Requests a device with the features and limits of the tier in `options`. Also returns the kinds of cooperative matrices that it was opened with.
pub(crate) fn request(
    adapter: &wgpu::Adapter,
    options: &OpenOptions,
    pretend: &Pretend,
) -> std::result::Result<(wgpu::Device, wgpu::Queue, [bool; Cooperative::ALL.len()]), wgpu::RequestDeviceError> {
    let (mut required_features, mut required_limits) = match options.limits {
        Tier::Full => (features(adapter), adapter.limits()),
        Tier::WebGpuDefaults => (wgpu::Features::empty(), wgpu::Limits::defaults()),
    };
    required_features.remove(pretend.without);
    (pretend.limits)(&mut required_limits);
    let kinds = match options.limits {
        Tier::Full if options.cooperative && !pretend.without.contains(COOPERATIVE) => cooperative(adapter),
        _ => <_>::default(),
    };
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    if kinds.contains(&true) {
        required_features |= COOPERATIVE;
        // SAFETY: the caller asked for the experimental feature. Kernels use only matrices that the adapter offers, in whole subgroups and within the bounds of
        // their memory.
        experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("ruminate"),
        required_features,
        required_limits,
        experimental_features,
        // The engine's buffers are few and large, so small allocation blocks waste less.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
    Ok((device, queue, kinds))
}

/// Capabilities of a device with these features and limits. `cooperative` holds the kinds of matrices that it was opened with; `textures` is the tuned choice,
/// if any, of whether to read weights from textures.
pub(crate) fn caps(
    info: &wgpu::AdapterInfo,
    features: wgpu::Features,
    limits: &wgpu::Limits,
    textures: Option<bool>,
    cooperative: [bool; Cooperative::ALL.len()],
) -> Caps {
    let software = info.device_type == wgpu::DeviceType::Cpu;
    let sizes = (info.subgroup_min_size, info.subgroup_max_size);
    let subgroups = features.contains(wgpu::Features::SUBGROUP)
        && SUBGROUPS.contains(&sizes.0)
        && SUBGROUPS.contains(&sizes.1)
        && sizes.0 <= sizes.1;
    // WebGPU does not include reading from a storage texture of this format. Without a tuned choice, only software drivers use it, because they gain by it.
    let textures =
        features.contains(wgpu::Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES) && textures.unwrap_or(software);
    let size = sizes.0;
    let known = sizes.1 == size && size.is_power_of_two() && LANES.contains(&size);
    let lanes = (subgroups && textures && known).then_some(size);
    Caps {
        software,
        subgroups: subgroups.then_some(sizes),
        lanes,
        f16: features.contains(wgpu::Features::SHADER_F16),
        bytes: info.backend != wgpu::Backend::Dx12,
        cooperative,
        max_texture: lanes.map_or(0, |_| texels::most(limits.max_texture_dimension_2d)),
        max_invocations: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
        max_workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        // The engine's bindings are multiples of 16 bytes, so the limit is rounded down to one.
        max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) & !15,
        // The parameters of a kernel take one uniform buffer.
        max_uniform: match limits.max_uniform_buffers_per_shader_stage {
            0 | 1 => 0,
            _ => limits.max_uniform_buffer_binding_size,
        },
        row_in_uniform: software && !has_avx512(),
    }
}

/// Whether this machine's processors have AVX-512. With it, lavapipe loads one row from storage buffers 3 % faster than from uniform buffers; without it, the
/// whole product takes 1.5 to 1.7 times as long.
fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

/// Summary of a device, or of an adapter at its full tier, without the UUID.
pub(crate) fn summary(
    index: usize,
    info: wgpu::AdapterInfo,
    features: wgpu::Features,
    limits: &wgpu::Limits,
    heaps: Option<Heaps>,
    textures: Option<bool>,
    cooperative: [bool; Cooperative::ALL.len()],
) -> AdapterSummary {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
        wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
        wgpu::DeviceType::VirtualGpu => Kind::Virtual,
        wgpu::DeviceType::Cpu => Kind::Cpu,
        wgpu::DeviceType::Other => Kind::Other,
    };
    AdapterSummary {
        index,
        caps: caps(&info, features, limits, textures, cooperative),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        pci: info.device_pci_bus_id.parse().ok(),
        uuid: None,
        name: info.name,
        backend: info.backend.to_str().to_owned(),
        kind,
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        max_buffer: limits.max_buffer_size,
        memory: memory::of(kind, heaps),
    }
}

fn summarize(adapter: &wgpu::Adapter, index: usize) -> AdapterSummary {
    let (info, heaps) = (adapter.get_info(), memory::adapter_heaps(adapter));
    let summary = summary(index, info, adapter.features(), &adapter.limits(), heaps, None, cooperative(adapter));
    AdapterSummary { uuid: identity::adapter_uuid(adapter), ..summary }
}

/// Flags for wgpu instances, without validation unless an environment variable such as `WGPU_VALIDATION=1` turns it on. The drivers' validation layers make a
/// submission seven times as expensive, and wgpu's validation of an indirect call costs a hidden dispatch.
fn flags() -> wgpu::InstanceFlags {
    wgpu::InstanceFlags::empty().with_env()
}

/// Whether wgpu validates every indirect launch on the engine's own devices.
pub(crate) fn checks_indirect() -> bool {
    flags().contains(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL)
}

/// Lists all adapters of some backends, in the drivers' order, which is stable for a given machine.
pub(crate) fn enumerate(backends: wgpu::Backends, flags: wgpu::InstanceFlags) -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        flags,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    pollster::block_on(instance.enumerate_adapters(backends))
}

/// Returns the backend with this name: `vulkan`, `metal` or `dx12`.
#[must_use]
pub fn backend(name: &str) -> Option<wgpu::Backends> {
    match name {
        "vulkan" => Some(wgpu::Backends::VULKAN),
        "metal" => Some(wgpu::Backends::METAL),
        "dx12" => Some(wgpu::Backends::DX12),
        _ => None,
    }
}
