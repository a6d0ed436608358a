//! Memory sharing: scratch tensors may share memory if their lifetimes don't overlap.
//!
//! wgpu tracks use per whole buffer, and a launch cannot bind one buffer for reading and for writing. So tensors share whole buffers, called *slots*, never
//! ranges of one large buffer. Lifetimes are intervals of launches in recorded order. A loop's launches run again, so a value that crosses the loop's border
//! occupies its slot up to the loop's end.

use std::ops::Range;

use ruminate_shaders::{Access, Place};

use crate::graph::{Graph, Step};

/// Assignment of a graph's scratch tensors to slots.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The slot of each tensor; `None` for imported and for unused tensors.
    pub(crate) slot: Vec<Option<usize>>,
    /// Kind of memory and bytes of each slot.
    pub(crate) slots: Vec<(Place, u64)>,
}

/// A loop: its launches, and whether it runs at least once.
struct Loop {
    launches: Range<usize>,
    certain: bool,
}

/// Lifetime of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    /// From the first to the last launch, both inclusive.
    Within(usize, usize),
    /// Before, during and after the execution.
    Always,
}

impl Life {
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Within(first, last), Self::Within(other_first, other_last)) => {
                first <= other_last && other_first <= last
            }
            _ => true,
        }
    }
}

/// Assigns slots: the largest tensors first, each into the smallest slot that is free throughout its life.
pub(crate) fn assign(graph: &Graph) -> Layout {
    let mut loops = Vec::new();
    find_loops(&graph.steps, &mut loops);
    let mut lives: Vec<(usize, Life)> = (0..graph.nodes.len())
        .filter(|&index| graph.nodes[index].buffer.is_none())
        .filter_map(|index| Some((index, life(graph, &loops, index)?)))
        .collect();
    lives.sort_by_key(|&(index, _)| (std::cmp::Reverse(graph.nodes[index].bytes), index));

    let mut layout = Layout { slot: vec![None; graph.nodes.len()], slots: Vec::new() };
    let mut tenants: Vec<Vec<Life>> = Vec::new();
    for (index, life) in lives {
        let place = graph.nodes[index].place;
        let free =
            |slot: &usize| layout.slots[*slot].0 == place && tenants[*slot].iter().all(|other| !life.overlaps(other));
        // Slots are created in the order of falling size, so the last free one wastes least.
        let slot = (0..tenants.len()).rev().find(free).unwrap_or_else(|| {
            layout.slots.push((place, place.memory(graph.nodes[index].bytes)));
            tenants.push(Vec::new());
            tenants.len() - 1
        });
        tenants[slot].push(life);
        layout.slot[index] = Some(slot);
    }
    layout
}

/// Collects the loops that contain launches.
fn find_loops(steps: &[Step], loops: &mut Vec<Loop>) {
    for step in steps {
        if let Step::Repeat(inner) = step {
            if let Some(launches) = inner.launches() {
                loops.push(Loop { launches, certain: inner.count.certain() });
            }
            find_loops(&inner.body, loops);
        }
    }
}

/// Lifetime of a tensor; `None` if it is unused.
fn life(graph: &Graph, loops: &[Loop], tensor: usize) -> Option<Life> {
    if graph.nodes[tensor].keep {
        return Some(Life::Always);
    }
    let uses: Vec<(usize, Access)> = graph
        .launches
        .iter()
        .enumerate()
        .filter_map(|(index, launch)| {
            let binding = launch.bindings.iter().find(|(bound, _)| *bound == tensor)?;
            Some((index, binding.1))
        })
        .collect();
    let (&(first, access), &(mut last, _)) = (uses.first()?, uses.last()?);
    if access == Access::Read {
        return Some(Life::Always);
    }
    for it in loops {
        let inside = uses.iter().any(|(index, _)| it.launches.contains(index));
        let outside = uses.iter().any(|(index, _)| !it.launches.contains(index));
        if inside && outside {
            // If the first write may be skipped with its loop, the value of an earlier iteration or execution is visible.
            if it.launches.contains(&first) && !it.certain {
                return Some(Life::Always);
            }
            // A later iteration reads what was written before the loop, or launches after the loop read what its last iteration wrote. Before the first write,
            // the memory is not needed: each iteration writes before it reads.
            last = last.max(it.launches.end - 1);
        }
    }
    Some(Life::Within(first, last))
}
