//! Buffers as the CPU references see them.

use bytemuck::Pod;

/// One bound buffer.
#[derive(Debug)]
pub enum Slot<'a> {
    /// A buffer that the kernel only reads.
    Read(&'a [u32]),
    /// A buffer that the kernel writes.
    Write(&'a mut [u32]),
}

/// The bound buffers of one launch, taken in the order of the kernel's bindings.
#[derive(Debug)]
pub struct Slots<'a> {
    slots: std::vec::IntoIter<Slot<'a>>,
}

impl<'a> Slots<'a> {
    /// Wraps the buffers of a launch, one per binding, in order.
    #[must_use]
    pub fn new(slots: Vec<Slot<'a>>) -> Self {
        Self { slots: slots.into_iter() }
    }

    /// Takes the next binding, which the kernel reads, as elements of type `T`.
    ///
    /// # Panics
    /// If the bindings are exhausted or their size is not a multiple of `T`'s: a bug in the reference.
    pub fn read<T: Pod>(&mut self) -> &'a [T] {
        match self.slots.next().expect("a reference takes as many buffers as its kernel has bindings") {
            Slot::Read(words) => bytemuck::cast_slice(words),
            Slot::Write(words) => bytemuck::cast_slice(words),
        }
    }

    /// Takes the next binding, which the kernel writes, as elements of type `T`.
    ///
    /// # Panics
    /// If the bindings are exhausted, the next one is read-only, or the size does not fit: a bug in the reference.
    pub fn write<T: Pod>(&mut self) -> &'a mut [T] {
        match self.slots.next() {
            Some(Slot::Write(words)) => bytemuck::cast_slice_mut(words),
            other => panic!("a reference writes a binding that its kernel declares as {other:?}"),
        }
    }
}
