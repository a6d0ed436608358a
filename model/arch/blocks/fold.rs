//! Folded norms: with few rows, norms are computed inside the neighboring matmuls.
//!
//! With few rows a launch costs more than the arithmetic of a norm. The residual stream therefore stays [`FusedSums`], which the next matmul norms while
//! reading it; see there for the formulas. Folding applies to every block with pre-norms, whatever its post-norm. A post-norm of the output needs one launch,
//! which also adds it to the residual stream ([`norm_add_fused`](ruminate_shaders::norm::norm_add_fused)).

use ruminate_engine::{Buffer, Tensor};
use ruminate_shaders::matmul::{FusedSums, Input, Normed, Output};
use ruminate_shaders::norm::{fused_sums, plain_fused_sums};
use ruminate_shaders::stride;

use super::{Block, Sublayer};
use crate::arch::loader::Loader;
use crate::arch::manifest::{NormPlace, Part, Role, Section};
use crate::arch::pass::Pass;
use crate::arch::resident::Matrix;
use crate::arch::spec::{PostNorm, Spec};
use crate::error::Error;

/// Residual stream between sublayers.
#[derive(Clone, Copy)]
pub(in crate::arch) enum Stream {
    /// Plain rows.
    Rows(Tensor),
    /// Fused sums, normed by its reader.
    Sum(Sum),
}

/// Fused sums and their norms.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Sum {
    pub(in crate::arch) tensor: Tensor,
    pub(in crate::arch) normed: Normed,
}

impl Sum {
    /// Allocates fused sums; `outer`: whether they have an outer norm.
    pub(in crate::arch) fn new(pass: &mut Pass<'_>, spec: &Spec, name: &str, fused: FusedSums, outer: bool) -> Self {
        let tensor = pass.scratch(name, fused.bytes(pass.shape.rows));
        Self { tensor, normed: Normed { fused, outer, eps: spec.norm_eps as f32 } }
    }
}

impl Stream {
    /// Residual stream of plain rows before the first block: fused sums if norms are folded.
    pub(in crate::arch) fn begin(
        pass: &mut Pass<'_>,
        spec: &Spec,
        first: Option<&Block>,
        x: Tensor,
    ) -> Result<Self, Error> {
        let Some((block, w)) =
            first.and_then(|block| Some((block, block.first_norm()?))).filter(|_| pass.folds(spec.width))
        else {
            return Ok(Self::Rows(x));
        };
        let sum = Sum::new(pass, spec, &format!("{}.fused", block.name), plain_fused_sums(spec.width), false);
        let (rows, count) = pass.all();
        let w = pass.graph.import(w);
        pass.graph.launch(fused_sums(&pass.device.caps(), count, spec.width), &[rows, x, w, sum.tensor])?;
        Ok(Self::Sum(sum))
    }

    /// Output of the adapter: fused sums if norms are folded.
    pub(in crate::arch) fn adapt(
        pass: &mut Pass<'_>,
        spec: &Spec,
        (adapter, name): (&Matrix, &str),
        first: Option<&Block>,
        inputs: [Tensor; 2],
    ) -> Result<Self, Error> {
        let all = pass.all();
        let [state, embedding] = inputs;
        let Some(w) = first.and_then(Block::first_norm).filter(|_| pass.folds(spec.width)) else {
            let x = pass.activation(name, spec.width);
            adapter.apply(pass.graph, pass.device, all, &inputs, Output::Store, x)?;
            return Ok(Self::Rows(x));
        };
        let fused = FusedSums::of(spec.width, adapter.form());
        let sum = Sum::new(pass, spec, &format!("{name}.fused"), fused, false);
        let w = pass.graph.import(w);
        let flow = (Input::Concat, Output::First, None);
        adapter.apply_flow(pass.graph, pass.device, all, flow, &[state, embedding, w], sum.tensor)?;
        Ok(Self::Sum(sum))
    }

    /// The residual stream's values, and the number of floats from row to row.
    pub(super) const fn values(&self, width: u32) -> (Tensor, u32) {
        match self {
            Self::Rows(x) => (*x, stride(width)),
            Self::Sum(sum) => (sum.tensor, sum.normed.fused.floats()),
        }
    }

    /// Norms of fused sums.
    pub(super) const fn normed(&self) -> Option<Normed> {
        match self {
            Self::Rows(_) => None,
            Self::Sum(sum) => Some(sum.normed),
        }
    }

