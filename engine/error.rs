//! What can go wrong, as data: every variant names the thing concerned and what it needs.

use crate::limits::LowLimit;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No adapter fits what was asked for.
    #[error("no adapter for {asked}; found: {}", if found.is_empty() { "none".to_owned() } else { found.join("; ") })]
    NoAdapter {
        /// The selection, in words: an interface, a name, an index, a PCI address or a UUID.
        asked: String,
        /// The adapters of this machine, whatever their interface, as [`AdapterSummary`](crate::AdapterSummary) is displayed.
        found: Vec<String>,
    },
    /// Several adapters fit what was asked for.
    #[error("{asked} fits several devices: {}; choose one by its index, PCI address or UUID", found.join("; "))]
    Ambiguous {
        /// The selection, in words.
        asked: String,
        /// The adapters that fit, as [`AdapterSummary`](crate::AdapterSummary) is displayed.
        found: Vec<String>,
    },
    /// The adapter is there but gives no device.
    #[error("adapter {adapter} gives no device: {message}")]
    Open {
        /// Name of the adapter.
        adapter: String,
        /// The driver's words.
        message: String,
    },
    /// Limits of an app's own device are below [`REQUIRED_LIMITS`](crate::REQUIRED_LIMITS).
    #[error(
        "limits of the app's device on {adapter} are too low: {}; request it with Device::required_limits(&adapter)",
        low.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Limits {
        /// Name of the adapter.
        adapter: String,
        /// Limits that are too low; all of them are listed.
        low: Vec<LowLimit>,
    },
    /// The device was lost: the driver reset it, it was unplugged, or it was destroyed. Open another.
    #[error("the device was lost ({0}): the driver reset it or it was taken away; start again")]
    Lost(String),
    /// The device has no memory left for something.
    #[error("out of device memory for {what}")]
    OutOfMemory {
        /// What was to be created.
        what: String,
    },
    /// wgpu or the driver refused something: a bug in a kernel, in this crate or in the driver.
    #[error("{what} was refused: {message}")]
    Validation {
        /// What was to be created or submitted.
        what: String,
        /// wgpu's words.
        message: String,
    },
    /// A file of choices among kernels cannot be used.
    #[error("tuning {file}: {problem}")]
    Tuning {
        /// The file.
        file: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The file of compiled pipelines cannot be written.
    #[error("cannot write the pipeline cache {file}: {problem}")]
    PipelineCache {
        /// The file.
        file: String,
        /// The system's words.
        problem: String,
    },
    /// A tensor is smaller than a launch needs.
    #[error("{launch}: binding `{binding}` needs {need} bytes, the tensor has {have}")]
    Shape {
        /// Label of the kernel variant.
        launch: String,
        /// Name of the binding in the WGSL text.
        binding: &'static str,
        /// Bytes needed.
        need: u64,
        /// Bytes of the tensor.
        have: u64,
    },
    /// A launch was given another number of tensors than it has bindings.
    #[error("{launch}: {need} bindings, {have} tensors given")]
    Bindings {
        /// Label of the kernel variant.
        launch: String,
        /// Bindings of the variant.
        need: usize,
        /// Tensors given.
        have: usize,
    },
    /// One tensor is bound twice in a launch that writes it.
    #[error("{launch}: `{first}` and `{second}` are the same tensor, and one of them is written")]
    Aliased {
        /// Label of the kernel variant.
        launch: String,
        /// Name of the first binding.
        first: &'static str,
        /// Name of the second binding.
        second: &'static str,
    },
    /// A launch that does not fit its own kernel or the device.
    #[error("{launch}: {problem}")]
    Launch {
        /// Label of the kernel variant.
        launch: String,
        /// What does not fit.
        problem: String,
    },
    /// A buffer or a binding exceeds what the device takes; split it.
    #[error("{buffer} has {bytes} bytes, the device takes {limit}")]
    TooLarge {
        /// Label of the buffer.
        buffer: String,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes that the device takes.
        limit: u64,
    },
    /// A range that is not inside its buffer, or does not start at a multiple of four.
    #[error("{buffer} has {size} bytes, bytes {start} to {end} were asked for (the start must be a multiple of 4)")]
    Range {
        /// Label of the buffer.
        buffer: String,
        /// First byte.
        start: u64,
        /// The byte behind the last one.
        end: u64,
        /// Size of the buffer.
        size: u64,
    },
    /// A plan was executed with too few or too many counts.
    #[error("plan {plan} has {need} counts, {have} given")]
    Counts {
        /// Label of the plan.
        plan: String,
        /// Counts of its graph.
        need: usize,
        /// Counts given.
        have: usize,
    },
    /// A plan was to be executed while another execution of it is under way in pieces.
    #[error("plan {plan} is being executed in pieces: finish or drop that execution first")]
    Busy {
        /// Label of the plan.
        plan: String,
    },
    /// A tensor of another graph, or a buffer or plan of another device.
    #[error("{what} belongs to another {owner}")]
    Foreign {
        /// The thing.
        what: String,
        /// `graph` or `device`.
        owner: &'static str,
    },
    /// A submission did not end within its limit, so the driver must hang. The device is not used any more: open another, or start again.
    #[error(
        "the device did not answer for {limit:?}: its driver hangs, or the work takes longer than the timeout allows; start again, update the driver, or allow \
         more time"
    )]
    Timeout {
        /// Time without a sign of progress. See [`Device::set_timeout`](crate::Device::set_timeout).
        limit: std::time::Duration,
    },
    /// Results could not be read back.
    #[error("reading back failed: {0}")]
    ReadBack(String),
}
