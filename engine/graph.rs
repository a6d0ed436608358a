//! Recording of graphs: launches on logical tensors, in order, with loops. Shapes are checked here, so that a mistake is reported where it is made.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use ruminate_shaders::{Access, Binding, Launch, Place, Row, UNIFORM_BYTES};

use crate::buffer::Buffer;
use crate::error::{Error, Result};

/// A logical tensor of a graph: a piece of scratch memory, or a buffer that outlives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tensor {
    graph: u32,
    index: usize,
}

/// Number of iterations of a loop: given by each execution, or fixed, as in `Count::from(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(Times);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Given(usize),
    Fixed(u32),
}

impl Count {
    /// The number, given the counts of an execution.
    pub(crate) fn times(self, counts: &[u32]) -> u32 {
        match self.0 {
            Times::Given(place) => counts.get(place).copied().unwrap_or(0),
            Times::Fixed(times) => times,
        }
    }

    /// Whether the loop runs at least once.
    pub(crate) fn certain(self) -> bool {
        matches!(self.0, Times::Fixed(1..))
    }
}

impl From<u32> for Count {
    fn from(times: u32) -> Self {
        Self(Times::Fixed(times))
    }
}

/// A tensor as recorded.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Bytes, a multiple of 16.
    pub(crate) bytes: u64,
    /// Memory of a scratch tensor.
    pub(crate) place: Place,
    /// The buffer of an imported tensor.
    pub(crate) buffer: Option<Buffer>,
    pub(crate) keep: bool,
}

/// A launch as recorded, with the tensors of its bindings.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) launch: Launch,
    pub(crate) label: String,
    pub(crate) bindings: Vec<(usize, Access)>,
}

/// A step of a graph: a launch, by its index in the record, or a loop.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Launch(usize),
    Repeat(Loop),
}

/// A loop as recorded.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    pub(crate) count: Count,
    /// Rows that its launches serve, if all of them may become inactive.
    pub(crate) live: Option<Live>,
    pub(crate) body: Vec<Step>,
}

/// Rows of a table that may become inactive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// The table's tensor.
    pub(crate) table: usize,
    pub(crate) rows: u32,
}

impl Loop {
    /// Its rows and its launches, if it has both.
    pub(crate) fn gated(&self) -> Option<(Live, Range<usize>)> {
        self.live.zip(self.launches())
    }

    /// Range of the launches inside, which are numbered in recorded order; `None` if it has no launches.
    pub(crate) fn launches(&self) -> Option<Range<usize>> {
        let ranges = self.body.iter().filter_map(|step| match step {
            Step::Launch(index) => Some(*index..*index + 1),
            Step::Repeat(inner) => inner.launches(),
        });
        ranges.reduce(|all, range| all.start..range.end)
    }
}

