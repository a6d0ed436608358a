//! Stable codes of the library's errors.

use crate::error::Error;

ruminate_engine::error_codes! { Error [Engine]:
    File => "file-unreadable", "a file of the checkpoint is missing or cannot be read";
    NoModel => "no-model", "the path is not a model folder";
    Content => "file-content", "a file is not what its name says: a Git LFS pointer, a broken link, too large";
    NotOfModel => "not-a-model-file", "the file is not one that a model is loaded from";
    Json => "json", "a JSON file does not parse or has another layout";
    Missing => "field-missing", "a field of a configuration file is missing";
    Unsupported => "field-unsupported", "a field of a configuration file has an invalid or unsupported value";
    Safetensors => "safetensors", "a safetensors file or its index is damaged";
    Requantize => "requantize", "a quantized file cannot be held in another dtype";
    Unlike => "mixed-dtypes", "matrices of one group are stored in different dtypes";
    Quantized => "already-quantized", "the model to quantize is already quantized";
    Cancelled => "cancelled", "the caller cancelled the call";
    Write => "file-unwritable", "a file cannot be written";
    Output => "output-path", "the path must not be written to";
    Folder => "output-folder", "the folder to write to holds something else";
    Tensors => "tensors", "tensors are missing, surplus or of another shape";
    Weight => "weight-value", "a weight is not finite, or overflows in the requested dtype";
    Tokenizer => "tokenizer", "the tokenizer does not load or does not encode";
    Vocabulary => "vocabulary", "tokenizer and model belong to different models";
    Chat => "chat-template", "the chat template does not compile or render";
    ChatChoice => "chat-template-choice", "none of several chat templates is the default";
    NoChat => "no-chat-template", "the checkpoint has no chat template";
    Option => "option", "an option has an invalid value";
    Range => "option-range", "an option is outside of a range that depends on the model or on another option";
    Together => "options-conflict", "two options cannot be combined";
    EmptyPrompt => "empty-prompt", "there is nothing to continue";
    PromptTooLong => "prompt-too-long", "the tokens do not fit the context";
    TextTooLong => "text-too-long", "the text cannot fit the context, however it is encoded";
    NoRoom => "no-room", "a diffusion prompt fills the context and leaves no position to generate at";
    KvMemory => "kv-memory", "keys and values of one sequence take more memory than a batch may";
    TraceTooLarge => "trace-too-large", "the states of a trace would take too much memory";
    Snapshot => "session-file", "a session cannot be resumed from the file";
    Memory => "device-memory", "model or session would not fit the device's memory";
    Token => "unknown-token", "the model has no token of this id";
    State => "state-size", "the given states have the wrong size";
    NotBegun => "not-begun", "a stepwise call came before begin()";
    Intermediate => "unknown-intermediate", "the intermediate does not exist or is not computed yet";
    Feature => "feature-missing", "this build of the library lacks a feature of the crate";
    Constraint => "bad-constraint", "a schema, pattern or grammar that output cannot follow";
    Unconstrainable => "constraint-failed", "a text that cannot continue as its constraint requires";
    NotStarted => "not-started", "step() came before start()";
    Bug => "internal-bug", "a bug in the library: one of its invariants does not hold";
}
