//! Saved sessions: `--save-session` and `--resume`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use ruminate::{Error, Model, OutputFile, Session, Specials};

use crate::exit_code::Usage;

/// Flags for saved sessions.
#[derive(Args)]
pub(crate) struct SnapshotOptions {
    /// Continue a session that --save-session wrote
    ///
    /// The prompt is appended to its text; without a prompt, the text continues where it ended. Seed, context and cache are those of the session. Other
    /// flags, such as --steps or --temp, apply to the new tokens.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "ctx_size", "init_scale", "kv_lookup", "kv_share", "kv_dtype", "invariant", "no_bos"], help_heading = "Input")]
    pub(crate) resume: Option<PathBuf>,
    /// Write the session to FILE at the end, for --resume
    ///
    /// The file holds keys and values, tokens, seed and settings.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) save_session: Option<PathBuf>,
}

impl SnapshotOptions {
    /// Reports invalid combinations before anything is computed.
    pub(crate) fn check(&self, has_prompt: bool) -> Result<()> {
        let Some(path) = &self.save_session else { return Ok(()) };
        if !has_prompt && self.resume.is_none() {
            let problem = "nothing is saved without a prompt; give one";
            return Err(Usage(format!("--save-session {}: {problem}", path.display())).into());
        }
        OutputFile::check(path)?;
        Ok(())
    }

    /// Opens a saved session and encodes the prompt, whose tokens follow the last one of the session's text.
    pub(crate) fn open(
        model: &Model,
        path: &Path,
        text: Option<&str>,
        parse_special: bool,
    ) -> Result<(Session, Vec<u32>)> {
        let session = model.resume(path).map_err(|error| match error {
            // The exit code for invalid model files does not apply here.
            Error::File { file, source } => anyhow::Error::new(source).context(format!("cannot read {file}")),
            error => error.into(),
        })?;
        let ends = |token: &u32| model.tokenizer().eos().contains(token);
        let goes_on = session.next_token().is_some_and(|token| !ends(&token));
        let mut tokens: Vec<u32> = Vec::new();
        if let Some(text) = text {
            tokens.extend(match parse_special {
                true => session.encode(text, Specials::Continue)?,
                false => session.encode_plain(text, Specials::Continue)?,
            });
        }
        if tokens.is_empty() && !goes_on {
            let why = if text.is_some() { "the prompt is empty" } else { "its text has ended" };
            return Err(Usage(format!("nothing to continue in {}: {why}; give a prompt", path.display())).into());
        }
        Ok((session, tokens))
    }
}
