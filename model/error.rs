//! Errors of the library, as data. Every message names the file, field or tensor, and what is allowed or what to do.

use std::fmt;

use crate::checkpoint::SafetensorsProblem;
use crate::constraint::ConstraintKind;
use crate::memory_budget::Shortage;
use crate::precision::Dtypes;
use crate::snapshot::SnapshotProblem;

/// Result of fallible functions of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the checkpoint is missing or cannot be read.
    #[error("cannot read {file}: {source}")]
    File {
        /// Path of the file.
        file: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The path is not a model folder.
    #[error("{path} is not a model folder: {problem}; give the folder that holds config.json and *.safetensors")]
    NoModel {
        /// The path.
        path: String,
        /// Problem: what is missing, and what was found instead.
        problem: String,
    },
    /// Keys and values of one sequence need more memory than the batch may use.
    #[error(
        "the keys and values of {positions} positions at {steps} steps take {needed} bytes, but the batch may use at most {most}: take fewer steps or tokens, or raise the batch's memory limit"
    )]
    KvMemory {
        /// Maximum positions of the sequence.
        positions: u32,
        /// Steps per position.
        steps: u32,
        /// Bytes that they need.
        needed: u64,
        /// Bytes available for all sequences.
        most: u64,
    },
    /// Content of a checkpoint file does not match its name; it is not parsed.
    #[error("{file} {problem}")]
    Content {
        /// Path of the file.
        file: String,
        /// Problem, and what to do.
        problem: ContentProblem,
    },
    /// The file is not one that a model is loaded from.
    #[error(
        "{file} is {}: give the folder that holds config.json and *.safetensors, or one of these files",
        format.map_or("not a file that a model is loaded from".to_owned(), |it| format!("{it}, and only safetensors are read"))
    )]
    NotOfModel {
        /// Path of the file.
        file: String,
        /// Weight format of the file, if it is a known one that is not supported.
        format: Option<&'static str>,
    },
    /// A JSON file does not parse, or does not have the expected structure.
    #[error("{file} does not parse: {source}")]
    Json {
        /// Path of the file.
        file: String,
        /// Parse error, with line and column.
        source: serde_json::Error,
    },
    /// A field is missing.
    #[error("{file}: `{field}` is missing; expected {expected}")]
    Missing {
        /// Path of the file.
        file: String,
        /// Name of the field.
        field: &'static str,
        /// Expected value.
        expected: &'static str,
    },
    /// A field has an invalid or unsupported value.
    #[error("{file}: `{field}` is {value}; supported: {supported}")]
    Unsupported {
        /// Path of the file.
        file: String,
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: String,
        /// Supported values.
        supported: String,
    },
    /// A safetensors file is damaged or inconsistent.
    #[error("{file} {problem}")]
    Safetensors {
        /// Path of the file.
        file: String,
        /// Problem, and what to do.
        problem: SafetensorsProblem,
    },
    /// A quantized file cannot be loaded in another dtype.
    #[error(
        "the files hold the weights in {stored}, not in {asked}: load them without a dtype (the arithmetic mode may be chosen), or load the original in {asked}, or quantize it again"
    )]
    Requantize {
        /// Requested dtypes.
        asked: Dtypes,
        /// Dtypes of the files.
        stored: Dtypes,
    },
    /// Matrices of one group are stored in different dtypes in a quantized file.
    #[error("{file} holds {first}, but {second}; quantize the original again")]
    Unlike {
        /// File that holds the second matrix.
        file: String,
        /// A matrix and its dtype.
        first: String,
        /// Another matrix of the same group and its dtype.
        second: String,
    },
    /// The model to quantize is already quantized.
    #[error("the weights are already quantized, in {stored}; quantize the original model instead")]
    Quantized {
        /// Dtypes of the files.
        stored: Dtypes,
    },
    /// A [`CancelToken`](crate::CancelToken) or a progress callback cancelled the call. Its device memory is freed.
    #[error("cancelled before it was done")]
    Cancelled,
    /// A file cannot be written.
    #[error("cannot write {file}: {source}")]
    Write {
        /// Path of the file.
        file: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The output path must not be written to.
    #[error("cannot write {file}: it {problem}")]
    Output {
        /// Path of the file.
        file: String,
        /// Problem, and what to do.
        problem: &'static str,
    },
    /// The output folder holds something else.
    #[error("{folder} {problem}")]
    Folder {
        /// Path of the folder.
        folder: String,
        /// Problem, and what to do.
        problem: &'static str,
    },
    /// Tensors are missing, surplus or of the wrong shape; all of them are listed.
    #[error("the checkpoint does not fit its config.json:\n{}", lines(.0))]
    Tensors(Vec<TensorProblem>),
    /// A weight is not a number, is infinite, or becomes infinite in the dtype of the device.
    #[error("{tensor} is {value} at [{row}, {column}]: {problem}")]
    Weight {
        /// Name of the tensor.
        tensor: String,
        /// Row of the value.
        row: u32,
        /// Column of the value.
        column: u32,
        /// The value in the file.
        value: f32,
        /// Problem, and what to do.
        problem: &'static str,
    },
    /// The tokenizer does not load or does not encode.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// Path of the file.
        file: String,
        /// Problem.
        problem: String,
    },
    /// The tokenizer belongs to another model.
    #[error(
        "tokenizer.json has token id {largest}, but the model has only {vocab} tokens: they belong to different models"
    )]
    Vocabulary {
        /// Largest token id of the tokenizer.
        largest: u32,
        /// Tokens of the model.
        vocab: u32,
    },
    /// The chat template does not compile or does not render.
    #[error("chat template in {file}: {problem}")]
    Chat {
        /// Path of the file.
        file: String,
        /// Error of the template or of its interpreter.
        problem: String,
    },
    /// None of several chat templates is the default.
    #[error("{file}: `chat_template` names the templates {found:?}; call one of them \"default\"")]
    ChatChoice {
        /// Path of the file.
        file: String,
        /// Names in the list.
        found: Vec<String>,
    },
    /// The checkpoint has no chat template.
    #[error(
        "this model has no chat template (chat_template.jinja, or `chat_template` in tokenizer_config.json); it can only continue a text"
    )]
    NoChat,
    /// An option has an invalid value.
    #[error("{name} is {value}; it must be {allowed}")]
    Option {
        /// Name of the option.
        name: &'static str,
        /// Value.
        value: String,
        /// Allowed values.
        allowed: &'static str,
    },
    /// An option is outside of a range whose upper limit depends on the model or on another option.
    #[error("{name} is {value}; it must be from {least} to {most}, {limit}")]
    Range {
        /// Name of the option.
        name: &'static str,
        /// Value.
        value: u32,
        /// Smallest allowed value.
        least: u32,
        /// Largest allowed value.
        most: u32,
        /// Origin of the largest value, such as the context of the model.
        limit: &'static str,
    },
    /// Two options cannot be combined.
    #[error("{one} and {other} cannot be combined: {why}")]
    Together {
        /// Name of one option.
        one: &'static str,
        /// Name of the other option.
        other: &'static str,
        /// Reason.
        why: &'static str,
    },
    /// A constraint is invalid.
    #[error("{kind}: {problem}")]
    Constraint {
        /// Kind of constraint.
        kind: ConstraintKind,
        /// Problem.
        problem: String,
    },
    /// A text cannot continue as its constraint requires.
    #[error("the {kind} cannot be followed {}: {problem}", after(*tokens))]
    Unconstrainable {
        /// Kind of constraint.
        kind: ConstraintKind,
        /// Number of tokens generated before.
        tokens: u32,
        /// Reason why no token may come next.
        problem: String,
    },
    /// The prompt is empty.
    #[error("the prompt is empty: give at least one token")]
    EmptyPrompt,
    /// The tokens do not fit the context.
    #[error("{tokens} tokens do not fit the context of {context}; shorten the prompt{}", room(*context, *most))]
    PromptTooLong {
        /// Tokens in the session after the prompt.
        tokens: usize,
        /// Positions of the session.
        context: u32,
        /// Positions of the model.
        most: u32,
    },
    /// The text cannot fit the context however it is encoded, so it was not encoded.
    #[error(
        "the text has at least {least} tokens, which do not fit the context of {context}; shorten the prompt{}",
        room(*context, *most)
    )]
    TextTooLong {
        /// Minimum number of tokens of the text.
        least: usize,
        /// Positions of the session.
        context: u32,
        /// Positions of the model.
        most: u32,
    },
    /// A diffusion prompt fills the context and leaves no position to generate at.
    #[error(
        "{} the context of {context}, but with diffusion the next token needs a position of its own; shorten the prompt{}",
        if *tokens == 1 { "1 token fills".to_owned() } else { format!("{tokens} tokens fill") },
        room(*context, *most)
    )]
    NoRoom {
        /// Tokens in the session after the prompt.
        tokens: usize,
        /// Positions of the session.
        context: u32,
        /// Positions of the model.
        most: u32,
    },
    /// The states of a trace would take too much memory.
    #[error(
        "the states of {} at {} take {:.1} GB, more than a trace may hold: at most {} at this depth; ask for fewer tokens or steps",
        counted(*tokens, "token"),
        counted(*steps as usize, "step"),
        *bytes as f64 / 1e9,
        counted(*most as usize, "token")
    )]
    TraceTooLarge {
        /// Tokens to trace.
        tokens: usize,
        /// Steps to trace.
        steps: u32,
        /// Bytes of their states.
        bytes: u64,
        /// Tokens that may be traced at this depth.
        most: u32,
    },
    /// A session cannot be resumed from the file.
    #[error("{file} {problem}")]
    Snapshot {
        /// Path of the file.
        file: String,
        /// Problem, and what to do.
        problem: SnapshotProblem,
    },
    /// The device does not have enough free memory.
    #[error("{0}")]
    Memory(Box<Shortage>),
    /// The model does not have this token id.
    #[error("token id {token} does not exist: the model has {vocab} tokens")]
    Token {
        /// The id.
        token: u32,
        /// Tokens of the model.
        vocab: u32,
    },
    /// A given state has the wrong size.
    #[error("the given states hold {found} values, expected {expected}: one row of n_embd per token")]
    State {
        /// Number of given values.
        found: usize,
        /// Expected number of values.
        expected: usize,
    },
    /// A stepwise call was made before rows were begun.
    #[error("no rows were begun: call begin() first, and read results before anything else is computed")]
    NotBegun,
    /// An intermediate does not exist or has not been computed yet.
    #[error(
        "unknown intermediate `{name}`, or not computed yet (expected one of {}); iterate() computes those in the loop, read_out() those after it",
        known.join(", ")
    )]
    Intermediate {
        /// Requested name.
        name: String,
        /// Names of the computed intermediates.
        known: Vec<String>,
    },
    /// This build of the library lacks a feature.
    #[error("{what} is not supported by this build: it needs the feature `{feature}` of the crate")]
    Feature {
        /// Requested feature.
        what: &'static str,
        /// Feature of the crate that provides it.
        feature: &'static str,
    },
    /// A step was requested before a generation was started.
    #[error("no generation was started: call start() first")]
    NotStarted,
    /// An invariant of the library does not hold, which is a bug.
    #[error(
        "this is a bug in ruminate: an invariant does not hold ({violated}); please report it with the call that led to it"
    )]
    Bug {
        /// The invariant.
        violated: &'static str,
    },
    /// The device failed.
    #[error(transparent)]
    Engine(#[from] ruminate_engine::Error),
}

