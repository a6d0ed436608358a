//! Errors as data: every variant names the object concerned and what it needs.

use crate::limits::LowLimit;

/// Result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No adapter matches the selection.
    #[error("no adapter for {asked}; found: {}", if found.is_empty() { "none".to_owned() } else { found.join("; ") })]
    NoAdapter {
        /// The selection, in words: an interface, a name, an index, a PCI address or a UUID.
        asked: String,
        /// The adapters of this machine on all interfaces, as [`AdapterSummary`](crate::AdapterSummary) is displayed.
        found: Vec<String>,
    },
    /// Several devices match the selection.
    #[error("{asked} fits several devices: {}; choose one by its index, PCI address or UUID", found.join("; "))]
    Ambiguous {
        /// The selection, in words.
        asked: String,
        /// The adapters that match, as [`AdapterSummary`](crate::AdapterSummary) is displayed.
        found: Vec<String>,
    },
    /// The driver cannot open the adapter.
    #[error("cannot open the device {adapter}: {message}")]
    Open {
        /// Name of the adapter.
        adapter: String,
        /// The driver's message.
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
        /// All limits that are too low.
        low: Vec<LowLimit>,
    },
    /// The device was lost: the driver reset it, it was unplugged, or it was destroyed. Open another device.
    #[error("the device was lost ({0}): the driver reset it, or it was unplugged; start again")]
    Lost(String),
    /// The device has too little free memory to create an object.
    #[error("out of device memory for {what}")]
    OutOfMemory {
        /// The object to be created.
        what: String,
    },
    /// wgpu or the driver rejected an object or a submission: a bug in a kernel, in this crate or in the driver.
    #[error("wgpu rejected {what}: {message}")]
    Validation {
        /// The object to be created or submitted.
        what: String,
        /// wgpu's message.
        message: String,
    },
    /// A file of tuned kernel choices cannot be used.
    #[error("tuning {file}: {problem}")]
    Tuning {
        /// The file.
        file: String,
        /// The problem, and what to do.
        problem: String,
    },
    /// The file of compiled pipelines cannot be written.
    #[error("cannot write the pipeline cache {file}: {problem}")]
    PipelineCache {
        /// The file.
        file: String,
        /// The system's message.
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
    /// The number of tensors given to a launch differs from its number of bindings.
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
    /// A launch does not match its kernel, or exceeds the device's limits.
    #[error("{launch}: {problem}")]
    Launch {
        /// Label of the kernel variant.
        launch: String,
        /// The mismatch.
        problem: String,
    },
    /// A buffer or a binding is larger than the device allows; split it.
    #[error("{buffer} has {bytes} bytes, but the device allows at most {limit}")]
    TooLarge {
        /// Label of the buffer.
        buffer: String,
        /// Bytes asked for.
        bytes: u64,
        /// Maximum bytes on the device.
        limit: u64,
    },
    /// A range is not inside its buffer, or does not start at a multiple of four (in textures: start and end at multiples of 16).
    #[error("{buffer} has {size} bytes, bytes {start} to {end} were asked for (the start must be a multiple of 4)")]
    Range {
        /// Label of the buffer.
        buffer: String,
        /// First byte.
        start: u64,
        /// End of the range, exclusive.
        end: u64,
        /// Size of the buffer.
        size: u64,
    },
    /// A plan was given too few or too many counts.
    #[error("plan {plan} has {need} counts, {have} given")]
    Counts {
        /// Label of the plan.
        plan: String,
        /// Counts of its graph.
        need: usize,
        /// Counts given.
        have: usize,
    },
    /// A plan cannot be executed because an earlier execution of it in pieces has not ended.
    #[error("plan {plan} is being executed in pieces: finish or drop that execution first")]
    Busy {
        /// Label of the plan.
        plan: String,
    },
    /// A tensor belongs to another graph, or a buffer or plan to another device.
    #[error("{what} belongs to another {owner}")]
    Foreign {
        /// The tensor, buffer or plan.
        what: String,
        /// `graph` or `device`.
        owner: &'static str,
    },
    /// A submission did not end within its time limit, so the driver is assumed to hang. The device is not used any more: open another, or start again.
    #[error(
        "the device did not answer for {limit:?}: its driver hangs, or the work takes longer than the timeout allows; start again, update the driver, or allow \
         more time"
    )]
    Timeout {
        /// The limit that was exceeded. See [`Device::set_timeout`](crate::Device::set_timeout).
        limit: std::time::Duration,
    },
    /// Results cannot be read back.
    #[error("cannot read results back: {0}")]
    ReadBack(String),
}
