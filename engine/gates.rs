//! Loops in which all rows may exit. Where it pays, the launches inside take their numbers of workgroups from memory, and a launch before each iteration writes
//! these: zeros once no row is active. Elsewhere the workgroups start, look at the rows, and return.

use std::ops::Range;

use ruminate_shaders::exit::gate;

use crate::buffer::Buffer;
use crate::device::Device;
use crate::error::Result;
use crate::graph::{Graph, Live, Step};
use crate::plan::{Call, Dispatch};

/// Way to launch a loop in which all rows may exit before the loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoopWay {
    /// With numbers of workgroups in memory, which are 0 once no row is active: iterations without active rows cost little.
    Indirect,
    /// With the launches' own numbers of workgroups: each workgroup starts, finds no active row, and returns.
    Direct,
}

impl LoopWay {
    /// Both ways.
    pub const ALL: [Self; 2] = [Self::Indirect, Self::Direct];

    /// Name in a tuning.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Indirect => "indirect",
            Self::Direct => "direct",
        }
    }
}

/// Class in a tuning that decides how such loops are launched: its choice is the name of a [`LoopWay`].
pub const LOOPS: &str = "loops that rows leave";

/// Bytes of a launch's numbers of workgroups.
const GROUPS: usize = 12;

/// The gate of a loop.
pub(crate) struct Gate {
    /// Launches that it enables and disables.
    pub(crate) launches: Range<usize>,
    /// Numbers of workgroups of these launches, three words each.
    groups: Buffer,
}

impl Gate {
    /// Gates of all loops in which all rows may exit, outer loops first, each with the launch to run before an iteration.
    pub(crate) fn all(
        device: &Device,
        graph: &Graph,
        buffer_of: impl Fn(usize) -> Option<Buffer>,
    ) -> Result<Vec<(Self, Call)>> {
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
            let bound = bound.map(|(buffer, &bytes)| (buffer.clone(), bytes)).collect();
            Ok(Some((Self { launches, groups }, Call { launch, label, bound })))
        };
        found.into_iter().filter_map(|it| gate(it).transpose()).collect()
    }

    /// Makes the loop's launches in a plan take their numbers of workgroups from this gate.
    pub(crate) fn hang(&self, dispatches: &mut [Dispatch]) {
        for (dispatch, at) in dispatches[self.launches.clone()].iter_mut().zip((0..).step_by(GROUPS)) {
            dispatch.groups = self.groups.wgpu().map(|buffer| (buffer.clone(), at));
        }
    }
}

/// Collects the rows and launches of gated loops.
fn find(steps: &[Step], found: &mut Vec<(Live, Range<usize>)>) {
    for step in steps {
        if let Step::Repeat(inner) = step {
            found.extend(inner.gated());
            find(&inner.body, found);
        }
    }
}
