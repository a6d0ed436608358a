//! Memory that a device can provide, to be known before gigabytes are loaded.
//!
//! wgpu does not report it, so the driver and the system are asked: Vulkan for the device-local heap and, if it can tell, for this program's budget of it; the
//! system for the host's free memory, which integrated GPUs, software drivers and the CPU reference use. On Metal and DX12, only devices that share the host's
//! memory are known.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::adapter::Kind;

/// Memory of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Total bytes, if known.
    pub total: Option<u64>,
    /// Bytes that this program can still allocate, if known.
    pub available: Option<u64>,
    /// Whether it is the host's memory.
    pub shared: bool,
}

/// The host's memory, within the limits of a container.
pub(crate) fn host() -> Memory {
    let wanted = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(wanted);
    let (mut total, mut available) = (system.total_memory(), system.available_memory());
    // If the system reports nothing, such as without /proc, sysinfo panics when it is asked for limits.
    if total > 0
        && let Some(limits) = system.cgroup_limits()
    {
        total = total.min(limits.total_memory);
        // The container's count of free memory excludes files that the system caches for it and drops when it must.
        available = available.min(limits.total_memory.saturating_sub(limits.rss));
    }
    // Unsupported systems report 0.
    let known = |bytes: u64| (bytes > 0).then_some(bytes);
    let available = known(available).into_iter().chain(address_space()).min();
    Memory { total: known(total), available, shared: true }
}

/// Rest of the address space that this process may use (`ulimit -v`), if that is limited.
#[cfg(unix)]
fn address_space() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    // Pages in use; only Linux reports them.
    let used = std::fs::read_to_string("/proc/self/statm").ok();
    let pages: u64 = used.and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(pages.saturating_mul(rustix::param::page_size() as u64)))
}

#[cfg(not(unix))]
fn address_space() -> Option<u64> {
    None
}

/// Memory of a device of some kind, given the heaps that its driver reports.
pub(crate) fn of(kind: Kind, heaps: Option<Heaps>) -> Memory {
    let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    match kind {
        Kind::Discrete => {
            let local = heaps.map(|heaps| heaps.local);
            Memory { total: local.map(|heap| heap.0), available: local.map(|heap| heap.1), shared: false }
        }
        // Software drivers report sizes that mean nothing: Mesa 22's reports 2 GiB on every machine.
        Kind::Cpu => host(),
        _ => {
            let (host, all) = (host(), heaps.map(|heaps| heaps.all));
            Memory {
                total: least(host.total, all.map(|heap| heap.0)),
                available: least(host.available, all.map(|heap| heap.1)),
                shared: true,
            }
        }
    }
}

/// Total and available bytes of heaps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heaps {
    /// The largest device-local heap.
    local: (u64, u64),
    /// All heaps together: a GPU without memory of its own can use each.
    all: (u64, u64),
}

/// The heaps of an adapter, if its driver reports them.
#[cfg(not(any(target_vendor = "apple", target_family = "wasm")))]
pub(crate) fn adapter_heaps(adapter: &wgpu::Adapter) -> Option<Heaps> {
    // SAFETY: the handles are only queried for properties, while the adapter is alive.
    let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    vulkan::heaps(hal.shared_instance().raw_instance(), hal.raw_physical_device())
}

/// The heaps of a device, if its driver reports them.
#[cfg(not(any(target_vendor = "apple", target_family = "wasm")))]
pub(crate) fn device_heaps(device: &wgpu::Device) -> Option<Heaps> {
    // SAFETY: the handles are only queried for properties, while the device is alive.
    let hal = unsafe { device.as_hal::<wgpu::hal::api::Vulkan>() }?;
    vulkan::heaps(hal.shared_instance().raw_instance(), hal.raw_physical_device())
}

/// Heaps are unknown on this platform.
#[cfg(any(target_vendor = "apple", target_family = "wasm"))]
pub(crate) fn adapter_heaps(_: &wgpu::Adapter) -> Option<Heaps> {
    None
}

/// Heaps are unknown on this platform.
#[cfg(any(target_vendor = "apple", target_family = "wasm"))]
pub(crate) fn device_heaps(_: &wgpu::Device) -> Option<Heaps> {
    None
}

#[cfg(not(any(target_vendor = "apple", target_family = "wasm")))]
mod vulkan {
    use ash::vk;

    use super::Heaps;

    /// The heaps. Without `VK_EXT_memory_budget`, their whole sizes count as available.
    pub(super) fn heaps(instance: &ash::Instance, physical: vk::PhysicalDevice) -> Option<Heaps> {
        // SAFETY: the caller's handles are alive.
        let extensions = unsafe { instance.enumerate_device_extension_properties(physical) }.unwrap_or_default();
        let name = Ok(ash::ext::memory_budget::NAME);
        let told = extensions.iter().any(|extension| extension.extension_name_as_c_str() == name);
        let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
        let properties = if told {
            let mut both = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
            // SAFETY: as above. A device with this extension has an instance of at least Vulkan 1.1, which includes this call.
            unsafe { instance.get_physical_device_memory_properties2(physical, &mut both) };
            both.memory_properties
        } else {
            // SAFETY: as above.
            unsafe { instance.get_physical_device_memory_properties(physical) }
        };
        let listed = properties.memory_heaps_as_slice();
        let sizes: Vec<(u64, u64)> = listed
            .iter()
            .zip(budget.heap_budget.iter().zip(&budget.heap_usage))
            .map(|(heap, (budget, usage))| (heap.size, if told { budget.saturating_sub(*usage) } else { heap.size }))
            .collect();
        let local =
            listed.iter().zip(&sizes).filter(|(heap, _)| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL));
        let all = sizes.iter().fold((0, 0), |sum, heap| (sum.0 + heap.0, sum.1 + heap.1));
        Some(Heaps { local: *local.max_by_key(|(heap, _)| heap.size)?.1, all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn discrete_gpu_has_its_own_memory() {
        // A card of 24 GiB, of which 4 are taken, and the part of the host's memory that it can reach.
        let heaps = Heaps { local: (24 * GIB, 20 * GIB), all: (88 * GIB, 80 * GIB) };
        let expected = Memory { total: Some(24 * GIB), available: Some(20 * GIB), shared: false };
        assert_eq!(of(Kind::Discrete, Some(heaps)), expected);
        assert_eq!(of(Kind::Discrete, None), Memory { shared: false, ..Memory::default() });
    }

    #[test]
    fn integrated_gpu_has_the_least_of_heaps_and_host() {
        let host = host();
        // A driver that lists the same memory twice offers no more than the host has.
        let twice = of(Kind::Integrated, Some(Heaps { local: (1 << 50, 1 << 50), all: (1 << 51, 1 << 51) }));
        assert!(twice.shared && twice.total == host.total && twice.available <= host.total, "{twice:?}");
        // Half a GiB that is set aside, and a share of the rest: both can be used.
        let small = of(Kind::Integrated, Some(Heaps { local: (GIB / 512, GIB / 512), all: (GIB / 128, GIB / 256) }));
        assert_eq!((small.total, small.available), (Some(GIB / 128), Some(GIB / 256)), "the host has {host:?}");
    }
}
