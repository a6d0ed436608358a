//! Lines from a terminal, with editing and a history, or from a pipe; several lines that belong together become one text.

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

/// Bytes of a line, at most.
const MOST: u64 = 64 << 20;

/// Begins and ends a message of several lines.
const FENCE: &str = "\"\"\"";

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A message or a command.
    Text(String),
    /// A message, whatever it begins with: it was fenced.
    Message(String),
    /// Ctrl-D, or the end of the pipe.
    End,
    /// Ctrl-C at the prompt.
    Interrupted,
}

/// Where lines come from.
pub(super) enum Input {
    Terminal { editor: Box<Editor<SeveralLines, DefaultHistory>>, history: Option<PathBuf> },
    Plain { line: usize },
}

impl Input {
    /// A terminal. With `remember`, lines of earlier chats can be recalled, and this chat's will be.
    pub(super) fn terminal(remember: bool) -> Result<Self> {
        let spec = rustyline::Config::builder().auto_add_history(true).build();
        let mut editor = Editor::with_config(spec).context("cannot read from the terminal")?;
        editor.set_helper(Some(SeveralLines));
        let history = if remember { history_file() } else { None };
        if let Some(path) = &history {
            // The first chat has none yet.
            let _ = editor.load_history(path);
        }
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    /// A pipe or a file.
    pub(super) fn plain() -> Self {
        Self::Plain { line: 0 }
    }

    /// The next message or command.
    pub(super) fn read(&mut self) -> Result<Line> {
        match self {
            Self::Terminal { editor, history } => loop {
                let read = editor.readline("> ");
                if let Some(path) = history {
                    // At once: a program that is ended by a signal has no time for it later.
                    remember(editor, path);
                }
                match read {
                    Ok(text) => return Ok(unfold(&text)),
                    Err(ReadlineError::Eof) => return Ok(Line::End),
                    Err(ReadlineError::Interrupted) => return Ok(Line::Interrupted),
                    // Pasted from a file in another encoding, say.
                    Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                        remark!("(that was not valid UTF-8; the line is forgotten, the conversation goes on)");
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

/// Adds new lines to the history of all chats. One that cannot be written is no reason to trouble anyone.
fn remember(editor: &mut Editor<SeveralLines, DefaultHistory>, path: &Path) {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let _ = folder.map(|()| editor.append_history(path));
}

/// `chat_history` in the user's folder for state.
fn history_file() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    let folders = etcetera::choose_base_strategy().ok()?;
    let folder = folders.state_dir().unwrap_or_else(|| folders.data_dir());
    Some(folder.join("ruminate").join("chat_history"))
}

/// A line of stdin without its end; none at the end. `count` is the number of lines read so far.
fn plain_line(count: &mut usize) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MOST + 1).read_until(b'\n', &mut bytes).context("cannot read stdin")?;
    if bytes.len() as u64 > MOST {
        let (line, most) = (*count + 1, MOST >> 20);
        return Err(Usage(format!("line {line} of stdin is longer than {most} MiB; give less")).into());
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    *count += 1;
    // The byte order mark with which Windows begins what it pipes.
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

/// Whether nothing more belongs to a text.
fn is_whole(text: &str) -> bool {
    match text.strip_prefix(FENCE) {
        Some(inside) => inside.trim_end().ends_with(FENCE),
        None => !text.ends_with('\\'),
    }
}

/// What is meant: without the fences, or without the backslashes that join lines. A text that ends in the middle counts so far.
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

/// Tells the line editor when Enter begins another line.
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
