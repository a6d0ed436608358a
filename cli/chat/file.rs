//! Conversations in files: a JSON list of messages, each with its role and its content.

use std::io::Write;
use std::path::Path;

use ruminate::Message;
use tempfile::NamedTempFile;

/// A conversation could not be written or read; the chat goes on.
#[derive(Debug)]
pub(crate) struct FileError(String);

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FileError {}

/// Writes a conversation: whole or not at all, and over another file only if `replace` says so.
pub(super) fn save(path: &Path, messages: &[Message], replace: bool) -> Result<(), FileError> {
    let failed = |error: std::io::Error| FileError(format!("cannot write {}: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
    let text = serde_json::to_string_pretty(messages).map_err(|error| failed(error.into()))?;
    writeln!(file, "{text}").and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    let moved = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    match moved {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(FileError(format!("{} exists; /save! replaces it", path.display())))
        }
        Err(error) => Err(failed(error.error)),
    }
}

/// Reads a conversation.
pub(super) fn load(path: &Path) -> Result<Vec<Message>, FileError> {
    let failed = |problem: String| FileError(format!("cannot read {}: {problem}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| failed(format!("{error}; expected a list of messages, each with `role` and `content`")))
}
