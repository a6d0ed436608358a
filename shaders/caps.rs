//! Capabilities of a device that launches depend on.

/// Matrices that the lanes of a subgroup multiply together, on dedicated units of the GPU: Vulkan's cooperative matrices, Metal's simdgroup matrices. Sums are
/// f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cooperative {
    /// 16 × 16 values in f16: AMD, NVIDIA.
    F16Of16,
    /// 8 × 8 values in f32: Apple.
    F32Of8,
    /// 8 × 8 values in f16.
    F16Of8,
}

impl Cooperative {
    /// All kinds that kernels exist for, in the order above: preferred kinds first.
    pub const ALL: [Self; 3] = [Self::F16Of16, Self::F32Of8, Self::F16Of8];

    /// Rows and columns of a matrix.
    #[must_use]
    pub const fn side(self) -> u32 {
        match self {
            Self::F16Of16 => 16,
            Self::F32Of8 | Self::F16Of8 => 8,
        }
    }

    /// Whether the multiplied values are rounded to f16.
    #[must_use]
    pub const fn rounds(self) -> bool {
        matches!(self, Self::F16Of16 | Self::F16Of8)
    }
}

/// Device tier: the facts by which launch functions choose variants and sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Whether a CPU runs the shaders. Workgroup memory and barriers are slow there.
    pub software: bool,
    /// Smallest and largest subgroup size, if the device has subgroup operations.
    pub subgroups: Option<(u32, u32)>,
    /// Size of every subgroup, if weights are faster to read from textures by subgroups of a known size.
    pub lanes: Option<u32>,
    /// Whether shaders can compute in f16.
    pub f16: bool,
    /// Whether shaders can multiply four bytes at once (`dot4I8Packed`). False only with DX12's compiler: DXC turns it into a 64-bit call.
    pub bytes: bool,
    /// Whether subgroups can multiply each of [`Cooperative::ALL`].
    pub cooperative: [bool; Cooperative::ALL.len()],
    /// Maximum invocations per workgroup.
    pub max_invocations: u32,
    /// Maximum bytes of workgroup memory.
    pub max_workgroup_memory: u32,
    /// Maximum workgroups per dimension of a dispatch.
    pub max_workgroups: u32,
    /// Maximum bytes of one storage binding.
    pub max_binding: u64,
    /// Maximum bytes of one texture.
    pub max_texture: u64,
    /// Maximum bytes of one uniform binding beside a kernel's parameters.
    pub max_uniform: u64,
    /// Whether one row of activations is faster to read from a uniform buffer than from a storage buffer.
    pub row_in_uniform: bool,
}

impl Caps {
    /// Limits that WebGPU guarantees everywhere, without subgroups. The CPU reference uses them too.
    pub const WEBGPU: Self = Self {
        software: false,
        subgroups: None,
        lanes: None,
        f16: false,
        bytes: true,
        cooperative: [false; Cooperative::ALL.len()],
        max_invocations: 256,
        max_workgroup_memory: 16 << 10,
        max_workgroups: 65_535,
        max_binding: 128 << 20,
        max_texture: 0,
        max_uniform: 64 << 10,
        row_in_uniform: false,
    };

    /// The preferred kind of matrices that subgroups can multiply, if any.
    #[must_use]
    pub fn matrices(&self) -> Option<Cooperative> {
        Cooperative::ALL.into_iter().find(|&matrices| self.cooperative[matrices as usize])
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self::WEBGPU
    }
}
