//! How the program ends.

use std::process::ExitCode;

use ruminate::{Error, engine};

use crate::flags::told;
use crate::{interrupt, visible};

/// Shown below the list of verbs.
pub(crate) const HELP: &str = "\
`ruminate VERB -h` lists common flags in a line each, `ruminate VERB --help` explains all of them.

Exit codes: 0 done, 1 failed (also: an input that cannot be read), 2 usage, 3 no suitable device, or a server's device failed, 4 model missing or invalid, 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP";

/// How a verb ended without failing.
pub(crate) enum Done {
    /// As asked.
    Complete,
    /// By a signal.
    Interrupted,
    /// To the end, but something on the way went wrong and was said; with this exit code.
    Failed(u8),
}

/// Says what went wrong, if anything, and gives the exit code for it.
pub(crate) fn code(outcome: anyhow::Result<Done>) -> ExitCode {
    match outcome {
        Ok(Done::Complete) => ExitCode::SUCCESS,
        Ok(Done::Failed(code)) => ExitCode::from(code),
        Ok(Done::Interrupted) => ExitCode::from(interrupt::code()),
        // Whoever read the output has read enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::from(number(&error))
        }
    }
}

/// Says what went wrong.
pub(crate) fn say(error: &anyhow::Error) {
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    // Everything else that can fail in the system's hands says what it was about.
    let first = error.chain().next();
    let bare = first.is_some_and(|first| {
        first.is::<std::io::Error>() || first.is::<serde_json::Error>() || first.is::<csv::Error>()
    });
    let place = if bare { "cannot write to stdout: " } else { "" };
    let words =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref().map_or_else(|| cause.to_string(), told);
    let text = error.chain().map(words).reduce(|text, cause| {
        // Some errors tell their cause themselves.
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    });
    remark!("{style}error:{style:#} {place}{}", visible::lines(&text.unwrap_or_default()));
}

/// Whether nobody reads the output any more, whichever writer met that: those of JSON and CSV wrap the system's error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref().map(std::io::Error::kind);
        let json = || cause.downcast_ref().and_then(serde_json::Error::io_error_kind);
        let csv = || match cause.downcast_ref().map(csv::Error::kind) {
            Some(csv::ErrorKind::Io(error)) => Some(error.kind()),
            _ => None,
        };
        io.or_else(json).or_else(csv)
    };
    error.chain().any(|cause| kind(cause) == Some(std::io::ErrorKind::BrokenPipe))
}

/// The exit code for an error.
pub(crate) fn number(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return 2;
    }
    if error.is::<NoModel>() {
        return 4;
    }
    if error.is::<LostDevice>() {
        return 3;
    }
    match error.downcast_ref::<Error>() {
        Some(
            Error::Option { .. }
            | Error::Together { .. }
            | Error::Token { .. }
            | Error::Constraint { .. }
            | Error::EmptyPrompt
            | Error::Requantise { .. }
            | Error::Folder { .. }
            | Error::Output { .. },
        ) => 2,
        Some(Error::Engine(engine::Error::NoAdapter { .. } | engine::Error::Open { .. })) => 3,
        Some(
            Error::File { .. }
            | Error::NoModel { .. }
            | Error::Content { .. }
            | Error::NotOfModel { .. }
            | Error::Json { .. }
            | Error::Missing { .. }
            | Error::Unsupported { .. }
            | Error::Safetensors { .. }
            | Error::Tensors(_)
            | Error::Unlike { .. }
            | Error::Quantised { .. }
            | Error::Weight { .. }
            | Error::Tokenizer { .. }
            | Error::Vocabulary { .. }
            | Error::Chat { .. }
            | Error::ChatChoice { .. }
            | Error::NoChat,
        ) => 4,
        _ => 1,
    }
}

/// An error in how the program was called.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A model that is not there or is none.
#[derive(Debug)]
pub(crate) struct NoModel(pub(crate) String);

impl std::fmt::Display for NoModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoModel {}

/// A device that failed under a server, which a supervisor starts again.
#[derive(Debug)]
pub(crate) struct LostDevice(pub(crate) String);

impl std::fmt::Display for LostDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LostDevice {}

#[cfg(test)]
mod tests {
    use super::number;
    use ruminate::{Error, engine};

    /// Those that no call from outside can bring about at will.
    #[test]
    fn trouble_with_a_device_under_way_is_a_failure() {
        let lost = engine::Error::Lost("reset".to_owned());
        let full = engine::Error::OutOfMemory { what: "keys".to_owned() };
        for error in [lost, full, engine::Error::Timeout { seconds: 60 }] {
            assert_eq!(number(&Error::Engine(error).into()), 1);
        }
        let silent = engine::Error::Open { adapter: "a".to_owned(), message: "b".to_owned() };
        assert_eq!(number(&Error::Engine(silent).into()), 3);
    }
}
