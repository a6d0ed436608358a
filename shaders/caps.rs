//! What a device can do, as far as a launch depends on it.

/// Device tier: the facts that launch functions choose variants and sizes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Smallest and largest subgroup that the device may use, if it has subgroup operations.
    pub subgroups: Option<(u32, u32)>,
    /// Size of every subgroup, where weights are better read from textures by subgroups of a known size.
    pub lanes: Option<u32>,
    /// Whether shaders can compute in f16.
    pub f16: bool,
    /// Whether shaders can multiply four bytes at once (`dot4I8Packed`). Only with the compiler of DX12 they cannot: DXC makes a call of 64 bits of it.
    pub bytes: bool,
    /// Invocations per workgroup, at most.
    pub max_invocations: u32,
    /// Bytes of workgroup memory, at most.
    pub max_workgroup_memory: u32,
    /// Workgroups per dimension of a dispatch, at most.
    pub max_workgroups: u32,
    /// Bytes of one storage binding, at most.
    pub max_binding: u64,
    /// Bytes of one texture, at most.
    pub max_texture: u64,
}

impl Caps {
    /// The limits that WebGPU guarantees everywhere, without subgroups: what also serves the CPU twins.
    pub const WEBGPU: Self = Self {
        subgroups: None,
        lanes: None,
        f16: false,
        bytes: true,
        max_invocations: 256,
        max_workgroup_memory: 16 << 10,
        max_workgroups: 65_535,
        max_binding: 128 << 20,
        max_texture: 0,
    };
}

impl Default for Caps {
    fn default() -> Self {
        Self::WEBGPU
    }
}
