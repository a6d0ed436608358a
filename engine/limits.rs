//! Minimum requirements for a device.

use std::fmt;

use wgpu::Limits;

/// A limit of wgpu, and the minimum value with which the engine works.
#[derive(Clone, Copy, Debug)]
pub struct RequiredLimit {
    /// Name of the field of [`wgpu::Limits`].
    pub name: &'static str,
    /// Minimum value.
    pub least: u64,
    /// Purpose of the limit.
    pub why: &'static str,
    of: fn(&Limits) -> u64,
}

/// A limit of a device that is too low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LowLimit {
    /// Name of the field of [`wgpu::Limits`].
    pub name: &'static str,
    /// The device's value.
    pub found: u64,
    /// Minimum value with which the engine works.
    pub least: u64,
}

impl fmt::Display for LowLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} (at least {})", self.name, self.found, self.least)
    }
}

macro_rules! required {
    ($($name:ident: $least:literal, $why:literal;)*) => {
        /// Minimum limits of a device: WebGPU's defaults, as far as kernels depend on them. No feature is required.
        ///
        /// More is used where it is available: larger buffers and bindings hold larger matrices in one piece, and kernels with subgroups, f16 or larger
        /// workgroups are faster. A host requests all of it from its adapter with [`Device::required_features`](crate::Device::required_features) and
        /// [`Device::required_limits`](crate::Device::required_limits).
        pub const REQUIRED_LIMITS: &[RequiredLimit] = &[$(RequiredLimit {
            name: stringify!($name),
            least: $least,
            why: $why,
            #[allow(clippy::useless_conversion, reason = "limits are u32 or u64")]
            of: |limits| u64::from(limits.$name),
        }),*];
    };
}

required! {
    max_bind_groups: 1, "each kernel has one";
    max_bindings_per_bind_group: 9, "the buffers of a kernel and its parameters";
    max_storage_buffers_per_shader_stage: 8, "the buffers of a kernel";
    max_uniform_buffers_per_shader_stage: 1, "the parameters of a kernel";
    max_uniform_buffer_binding_size: 256, "the parameters of a kernel";
    max_storage_buffer_binding_size: 134_217_728, "rows of a matrix; larger matrices are bound in pieces";
    max_buffer_size: 268_435_456, "rows of a matrix; larger matrices are held in pieces";
    max_compute_workgroup_storage_size: 16384, "tiles and sums of a workgroup";
    max_compute_invocations_per_workgroup: 256, "threads of a workgroup";
    max_compute_workgroup_size_x: 256, "threads of a workgroup";
    max_compute_workgroup_size_y: 1, "workgroups are rows of threads";
    max_compute_workgroup_size_z: 1, "workgroups are rows of threads";
    max_compute_workgroups_per_dimension: 65535, "rows of a matrix per launch";
}

/// Limits that are too low, in the order of [`REQUIRED_LIMITS`].
pub(crate) fn low(limits: &Limits) -> Vec<LowLimit> {
    let all = REQUIRED_LIMITS.iter().map(|it| LowLimit { name: it.name, found: (it.of)(limits), least: it.least });
    all.filter(|limit| limit.found < limit.least).collect()
}
