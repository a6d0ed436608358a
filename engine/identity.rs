//! Identity of a physical device: its PCI address and its UUID.
//!
//! wgpu reports the address on Vulkan (`VK_EXT_pci_bus_info`) and on DX12. On DX12 it takes the first display adapter with the same vendor and device
//! numbers, so two GPUs of one model get the same address. wgpu does not report UUIDs, so this module reads Vulkan's own (`VkPhysicalDeviceIDProperties`),
//! the one that vendors' tools print. On Metal and DX12 no UUID is available through wgpu.

use std::fmt;
use std::str::FromStr;

pub use uuid::Uuid;

/// PCI address of a device, displayed as `0000:01:00.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// Domain; 0 on most machines.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device on the bus.
    pub device: u8,
    /// Function of the device.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// Error for a text that is not a PCI address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a PCI address such as 0000:01:00.0 or 01:00.0")]
#[non_exhaustive]
pub struct NoPciAddress;

impl FromStr for PciAddress {
    type Err = NoPciAddress;

    /// Parses `0000:01:00.0`, or `01:00.0` for domain 0. Numbers are hexadecimal, in upper or lower case, with any number of leading zeros.
    fn from_str(text: &str) -> Result<Self, NoPciAddress> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
        };
        let byte = |text: &str| number(text).and_then(|number| u8::try_from(number).ok());
        let address = || {
            let (place, function) = text.rsplit_once('.')?;
            let (bus, device) = place.rsplit_once(':')?;
            let (domain, bus) = bus.rsplit_once(':').unwrap_or(("0", bus));
            Some(Self { domain: number(domain)?, bus: byte(bus)?, device: byte(device)?, function: byte(function)? })
        };
        address().ok_or(NoPciAddress)
    }
}

/// UUID of an adapter, if its driver reports one.
#[cfg(not(any(target_vendor = "apple", target_family = "wasm")))]
pub(crate) fn adapter_uuid(adapter: &wgpu::Adapter) -> Option<Uuid> {
    // SAFETY: the handles are only asked for properties, while the adapter lives.
    let hal = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    vulkan::uuid(hal.shared_instance(), hal.raw_physical_device())
}

/// UUID of a device's adapter, if its driver reports one.
#[cfg(not(any(target_vendor = "apple", target_family = "wasm")))]
pub(crate) fn device_uuid(device: &wgpu::Device) -> Option<Uuid> {
    // SAFETY: the handles are only asked for properties, while the device lives.
    let hal = unsafe { device.as_hal::<wgpu::hal::api::Vulkan>() }?;
    vulkan::uuid(hal.shared_instance(), hal.raw_physical_device())
}

/// Returns `None`: no UUID is available on this platform.
#[cfg(any(target_vendor = "apple", target_family = "wasm"))]
pub(crate) fn adapter_uuid(_: &wgpu::Adapter) -> Option<Uuid> {
    None
}

/// Returns `None`: no UUID is available on this platform.
#[cfg(any(target_vendor = "apple", target_family = "wasm"))]
pub(crate) fn device_uuid(_: &wgpu::Device) -> Option<Uuid> {
    None
}

#[cfg(not(any(target_vendor = "apple", target_family = "wasm")))]
mod vulkan {
    use ash::vk;
    use wgpu::hal::vulkan::InstanceShared;

    use super::Uuid;

    pub(super) fn uuid(shared: &InstanceShared, physical: vk::PhysicalDevice) -> Option<Uuid> {
        let instance = shared.raw_instance();
        // SAFETY: the caller's handles are alive.
        let version = unsafe { instance.get_physical_device_properties(physical) }.api_version;
        if shared.instance_api_version().min(version) < vk::API_VERSION_1_1 {
            return None;
        }
        let mut identity = vk::PhysicalDeviceIDProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut identity);
        // SAFETY: as above; the call is part of Vulkan 1.1, which instance and device have.
        unsafe { instance.get_physical_device_properties2(physical, &mut properties) };
        Some(Uuid::from_bytes(identity.device_uuid)).filter(|uuid| !uuid.is_nil())
    }
}
