//! Reads prompts and other texts from arguments, files and stdin.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::exit_code::Usage;

/// Maximum length of a text, in bytes: far more than any model's context holds.
const MOST: u64 = 64 << 20;

/// Maximum length of a file of keys, in bytes.
const MOST_KEYS: u64 = 1 << 20;

/// Name of stdin.
const STDIN: &str = "-";

/// Flags for the prompt.
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
    /// Do not prepend the begin token to the prompt
    ///
    /// Also omits any other prefix that the tokenizer adds.
    #[arg(long, help_heading = "Input", hide_short_help = true)]
    pub(crate) no_bos: bool,
    /// Treat special tokens in the prompt, such as <|end_turn|>, as plain text
    #[arg(long, help_heading = "Input", hide_short_help = true)]
    pub(crate) no_parse_special: bool,
}

impl PromptOptions {
    /// Reads the prompt from a flag, a file, or stdin if it is named or piped in. Returns `None` if nothing was given.
    pub(crate) fn read(&self) -> Result<Option<String>> {
        match &self.prompt {
            Some(text) => Ok(Some(unescape(text))),
            None => text("the prompt", self.positional.as_deref(), self.file.as_deref()),
        }
    }

    /// Whether the prompt is read from stdin, which may turn out to be empty.
    #[cfg(feature = "structured")]
    pub(crate) fn reads_stdin(&self) -> bool {
        match (self.prompt.as_deref().or(self.positional.as_deref()), self.file.as_deref()) {
            (Some(text), _) => text == STDIN && self.prompt.is_none(),
            (None, Some(file)) => file == Path::new(STDIN),
            (None, None) => true,
        }
    }

    /// Prints a note if stdin holds unread input although the prompt was given in another way. Call it at the end, because the writer of the pipe may be
    /// slow.
    pub(crate) fn note_unread(&self) {
        note_unread(self.prompt.as_deref().or(self.positional.as_deref()), self.file.as_deref());
    }
}

/// Replaces escapes in an argument: `\n` is a line break, `\t` a tab, `\\` a backslash. Other backslashes are kept, so that most literal text, such as
/// `\d` or `\begin`, needs no escaping.
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

/// Reads a text from the argument, a file, or stdin if it is named or piped in. Returns `None` if nothing was given. Errors call the text `what`.
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
    // Empty stdin that was not requested counts as no prompt.
    if bytes.is_empty() && argument.is_none() {
        return Ok(None);
    }
    decode(bytes, stdin).map(Some)
}

/// Prints a note if stdin holds unread input although [`text`] read its text from another source.
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

/// Prints a note if stdin holds unread input although the lines of `flag` came from a file, or from nowhere.
pub(crate) fn note_unread_lines(file: Option<&Path>, flag: &str) {
    if file != Some(Path::new(STDIN)) {
        note_waiting(if file.is_some() { "a file was given" } else { "it was not named" }, &format!("{flag} -"));
    }
}

/// Prints a note that stdin was not read, if it holds input.
fn note_waiting(why: &str, flags: &str) {
    if has_waiting_input() {
        remark!("note: stdin was not read, because {why}; `{flags}` reads it");
    }
}

/// Whether a pipe on stdin holds unread input.
#[cfg(unix)]
fn has_waiting_input() -> bool {
    let stdin = std::io::stdin();
    !stdin.is_terminal() && rustix::io::ioctl_fionread(&stdin).is_ok_and(|bytes| bytes > 0)
}

#[cfg(not(unix))]
fn has_waiting_input() -> bool {
    false
}

/// Reads the text of a file, or of stdin if it is named `-`, without a leading byte order mark and one trailing newline.
pub(crate) fn whole(what: &str, path: &Path) -> Result<String> {
    decode(read(what, path)?, path)
}

/// Reads a file with API keys, one per line, without a leading byte order mark and empty lines. A named pipe that nobody writes to is empty.
pub(crate) fn keys(path: &Path) -> Result<Vec<String>> {
    let unreadable = || format!("cannot read the keys in {} (--api-key-file)", path.display());
    let bytes = take("a file of keys", open_now(path).with_context(unreadable)?, path, MOST_KEYS)?;
    let text = decode(bytes, path)?;
    let keys: Vec<String> = text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    // An empty file must not disable authentication.
    if keys.is_empty() {
        return Err(Usage(format!("{} (--api-key-file) contains no key; write one per line", path.display())).into());
    }
    Ok(keys)
}

/// Opens a file for reading, without waiting for the writer of a named pipe.
#[cfg(unix)]
fn open_now(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    // Reads of a pipe with a writer, such as `<(command)`, do wait.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(not(unix))]
fn open_now(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::File::open(path)
}

/// Reads the bytes of a file, or of stdin if it is named `-`, up to the maximum length of a text.
pub(crate) fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    let reader: Box<dyn Read> = if path == Path::new(STDIN) {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {what} from {}", place(path)))?;
        Box::new(file)
    };
    take(what, reader, path, MOST)
}

/// Reads at most `most` bytes of a text, from the place that `path` names.
fn take(what: &str, reader: impl Read, path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.take(most + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {what} from {}", place(path)))?;
    if bytes.len() as u64 > most {
        let (place, most) = (place(path), most >> 20);
        return Err(Usage(format!("{place} is longer than {most} MiB, the maximum for {what}")).into());
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
    // The newline at the end of a file's last line is not part of the text.
    let text = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(text);
    Ok(text.to_owned())
}

/// Name of a file in messages.
fn place(path: &Path) -> String {
    if path == Path::new(STDIN) { "stdin".to_owned() } else { path.display().to_string() }
}
