//! Loops that all rows may leave. Where it pays, the launches inside have their numbers of workgroups in memory, and a launch before each round writes them
//! there: zeros, once no row is active. Elsewhere the workgroups start, look at the rows, and return.

use std::ops::Range;

use ruminate_shaders::exit::gate;

use crate::buffer::Buffer;
use crate::device::Device;
use crate::error::Result;
use crate::graph::{Graph, Live, Step};
use crate::plan::Call;

/// The gate of a loop.
pub(crate) struct Gate {
    /// The launch before each round.
    pub(crate) call: Call,
    /// The launches that it opens and closes.
    pub(crate) launches: Range<usize>,
    /// Their workgroups, three words each.
    pub(crate) groups: Buffer,
}

impl Gate {
    /// Gates of all loops that may have no active rows, those around others first.
    pub(crate) fn all(
        device: &Device,
        graph: &Graph,
        buffer_of: impl Fn(usize) -> Option<Buffer>,
    ) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        find(&graph.steps, &mut found);
        let gate = |(live, launches): (Live, Range<usize>)| {
            let Some(table) = buffer_of(live.table) else { return Ok(None) };
            let all: Vec<u32> = graph.launches[launches.clone()].iter().flat_map(|it| it.launch.workgroups).collect();
            let launch = gate(live.rows, u32::try_from(launches.len()).unwrap_or(u32::MAX));
            let whole = device.buffer(&format!("{} workgroups", graph.label), launch.sizes[1])?;
            device.write(&whole, 0, bytemuck::cast_slice(&all))?;
            let groups = device.indirect_buffer(&format!("{} open workgroups", graph.label), launch.sizes[2])?;
            let label = launch.kernel.label(launch.choice);
            let bound = [&table, &whole, &groups].into_iter().zip(&launch.sizes);
            let bound = bound.map(|(buffer, &bytes)| (buffer.clone(), bytes.next_multiple_of(4))).collect();
            Ok(Some(Self { call: Call { launch, label, bound }, launches, groups }))
        };
        found.into_iter().filter_map(|it| gate(it).transpose()).collect()
    }
}

/// The rows and launches of such loops.
fn find(steps: &[Step], found: &mut Vec<(Live, Range<usize>)>) {
    for step in steps {
        if let Step::Repeat(inner) = step {
            found.extend(inner.gated());
            find(&inner.body, found);
        }
    }
}
