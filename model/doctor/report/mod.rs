//! Checks and measures a device within a time limit: whether its results are right, and how fast it is.
//!
//! The stages run one after the other, each until its own deadline: its share of the time that is left for it and the later stages. Within a stage the most
//! important work comes first. The time of each piece of work is estimated from the previous one; a piece that would not end in time is skipped, with a note.
//! The caller gets the report before every piece, so that a report that names the piece exists even if the driver crashes the program.

mod ceilings;
mod figures;
mod kernels;
mod speed;
mod tokens;
mod tuning;

use std::time::Duration;

use ruminate_engine::bench::Ceilings;
use ruminate_engine::clock::{Instant, SystemTime, UNIX_EPOCH};
use ruminate_engine::{Device, OpenOptions, find};
use ruminate_shaders::{KERNELS, Kernel};

use crate::error::Error;

pub use figures::{
    Change, Cost, DeviceFacts, Kernels, Rate, Report, Running, SCHEMA_VERSION, Skipped, Speed, Stage, System,
    TokenCheck, Tuned, Variant, Wrong,
};

/// Reason for skipping work that would not end in time.
const NO_TIME: &str = "no time left";

/// Time limit of an examination.
pub const LIMIT: Duration = Duration::from_secs(600);
/// Time limit of the short form.
pub const QUICK_LIMIT: Duration = Duration::from_secs(120);

/// Options of an examination.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// Options to open the device with.
    pub open: OpenOptions,
    /// The kernels to check: [`KERNELS`], except in tests of the examination itself.
    pub kernels: &'static [&'static Kernel],
    /// Time limit.
    pub limit: Duration,
    /// Whether to use the short form, which has fewer repetitions.
    pub quick: bool,
}

impl ReportOptions {
    /// Returns the options of a full examination, or of a short one.
    #[must_use]
    pub fn new(open: OpenOptions, quick: bool) -> Self {
        Self { open, kernels: KERNELS, limit: if quick { QUICK_LIMIT } else { LIMIT }, quick }
    }
}

/// Work of a stage.
type Work = fn(&mut Examination<'_>) -> Result<(), Error>;

/// The stages, the most important first: name, share of the time, work. Time that a stage does not need goes to the later ones, and time that it takes beyond
/// its share is taken from them.
const STAGES: [(&str, f64, Work); 6] = [
    ("device", 0.05, open),
    ("kernels", 0.3, kernels::verify),
    ("tokens", 0.1, tokens::compare),
    ("ceilings", 0.1, ceilings::measure),
    ("speed", 0.35, speed::measure),
    ("tuning", 0.1, tuning::measure),
];

/// Share of the limit that stages may plan with. The rest is a reserve, in case the last piece of work takes longer than estimated.
const WORKING: f64 = 0.92;

/// Deadline of a stage that begins at `begin`; both are times since the start of the examination.
fn deadline(stage: usize, begin: Duration, limit: Duration) -> Duration {
    let shares = |from: usize| STAGES.iter().skip(from).map(|(_, share, _)| share).sum::<f64>();
    let left = limit.mul_f64(WORKING).saturating_sub(begin);
    begin + left.mul_f64(STAGES[stage].1 / shares(stage))
}

/// Examines a device. Calls `hear` with the report so far before every piece of work, and with the finished report.
///
/// # Errors
/// As [`find`], if no device can be chosen; `hear` is not called then. Every other error becomes part of the report.
pub fn report(options: &ReportOptions, hear: &mut dyn FnMut(&Report)) -> Result<Report, Error> {
    find(&options.open)?;
    let mut examination = Examination::new(options, hear);
    for (at, (name, _, work)) in STAGES.into_iter().enumerate() {
        examination.deadline = deadline(at, examination.begin.elapsed(), options.limit);
        examination.stage(name, work);
        if examination.report.device.is_none() {
            let rest = STAGES.into_iter().skip(at + 1).map(|(stage, ..)| (stage, "the device cannot be opened"));
            let skipped =
                rest.map(|(stage, reason)| Skipped { stage, what: "all".to_owned(), reason: reason.to_owned() });
            examination.report.skipped.extend(skipped);
            break;
        }
    }
    let Examination { mut report, begin, hear, .. } = examination;
    report.running = None;
    report.complete = true;
    report.passed = report.problems.is_empty();
    report.elapsed_s = begin.elapsed().as_secs_f64();
    hear(&report);
    Ok(report)
}

impl Report {
    /// Adds a problem to the report of an examination that did not end in time, and so never returns.
    pub fn give_up(&mut self, after: Duration) {
        let what = self.running.as_ref().map_or("the start".to_owned(), |it| format!("{}: {}", it.stage, it.what));
        self.problems.push(format!(
            "{what} had not ended after {:.0} s: the device hangs, or is too slow to be examined",
            after.as_secs_f64()
        ));
        self.elapsed_s = after.as_secs_f64();
    }
}

/// An examination under way.
struct Examination<'a> {
    options: &'a ReportOptions,
    report: Report,
    hear: &'a mut dyn FnMut(&Report),
    begin: Instant,
    /// Deadline of the current stage, as time since the beginning.
    deadline: Duration,
    device: Option<Device>,
    ceilings: Option<Ceilings>,
}

