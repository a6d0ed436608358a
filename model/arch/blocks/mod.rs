//! Blocks: attention and a gated MLP, each with its norms.
//!
//! ```text
//! block(x): x = join(x, attention(pre(x)));  x = join(x, mlp(pre(x)))
//!
//! pre(x)     = norm(x), or x
//! join(x, y) = x + y,  norm(x + y)  or  x + norm(y)
//! ```
//!
//! [`Spec::norms`](super::spec::Spec) selects the form. `fold.rs` keeps the residual stream with folded norms, which need no launches of their own.

mod attention;
mod fold;

use ruminate_engine::{Buffer, Tensor};
use ruminate_shaders::matmul::{Input, Output, fuses};
use ruminate_shaders::norm::{norm_add, norm_add_fused, norm_add_variants, plain_fused_sums};
use ruminate_shaders::{Caps, Product, stride};

pub(super) use self::fold::Stream;
use self::fold::Sum;
use super::loader::Loader;
use super::manifest::{NormPlace, Part, Role, Section};
use super::pass::Pass;
use super::resident::Matrix;
use super::spec::{PostNorm, Spec};
use crate::error::Error;

/// Bytes of a block's additional weights for folded norms.
pub(crate) const fn fold_bytes(spec: &Spec) -> u64 {
    fold::Norms::bytes(spec)
}

/// Products that passes of `rows` rows record on a device, one of each shape.
pub(super) fn products(spec: &Spec, rows: u32, caps: &Caps) -> Vec<Product> {
    let folds = spec.norms.pre && fuses(caps, rows, spec.width);
    let input = if folds { Input::Normed } else { Input::Plain };
    let join = match spec.norms.post {
        PostNorm::Output => Output::Store,
        PostNorm::Sum | PostNorm::None if folds => Output::Sum,
        PostNorm::Sum | PostNorm::None => Output::Residual,
    };
    let Spec { width: n, hidden, heads, head_dim, .. } = *spec;
    let adapted = if folds { Output::First } else { Output::Store };
    let mut all = vec![
        Product { k: n, n: spec.qkv_rows(), input, output: Output::Store },
        Product { k: heads * head_dim, n, input: Input::Plain, output: join },
        Product { k: n, n: 2 * hidden, input, output: Output::GateUp },
        Product { k: hidden, n, input: Input::Plain, output: join },
        Product { k: n, n: spec.padded_vocab, input: Input::Plain, output: Output::Store },
    ];
    if spec.adapter {
        all.insert(0, Product { k: n, n, input: Input::Concat, output: adapted });
    }
    if folds && spec.norms.post == PostNorm::None {
        // The last sublayer of a section writes plain rows.
        all.push(Product { k: hidden, n, input: Input::Plain, output: Output::Residual });
    }
    all
}

/// A block.
pub(super) struct Block {
    /// Name in the checkpoint.
    pub(super) name: String,
    /// Index of the layer in its section's part of the cache.
    layer: usize,
    recurrent: bool,
    attention: Sublayer,
    mlp: Sublayer,
    qkv: Matrix,
    qk_bias: Option<Buffer>,
    qk_norm: Option<Buffer>,
    gate_up: Matrix,
}

/// Norms and output projection of attention or MLP.
pub(super) struct Sublayer {
    /// Weights of the pre-norm.
    pre: Option<Buffer>,
    /// Weights of the post-norm.
    pub(super) post: Option<Buffer>,
    /// Projection back into the residual stream.
    out: Matrix,
    /// Weights for folded norms; see `fold.rs`.
    fold: Option<Buffer>,
}

/// Names of a sublayer's results.
struct SublayerNames {
    pre: String,
    post: String,
    out: String,
    sum: String,
}

impl Block {
    /// Loads the blocks of a section.
    pub(super) fn load(loader: &mut Loader<'_>, spec: &Spec, section: Section) -> Result<Vec<Self>, Error> {
        let norms = fold::Norms::of(loader, spec, section)?;
        (0..section.layers(spec)).map(|layer| Self::one(loader, spec, (section, layer), &norms)).collect()
    }

