//! Devices that pretend to be other ones, for tests on machines that lack those.

/// Differences between a pretended device and its adapter. Features are really removed and limits really lowered, so wgpu validates every kernel against them.
#[derive(Clone, Copy, Debug)]
pub struct Pretend {
    /// Features to remove.
    pub without: wgpu::Features,
    /// Function that lowers limits.
    pub limits: fn(&mut wgpu::Limits),
    /// Function that changes the adapter's description of itself, such as its kind and its subgroup sizes.
    pub info: fn(&mut wgpu::AdapterInfo),
}

impl Default for Pretend {
    /// Pretends nothing.
    fn default() -> Self {
        Self { without: wgpu::Features::empty(), limits: |_| (), info: |_| () }
    }
}
