//! Test cases: a launch with its inputs, and how its outputs are judged. The same cases drive tests, benchmarks and the doctor.

use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use crate::matmul::{Arithmetic, Input, Output};
use crate::{Caps, Dtype, Launch, Threefry};

/// Comparison of a binding's content with the reference's after a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Not an output.
    Skip,
    /// Equal bit for bit.
    Exact,
    /// f32 values: normalized mean square error at most 1e-9.
    F32,
    /// f32 values computed from f16 products: normalized mean square error at most 4e-6.
    F16,
    /// Pairs of bf16 values, which may round to neighbors: normalized mean square error at most 1e-6.
    Bf16,
}

/// A launch with the content of its buffers.
#[derive(Clone, Debug)]
pub struct Case {
    /// Name, unique among the cases of a variant: `1 row of 33`. See [`Case::id`].
    pub name: String,
    /// The launch.
    pub launch: Launch,
    /// Initial content of each binding, in 32-bit words.
    pub data: Data,
    /// Comparison for each binding after the launch.
    pub checks: Vec<Check>,
}

/// Initial content of the buffers of a case, in 32-bit words: one list per binding. Computed on first use, so that listing cases takes no time, and shared by
/// clones.
#[derive(Clone, Debug)]
pub struct Data(Arc<LazyLock<Vec<Vec<u32>>, Make>>);

/// Makes the content of the buffers.
type Make = Box<dyn FnOnce() -> Vec<Vec<u32>> + Send>;

impl Data {
    /// Content that `make` returns on first use.
    pub fn new(make: impl FnOnce() -> Vec<Vec<u32>> + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl From<Vec<Vec<u32>>> for Data {
    fn from(words: Vec<Vec<u32>>) -> Self {
        Self::new(|| words)
    }
}

impl Deref for Data {
    type Target = [Vec<u32>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A matrix product that a model's passes record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Values per row of x; with [`Input::Concat`], of each of its two halves.
    pub k: u32,
    /// Rows of W.
    pub n: u32,
    /// Source of x.
    pub input: Input,
    /// Use of the sums.
    pub output: Output,
}

/// Sizes of a model and rows of a pass, from which the shapes of the model's launches follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Width of the model.
    pub n_embd: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Values per head.
    pub head_dim: u32,
    /// Width inside the MLP.
    pub hidden: u32,
    /// Tokens in the vocabulary.
    pub vocab: u32,
    /// Products that a pass with this number of rows records, without staging or rounding of x.
    pub products: Vec<Product>,
    /// Positions that attention reads.
    pub positions: u32,
    /// Dtype of the matrices.
    pub dtype: Dtype,
    /// Arithmetic mode of products with the matrices.
    pub arithmetic: Arithmetic,
    /// Rows of the pass.
    pub rows: u32,
    /// Most rows of a weight matrix that a case holds. Columns are never cut, so each row is computed as in the model.
    pub most_weight_rows: u32,
    /// The device.
    pub caps: Caps,
}

/// Reproducible test data from the counter-based generator that the kernels also use.
#[derive(Clone, Debug)]
pub struct Noise {
    generator: Threefry,
    count: u32,
}

impl Noise {
    /// Starts the stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { generator: Threefry::new(seed), count: 0 }
    }

    /// The next 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.count += 1;
        self.generator.block([self.count, 0])[0]
    }

    /// A whole number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.bits() % end.max(1)
    }

    /// A number in [-1, 1).
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32")]
    pub fn signed(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / 8_388_608.0 - 1.0
    }

    /// A matrix `[rows, n]` of numbers in [-1, 1), with rows `stride` apart and zeros as padding, as words.
    pub fn matrix(&mut self, rows: u32, n: u32, stride: u32) -> Vec<u32> {
        (0..rows)
            .flat_map(|_| (0..stride).collect::<Vec<_>>())
            .map(|column| if column < n { self.signed().to_bits() } else { 0 })
            .collect()
    }
}
