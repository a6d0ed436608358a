//! Content of a report. Field names contain the units: `_s` seconds, `_us` microseconds, `_bytes`, `_gb_per_s` billions of bytes per second, `_gflop_per_s`
//! billions of operations per second.

use ruminate_engine::{AdapterSummary, Device};
use ruminate_shaders::Cooperative;
use ruminate_shaders::matmul::ManyRows;
use serde::Serialize;

/// Version of the layout of [`Report`]. It grows when a field is removed or changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// Results of an examination of a device. Versions before 1.0 may add fields.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Version of the engine.
    pub version: &'static str,
    /// Whether every stage has ended. If false, the report was written while [`Self::running`] was under way.
    pub complete: bool,
    /// Whether the report is complete and nothing is wrong.
    pub passed: bool,
    /// All problems, in words.
    pub problems: Vec<String>,
    /// Work under way when the report was written.
    pub running: Option<Running>,
    /// Whether this is the short form.
    pub quick: bool,
    /// Time limit of the examination.
    pub limit_s: f64,
    /// Time that it has taken.
    pub elapsed_s: f64,
    /// Unix time of its start.
    pub started_unix_s: u64,
    /// The machine.
    pub system: System,
    /// The device; `None` before it is open.
    pub device: Option<DeviceFacts>,
    /// The stages so far, in order.
    pub stages: Vec<Stage>,
    /// Skipped work, with the reasons.
    pub skipped: Vec<Skipped>,
    /// Best rates of the device.
    pub ceilings: Vec<Rate>,
    /// Overheads of using the device.
    pub costs: Vec<Cost>,
    /// Kernels against the CPU reference.
    pub kernels: Kernels,
    /// Generated tokens against the CPU reference.
    pub tokens: Vec<TokenCheck>,
    /// Speed of whole models.
    pub speed: Vec<Speed>,
    /// Effect of tuning.
    pub tuning: Tuned,
}

/// Work under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Name of the stage.
    pub stage: &'static str,
    /// The kernel, model or measurement.
    pub what: String,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// Operating system.
    pub os: &'static str,
    /// Architecture of the processor.
    pub arch: &'static str,
    /// Processors that this program may use.
    pub processors: usize,
}