    /// Multiplies the stream by a matrix, after its norms if it is fused sums.
    pub(super) fn multiply(
        &self,
        pass: &mut Pass<'_>,
        matrix: &Matrix,
        output: Output,
        y: Tensor,
    ) -> Result<(), Error> {
        let all = pass.all();
        match self {
            Self::Rows(x) => matrix.apply(pass.graph, pass.device, all, &[*x], output, y),
            Self::Sum(sum) => {
                let flow = (Input::Normed, output, Some(sum.normed));
                matrix.apply_flow(pass.graph, pass.device, all, flow, &[sum.tensor], y)
            }
        }
    }
}

impl Sublayer {
    /// Records `W·y` plus the outer norm of the last fused sums, or plus their own values if they have no outer norm. The result is fused sums.
    pub(super) fn add(
        &self,
        pass: &mut Pass<'_>,
        spec: &Spec,
        name: &str,
        y: Tensor,
        last: Sum,
    ) -> Result<Stream, Error> {
        let fused = FusedSums::of(spec.width, self.out.form());
        let sum = Sum::new(pass, spec, name, fused, self.post.is_some());
        let all = pass.all();
        let norms =
            pass.graph.import(self.fold.as_ref().ok_or(Error::bug("a block with folded norms has their weights"))?);
        let flow = (Input::Plain, Output::Sum, Some(last.normed));
        self.out.apply_flow(pass.graph, pass.device, all, flow, &[y, last.tensor, norms], sum.tensor)?;
        Ok(Stream::Sum(sum))
    }
}

/// Norm weights of a section's sublayers, padded like activations; ones for a missing norm.
pub(super) struct Norms {
    /// Pre-norm and post-norm.
    sublayers: Vec<[Vec<f32>; 2]>,
}

impl Norms {
    pub(super) fn of(loader: &Loader<'_>, spec: &Spec, section: Section) -> Result<Self, Error> {
        let mut ones = vec![1.0; spec.width as usize];
        ones.resize(stride(spec.width) as usize, 0.0);
        let places = [[NormPlace::PreAttention, NormPlace::PostAttention], [NormPlace::PreMlp, NormPlace::PostMlp]];
        let layers = (0..section.layers(spec)).flat_map(|layer| places.map(|places| (layer, places)));
        let values = |layer, place| {
            let stored = loader.optional_values(Role::Block(section, layer, Part::Norm(place)))?;
            Ok::<_, Error>(stored.unwrap_or_else(|| ones.clone()))
        };
        let sublayers = layers.map(|(layer, [before, post])| Ok([values(layer, before)?, values(layer, post)?]));
        Ok(Self { sublayers: sublayers.collect::<Result<_, Error>>()? })
    }

    /// Weights for the fused sums of a sublayer. With a post-norm of the output: those of the next pre-norm. Otherwise the concatenation of the last post-norm,
    /// this post-norm, and this post-norm times the next pre-norm.
    pub(super) fn fold(
        &self,
        loader: &Loader<'_>,
        spec: &Spec,
        (section, at): (Section, u32),
    ) -> Result<Option<Buffer>, Error> {
        let [_, post] = &self.sublayers[at as usize];
        let next = self.sublayers.get(at as usize + 1).map(|[before, _]| before);
        if !spec.norms.pre {
            return Ok(None);
        }
        let name = format!("{section:?} {} norms of {}", at / 2, ["attention", "the MLP"][at as usize % 2]);
        if spec.norms.post == PostNorm::Output {
            return next.map(|next| loader.put(&name, next.clone())).transpose();
        }
        let product = next.map_or_else(|| post.clone(), |next| post.iter().zip(next).map(|(a, b)| a * b).collect());
        let last = at.checked_sub(1).map_or(post, |last| &self.sublayers[last as usize][1]);
        Ok(Some(loader.put(&name, [last.as_slice(), post, &product].concat())?))
    }

    /// Bytes of one block's weights for folded norms.
    pub(in crate::arch) const fn bytes(spec: &Spec) -> u64 {
        let row = ruminate_shaders::stride(spec.width) as u64 * 4;
        match (spec.norms.pre, spec.norms.post) {
            (false, _) => 0,
            (true, PostNorm::Output) => 2 * row,
            (true, _) => 6 * row,
        }
    }
}
