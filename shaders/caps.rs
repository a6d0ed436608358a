//! What a device can do, as far as a launch depends on it.

/// Matrices that the lanes of a subgroup multiply together, by units that GPUs have for it: Vulkan's cooperative matrices, Metal's simdgroup matrices. Sums are
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
    /// All that there are kernels for, in the order above: the preferred ones first.
    pub const ALL: [Self; 3] = [Self::F16Of16, Self::F32Of8, Self::F16Of8];

    /// Rows and columns of a matrix.
    #[must_use]
    pub const fn side(self) -> u32 {
        match self {
            Self::F16Of16 => 16,
            Self::F32Of8 | Self::F16Of8 => 8,
        }
    }

    /// Whether what is multiplied is rounded to f16.
    #[must_use]
    pub const fn rounds(self) -> bool {
        matches!(self, Self::F16Of16 | Self::F16Of8)
    }
}

/// Device tier: the facts that launch functions choose variants and sizes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Whether a processor runs the shaders: there workgroup memory and barriers are slow.
    pub software: bool,
    /// Smallest and largest subgroup that the device may use, if it has subgroup operations.
    pub subgroups: Option<(u32, u32)>,
    /// Size of every subgroup, where weights are better read from textures by subgroups of a known size.
    pub lanes: Option<u32>,
    /// Whether shaders can compute in f16.
    pub f16: bool,
    /// Whether shaders can multiply four bytes at once (`dot4I8Packed`). Only with the compiler of DX12 they cannot: DXC makes a call of 64 bits of it.
    pub bytes: bool,
    /// Which of [`Cooperative::ALL`] subgroups can multiply.
    pub cooperative: [bool; Cooperative::ALL.len()],
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
    };

    /// The matrices that subgroups multiply best, if there are any.
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
