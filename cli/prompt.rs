//! Where the prompt comes from.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::exit::Usage;

/// Flags that say what is continued.
#[derive(Args)]
pub(crate) struct PromptOptions {
    /// Prompt to continue; - reads it from stdin
    #[arg(value_name = "PROMPT", conflicts_with_all = ["prompt", "file"], help_heading = "Input")]
    positional: Option<String>,
    /// Prompt to continue
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file", help_heading = "Input")]
    prompt: Option<String>,
    /// File that holds the prompt; - for stdin
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    file: Option<PathBuf>,
    /// Don't put the model's begin token before the prompt
    #[arg(long, help_heading = "Input")]
    pub(crate) no_bos: bool,
}

impl PromptOptions {
    /// The prompt: a flag, a file, or stdin if it is named or piped in; none if nothing was given.
    pub(crate) fn read(&self) -> Result<Option<String>> {
        match &self.prompt {
            Some(text) => Ok(Some(text.clone())),
            None => text(self.positional.as_deref(), self.file.as_deref()),
        }
    }
}

/// A text: the argument, a file, or stdin if it is named or piped in; none if nothing was given.
pub(crate) fn text(argument: Option<&str>, file: Option<&Path>) -> Result<Option<String>> {
    if let Some(text) = argument.filter(|text| *text != "-") {
        return Ok(Some(text.to_owned()));
    }
    let dash = Path::new("-");
    let bytes = match file {
        Some(path) if path != dash => {
            std::fs::read(path).with_context(|| format!("cannot read the prompt from {}", path.display()))?
        }
        None if argument.is_none() && std::io::stdin().is_terminal() => return Ok(None),
        _ => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read the prompt from stdin")?;
            // Nobody piped anything in and nobody asked for stdin: as if there were no prompt.
            if bytes.is_empty() && argument.is_none() && file.is_none() {
                return Ok(None);
            }
            bytes
        }
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Usage(format!("the prompt is not valid UTF-8: byte {at} begins no character; convert it to UTF-8 first"))
    })?;
    // The newline that ends a file's last line is the file's, not the prompt's.
    let text = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text);
    Ok(Some(text.to_owned()))
}
