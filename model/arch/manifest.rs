//! Manifest of a model: every tensor that it reads, and its role.
//!
//! Loader, memory budget, quantization, synthetic weights and `inspect` read the manifest, so the file of an architecture is the only place that names a
//! tensor.

use ruminate_shaders::weight::InTurn;

use super::spec::{Pairs, Spec};
use crate::checkpoint::Expected;
use crate::precision::Group;

/// All tensors of a model, in the order in which the published files list them.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) entries: Vec<Entry>,
}

/// A matrix or vector of the model.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Role.
    pub(crate) role: Role,
    /// Stored tensors, whose rows are stacked in this order.
    pub(crate) sources: Vec<Expected>,
    /// Second name under which the only source may be stored: the name of a tied head.
    pub(crate) copy: Option<String>,
    /// Layout on the device.
    pub(crate) layout: Layout,
    /// Initialization of synthetic weights.
    pub(crate) drawn: Drawn,
}

/// Role of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Table of cosine and sine per position and pair.
    RotaryTable,
    /// Embedding matrix: one row per token.
    Embedding,
    /// Output matrix.
    Head,
    /// Matrix that mixes the embedding into the state.
    Adapter,
    /// Norm outside the blocks: see [`OuterNorms`](super::spec::OuterNorms).
    FinalNorm,
    /// Weights of the learned exit gate.
    Gate,
    /// Bias of the exit gate.
    GateBias,
    /// Part of a block.
    Block(Section, u32, Part),
}

/// Section of the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Section {
    Before,
    Core,
    After,
}

impl Section {
    pub(crate) const ALL: [Self; 3] = [Self::Before, Self::Core, Self::After];

    /// Number of layers in the section.
    pub(crate) const fn layers(self, spec: &Spec) -> u32 {
        match self {
            Self::Before => spec.layers.before,
            Self::Core => spec.layers.core,
            Self::After => spec.layers.after,
        }
    }
}

/// Part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Weights of a norm.
    Norm(NormPlace),
    /// Bias of queries and keys.
    QkBias,
    /// Weights of the norms of queries and keys.
    QkNorm,
    /// Queries, keys and values.
    Qkv,
    /// Attention's output projection.
    Out,
    /// Gate and up of the MLP.
    GateUp,
    /// The MLP's output projection.
    Down,
}

/// Place of a norm in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormPlace {
    PreAttention,
    PostAttention,
    PreMlp,
    PostMlp,
}

/// Arrangement of a stored matrix's rows and columns on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Number of separately padded parts of a row: 1 or 2.
    pub(crate) halves: u32,
    /// Rows that are interleaved.
    pub(crate) rows: InTurn,
}

impl Layout {
    /// As stored.
    pub(crate) const PLAIN: Self = Self { halves: 1, rows: InTurn::NONE };
    /// Columns in two halves: the adapter's state and embedding.
    pub(crate) const HALVES: Self = Self { halves: 2, rows: InTurn::NONE };

    /// First half of the rows (gate) interleaved with the second (up).
    pub(crate) const fn gate_up(rows: u32) -> Self {
        Self { halves: 1, rows: InTurn { rows, span: rows } }
    }

    /// Interleaves the halves of each query and key head if rotary pairs are half a head apart. One rotary kernel then serves both pairings, and products of
    /// queries and keys stay the same.
    pub(crate) const fn heads(spec: &Spec) -> Self {
        match spec.rotary.pairs {
            Pairs::Adjacent => Self::PLAIN,
            Pairs::Halves => {
                let rows = (spec.heads + spec.kv_heads) * spec.head_dim;
                Self { halves: 1, rows: InTurn { rows, span: spec.head_dim } }
            }
        }
    }
}

/// Initialization of a synthetic tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Drawn {
    /// Standard deviation of most matrices.
    Inner,
    /// Standard deviation of projections back into the residual stream.
    Back,
    /// Ones.
    Ones,
    /// Zeros.
    Zeros,
    /// Not drawn, but computed.
    Computed,
}

impl Entry {
    /// Rows and columns, if the entry is a matrix; all sources have the same number of columns.
    pub(crate) fn matrix(&self) -> Option<[u32; 2]> {
        self.group()?;
        let rows = self.sources.iter().map(|source| source.shape[0]).sum::<usize>();
        Some([rows as u32, self.sources[0].shape[1] as u32])
    }

    /// Number of values in all sources.
    pub(crate) fn values(&self) -> usize {
        self.sources.iter().map(|source| source.shape.iter().product::<usize>()).sum()
    }

    /// The group whose dtype it is stored in, if the entry is a matrix.
    pub(crate) const fn group(&self) -> Option<Group> {
        match self.role {
            Role::Embedding => Some(Group::Embedding),
            Role::Head => Some(Group::Head),
            Role::Adapter => Some(Group::Adapter),
            Role::Block(section, _, Part::Qkv | Part::Out | Part::GateUp | Part::Down) => Some(match section {
                Section::Before => Group::Prelude,
                Section::Core => Group::Core,
                Section::After => Group::Coda,
            }),
            _ => None,
        }
    }