impl Error {
    /// Error for an invariant that does not hold.
    pub(crate) const fn bug(violated: &'static str) -> Self {
        Self::Bug { violated }
    }

    /// Error for an option that names a token which the model does not have.
    pub(crate) fn option_of_token(name: &'static str, token: u32, vocab: u32) -> Self {
        let value = format!("set for token id {token}, but the model has {vocab} tokens, counted from 0");
        Self::Option { name, value, allowed: "set for ids of the model's tokens" }
    }
}

/// Unexpected content of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentProblem {
    /// A Git LFS pointer: `git clone` without git-lfs writes a few lines of text in place of every large file.
    #[error("is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder, or download the model again")]
    LfsPointer,
    /// A folder, pipe, socket or device.
    #[error("is not a regular file; put the file itself there")]
    NotAFile,
    /// A symbolic link whose target does not exist.
    #[error("is a link to {target}, which does not exist; restore that file, or download the model again")]
    BrokenLink {
        /// Target of the link.
        target: String,
    },
    /// The file is larger than any of its kind.
    #[error("has {bytes} bytes; files of this kind may have at most {most}: it is damaged, fetch it again")]
    TooLarge {
        /// Bytes of the file.
        bytes: u64,
        /// Maximum bytes of such a file.
        most: u64,
    },
    /// The content does not fit into memory.
    #[error("has {bytes} bytes, but not enough memory is available")]
    Memory {
        /// Bytes of the file.
        bytes: u64,
    },
    /// The text has an unsupported encoding.
    #[error("is UTF-16 text; save it as UTF-8")]
    Utf16,
}