    fn one(
        loader: &mut Loader<'_>,
        spec: &Spec,
        (section, layer): (Section, u32),
        norms: &fold::Norms,
    ) -> Result<Self, Error> {
        let part = |part| Role::Block(section, layer, part);
        let mut sublayer = |which: u32, pre, post, out| {
            let norm = |place| loader.optional_vector(part(Part::Norm(place)));
            let (pre, post) = (norm(pre)?, norm(post)?);
            let fold = norms.fold(loader, spec, (section, 2 * layer + which))?;
            Ok::<_, Error>(Sublayer { pre, post, fold, out: loader.matrix(part(out))? })
        };
        let attention = sublayer(0, NormPlace::PreAttention, NormPlace::PostAttention, Part::Out)?;
        let mlp = sublayer(1, NormPlace::PreMlp, NormPlace::PostMlp, Part::Down)?;
        let before = if section == Section::After { spec.layers.before } else { 0 };
        Ok(Self {
            name: spec.names().block(section, layer),
            layer: (before + layer) as usize,
            recurrent: section == Section::Core,
            attention,
            mlp,
            qkv: loader.matrix(part(Part::Qkv))?,
            qk_bias: loader.optional_vector(part(Part::QkBias))?,
            qk_norm: loader.optional_vector(part(Part::QkNorm))?,
            gate_up: loader.matrix(part(Part::GateUp))?,
        })
    }

    /// Bytes of its matrices.
    pub(super) fn bytes(&self) -> u64 {
        [&self.qkv, &self.attention.out, &self.gate_up, &self.mlp.out].into_iter().map(Matrix::bytes).sum()
    }

    /// Weights of its last norm, if there is one.
    pub(super) const fn last_norm(&self) -> Option<&Buffer> {
        self.mlp.post.as_ref()
    }

    /// Weights of its first norm, if its input is normed.
    pub(super) const fn first_norm(&self) -> Option<&Buffer> {
        self.attention.pre.as_ref()
    }
}

/// Applies blocks in sequence. The last block's output goes to `out`, in plain rows.
pub(super) fn apply(
    pass: &mut Pass<'_>,
    spec: &Spec,
    blocks: &[Block],
    mut x: Stream,
    out: Tensor,
) -> Result<(), Error> {
    let names = spec.names();
    for (i, block) in blocks.iter().enumerate() {
        let site = |part: &str| format!("{}.{part}", block.name);
        // A missing norm gets an empty name, which is not used.
        let norm = |place| names.norm(place).map_or_else(String::new, &site);

        let its = SublayerNames {
            pre: norm(NormPlace::PreAttention),
            post: norm(NormPlace::PostAttention),
            out: site(names.out),
            sum: site(names.sums[0]),
        };
        let mut qkv = pass.activation(&site(names.qkv), spec.qkv_rows());
        let input = block.attention.input(pass, spec, &its, x)?;
        input.multiply(pass, &block.qkv, Output::Store, qkv)?;
        if pass.trace && spec.qk_norm {
            // Norms of queries and keys are computed in place.
            qkv = pass.activation(&site(&format!("{}.normed", names.attention)), spec.qkv_rows());
            input.multiply(pass, &block.qkv, Output::Store, qkv)?;
        }
        let attended = block.attend(pass, spec, qkv)?;
        let middle = block.attention.join(pass, spec, &its, attended, x, None)?;

        let its = SublayerNames {
            pre: norm(NormPlace::PreMlp),
            post: norm(NormPlace::PostMlp),
            out: site(names.down),
            sum: site(names.sums[1]),
        };
        let hidden = pass.activation(&site(names.hidden), spec.hidden);
        let input = block.mlp.input(pass, spec, &its, middle)?;
        input.multiply(pass, &block.gate_up, Output::GateUp, hidden)?;
        if pass.trace {
            // The fused launch does not keep this result, so it is computed again.
            let y = pass.activation(&site(names.gate_up), 2 * spec.hidden);
            input.multiply(pass, &block.gate_up, Output::Store, y)?;
        }
        let last = i + 1 == blocks.len();
        let to = if last { Some(out) } else { pass.output_of(&block.name, spec) };
        x = block.mlp.join(pass, spec, &its, hidden, middle, to)?;
        if let (true, Stream::Sum(sum)) = (last, x) {
            // The fused sums of the last block are normed into plain rows.
            let w = block.last_norm().ok_or(Error::bug("the last block with folded norms has a norm"))?;
            let all = pass.all();
            pass.norm(all, (w, spec.norm_eps), (sum.tensor, sum.normed.fused.floats()), (out, spec.width))?;
        }
    }
    Ok(())
}

impl Pass<'_> {
    /// Plain rows for the output of a block before another block. `None`: the output is fused sums.
    fn output_of(&mut self, name: &str, spec: &Spec) -> Option<Tensor> {
        (!(self.folds(spec.width) && spec.norms.pre)).then(|| self.activation(name, spec.width))
    }
}