    /// Number of times that one decoded token at `steps` steps reads the entry. The embedding's single row is not counted.
    pub(crate) const fn reads(&self, steps: u32, tied_head: bool) -> u32 {
        match self.role {
            Role::Adapter | Role::Block(Section::Core, ..) => steps,
            Role::Head | Role::Block(..) => 1,
            Role::Embedding => tied_head as u32,
            _ => 0,
        }
    }

    /// Name in messages: that of the first source.
    pub(crate) fn name(&self) -> &str {
        &self.sources[0].name
    }
}

impl Manifest {
    /// The entry of a role, if the model has it.
    pub(crate) fn entry(&self, role: Role) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.role == role)
    }

    /// The entry that a tensor belongs to, the tensor, and its first row in the entry.
    pub(crate) fn of_tensor(&self, name: &str) -> Option<(&Entry, &Expected, u32)> {
        self.entries.iter().find_map(|entry| {
            let at = entry.sources.iter().position(|source| source.name == name)?;
            let before: usize = entry.sources[..at].iter().map(|source| source.shape[0]).sum();
            Some((entry, &entry.sources[at], before as u32))
        })
    }

    /// Tensors that a checkpoint must or may have.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Expected> {
        self.entries.iter().flat_map(|entry| &entry.sources)
    }

    /// Matrices with their groups and shapes.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = (&Entry, Group, [u32; 2])> {
        self.entries.iter().filter_map(|entry| Some((entry, entry.group()?, entry.matrix()?)))
    }

    /// Tensors that may be stored under a second name, with that name.
    pub(crate) fn copies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter_map(|entry| Some((entry.name(), entry.copy.as_deref()?)))
    }
}

impl Spec {
    /// Whether a tensor holds trained weights, not a table that can be computed.
    #[must_use]
    pub fn is_parameter(&self, name: &str) -> bool {
        self.manifest().of_tensor(name).is_none_or(|(entry, ..)| entry.drawn != Drawn::Computed)
    }

    /// Groups of matrices in this model.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let manifest = self.manifest();
        let has = |group: &Group| manifest.matrices().any(|(_, other, _)| other == *group);
        Group::ALL.into_iter().filter(has).collect()
    }

    /// Tensors that a checkpoint of this model must or may have, for [`Checkpoint::check`].
    ///
    /// [`Checkpoint::check`]: crate::Checkpoint::check
    #[must_use]
    pub fn tensors(&self) -> Vec<Expected> {
        let manifest = self.manifest();
        let copy = |(name, copy): (&str, &str)| {
            let (_, source, _) = manifest.of_tensor(name)?;
            Some(Expected { name: copy.to_owned(), required: false, ..source.clone() })
        };
        manifest.tensors().cloned().chain(manifest.copies().filter_map(copy)).collect()
    }

    /// Whether the model reads a tensor. A stored copy of the embedding for a tied head is not read.
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.manifest().of_tensor(name).is_some()
    }
}

/// Builds a manifest, entry by entry.
pub(super) struct Builder<'a> {
    pub(super) spec: &'a Spec,
    entries: Vec<Entry>,
}

impl<'a> Builder<'a> {
    pub(super) const fn new(spec: &'a Spec) -> Self {
        Self { spec, entries: Vec::new() }
    }

    /// Adds an entry whose rows are those of these tensors, stacked.
    pub(super) fn stacked(&mut self, role: Role, sources: Vec<(String, Vec<u32>)>, layout: Layout, drawn: Drawn) {
        let expected = |(name, shape): (String, Vec<u32>)| Expected {
            name,
            shape: shape.into_iter().map(|size| size as usize).collect(),
            required: true,
        };
        let sources = sources.into_iter().map(expected).collect();
        self.entries.push(Entry { role, sources, copy: None, layout, drawn });
    }

    /// Adds an entry of one tensor in the plain layout.
    pub(super) fn one(&mut self, role: Role, name: impl Into<String>, shape: &[u32], drawn: Drawn) {
        self.stacked(role, vec![(name.into(), shape.to_vec())], Layout::PLAIN, drawn);
    }

    /// Marks the last entry as optional.
    pub(super) fn optional(&mut self) {
        if let Some(entry) = self.entries.last_mut() {
            entry.sources.iter_mut().for_each(|source| source.required = false);
        }
    }

    /// Adds the embedding matrix; if the head is tied, `head` is the second name under which it may be stored.
    pub(super) fn embedding(&mut self, name: &str, head: &str) {
        let shape = [self.spec.padded_vocab, self.spec.width];
        self.one(Role::Embedding, name, &shape, Drawn::Inner);
        if let Some(entry) = self.entries.last_mut().filter(|_| self.spec.tied_head) {
            entry.copy = Some(head.to_owned());
        }
    }

    /// Adds the head unless it is the embedding.
    pub(super) fn head(&mut self, name: &str) {
        if !self.spec.tied_head {
            self.one(Role::Head, name, &[self.spec.padded_vocab, self.spec.width], Drawn::Inner);
        }
    }

    pub(super) fn finish(self) -> Manifest {
        Manifest { entries: self.entries }
    }
}