/// Problem of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorProblem {
    /// A tensor of the architecture is missing in the files.
    Missing {
        /// Name of the tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor of the files is not part of the architecture.
    Surplus {
        /// Name of the tensor.
        name: String,
        /// File that holds it.
        file: String,
    },
    /// Two files hold the tensor, and the index does not say which one to use.
    InTwoFiles {
        /// Name of the tensor.
        name: String,
        /// First file that holds it.
        first: String,
        /// Second file that holds it.
        second: String,
    },
    /// The tensor has an unsupported dtype.
    Dtype {
        /// Name of the tensor.
        name: String,
        /// File that holds it.
        file: String,
        /// Its dtype.
        dtype: String,
    },
    /// The tensor has the wrong shape.
    Shape {
        /// Name of the tensor.
        name: String,
        /// File that holds it.
        file: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape according to config.json.
        expected: Vec<usize>,
    },
}

impl fmt::Display for TensorProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, shape } => write!(f, "  {name} is missing; expected shape {shape:?}"),
            Self::Surplus { name, file } => write!(f, "  {name} in {file} is not part of this architecture"),
            Self::InTwoFiles { name, first, second } => {
                write!(f, "  {name} is in {first} and in {second}; the files do not belong together")
            }
            Self::Dtype { name, file, dtype } => write!(
                f,
                "  {name} in {file} is stored as {dtype}; supported: F32, F16, BF16, and matrices that Ruminate has quantized"
            ),
            Self::Shape { name, file, found, expected } => {
                write!(f, "  {name} in {file} has shape {found:?}; config.json requires {expected:?}")
            }
        }
    }
}

fn lines(problems: &[TensorProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A number with its noun.
fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn after(tokens: u32) -> String {
    if tokens == 0 { "at all".to_owned() } else { format!("after {}", counted(tokens as usize, "token")) }
}

fn room(context: u32, most: u32) -> String {
    if context < most { format!(" or ask for a larger context (this model holds up to {most})") } else { String::new() }
}