impl Sublayer {
    /// Input of the sublayer's first matrix.
    fn input(&self, pass: &mut Pass<'_>, spec: &Spec, names: &SublayerNames, x: Stream) -> Result<Stream, Error> {
        match (&self.pre, x) {
            (Some(w), Stream::Rows(x)) => {
                let normed = pass.activation(&names.pre, spec.width);
                let all = pass.all();
                pass.norm(all, (w, spec.norm_eps), (x, stride(spec.width)), (normed, spec.width))?;
                Ok(Stream::Rows(normed))
            }
            _ => Ok(x),
        }
    }

    /// Projects `y` and adds it to the residual stream `x`. `to`: plain rows for the output of a section's last sublayer, and of every block without folded
    /// norms.
    fn join(
        &self,
        pass: &mut Pass<'_>,
        spec: &Spec,
        names: &SublayerNames,
        y: Tensor,
        x: Stream,
        to: Option<Tensor>,
    ) -> Result<Stream, Error> {
        let all = pass.all();
        let n = spec.width;
        let (residual, floats) = x.values(n);
        match (spec.norms.post, x) {
            // The sum stays fused sums.
            (PostNorm::Sum, Stream::Sum(last)) => self.add(pass, spec, &names.sum, y, last),
            (PostNorm::None, Stream::Sum(last)) if to.is_none() => self.add(pass, spec, &names.sum, y, last),
            (PostNorm::None, _) => {
                let out = to.unwrap_or_else(|| pass.activation(&names.sum, n));
                self.trace_out(pass, spec, names, y)?;
                self.out.apply_residual(pass.graph, pass.device, all, (y, residual, x.normed()), out)?;
                Ok(Stream::Rows(out))
            }
            (PostNorm::Sum, Stream::Rows(_)) => {
                let sum = pass.activation(&names.sum, n);
                let out = to.unwrap_or_else(|| pass.activation(&names.post, n));
                self.trace_out(pass, spec, names, y)?;
                self.out.apply_residual(pass.graph, pass.device, all, (y, residual, None), sum)?;
                let w = self.post.as_ref().ok_or(Error::bug("a sublayer with a post-norm has its weights"))?;
                pass.norm(all, (w, spec.norm_eps), (sum, stride(n)), (out, n))?;
                Ok(Stream::Rows(out))
            }
            (PostNorm::Output, _) => {
                let output = pass.activation(&names.out, n);
                self.out.apply(pass.graph, pass.device, all, &[y], Output::Store, output)?;
                let (w, caps) = (
                    self.post.as_ref().ok_or(Error::bug("a sublayer with a post-norm has its weights"))?,
                    pass.device.caps(),
                );
                if pass.trace {
                    // The fused launch does not keep this result, so it is computed again.
                    let normed = pass.activation(&names.post, n);
                    pass.norm(all, (w, spec.norm_eps), (output, stride(n)), (normed, n))?;
                }
                let w = pass.graph.import(w);
                let eps = spec.norm_eps as f32;
                match (&self.fold, to, pass.folds(n)) {
                    (Some(next), None, true) => {
                        let fused = plain_fused_sums(n);
                        let sum = Sum::new(pass, spec, &names.sum, fused, false);
                        let next = pass.graph.import(next);
                        let launch = norm_add_fused(&caps, all.1, n, floats, eps);
                        let launch = pass.device.pick(norm_add_variants(&caps, launch));
                        pass.graph.launch(launch, &[all.0, residual, output, w, next, sum.tensor])?;
                        Ok(Stream::Sum(sum))
                    }
                    _ => {
                        let out = to.unwrap_or_else(|| pass.activation(&names.sum, n));
                        let launch = norm_add(&caps, all.1, n, floats, eps);
                        let launch = pass.device.pick(norm_add_variants(&caps, launch));
                        pass.graph.launch(launch, &[all.0, residual, output, w, out])?;
                        Ok(Stream::Rows(out))
                    }
                }
            }
        }
    }

    /// Computes the projection without the residual, for a trace.
    fn trace_out(&self, pass: &mut Pass<'_>, spec: &Spec, names: &SublayerNames, y: Tensor) -> Result<(), Error> {
        if !pass.trace {
            return Ok(());
        }
        let all = pass.all();
        let output = pass.activation(&names.out, spec.width);
        self.out.apply(pass.graph, pass.device, all, &[y], Output::Store, output)
    }
}
