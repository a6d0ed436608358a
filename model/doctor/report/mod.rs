//! An examination of a device within a time limit: whether it is right, and how fast it is.
//!
//! The stages run one after the other, each until a deadline of its own: its share of the time that is left to it and those after it. Work is taken in order of importance; every piece is estimated from the one before and left out, with a note, where it
//! would not end in time. The caller hears of every piece before it begins, so that a driver that takes the program down with it leaves a report that names the
//! piece.

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

/// Reason for leaving out what would not end in time.
const NO_TIME: &str = "no time left";

/// Time that an examination may take.
pub const LIMIT: Duration = Duration::from_secs(600);
/// The same for the short form.
pub const QUICK_LIMIT: Duration = Duration::from_secs(120);

/// What to examine, and for how long.
#[derive(Clone, Debug)]
pub struct ReportOptions {
    /// How the device is opened.
    pub open: OpenOptions,
    /// The kernels; [`KERNELS`] but in tests of the examination itself.
    pub kernels: &'static [&'static Kernel],
    /// Time that it may take.
    pub limit: Duration,
    /// Whether it is the short form: fewer repetitions.
    pub quick: bool,
}

impl ReportOptions {
    /// An examination of the usual length, or a short one.
    #[must_use]
    pub fn new(open: OpenOptions, quick: bool) -> Self {
        Self { open, kernels: KERNELS, limit: if quick { QUICK_LIMIT } else { LIMIT }, quick }
    }
}

/// Work of a stage.
type Work = fn(&mut Examination<'_>) -> Result<(), Error>;

/// The stages, the most important first: name, share of the time, work. What one does not need, or takes too much, is shared by those after it.
const STAGES: [(&str, f64, Work); 6] = [
    ("device", 0.05, open),
    ("kernels", 0.3, kernels::verify),
    ("tokens", 0.1, tokens::compare),
    ("ceilings", 0.1, ceilings::measure),
    ("speed", 0.35, speed::measure),
    ("tuning", 0.1, tuning::measure),
];

/// Share of the limit in which stages work. In the rest, the last piece of work may take longer than was estimated.
const WORKING: f64 = 0.92;

/// End of a stage, given its beginning since the start.
fn deadline(stage: usize, begin: Duration, limit: Duration) -> Duration {
    let shares = |from: usize| STAGES.iter().skip(from).map(|(_, share, _)| share).sum::<f64>();
    let left = limit.mul_f64(WORKING).saturating_sub(begin);
    begin + left.mul_f64(STAGES[stage].1 / shares(stage))
}

/// Examines a device. `hear` is told of every piece of work before it begins, and of the report in the end.
///
/// # Errors
/// If no device can be chosen, as [`find`] says: then nothing was heard. Every other error becomes part of the report.
pub fn report(options: &ReportOptions, hear: &mut dyn FnMut(&Report)) -> Result<Report, Error> {
    find(&options.open)?;
    let mut examination = Examination::new(options, hear);
    for (at, (name, _, work)) in STAGES.into_iter().enumerate() {
        examination.deadline = deadline(at, examination.begin.elapsed(), options.limit);
        examination.stage(name, work);
        if examination.report.device.is_none() {
            let rest = STAGES.into_iter().skip(at + 1).map(|(stage, ..)| (stage, "the device does not open"));
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
    /// Ends a report whose examination did not end in time, so that nothing more is heard of it.
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
    /// End of the present stage, since the beginning.
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

    /// Runs a stage. Its error is noted, and the stages after it run on a device that is opened anew.
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

    /// The device, opened if it is not, or is not usable any more.
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

    /// Tells that a piece of work begins.
    fn begin(&mut self, what: impl Into<String>) {
        if let Some(running) = &mut self.report.running {
            running.what = what.into();
        }
        self.report.elapsed_s = self.begin.elapsed().as_secs_f64();
        (self.hear)(&self.report);
    }

    /// Time left to the stage.
    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.begin.elapsed())
    }

    /// Whether work of so many seconds ends in time.
    fn affords(&self, seconds: f64) -> bool {
        seconds < self.left().as_secs_f64()
    }

    /// Notes work that is left out.
    fn skip(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        let stage = self.report.running.as_ref().map_or("", |running| running.stage);
        self.report.skipped.push(Skipped { stage, what: what.into(), reason: reason.into() });
    }

    fn problem(&mut self, problem: String) {
        self.report.problems.push(problem);
    }
}

/// A number and its noun: `1 step`, `2 steps`.
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
        // The last stage has all of it, however late it begins.
        assert_eq!(deadline(STAGES.len() - 1, seconds(50.0), limit), limit.mul_f64(WORKING));
        assert_eq!(deadline(STAGES.len() - 1, seconds(99.0), limit), seconds(99.0));
        for stage in 0..STAGES.len() {
            let (early, late) = (deadline(stage, seconds(0.0), limit), deadline(stage, seconds(60.0), limit));
            assert!(early > seconds(0.0) && late > seconds(60.0) && late <= limit.mul_f64(WORKING), "{stage}");
        }
    }
}
