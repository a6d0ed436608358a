//! The end of the program: exit codes and error messages.

use std::process::ExitCode;
use std::time::Duration;

use ruminate::{Error, engine};

use crate::flags::told;
use crate::{interrupt, visible};

/// Shown below the list of verbs.
pub(crate) const HELP: &str = "\
`ruminate VERB -h` lists common flags, one per line; `ruminate VERB --help` explains all flags.

Exit codes: 0 done, 1 failed (also: an input that cannot be read), 2 usage, 3 no suitable device, or the device failed, 4 model missing or invalid, 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP";

/// Outcome of a verb that did not return an error.
pub(crate) enum Done {
    /// The verb did what was asked.
    Complete,
    /// A signal stopped it.
    Interrupted,
    /// It ran to its end, but reported a problem on the way. Holds the exit code.
    Failed(u8),
}

/// Exit code if no device is suitable, or the device has failed.
const DEVICE: u8 = 3;

/// Time limit for flushing the output after a device has failed.
const LAST: Duration = Duration::from_secs(2);

/// Prints the error, if any, and returns the exit code. If a device has `failed`, it counts as the cause of any other error.
pub(crate) fn end(outcome: anyhow::Result<Done>, mut failed: bool) -> ExitCode {
    let code = match outcome {
        Ok(Done::Complete) => 0,
        Ok(Done::Failed(_)) if failed => DEVICE,
        Ok(Done::Failed(code)) => code,
        Ok(Done::Interrupted) => interrupt::code(),
        // The reader of the output has read enough.
        Err(error) if is_closed_pipe(&error) => 0,
        Err(error) => {
            say(&error);
            failed |= is_failed_device(&error);
            if failed { DEVICE } else { number(&error) }
        }
    };
    if failed {
        leave(code);
    }
    ExitCode::from(code)
}

/// Ends the program because a device hangs, without waiting for other threads.
pub(crate) fn abandon(error: &anyhow::Error) -> ! {
    say(error);
    leave(DEVICE)
}

/// Ends the program at once, if the system can. Drivers register handlers for the end of the process, and those of a driver that hangs wait forever, or crash.
fn leave(code: u8) -> ! {
    let (done, flushed) = std::sync::mpsc::channel();
    // On a separate thread, because a thread that is stuck in the driver may hold the lock of stdout.
    let flush = move || {
        let _ = std::io::Write::flush(&mut std::io::stdout());
        let _ = done.send(());
    };
    if std::thread::Builder::new().spawn(flush).is_ok() {
        let _ = flushed.recv_timeout(LAST);
    }
    #[cfg(unix)]
    signal_hook::low_level::exit(code.into());
    #[cfg(not(unix))]
    std::process::exit(code.into())
}

/// Prints an error with its causes.
pub(crate) fn say(error: &anyhow::Error) {
    let style = anstyle::Style::new().bold().fg_color(Some(anstyle::AnsiColor::Red.into()));
    // A bare error of the system comes from writing to stdout. All other errors name their file.
    let first = error.chain().next();
    let bare = first.is_some_and(|first| {
        first.is::<std::io::Error>() || first.is::<serde_json::Error>() || first.is::<csv::Error>()
    });
    let place = if bare { "cannot write to stdout: " } else { "" };
    let words =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref().map_or_else(|| cause.to_string(), told);
    let text = error.chain().map(words).reduce(|text, cause| {
        // Some errors already contain their cause.
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    });
    remark!("{style}error:{style:#} {place}{}", visible::lines(&text.unwrap_or_default()));
}

/// Whether the error is a closed pipe, that is, nobody reads the output any more. The JSON and CSV writers wrap the system's error.
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

/// Whether an error means that the device has failed.
fn is_failed_device(error: &anyhow::Error) -> bool {
    let engine = match error.downcast_ref() {
        Some(Error::Engine(engine)) => Some(engine),
        _ => error.downcast_ref(),
    };
    error.is::<LostDevice>() || matches!(engine, Some(engine::Error::Lost(_) | engine::Error::Timeout { .. }))
}

/// Returns the exit code for an error.
pub(crate) fn number(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return 2;
    }
    if error.is::<NoModel>() {
        return 4;
    }
    if error.is::<LostDevice>() {
        return DEVICE;
    }
    match error.downcast_ref::<Error>() {
        Some(
            Error::Option { .. }
            | Error::Range { .. }
            | Error::Together { .. }
            | Error::Token { .. }
            | Error::Constraint { .. }
            | Error::EmptyPrompt
            | Error::Requantize { .. }
            | Error::Folder { .. }
            | Error::Output { .. },
        ) => 2,
        Some(Error::Engine(
            engine::Error::NoAdapter { .. }
            | engine::Error::Ambiguous { .. }
            | engine::Error::Open { .. }
            | engine::Error::Lost(_)
            | engine::Error::Timeout { .. },
        )) => DEVICE,
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
            | Error::Quantized { .. }
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

/// An error in the flags or arguments.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// An error about a model that is missing or invalid.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoModel(pub(crate) String);

/// A failure of a server's device. A supervisor can then restart the server.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LostDevice(pub(crate) String);

#[cfg(test)]
mod tests {
    use super::number;
    use ruminate::{Error, engine};

    /// These errors cannot be caused on purpose by running the program.
    #[test]
    fn trouble_with_a_device_has_its_own_code() {
        let full = engine::Error::OutOfMemory { what: "keys".to_owned() };
        assert_eq!(number(&Error::Engine(full).into()), 1);
        let lost = engine::Error::Lost("reset".to_owned());
        let hung = engine::Error::Timeout { limit: std::time::Duration::from_secs(60) };
        let silent = engine::Error::Open { adapter: "a".to_owned(), message: "b".to_owned() };
        let unclear = engine::Error::Ambiguous { asked: "name `a`".to_owned(), found: Vec::new() };
        for error in [lost, hung, silent, unclear] {
            assert_eq!(number(&Error::Engine(error).into()), 3);
        }
    }
}
