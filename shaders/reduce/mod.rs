//! Reductions over a workgroup: through workgroup memory, or within subgroups first where the device has them.
//!
//! Both parts define the entry point, which passes a `Lane` to the kernel's `run`, and the functions `reduce_sum4`, `reduce_max` and `reduce_max4`, which return
//! the result to every lane. The subgroup part queries the number of subgroups and assumes no size.

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

/// Maximum workgroup memory of a reduction over `lanes` lanes, in bytes.
pub(crate) const fn memory(lanes: u32) -> u32 {
    lanes * 16
}

/// Lanes for a workgroup that loops over many items: few enough that the items of a lane take longer than the reduction. Software drivers run the subgroups of
/// a workgroup one after another and pay for each barrier, so they get fewer lanes. Very many items get more lanes, because lavapipe ends the loops of an
/// invocation after 65,535 iterations in all.
pub(crate) fn lanes_over(caps: &Caps, items: u32) -> u32 {
    let few = items.div_ceil(1024).next_power_of_two().clamp(64, 256);
    lanes(items.div_ceil(16), if caps.lanes.is_some() { few } else { 256 })
}

/// Lanes for a workgroup that norms a row of `items`. On lavapipe, 32 lanes take a half to a fifth of the time of 256, because a barrier suspends each subgroup.
pub(crate) fn lanes_of_row(caps: &Caps, items: u32) -> u32 {
    lanes(items, if caps.lanes.is_some() { 32 } else { 256 })
}

/// Lanes for work of `items` that a workgroup shares: a power of two between 32 and `most`.
pub(crate) fn lanes(items: u32, most: u32) -> u32 {
    items.next_power_of_two().clamp(32, most)
}
