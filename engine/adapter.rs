//! Finding an adapter: listing all, and asking one for all that the engine can use.

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

/// How much of the adapter to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// All limits and the features that kernels know of.
    #[default]
    Full,
    /// WebGPU's default limits and no features, whatever the adapter has: for tests of the lowest tier.
    WebGpuDefaults,
}

/// What kind of device an adapter is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A card with memory of its own.
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

/// An adapter, as far as a choice or a report needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterSummary {
    /// Place in the list of all native backends, also where only some of them are listed.
    pub index: usize,
    /// Name of the device.
    pub name: String,
    /// Address on the PCI bus, if the device has one and its driver tells. On DX12 two GPUs of one model share the address of the first: wgpu looks for the model.
    pub pci: Option<PciAddress>,
    /// UUID, which Vulkan alone tells. It stays the same when GPUs are moved to other slots.
    pub uuid: Option<Uuid>,
    /// Name and version of the driver.
    pub driver: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Kind of device.
    pub kind: Kind,
    /// What launch functions choose variants by.
    pub caps: Caps,
    /// Whether passes can be timed on the device.
    pub timestamps: bool,
    /// Bytes of one buffer, at most.
    pub max_buffer: u64,
    /// Memory, as it was when the adapter was listed.
    pub memory: Memory,
}

/// How to open a device.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Which adapter.
    pub select: Select,
    /// Which graphics interfaces to look at.
    pub backends: wgpu::Backends,
    /// How much of the adapter to use.
    pub limits: Tier,
    /// Which kernels to prefer.
    pub tuning: TuningFrom,
    /// Whether subgroups may multiply matrices together, where the adapter can: wgpu calls that experimental. Devices of host apps do without.
    pub cooperative: bool,
    /// Pipelines that earlier runs of the program compiled.
    pub pipeline_cache: PipelineCache,
    /// How long a submission may take before the device counts as hung: see [`Device::set_timeout`](crate::Device::set_timeout).
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

/// The interfaces that exist natively.
fn native() -> wgpu::Backends {
    wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12
}

/// Every adapter that the given backends offer. An adapter has the same index in every such list.
#[must_use]
pub fn adapters(backends: wgpu::Backends) -> Vec<AdapterSummary> {
    listed(backends).into_iter().filter(|listed| listed.wanted).map(|listed| listed.summary).collect()
}

/// An adapter of this machine.
struct Listed {
    adapter: wgpu::Adapter,
    summary: AdapterSummary,
    /// Whether it is of the backends that were asked for.
    wanted: bool,
}

/// All adapters, also those of other backends than are wanted: an index counts them all.
fn listed(wanted: wgpu::Backends) -> Vec<Listed> {
    let all = enumerate(native() | wanted, flags()).into_iter().enumerate();
    let listed = |(index, adapter): (usize, wgpu::Adapter)| {
        let wanted = wanted.contains(adapter.get_info().backend.into());
        Listed { summary: summarize(&adapter, index), wanted, adapter }
    };
    all.map(listed).collect()
}

/// The adapter that the options select.
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
    let (adapter, _) = opened.expect("the chosen adapter is one of those");
    Ok((adapter, chosen))
}

/// The native interfaces among some backends, as their makers write them.
fn interfaces(backends: wgpu::Backends) -> String {
    let all = [(wgpu::Backends::VULKAN, "Vulkan"), (wgpu::Backends::METAL, "Metal"), (wgpu::Backends::DX12, "DX12")];
    let named = all.into_iter().filter(|(backend, _)| backends.contains(*backend)).map(|(_, name)| name);
    named.collect::<Vec<_>>().join(" or ")
}

/// The features that the engine uses where an adapter has them.
pub(crate) fn features(adapter: &wgpu::Adapter) -> wgpu::Features {
    adapter.features()
        & (wgpu::Features::SUBGROUP
            | wgpu::Features::SHADER_F16
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES
            | wgpu::Features::PIPELINE_CACHE)
}