impl<'a> Examination<'a> {
    fn new(options: &'a ReportOptions, hear: &'a mut dyn FnMut(&Report)) -> Self {
        let system = System {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            processors: std::thread::available_parallelism().map_or(0, usize::from),
        };
        let report = Report {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            complete: false,
            passed: false,
            problems: Vec::new(),
            running: None,
            quick: options.quick,
            limit_s: options.limit.as_secs_f64(),
            elapsed_s: 0.0,
            started_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            system,
            device: None,
            stages: Vec::new(),
            skipped: Vec::new(),
            ceilings: Vec::new(),
            costs: Vec::new(),
            kernels: Kernels::default(),
            tokens: Vec::new(),
            speed: Vec::new(),
            tuning: Tuned::default(),
        };
        let begin = Instant::now();
        Self { options, report, hear, begin, deadline: Duration::ZERO, device: None, ceilings: None }
    }

    /// Runs a stage. If it fails, records the error, and the later stages open the device anew.
    fn stage(&mut self, name: &'static str, work: Work) {
        let begin = self.begin.elapsed();
        self.report.running = Some(Running { stage: name, what: String::new() });
        let failure = work(self).err().map(|error| error.to_string());
        if let Some(failure) = &failure {
            let what = self.report.running.as_ref().map_or(String::new(), |running| running.what.clone());
            self.problem(format!("{name}: {what}: {failure}"));
            self.device = None;
        }
        let elapsed_s = (self.begin.elapsed() - begin).as_secs_f64();
        self.report.stages.push(Stage { name, elapsed_s, failure });
    }

    /// Returns the device, opened anew if it is not open or has failed.
    fn device(&mut self) -> Result<Device, Error> {
        match &self.device {
            Some(device) if device.check().is_ok() => Ok(device.clone()),
            _ => {
                let device = Device::open(&self.options.open)?;
                self.device = Some(device.clone());
                Ok(device)
            }
        }
    }

    /// Reports that a piece of work begins.
    fn begin(&mut self, what: impl Into<String>) {
        if let Some(running) = &mut self.report.running {
            running.what = what.into();
        }
        self.report.elapsed_s = self.begin.elapsed().as_secs_f64();
        (self.hear)(&self.report);
    }

    /// Time left for the current stage.
    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.begin.elapsed())
    }

    /// Whether work of `seconds` seconds would end in time.
    fn affords(&self, seconds: f64) -> bool {
        seconds < self.left().as_secs_f64()
    }

    /// Records skipped work.
    fn skip(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        let stage = self.report.running.as_ref().map_or("", |running| running.stage);
        self.report.skipped.push(Skipped { stage, what: what.into(), reason: reason.into() });
    }

    fn problem(&mut self, problem: String) {
        self.report.problems.push(problem);
    }
}

/// Formats a number with its noun: `1 step`, `2 steps`.
fn counted(number: u32, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Opens the device.
fn open(examination: &mut Examination<'_>) -> Result<(), Error> {
    examination.begin("opening the device");
    let device = examination.device()?;
    examination.report.device = device.summary().map(|summary| DeviceFacts::of(&device, summary));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_that_is_given_up_names_the_work_under_way() {
        let options = ReportOptions::new(OpenOptions::default(), true);
        let mut hear = |_: &Report| ();
        let mut report = Examination::new(&options, &mut hear).report;
        report.running = Some(Running { stage: "kernels", what: "rms_norm.subgroup/1 row".to_owned() });
        report.give_up(Duration::from_secs(120));
        assert!(!report.complete && !report.passed);
        let [problem] = &report.problems[..] else { panic!("{:?}", report.problems) };
        assert!(problem.starts_with("kernels: rms_norm.subgroup/1 row had not ended after 120 s"), "{problem}");
    }

    #[test]
    fn stages_share_the_time_that_is_left() {
        let seconds = Duration::from_secs_f64;
        let limit = seconds(100.0);
        // The last stage gets all the time that is left, even if it begins late.
        assert_eq!(deadline(STAGES.len() - 1, seconds(50.0), limit), limit.mul_f64(WORKING));
        assert_eq!(deadline(STAGES.len() - 1, seconds(99.0), limit), seconds(99.0));
        for stage in 0..STAGES.len() {
            let (early, late) = (deadline(stage, seconds(0.0), limit), deadline(stage, seconds(60.0), limit));
            assert!(early > seconds(0.0) && late > seconds(60.0) && late <= limit.mul_f64(WORKING), "{stage}");
        }
    }
}