/// A record of launches. [`Device::plan`](crate::Device::plan) makes it runnable.
///
/// **Lifetimes.** A scratch tensor lives from its first to its last launch; before and after, other tensors may use its memory. A tensor that is used both
/// inside and outside of a loop lives at least until the loop ends. A tensor that is read before it is written holds the value of an earlier execution (zero at
/// first), so it gets memory of its own, as with [`Self::keep`]. A launch that writes counts as one that overwrites: a tensor that a loop only *adds to* must
/// be written before the loop, or kept.
#[derive(Debug)]
pub struct Graph {
    id: u32,
    pub(crate) label: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) launches: Vec<Recorded>,
    pub(crate) steps: Vec<Step>,
    pub(crate) counts: Vec<String>,
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new(label: &str) -> Self {
        /// Distinguishes tensors of different graphs, so that mixing them up is an error.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            label: label.to_owned(),
            nodes: Vec::new(),
            launches: Vec::new(),
            steps: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// A scratch tensor of at least `bytes`, undefined until a launch writes it.
    pub fn scratch(&mut self, name: &str, bytes: u64) -> Tensor {
        self.scratch_in(Place::Buffer, name, bytes)
    }

    /// As [`Self::scratch`], but in a texture, for bindings in textures.
    pub fn scratch_texels(&mut self, name: &str, bytes: u64) -> Tensor {
        self.scratch_in(Place::Texture, name, bytes)
    }

    fn scratch_in(&mut self, place: Place, name: &str, bytes: u64) -> Tensor {
        let bytes = bytes.max(1).checked_next_multiple_of(16).unwrap_or(!15);
        self.node(Node { name: name.to_owned(), bytes, place, buffer: None, keep: false })
    }

    /// A buffer that outlives the graph: weights, caches, tables. Importing a buffer again returns the same tensor.
    pub fn import(&mut self, buffer: &Buffer) -> Tensor {
        let known = self.nodes.iter().position(|node| node.buffer.as_ref().is_some_and(|it| it.same(buffer)));
        match known {
            Some(index) => Tensor { graph: self.id, index },
            None => self.node(Node {
                name: buffer.label().to_owned(),
                bytes: buffer.size(),
                place: buffer.place(),
                buffer: Some(buffer.clone()),
                keep: false,
            }),
        }
    }

    /// Whether launches can bind the tensor as a uniform buffer: scratch memory of at most [`UNIFORM_BYTES`], or a buffer made by
    /// [`Device::memory_for`](crate::Device::memory_for) for such a binding.
    #[must_use]
    pub fn binds_as_uniform(&self, tensor: Tensor) -> bool {
        let node = self.nodes.get(tensor.index).filter(|_| tensor.graph == self.id);
        node.is_some_and(|node| match (node.place, &node.buffer) {
            (Place::Texture, _) | (Place::Buffer, Some(_)) => false,
            (Place::Uniform, Some(_)) => true,
            (Place::Buffer | Place::Uniform, None) => node.bytes <= UNIFORM_BYTES,
        })
    }

    fn node(&mut self, node: Node) -> Tensor {
        self.nodes.push(node);
        Tensor { graph: self.id, index: self.nodes.len() - 1 }
    }

    /// Gives a scratch tensor memory of its own, so that it keeps its value between executions and
    /// [`Plan::tensor`](crate::Plan::tensor) finds it.
    pub fn keep(&mut self, tensor: Tensor) {
        if tensor.graph == self.id
            && let Some(node) = self.nodes.get_mut(tensor.index)
        {
            node.keep = true;
        }
    }

    /// Records a launch with a tensor for each of its bindings, in order. A tensor may be bound twice if both only read.
    ///
    /// # Errors
    /// [`Error::Bindings`], [`Error::Shape`], [`Error::Aliased`], [`Error::Foreign`], or [`Error::Launch`] for a launch that does not
    /// fit its own kernel.
    pub fn launch(&mut self, launch: Launch, bindings: &[Tensor]) -> Result<()> {
        let label = check(&launch)?;
        let slots: Vec<Binding> = launch.kernel.bindings_of(launch.choice).collect();
        if slots.len() != bindings.len() {
            return Err(Error::Bindings { launch: label, need: slots.len(), have: bindings.len() });
        }
        for (place, (slot, tensor)) in slots.iter().zip(bindings).enumerate() {
            let node = self.nodes.get(tensor.index).filter(|_| tensor.graph == self.id).ok_or_else(|| {
                Error::Foreign { what: format!("the tensor for `{}` of {label}", slot.name), owner: "graph" }
            })?;
            let (need, have) = (launch.sizes[place], node.bytes);
            if have < need {
                return Err(Error::Shape { launch: label, binding: slot.name, need, have });
            }
            let twice =
                slots.iter().zip(bindings).take(place).find(|(other, it)| {
                    *it == tensor && (slot.access == Access::Write || other.access == Access::Write)
                });
            if let Some((other, _)) = twice {
                return Err(Error::Aliased { launch: label, first: other.name, second: slot.name });
            }
        }
        for (slot, tensor) in slots.iter().zip(bindings) {
            if slot.place == Place::Uniform && self.binds_as_uniform(*tensor) {
                self.nodes[tensor.index].place = Place::Uniform;
            }
        }
        let bindings = bindings.iter().zip(&slots).map(|(tensor, slot)| (tensor.index, slot.access)).collect();
        self.steps.push(Step::Launch(self.launches.len()));
        self.launches.push(Recorded { launch, label, bindings });
        Ok(())
    }

    /// Declares a number that each execution gives, in the order of these calls.
    pub fn count(&mut self, name: &str) -> Count {
        self.counts.push(name.to_owned());
        Count(Times::Given(self.counts.len() - 1))
    }

    /// Records a loop: what `body` records runs `n` times, or not at all if `n` is 0. Every iteration runs the same commands; what differs between iterations
    /// must be data.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn repeat<E>(&mut self, n: Count, body: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.repeat_for(n, None, body)
    }

    /// Records a loop like [`Self::repeat`] whose launches all serve the active ones among the first `rows` rows of a table, and do nothing if no row is
    /// active.
    ///
    /// On devices that gain by it, an iteration without active rows launches next to nothing. The table is read before each iteration. It is written before the
    /// loop, or outlives the graph.
    ///
    /// # Errors
    /// [`Error::Foreign`], [`Error::Shape`], or those of `body`.
    pub fn repeat_while_live<E: From<Error>>(
        &mut self,
        n: Count,
        table: Tensor,
        rows: u32,
        body: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let node = self.nodes.get(table.index).filter(|_| table.graph == self.id);
        let node =
            node.ok_or_else(|| Error::Foreign { what: "the table of a loop's rows".to_owned(), owner: "graph" })?;
        let (need, have) = (u64::from(rows) * size_of::<Row>() as u64, node.bytes);
        if have < need {
            return Err(Error::Shape { launch: "the gate of a loop".to_owned(), binding: "rows", need, have }.into());
        }
        self.repeat_for(n, Some(Live { table: table.index, rows }), body)
    }

    fn repeat_for<E>(
        &mut self,
        count: Count,
        live: Option<Live>,
        body: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let outside = std::mem::take(&mut self.steps);
        let outcome = body(self);
        let inside = std::mem::replace(&mut self.steps, outside);
        self.steps.push(Step::Repeat(Loop { count, live, body: inside }));
        outcome
    }
}

/// Checks a launch against its kernel's description. Returns its label.
pub(crate) fn check(launch: &Launch) -> Result<String> {
    let kernel = launch.kernel;
    let options = kernel.axes.iter().enumerate();
    let mut wrong =
        options.filter(|&(axis, it)| launch.choice.0.get(axis).is_none_or(|&at| usize::from(at) >= it.options.len()));
    if let Some((_, axis)) = wrong.next() {
        let problem = format!("the choice for axis `{}` is out of range", axis.name);
        return Err(Error::Launch { launch: kernel.name.to_owned(), problem });
    }
    let label = kernel.label(launch.choice);
    let bindings = kernel.bindings_of(launch.choice).count();
    let differ = [
        ("constants", kernel.overrides.len(), launch.overrides.len()),
        ("bytes of parameters", kernel.params_size, launch.params.len()),
        ("binding sizes", bindings, launch.sizes.len()),
    ];
    match differ.into_iter().find(|(_, need, have)| need != have) {
        None => Ok(label),
        Some((what, need, have)) => Err(Error::Launch {
            launch: label,
            problem: format!("the kernel has {need} {what}, the launch has {have}"),
        }),
    }
}
