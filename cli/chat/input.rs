//! Reads messages from a terminal, with line editing and a history, or from a pipe. Joined lines form one message.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Editor, Helper};

use crate::exit_code::Usage;

/// Maximum length of a line, in bytes.
const MOST: u64 = 64 << 20;

/// Mark at the beginning and end of a message of several lines.
const FENCE: &str = "\"\"\"";

/// Message, command or end of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A message or a command.
    Text(String),
    /// A fenced message, which may begin with `/`.
    Message(String),
    /// Ctrl-D, or the end of the pipe.
    End,
    /// Ctrl-C at the prompt.
    Interrupted,
}

/// Source of lines.
pub(super) enum Input {
    Terminal { editor: Box<Editor<SeveralLines, DefaultHistory>>, history: Option<PathBuf> },
    Plain { line: usize },
}

impl Input {
    /// Reads from a terminal. `remember` loads the history of earlier chats and adds this chat's lines to it.
    pub(super) fn terminal(remember: bool) -> Result<Self> {
        let spec = rustyline::Config::builder().auto_add_history(true).build();
        let mut editor = Editor::with_config(spec).context("cannot read from the terminal")?;
        editor.set_helper(Some(SeveralLines));
        let history = if remember { history_file() } else { None };
        if let Some(path) = &history {
            // The file does not exist before the first chat.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    /// Reads from a pipe or a file.
    pub(super) fn plain() -> Self {
        Self::Plain { line: 0 }
    }

    /// Reads the next message or command.
    pub(super) fn read(&mut self) -> Result<Line> {
        match self {
            Self::Terminal { editor, history } => loop {
                let read = editor.readline("> ");
                if let Some(path) = history {
                    // Immediately: a signal may end the program before it could do so on exit.
                    remember(editor, path);
                }
                match read {
                    Ok(text) => return Ok(unfold(&text)),
                    Err(ReadlineError::Eof) => return Ok(Line::End),
                    Err(ReadlineError::Interrupted) => return Ok(Line::Interrupted),
                    // For example, text pasted from a file in another encoding.
                    Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                        remark!("(the line is not valid UTF-8 and was ignored)");
                    }
                    Err(error) => return Err(error).context("cannot read from the terminal"),
                }
            },
            Self::Plain { line } => {
                let mut text = String::new();
                while let Some(next) = plain_line(line)? {
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str(&next);
                    if is_whole(&text) {
                        return Ok(unfold(&text));
                    }
                }
                Ok(if text.is_empty() { Line::End } else { unfold(&text) })
            }
        }
    }
}

/// Appends new lines to the shared history file. Failures are ignored: the chat works without a history.
fn remember(editor: &mut Editor<SeveralLines, DefaultHistory>, path: &Path) {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let _ = folder.map(|()| editor.append_history(path));
}

/// Path of `chat_history` in the user's state folder.
fn history_file() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    let folders = etcetera::choose_base_strategy().ok()?;
    let folder = folders.state_dir().unwrap_or_else(|| folders.data_dir());
    Some(folder.join("ruminate").join("chat_history"))
}

/// Reads a line of stdin without its line break, or `None` at the end. `count` is the number of lines read so far.
fn plain_line(count: &mut usize) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MOST + 1).read_until(b'\n', &mut bytes).context("cannot read stdin")?;
    if bytes.len() as u64 > MOST {
        let (line, most) = (*count + 1, MOST >> 20);
        return Err(Usage(format!("line {line} of stdin is longer than {most} MiB, the maximum")).into());
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    *count += 1;
    // Windows begins piped text with a byte order mark.
    if *count == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Usage(format!(
            "line {count} of stdin is not valid UTF-8: byte {at} begins no character; convert it to UTF-8 first"
        ))
    })?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    Ok(Some(text))
}

/// Whether a text is complete, so that no further line is joined to it.
fn is_whole(text: &str) -> bool {
    match text.strip_prefix(FENCE) {
        Some(inside) => inside.trim_end().ends_with(FENCE),
        None => !text.ends_with('\\'),
    }
}

/// Removes the fences, or the backslashes that join lines. An unfinished text is taken up to its end.
fn unfold(text: &str) -> Line {
    let Some(inside) = text.strip_prefix(FENCE) else {
        let joined = text.replace("\\\n", "\n");
        return Line::Text(joined.strip_suffix('\\').map_or_else(|| joined.clone(), str::to_owned));
    };
    let inside = inside.trim_end();
    let inside = inside.strip_suffix(FENCE).unwrap_or(inside);
    let inside = inside.strip_prefix('\n').unwrap_or(inside);
    Line::Message(inside.strip_suffix('\n').unwrap_or(inside).to_owned())
}

/// Line editor helper: Enter begins another line while the message is incomplete.
pub(super) struct SeveralLines;

impl Validator for SeveralLines {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let whole = is_whole(context.input());
        Ok(if whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Completer for SeveralLines {
    type Candidate = String;
}

impl Hinter for SeveralLines {
    type Hint = String;
}

impl Highlighter for SeveralLines {}

impl Helper for SeveralLines {}

#[cfg(test)]
mod tests {
    use super::{Line, is_whole, unfold};

    #[test]
    fn backslashes_and_fences_join_lines() {
        let text = |meant: &str| Line::Text(meant.to_owned());
        let message = |meant: &str| Line::Message(meant.to_owned());
        for (typed, whole, meant) in [
            ("one", true, text("one")),
            ("one\\", false, text("one")),
            ("one\\\ntwo", true, text("one\ntwo")),
            ("a\\b", true, text("a\\b")),
            ("\"\"\"", false, message("")),
            ("\"\"\"one\"\"\"", true, message("one")),
            ("\"\"\"\n/one\n\n  two\\\n\"\"\" ", true, message("/one\n\n  two\\")),
            ("\"\"\"\none", false, message("one")),
        ] {
            assert_eq!((is_whole(typed), unfold(typed)), (whole, meant), "{typed:?}");
        }
    }
}
