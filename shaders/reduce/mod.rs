//! Reductions over a workgroup: through workgroup memory, or within subgroups first where the device has them.
//!
//! Both parts define the entry point, which hands a `Lane` to the `run` that the kernel defines, and `reduce_sum4`,
//! `reduce_max`, which give every lane the result. The subgroup part asks how many subgroups there are and assumes no size.

use crate::{Axis, Caps, Part};

/// Axis of kernels that reduce.
pub(crate) const REDUCE: Axis = Axis {
    name: "reduce",
    options: &[
        Part::new("workgroup", include_str!("reduce_workgroup.wgsl")),
        Part::new("subgroup", include_str!("reduce_subgroup.wgsl")).with_subgroups(),
    ],
};

/// The option of [`REDUCE`] that suits a device: subgroups if it has them.
pub(crate) fn preferred(caps: &Caps) -> u8 {
    u8::from(caps.subgroups.is_some())
}

/// Bytes of workgroup memory that a reduction over so many lanes takes at most.
pub(crate) const fn memory(lanes: u32) -> u32 {
    lanes * 16
}

/// Lanes for a workgroup that goes through many items, again and again: enough items for each that reducing counts little. Software drivers run
/// the subgroups of a workgroup one after the other and pay for each barrier. But lavapipe ends the loops of an invocation after 65,535 rounds in all,
/// so with very many items there are more lanes.
pub(crate) fn lanes_over(caps: &Caps, items: u32) -> u32 {
    let few = items.div_ceil(1024).next_power_of_two().clamp(64, 256);
    lanes(items.div_ceil(16), if caps.lanes.is_some() { few } else { 256 })
}

/// Lanes for work of `items` that a workgroup shares: a power of two between 32 and `most`.
pub(crate) fn lanes(items: u32, most: u32) -> u32 {
    items.next_power_of_two().clamp(32, most)
}
