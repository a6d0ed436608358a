//! What can go wrong, as data: every message names the file, the field or the tensor, and what would be right.

use std::fmt;

use crate::checkpoint::SafetensorsProblem;
use crate::constraint::ConstraintKind;
use crate::memory_budget::Shortage;
use crate::precision::Dtypes;
use crate::snapshot::SnapshotProblem;

/// The result of everything here that can fail.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the checkpoint is not there or cannot be read.
    #[error("cannot read {file}: {source}")]
    File {
        /// Path of the file.
        file: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The path is no checkpoint.
    #[error("{path} is no model folder: {problem}; give the folder that holds config.json and *.safetensors")]
    NoModel {
        /// The path.
        path: String,
        /// What is missing, and what there is instead.
        problem: String,
    },
    /// Keys and values of one sequence take more memory than a batch may.
    #[error(
        "the keys and values of {positions} positions at {steps} steps take {needed} bytes, and the batch may take {most}: ask for fewer tokens, or give the batch more memory"
    )]
    KvMemory {
        /// Positions that the sequence takes at most.
        positions: u32,
        /// Steps of each.
        steps: u32,
        /// Bytes that they take.
        needed: u64,
        /// Bytes that there are for all sequences.
        most: u64,
    },
    /// A file of the checkpoint is not what its name says: refused before it is parsed.
    #[error("{file} {problem}")]
    Content {
        /// Path of the file.
        file: String,
        /// What is there and what to do.
        problem: ContentProblem,
    },
    /// A file that no model is loaded from.
    #[error(
        "{file} is {}: give the folder that holds config.json and *.safetensors, or one of these files",
        format.map_or("not a file that a model is loaded from".to_owned(), |it| format!("{it}, and only safetensors are read"))
    )]
    NotOfModel {
        /// Path of the file.
        file: String,
        /// The format that it has, if it is another one for weights.
        format: Option<&'static str>,
    },
    /// A JSON file does not parse, or is not laid out as expected.
    #[error("{file} does not parse: {source}")]
    Json {
        /// Path of the file.
        file: String,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// A field is missing.
    #[error("{file}: `{field}` is missing; expected {expected}")]
    Missing {
        /// Path of the file.
        file: String,
        /// Name of the field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A field holds a value that is wrong, or that this engine does not implement.
    #[error("{file}: `{field}` is {value}; supported: {supported}")]
    Unsupported {
        /// Path of the file.
        file: String,
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        supported: String,
    },
    /// A safetensors file is damaged or names something that is not there.
    #[error("{file} {problem}")]
    Safetensors {
        /// Path of the file.
        file: String,
        /// What is wrong and what to do.
        problem: SafetensorsProblem,
    },
    /// A quantised file cannot be held in other numbers.
    #[error(
        "the files hold the weights in {stored}, not in {asked}: load them without a dtype (products may be chosen), or load the original in {asked}, or quantize it again"
    )]
    Requantise {
        /// What was asked for.
        asked: Dtypes,
        /// What is in the files.
        stored: Dtypes,
    },
    /// Matrices of a quantised file that belong together are stored in different numbers.
    #[error("{file} holds {first}, but {second}; quantise the original again")]
    Unlike {
        /// File that holds the second of them.
        file: String,
        /// A matrix and its dtype.
        first: String,
        /// Another one of the same group.
        second: String,
    },
    /// A model that is quantised already.
    #[error(
        "the weights are quantised already, in {stored}; quantise the original, from which nothing was rounded away"
    )]
    Quantised {
        /// What is in the files.
        stored: Dtypes,
    },
    /// A [`CancelToken`](crate::CancelToken) or a progress callback ended the call. What the call had on the device is freed.
    #[error("cancelled before it was done")]
    Cancelled,
    /// A file cannot be written.
    #[error("cannot write {file}: {source}")]
    Write {
        /// Path of the file.
        file: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// A place where no file must be written.
    #[error("cannot write {file}: it {problem}")]
    Output {
        /// Path of the file.
        file: String,
        /// What is there and what to do.
        problem: &'static str,
    },
    /// A folder that holds something else.
    #[error("{folder} {problem}")]
    Folder {
        /// Path of the folder.
        folder: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// Tensors are missing, surplus or of another shape; all of them are listed.
    #[error("the checkpoint does not fit its config.json:\n{}", lines(.0))]
    Tensors(Vec<TensorProblem>),
    /// A weight is not a number, is infinite, or becomes infinite in the dtype that the device is to hold.
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
        /// What is wrong with it and what to do.
        problem: &'static str,
    },
    /// The tokenizer does not load or does not encode.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// Path of the file.
        file: String,
        /// What is wrong.
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
        /// What the template or its interpreter says.
        problem: String,
    },
    /// A list of chat templates has none to choose.
    #[error("{file}: `chat_template` names the templates {found:?}; call one of them \"default\"")]
    ChatChoice {
        /// Path of the file.
        file: String,
        /// The names in the list.
        found: Vec<String>,
    },
    /// The checkpoint has no chat template.
    #[error(
        "this model has no chat template (chat_template.jinja, or `chat_template` in tokenizer_config.json); it can only continue a text"
    )]
    NoChat,
    /// An option makes no sense.
    #[error("{name} is {value}; it must be {allowed}")]
    Option {
        /// Name of the option.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        allowed: &'static str,
    },
    /// Two options that do not go together.
    #[error("{one} and {other} do not go together: {why}")]
    Together {
        /// Name of an option.
        one: &'static str,
        /// Name of another.
        other: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// A grammar that generated text cannot follow.
    #[error("{kind}: {problem}")]
    Constraint {
        /// What was given.
        kind: ConstraintKind,
        /// What is wrong with it.
        problem: String,
    },
    /// A text that cannot go on as its constraint asks.
    #[error("the {kind} cannot be followed {}: {problem}", after(*tokens))]
    Unconstrainable {
        /// What the constraint was made from.
        kind: ConstraintKind,
        /// Tokens before this place.
        tokens: u32,
        /// Why there is no next token.
        problem: String,
    },
    /// Nothing to continue.
    #[error("the prompt is empty: give at least one token")]
    EmptyPrompt,
    /// More tokens than the context holds.
    #[error("{tokens} tokens do not fit the context of {context}; shorten the prompt{}", room(*context, *most))]
    PromptTooLong {
        /// Tokens in the session after the prompt.
        tokens: usize,
        /// Positions of the session.
        context: u32,
        /// Positions of the model.
        most: u32,
    },
    /// A text that cannot fit, however it is cut into tokens, so that it was not encoded.
    #[error(
        "the text has at least {least} tokens, which do not fit the context of {context}; shorten the prompt{}",
        room(*context, *most)
    )]
    TextTooLong {
        /// Tokens that the text has at least.
        least: usize,
        /// Positions of the session.
        context: u32,
        /// Positions of the model.
        most: u32,
    },
    /// A wavefront that begins with its prompt, and has no position for a token behind it.
    #[error(
        "{} the context of {context}, and the next one needs a position of its own, in which its state settles; shorten the prompt{}",
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
    /// A file that a session cannot be resumed from.
    #[error("{file} {problem}")]
    Snapshot {
        /// Path of the file.
        file: String,
        /// What is wrong and what to do.
        problem: SnapshotProblem,
    },
    /// The device has too little memory left.
    #[error("{0}")]
    Memory(Box<Shortage>),
    /// A token id that the model does not have.
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
        /// Values given.
        found: usize,
        /// Values needed.
        expected: usize,
    },
    /// A step-wise call without rows to work on.
    #[error("no rows were begun: call begin() first, and read results before anything else is computed")]
    NotBegun,
    /// An intermediate that the model does not have, or that has not been computed yet.
    #[error(
        "no intermediate `{name}` of these rows has been computed; there are: {}. Those in the loop come with iterate(), those after it with read_out()",
        known.join(", ")
    )]
    Intermediate {
        /// The name that was asked for.
        name: String,
        /// Names of those that there are.
        known: Vec<String>,
    },
    /// This build of the library lacks something.
    #[error("{what} is not supported by this build: it needs the feature `{feature}` of the crate")]
    Feature {
        /// What was asked for.
        what: &'static str,
        /// Feature of the crate that has it.
        feature: &'static str,
    },
    /// A bounded step without a generation to go on with.
    #[error("no generation was started: call start() first")]
    NotStarted,
    /// Something that the library rules out has happened: a bug in it.
    #[error(
        "this is a bug in ruminate: it does not hold that {violated}; please report it with the call that led to it"
    )]
    Bug {
        /// The rule that was violated.
        violated: &'static str,
    },
    /// The device failed.
    #[error(transparent)]
    Engine(#[from] ruminate_engine::Error),
}

