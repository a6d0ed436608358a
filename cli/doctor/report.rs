//! `ruminate doctor --report`: examines a device, and updates the report files as the work goes on.
//!
//! The examination runs on a separate thread. The main thread waits for it until the time limit. If the driver hangs, the main thread writes a report of all
//! results so far and ends the program.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use ruminate::doctor::report::{Report, ReportOptions, report as examine};
use ruminate::{Arithmetic, OutputFile};

use super::{Doctor, WHY, page};
use crate::exit_code::{Done, Usage};
use crate::plot::{say_written, writable};
use crate::words::counted;

/// File name that means stdout.
const STDOUT: &str = "-";

/// Destination of a report, and its format.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Destination {
    /// Path of the file; `None` for stdout.
    file: Option<PathBuf>,
    json: bool,
}

impl Destination {
    fn new(path: &Path, json_on_stdout: bool) -> Self {
        if path.as_os_str() == STDOUT {
            return Self { file: None, json: json_on_stdout };
        }
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        Self { file: Some(path.to_owned()), json }
    }

    fn text(&self, report: &Report) -> Result<String> {
        if self.json { Ok(serde_json::to_string_pretty(report)? + "\n") } else { page::page(report) }
    }

    /// Writes an intermediate state to the file. Does nothing for stdout.
    fn update(&self, report: &Report) -> Result<()> {
        match &self.file {
            Some(file) => begun(file, &self.text(report)?)?.finish_unsynced().map_err(Into::into),
            None => Ok(()),
        }
    }

    /// Writes the final report to the file or to stdout.
    fn finish(&self, report: &Report) -> Result<()> {
        let text = self.text(report)?;
        match &self.file {
            Some(file) => {
                begun(file, &text)?.finish()?;
                say_written(file);
            }
            None => {
                let mut out = std::io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
            }
        }
        Ok(())
    }
}

fn begun(path: &Path, text: &str) -> Result<OutputFile> {
    let mut file = OutputFile::create(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// State shared by the examination and the main thread.
#[derive(Default)]
struct Latest {
    report: Option<Report>,
    /// Whether the examination must not write any more.
    closed: bool,
    /// First error in writing a file.
    failure: Option<anyhow::Error>,
}

fn locked(latest: &Mutex<Latest>) -> MutexGuard<'_, Latest> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `ruminate doctor --report`.
pub(super) fn report(options: &Doctor) -> Result<Done> {
    let destinations: Vec<_> = options.report.iter().map(|path| Destination::new(path, options.json)).collect();
    check(options, &destinations)?;
    // All features of the device are examined, including the experimental cooperative matrices.
    let open =
        options.device.gpu_options(Arithmetic::Cooperative).ok_or_else(|| Usage(format!("{WHY}; leave out --cpu")))?;
    let options_of_report = ReportOptions::new(open, options.quick);
    let limit = options_of_report.limit;
    let begin = Instant::now();
    let latest = Arc::new(Mutex::new(Latest::default()));
    let (sender, receiver) = mpsc::channel();
    let worker = {
        let (latest, destinations, mut progress) = (Arc::clone(&latest), destinations.clone(), Shown::new()?);
        move || {
            let outcome = examine(&options_of_report, &mut |report| {
                progress.show(report);
                let mut latest = locked(&latest);
                if latest.closed {
                    return;
                }
                let written = destinations.iter().try_for_each(|destination| destination.update(report));
                if let Err(error) = written {
                    latest.failure.get_or_insert(error);
                }
                latest.report = Some(report.clone());
            });
            progress.bar.finish_and_clear();
            // This fails if the limit has passed, because the main thread has stopped waiting.
            let _ = sender.send(outcome);
        }
    };
    std::thread::Builder::new().name("examination".to_owned()).spawn(worker).context("cannot start a thread")?;
    let outcome = receiver.recv_timeout(limit.saturating_sub(begin.elapsed()));
    let mut latest = locked(&latest);
    latest.closed = true;
    let hung = matches!(outcome, Err(RecvTimeoutError::Timeout));
    let report = match outcome {
        Ok(outcome) => outcome.map_err(|error| options.device.explained(error, WHY))?,
        Err(_) => {
            let mut report = latest.report.take().context("the examination did not begin")?;
            report.give_up(begin.elapsed());
            report
        }
    };
    if let Some(failure) = latest.failure.take() {
        remark!("note: some intermediate states of the report were not written: {failure:#}");
    }
    destinations.iter().try_for_each(|destination| destination.finish(&report))?;
    let verdict = verdict(&report);
    if hung {
        if let Err(error) = &verdict {
            crate::exit_code::say(error);
        }
        leave();
    }
    verdict
}

/// Checks that the flags fit together and that the files can be written, before minutes of work.
fn check(options: &Doctor, destinations: &[Destination]) -> Result<()> {
    if options.model.is_some() {
        let problem = "--report examines the demo and random weights of published shapes; leave out --model";
        return Err(Usage(problem.to_owned()).into());
    }
    let printed = destinations.iter().filter(|destination| destination.file.is_none()).count();
    if printed > 1 || (options.json && printed == 0) {
        let problem = if printed > 1 {
            "--report - can be given only once; give a file to the other --report"
        } else {
            "--json needs --report -; a file gets JSON if its name ends in .json"
        };
        return Err(Usage(problem.to_owned()).into());
    }
    destinations.iter().filter_map(|destination| destination.file.as_deref()).try_for_each(writable)
}

/// Prints the verdict of a report, and returns how the program ends.
fn verdict(report: &Report) -> Result<Done> {
    let device = report.device.as_ref().map_or("the device", |device| &device.name);
    if report.complete && report.problems.is_empty() {
        let skipped = match report.skipped.len() {
            0 => String::new(),
            some => format!("; {} skipped", counted(some, "part")),
        };
        remark!("{device}: all right in {} of kernels{skipped}", counted(report.kernels.cases, "case"));
        return Ok(Done::Complete);
    }
    let first = report.problems.first().map_or("the report is incomplete", String::as_str);
    anyhow::bail!("{device}: {}, the first: {first}", counted(report.problems.len(), "problem"))
}

/// Ends the program while a driver hangs: handlers that it has registered for a regular end would wait for it.
fn leave() -> ! {
    #[cfg(unix)]
    {
        // SAFETY: it does nothing but end the process; files are written and stdout is flushed.
        unsafe { libc::_exit(1) }
    }
    #[cfg(not(unix))]
    std::process::exit(1)
}

/// Progress on stderr: a moving line on a terminal, a line per stage elsewhere.
struct Shown {
    bar: ProgressBar,
    on_terminal: bool,
    stage: &'static str,
}

impl Shown {
    fn new() -> Result<Self> {
        let on_terminal = std::io::stderr().is_terminal();
        let bar = if on_terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}")?);
        bar.enable_steady_tick(Duration::from_millis(200));
        Ok(Self { bar, on_terminal, stage: "" })
    }

    fn show(&mut self, report: &Report) {
        let Some(running) = &report.running else { return };
        self.bar.set_message(format!("{}: {}", running.stage, running.what));
        if !self.on_terminal && running.stage != self.stage {
            remark!("{:>4.0} s  {}", report.elapsed_s, running.stage);
        }
        self.stage = running.stage;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_file_says_its_format() {
        let of = |name: &str, json| Destination::new(Path::new(name), json);
        assert!(
            of("a.json", false).json && of("a.JSON", false).json && !of("a.txt", true).json && !of("json", true).json
        );
        assert_eq!(of("-", true), Destination { file: None, json: true });
        assert_eq!(of("-", false), Destination { file: None, json: false });
    }
}
