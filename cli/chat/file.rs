//! Saves and loads conversations: a JSON list of messages, each with `role` and `content`.

use std::io::Write;
use std::path::Path;

use ruminate::{Error, Message, OutputFile};

use crate::prompt;

/// Error of writing or reading a conversation; the chat continues.
#[derive(Debug)]
pub(crate) struct FileError(String);

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FileError {}

/// Writes a conversation atomically. An existing file is overwritten only if `replace` is set.
pub(super) fn save(path: &Path, messages: &[Message], replace: bool) -> Result<(), FileError> {
    let failed = |error: std::io::Error| FileError(format!("cannot write {}: {error}", path.display()));
    let refused = |error: Error| FileError(error.to_string());
    let exists = || FileError(format!("{} exists; /save! replaces it", path.display()));
    if !replace && path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let mut file = OutputFile::create(path).map_err(refused)?;
    let text = serde_json::to_string_pretty(messages).map_err(|error| failed(error.into()))?;
    writeln!(file, "{text}").map_err(failed)?;
    match if replace { file.finish() } else { file.finish_new() } {
        Err(Error::Write { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => Err(exists()),
        done => done.map_err(refused),
    }
}

/// Reads a conversation.
pub(super) fn load(path: &Path) -> Result<Vec<Message>, FileError> {
    let failed = |problem: String| FileError(format!("cannot read {}: {problem}", path.display()));
    if path.is_dir() {
        return Err(failed("it is a folder".to_owned()));
    }
    let bytes = prompt::read("a conversation", path).map_err(|error| FileError(format!("{error:#}")))?;
    ruminate::parse_json(&path.display().to_string(), &bytes).map_err(|error| match error {
        Error::Json { source, .. } => {
            failed(format!("{source}; expected a list of messages, each with `role` and `content`"))
        }
        error => FileError(error.to_string()),
    })
}