impl Error {
    /// A bug: a rule of the library that does not hold.
    pub(crate) const fn bug(violated: &'static str) -> Self {
        Self::Bug { violated }
    }
}

/// What is found in place of a file's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentProblem {
    /// `git clone` without git-lfs leaves a few lines of text in place of every large file.
    #[error("is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder, or download the model again")]
    LfsPointer,
    /// A folder, pipe, socket or device.
    #[error("is not a regular file; put the file itself there")]
    NotAFile,
    /// A symbolic link whose target does not exist.
    #[error("is a link to {target}, which does not exist; restore that file, or download the model again")]
    BrokenLink {
        /// Where it leads.
        target: String,
    },
    /// Larger than any file of its kind.
    #[error("has {bytes} bytes; files of this kind may have at most {most}: it is damaged, fetch it again")]
    TooLarge {
        /// Bytes of the file.
        bytes: u64,
        /// Bytes that it may have.
        most: u64,
    },
    /// Not enough memory for its content.
    #[error("has {bytes} bytes, for which there is not enough memory")]
    Memory {
        /// Bytes of the file.
        bytes: u64,
    },
    /// Text in another encoding.
    #[error("is UTF-16 text; save it as UTF-8")]
    Utf16,
}

/// What is wrong with one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorProblem {
    /// The architecture needs it, the files do not have it.
    Missing {
        /// Name of the tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The files have it, the architecture does not know it.
    Surplus {
        /// Name of the tensor.
        name: String,
        /// File that holds it.
        file: String,
    },
    /// Two files hold it, and no index says which of them counts.
    InTwoFiles {
        /// Name of the tensor.
        name: String,
        /// File that holds it.
        first: String,
        /// File that holds it too.
        second: String,
    },
    /// It is stored in a number format that the engine does not read.
    Dtype {
        /// Name of the tensor.
        name: String,
        /// File that holds it.
        file: String,
        /// Its number format.
        dtype: String,
    },
    /// It has another shape.
    Shape {
        /// Name of the tensor.
        name: String,
        /// File that holds it.
        file: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that config.json asks for.
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
                write!(f, "  {name} in {file} has shape {found:?}; config.json asks for {expected:?}")
            }
        }
    }
}

fn lines(problems: &[TensorProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A number and its noun.
fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn after(tokens: u32) -> String {
    if tokens == 0 { "at all".to_owned() } else { format!("after {}", counted(tokens as usize, "token")) }
}

fn room(context: u32, most: u32) -> String {
    if context < most { format!(" or ask for a larger context (this model holds up to {most})") } else { String::new() }
}