/// Properties of the opened device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeviceFacts {
    /// Name.
    pub name: String,
    /// Name and version of the driver.
    pub driver: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` (a software driver) or `other`.
    pub kind: String,
    /// Total memory, if known.
    pub memory_total_bytes: Option<u64>,
    /// Memory that was free at the start, if known.
    pub memory_free_bytes: Option<u64>,
    /// Whether the device uses the host's memory.
    pub memory_shared: bool,
    /// Maximum bytes of one binding.
    pub max_binding_bytes: u64,
    /// Maximum bytes of one buffer.
    pub max_buffer_bytes: u64,
    /// Maximum bytes of one texture with weights; 0 if weights are not read from textures.
    pub max_texture_bytes: u64,
    /// Maximum invocations per workgroup.
    pub max_invocations: u32,
    /// Maximum bytes of workgroup memory.
    pub max_workgroup_memory_bytes: u32,
    /// Smallest and largest subgroup size; `None` without subgroup operations.
    pub subgroup_sizes: Option<[u32; 2]>,
    /// Whether shaders compute in f16.
    pub f16: bool,
    /// Whether kernels can multiply four bytes at once.
    pub int8: bool,
    /// Kinds of cooperative matrices that the device offers and kernels use.
    pub cooperative: Vec<String>,
    /// Whether the device can time passes.
    pub timestamps: bool,
    /// Kernels for prompts, by arithmetic mode.
    pub prompts: String,
    /// Number of classes of work for which tuning has chosen a kernel.
    pub tuned_classes: usize,
}

impl DeviceFacts {
    pub(super) fn of(device: &Device, summary: &AdapterSummary) -> Self {
        let (caps, memory) = (summary.caps, device.memory());
        let offered = Cooperative::ALL.into_iter().filter(|&kind| caps.cooperative[kind as usize]);
        let matrices =
            |kind: Cooperative| format!("{0} x {0} in {1}", kind.side(), if kind.rounds() { "f16" } else { "f32" });
        Self {
            name: summary.name.clone(),
            driver: summary.driver.clone(),
            backend: summary.backend.clone(),
            kind: format!("{:?}", summary.kind).to_lowercase(),
            memory_total_bytes: memory.total,
            memory_free_bytes: memory.available,
            memory_shared: memory.shared,
            max_binding_bytes: caps.max_binding,
            max_buffer_bytes: summary.max_buffer,
            max_texture_bytes: caps.max_texture,
            max_invocations: caps.max_invocations,
            max_workgroup_memory_bytes: caps.max_workgroup_memory,
            subgroup_sizes: caps.subgroups.map(|(least, most)| [least, most]),
            f16: caps.f16,
            int8: caps.bytes,
            cooperative: offered.map(matrices).collect(),
            timestamps: summary.timestamps,
            prompts: ManyRows::report(&caps),
            tuned_classes: device.tuning().choices().count(),
        }
    }
}

/// A stage that has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// Name.
    pub name: &'static str,
    /// Time that it took.
    pub elapsed_s: f64,
    /// The error that ended it early, if one did.
    pub failure: Option<String>,
}

/// Skipped work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Name of the stage.
    pub stage: &'static str,
    /// The kernel, model or measurement.
    pub what: String,
    /// `no time left`, `needs 14.0 GB, the device has 8.0 GB to give`, or a feature that the device lacks.
    pub reason: String,
}

/// A ceiling: a best rate of the device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Name of the ceiling.
    pub name: &'static str,
    /// Best rate of bytes.
    pub gb_per_s: Option<f64>,
    /// Best rate of operations, a multiply-add counted as two.
    pub gflop_per_s: Option<f64>,
    /// Longest measured time as a multiple of the shortest. It is 1 on a steady device.
    pub longest_over_shortest: f64,
}

/// An overhead, independent of the work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Name of the overhead.
    pub name: &'static str,
    /// Median time.
    pub median_us: f64,
}

/// Kernels against the CPU reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Kernels {
    /// Number of cases that ran.
    pub cases: usize,
    /// Number of cases that were right.
    pub passed: usize,
    /// Number of cases skipped for lack of time.
    pub skipped: usize,
    /// The variants that ran.
    pub variants: Vec<Variant>,
    /// The first cases that were wrong.
    pub wrong: Vec<Wrong>,
}

/// A variant of a kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variant {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Label of the variant.
    pub variant: String,
    /// Number of cases that ran.
    pub cases: usize,
    /// Number of cases that were right.
    pub passed: usize,
    /// Largest error, as a multiple of its bound; null in JSON if a value was not finite or an exact one differed.
    pub error_over_bound: f64,
}

/// A case that was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// Identity of the case.
    pub case: String,
    /// Shapes in which it occurs.
    pub shapes: String,
    /// The wrong result, or the error.
    pub problem: String,
}

/// Comparison of a model's greedy tokens on the device and on the CPU reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenCheck {
    /// The model.
    pub model: String,
    /// Dtype of its weights.
    pub dtype: String,
    /// Recurrence steps.
    pub steps: u32,
    /// Number of tokens compared.
    pub tokens: usize,
    /// Number of equal tokens before the first difference.
    pub equal: usize,
    /// Normalized mean square error of the prompt's logits; null in JSON if a logit was not finite.
    pub logits_error: f64,
    /// Largest error that passes.
    pub logits_error_bound: f64,
    /// Difference between the reference's logits for the first two tokens that differ. If it is small, rounding may decide between them.
    pub margin: Option<f64>,
    /// Whether the tokens are equal or nearly tied, and the error is within its bound.
    pub passed: bool,
}

/// Speed of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// The model.
    pub model: String,
    /// Dtype of its weights.
    pub dtype: String,
    /// Bytes of the weights on the device.
    pub weight_bytes: u64,
    /// `decode` or `prefill`.
    pub phase: &'static str,
    /// Recurrence steps.
    pub steps: u32,
    /// Number of tokens per measurement.
    pub tokens: u32,
    /// Number of measurements.
    pub repetitions: usize,
    /// Median time per token.
    pub ms_per_token: f64,
    /// Tokens per second, from the median.
    pub tokens_per_s: f64,
    /// Bytes of weights read per second.
    pub gb_per_s: f64,
    /// Operations on weights per second.
    pub gflop_per_s: f64,
    /// Minimum time of reading the weights or of computing in f32, whichever is longer, in percent of the measured time. It can exceed 100 if products are not
    /// in f32.
    pub percent_of_ceiling: Option<f64>,
    /// The ceiling that limits the speed: `read` or `f32`.
    pub bound_by: Option<&'static str>,
}

/// Effect of tuning.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tuned {
    /// Shapes used in the measurements.
    pub shapes: String,
    /// Number of classes of work with several kernels to choose from.
    pub classes: usize,
    /// Classes for which a kernel other than the default is faster.
    pub changes: Vec<Change>,
}

/// A class of work for which a kernel other than the default is faster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The class.
    pub class: String,
    /// Whether weights were read from textures.
    pub textures: bool,
    /// The faster kernel.
    pub choice: String,
    /// Median time of the default.
    pub default_us: f64,
    /// Median time of the faster kernel.
    pub best_us: f64,
}