/// Sizes of subgroups for which there are kernels that must know it: eight lanes share a block of a row.
const LANES: std::ops::RangeInclusive<u32> = 8..=128;

/// Sizes of subgroups that kernels of an unknown size are right for: their workgroup memory has a place for every fourth lane. wgpu promises no smaller ones, but
/// passes on what a driver says.
const SUBGROUPS: std::ops::RangeInclusive<u32> = 4..=128;

/// The feature that cooperative matrices need.
const COOPERATIVE: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;

/// Which of the matrices that there are kernels for an adapter multiplies; none without the feature.
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

/// Asks an adapter for a device: as much of it as the options say, and which matrices it was opened for.
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
        // SAFETY: the caller asked for what wgpu calls experimental; kernels keep to the matrices that the adapter offers, in whole subgroups and inside of
        // their memory.
        experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("ruminate"),
        required_features,
        required_limits,
        experimental_features,
        // The engine's buffers are few and large: small blocks waste less.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
    Ok((device, queue, kinds))
}

/// What a device with these features and limits can do for kernels; `cooperative` says which matrices it was opened for.
pub(crate) fn caps(
    info: &wgpu::AdapterInfo,
    features: wgpu::Features,
    limits: &wgpu::Limits,
    textures: Option<bool>,
    cooperative: [bool; Cooperative::ALL.len()],
) -> Caps {
    let sizes = (info.subgroup_min_size, info.subgroup_max_size);
    let subgroups = features.contains(wgpu::Features::SUBGROUP)
        && SUBGROUPS.contains(&sizes.0)
        && SUBGROUPS.contains(&sizes.1)
        && sizes.0 <= sizes.1;
    // Reading from a storage texture of this format is not in WebGPU. Unless timing has said otherwise, only software drivers gain by it.
    let textures = features.contains(wgpu::Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES)
        && textures.unwrap_or(info.device_type == wgpu::DeviceType::Cpu);
    let size = sizes.0;
    let known = sizes.1 == size && size.is_power_of_two() && LANES.contains(&size);
    let lanes = (subgroups && textures && known).then_some(size);
    Caps {
        software: info.device_type == wgpu::DeviceType::Cpu,
        subgroups: subgroups.then_some(sizes),
        lanes,
        f16: features.contains(wgpu::Features::SHADER_F16),
        bytes: info.backend != wgpu::Backend::Dx12,
        cooperative,
        max_texture: lanes.map_or(0, |_| texels::most(limits.max_texture_dimension_2d)),
        max_invocations: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
        max_workgroup_memory: limits.max_compute_workgroup_storage_size,
        max_workgroups: limits.max_compute_workgroups_per_dimension,
        // Bindings are multiples of 16 bytes here, so the limit is too.
        max_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) & !15,
    }
}

/// The summary of a device, or of an adapter at its full tier, but for its UUID.
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

/// Neither the drivers' validation layers, which make a submission seven times dearer, nor wgpu's validation of indirect calls, which costs a
/// hidden dispatch each. `WGPU_VALIDATION=1` and its kin turn them on.
fn flags() -> wgpu::InstanceFlags {
    wgpu::InstanceFlags::empty().with_env()
}

/// Whether wgpu checks every indirect launch of the engine's devices.
pub(crate) fn checks_indirect() -> bool {
    flags().contains(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL)
}

/// All adapters. The order is the drivers' and stable for a given machine.
pub(crate) fn enumerate(backends: wgpu::Backends, flags: wgpu::InstanceFlags) -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        flags,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    pollster::block_on(instance.enumerate_adapters(backends))
}

/// The backend of a name: `vulkan`, `metal` or `dx12`.
#[must_use]
pub fn backend(name: &str) -> Option<wgpu::Backends> {
    match name {
        "vulkan" => Some(wgpu::Backends::VULKAN),
        "metal" => Some(wgpu::Backends::METAL),
        "dx12" => Some(wgpu::Backends::DX12),
        _ => None,
    }
}
