//! Names of intermediate results, as in the authors' code.

use ruminate_shaders::weight::InTurn;

use super::manifest::{Layout, NormPlace, Section};
use super::spec::Spec;

/// Names that an architecture gives to the results of its modules.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    /// Prefixes of the blocks before, in and after the loop.
    pub(crate) sections: [&'static str; 3],
    /// Norms of a block, by [`NormPlace`].
    pub(crate) norms: [Option<&'static str>; 4],
    /// Prefix of attention's results.
    pub(crate) attention: &'static str,
    /// Stacked queries, keys and values.
    pub(crate) qkv: &'static str,
    /// Queries, keys and values, if the authors have three matrices.
    pub(crate) projections: Option<[&'static str; 3]>,
    /// Queries and keys after their norms.
    pub(crate) qk_norms: Option<[&'static str; 2]>,
    /// Attention's output projection.
    pub(crate) out: &'static str,
    /// Sums with the residual stream, of attention and of the MLP.
    pub(crate) sums: [&'static str; 2],
    /// Stacked gate and up.
    pub(crate) gate_up: &'static str,
    /// Gate and up, if the authors have two matrices.
    pub(crate) gate_and_up: Option<[&'static str; 2]>,
    /// `silu(gate)·up`.
    pub(crate) hidden: &'static str,
    /// The MLP's output projection.
    pub(crate) down: &'static str,
    /// Adapter.
    pub(crate) adapter: &'static str,
    /// Norm at the end of a step, or after the loop.
    pub(crate) final_norm: &'static str,
}

impl Names {
    pub(crate) fn block(&self, section: Section, layer: u32) -> String {
        format!("{}.{layer}", self.sections[section as usize])
    }

    pub(crate) const fn norm(&self, place: NormPlace) -> Option<&'static str> {
        self.norms[place as usize]
    }
}

/// Intermediate result of a traced pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Name of the result.
    pub(crate) name: String,
    /// Buffer that keeps it.
    pub(crate) kept: Kept,
    /// Stage that computes it.
    pub(crate) when: When,
    /// Number of values per row.
    pub(crate) width: u32,
    /// Index of the first value in a kept row, in the checkpoint's order.
    first: u32,
    /// Values per kept row.
    row: u32,
    /// Interleaving of the values in a kept row.
    in_turn: InTurn,
    /// Number and width of heads, if each is padded separately.
    pub(crate) heads: Option<(u32, u32)>,
}

/// Buffer that keeps an intermediate result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Buffer of the embeddings that enter the loop.
    Embedding,
    /// Buffer of the states.
    State,
    /// Buffer of its own, with this name.
    Buffer(String),
}

/// Stage that computes an intermediate result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the loop.
    Begin,
    /// At every step.
    Step,
    /// After the loop.
    Finish,
}

impl Module {
    fn new(name: String, when: When, width: u32) -> Self {
        let kept = Kept::Buffer(name.clone());
        Self { name, kept, when, width, first: 0, row: width, in_turn: InTurn::NONE, heads: None }
    }

    /// Slice of this module's rows, in the checkpoint's order.
    fn part(&self, name: String, first: u32, width: u32) -> Self {
        Self { name, first: self.first + first, width, ..self.clone() }
    }

    /// Values per kept row, without padding.
    pub(crate) const fn row(&self) -> u32 {
        self.row
    }

    /// Extracts the values `[rows, width]` from kept rows, in the checkpoint's order.
    pub(crate) fn take(&self, kept: &[f32]) -> Vec<f32> {
        if self.first == 0 && self.width == self.row && self.in_turn == InTurn::NONE {
            return kept.to_vec();
        }
        let places: Vec<usize> =
            (self.first..self.first + self.width).map(|value| self.in_turn.held(value) as usize).collect();
        kept.chunks(self.row as usize).flat_map(|row| places.iter().map(|&place| row[place])).collect()
    }
}

impl Spec {
    /// Names of the results of modules.
    pub(crate) fn names(&self) -> Names {
        self.arch().names(self)
    }

    /// Name of the normed states that enter the layers after the loop. `None`: the states themselves enter.
    pub(crate) fn latents(&self) -> Option<&'static str> {
        self.outer_norms.loop_end.then(|| self.names().final_norm)
    }

    /// Intermediate results that a trace can read, in the order of computation.
    pub(crate) fn modules(&self) -> Vec<Module> {
        let names = self.names();
        let n = self.width;
        let mut all = Vec::new();
        for section in Section::ALL {
            let when = match section {
                Section::Before => When::Begin,
                Section::Core => When::Step,
                Section::After => When::Finish,
            };
            if section == Section::Core {
                let kept = Kept::State;
                all.push(Module { kept, ..Module::new("states".to_owned(), When::Begin, n) });
                all.extend(self.adapter.then(|| Module::new(names.adapter.to_owned(), when, n)));
            }
            if section == Section::After && self.outer_norms.loop_end {
                all.push(Module::new(names.final_norm.to_owned(), when, n));
            }
            let layers = section.layers(self);
            for layer in 0..layers {
                let block = names.block(section, layer);
                self.block_modules(&names, &block, when, &mut all);
                let whole = Module::new(block, when, n);
                let last = layer + 1 == layers;
                all.push(match section {
                    Section::Before if last => Module { kept: Kept::Embedding, ..whole },
                    Section::Core if last && !self.outer_norms.step => Module { kept: Kept::State, ..whole },
                    _ => whole,
                });
            }
            if section == Section::Core && self.outer_norms.step {
                all.push(Module { kept: Kept::State, ..Module::new(names.final_norm.to_owned(), when, n) });
            }
        }
        all.push(Module::new("head".to_owned(), When::Finish, n));
        all
    }

    fn block_modules(&self, names: &Names, block: &str, when: When, all: &mut Vec<Module>) {
        let n = self.width;
        let site = |part: &str| format!("{block}.{part}");
        let module = |part: &str, width| Module::new(site(part), when, width);
        let norm = |place| names.norm(place).map(|name| module(name, n));
        let [q, kv] = [self.heads, self.kv_heads].map(|heads| heads * self.head_dim);
        let turned = Layout::heads(self).rows;

        all.extend(norm(NormPlace::PreAttention));
        let qkv = Module { in_turn: turned, ..module(names.qkv, self.qkv_rows()) };
        for (part, first, width) in [(0, 0, q), (1, q, kv), (2, q + kv, kv)] {
            all.extend(names.projections.map(|names| qkv.part(site(names[part]), first, width)));
        }
        if let Some(qk_norms) = names.qk_norms {
            let kept = Kept::Buffer(site(&format!("{}.normed", names.attention)));
            let normed = Module { kept, ..qkv.clone() };
            all.push(normed.part(site(qk_norms[0]), 0, q));
            all.push(normed.part(site(qk_norms[1]), q, kv));
        }
        all.push(qkv);
        let rotated = module(&format!("{}.q_rope", names.attention), q);
        let heads = Some((self.heads, self.head_dim));
        all.push(Module { in_turn: InTurn { rows: turned.rows.min(q), ..turned }, heads, ..rotated });
        all.push(module(&format!("{}.values", names.attention), q));
        all.push(module(names.out, n));
        all.extend(norm(NormPlace::PostAttention));
        all.push(module(names.sums[0], n));
        all.extend(norm(NormPlace::PreMlp));
        let gate_up =
            Module { in_turn: Layout::gate_up(2 * self.hidden).rows, ..module(names.gate_up, 2 * self.hidden) };
        for part in [0, 1] {
            let first = part * self.hidden;
            all.extend(names.gate_and_up.map(|names| gate_up.part(site(names[part as usize]), first, self.hidden)));
        }
        all.push(gate_up);
        all.push(module(names.hidden, self.hidden));
        all.push(module(names.down, n));
        if self.norms.post != super::spec::PostNorm::None {
            all.extend(norm(NormPlace::PostMlp));
        }
        if self.norms.post == super::spec::PostNorm::Sum {
            all.push(module(names.sums[1], n));
        }
    }
}
