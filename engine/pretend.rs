//! Devices that pretend to be others: for tests on machines without those.

/// How a device differs from what its adapter offers. Features that it does without and limits that are lower are real, so wgpu holds every kernel to them.
#[derive(Clone, Copy, Debug)]
pub struct Pretend {
    /// Features that it does without.
    pub without: wgpu::Features,
    /// Lowers limits.
    pub limits: fn(&mut wgpu::Limits),
    /// Changes what the adapter says of itself, such as its kind and its sizes of subgroups.
    pub info: fn(&mut wgpu::AdapterInfo),
}

impl Default for Pretend {
    /// Nothing is pretended.
    fn default() -> Self {
        Self { without: wgpu::Features::empty(), limits: |_| (), info: |_| () }
    }
}
