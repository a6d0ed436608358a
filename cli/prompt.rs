//! Where the prompt comes from.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::exit_code::Usage;

/// Bytes of a text, at most: far more than any model's context holds.
const MOST: u64 = 64 << 20;

/// Name that stands for stdin.
const STDIN: &str = "-";

/// Flags that say what is continued.
#[derive(Args)]
pub(crate) struct PromptOptions {
    /// Prompt to continue; - reads stdin
    ///
    /// In all flags that take text, \n is a line break, \t a tab, and \\ a backslash.
    #[arg(value_name = "PROMPT", conflicts_with_all = ["prompt", "file"], help_heading = "Common", display_order = 0)]
    positional: Option<String>,
    /// Prompt to continue, like PROMPT
    ///
    /// \n is a line break, \t a tab, and \\ a backslash; a file (-f) is taken literally.
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file", help_heading = "Input", hide_short_help = true)]
    prompt: Option<String>,
    /// Read the prompt from FILE; - for stdin
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    file: Option<PathBuf>,
    /// Do not put the begin token before the prompt
    ///
    /// Nor anything else that the tokenizer puts before a text.
    #[arg(long, help_heading = "Input", hide_short_help = true)]
    pub(crate) no_bos: bool,
    /// Treat special tokens in the prompt, such as <|end_turn|>, as plain text
    #[arg(long, help_heading = "Input", hide_short_help = true)]
    pub(crate) no_parse_special: bool,
}

impl PromptOptions {
    /// The prompt: a flag, a file, or stdin if it is named or piped in; none if nothing was given.
    pub(crate) fn read(&self) -> Result<Option<String>> {
        match &self.prompt {
            Some(text) => Ok(Some(unescape(text))),
            None => text("the prompt", self.positional.as_deref(), self.file.as_deref()),
        }
    }

    /// Whether the prompt comes from stdin, or would if there were something.
    #[cfg(feature = "structured")]
    pub(crate) fn reads_stdin(&self) -> bool {
        match (self.prompt.as_deref().or(self.positional.as_deref()), self.file.as_deref()) {
            (Some(text), _) => text == STDIN && self.prompt.is_none(),
            (None, Some(file)) => file == Path::new(STDIN),
            (None, None) => true,
        }
    }

    /// Says that something was piped in beside a prompt that was given in another way. To be called in the end: what writes into the pipe may be slow.
    pub(crate) fn note_unread(&self) {
        note_unread(self.prompt.as_deref().or(self.positional.as_deref()), self.file.as_deref());
    }
}

/// The text that an argument stands for: `\n` is a line break, `\t` a tab, `\\` a backslash. Other backslashes are themselves, so that most of what is
/// meant literally, as `\d` or `\begin`, is taken so.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let escaped = match (c, rest.clone().next()) {
            ('\\', Some('n')) => Some('\n'),
            ('\\', Some('t')) => Some('\t'),
            ('\\', Some('\\')) => Some('\\'),
            _ => None,
        };
        if escaped.is_some() {
            rest.next();
        }
        out.push(escaped.unwrap_or(c));
    }
    out
}

/// A text: the argument, a file, or stdin if it is named or piped in; none if nothing was given. `what` is what errors call it.
pub(crate) fn text(what: &str, argument: Option<&str>, file: Option<&Path>) -> Result<Option<String>> {
    if let Some(text) = argument.filter(|text| *text != "-") {
        return Ok(Some(unescape(text)));
    }
    if let Some(path) = file {
        return whole(what, path).map(Some);
    }
    if argument.is_none() && std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let stdin = Path::new(STDIN);
    let bytes = read(what, stdin)?;
    // Nobody piped anything in and nobody asked for stdin: as if there were no prompt.
    if bytes.is_empty() && argument.is_none() {
        return Ok(None);
    }
    decode(bytes, stdin).map(Some)
}

/// The same for a text that [`text`] has read.
pub(crate) fn note_unread(argument: Option<&str>, file: Option<&Path>) {
    let from_stdin = match (argument, file) {
        (Some(argument), _) => argument == STDIN,
        (None, Some(file)) => file == Path::new(STDIN),
        (None, None) => true,
    };
    if !from_stdin {
        note_waiting("the text was given in another way", "-f -");
    }
}

/// Says that something was piped in beside a file of lines that `flag` names, if that is not stdin itself.
pub(crate) fn note_unread_lines(file: Option<&Path>, flag: &str) {
    if file != Some(Path::new(STDIN)) {
        note_waiting(if file.is_some() { "a file was given" } else { "it was not named" }, &format!("{flag} -"));
    }
}

/// Says that stdin was not read, if there is something in it.
fn note_waiting(why: &str, flags: &str) {
    if has_waiting_input() {
        remark!("note: stdin was not read, because {why}; `{flags}` reads it");
    }
}

/// Whether something was piped in that nobody has read.
#[cfg(unix)]
fn has_waiting_input() -> bool {
    let stdin = std::io::stdin();
    !stdin.is_terminal() && rustix::io::ioctl_fionread(&stdin).is_ok_and(|bytes| bytes > 0)
}

#[cfg(not(unix))]
fn has_waiting_input() -> bool {
    false
}

/// The text of a file, or of stdin if it is named `-`, without a byte order mark at its start and a newline at its end.
pub(crate) fn whole(what: &str, path: &Path) -> Result<String> {
    decode(read(what, path)?, path)
}

/// The bytes of a file, or of stdin if it is named `-`: at most as many as a text may have.
pub(crate) fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    let reader: Box<dyn Read> = if path == Path::new(STDIN) {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {what} from {}", place(path)))?;
        Box::new(file)
    };
    let mut bytes = Vec::new();
    let read = reader.take(MOST + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {what} from {}", place(path)))?;
    if bytes.len() as u64 > MOST {
        let (place, most) = (place(path), MOST >> 20);
        return Err(Usage(format!("{place} holds more than {most} MiB, too much for {what}; give less")).into());
    }
    Ok(bytes)
}

fn decode(bytes: Vec<u8>, path: &Path) -> Result<String> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count();
        let place = place(path);
        Usage(format!(
            "{place} is not valid UTF-8: byte {at} begins no character, in line {line}; convert it to UTF-8 first"
        ))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // The newline that ends a file's last line is the file's, not the prompt's.
    let text = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(text);
    Ok(text.to_owned())
}

/// A file as messages name it.
fn place(path: &Path) -> String {
    if path == Path::new(STDIN) { "stdin".to_owned() } else { path.display().to_string() }
}
