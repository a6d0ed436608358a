//! `ruminate doctor`: checks that a device computes correct results.

mod page;
mod report;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ruminate::doctor::{Finding, Whole, examine, examine_demo, round_trip};
use ruminate::{Arithmetic, Device, Dtype, Extent, KERNELS, KvShare, ManyRows, Spec, Synthetic};
use serde_json::{Value, json};

use crate::device::DeviceOptions;
use crate::exit_code::Done;
use crate::model::ModelArgument;
use crate::words::counted;

/// Shown below `ruminate doctor --help`.
const EXIT_CODES: &str = "\
Exit codes: 0 everything that ran is right; 1 a kernel, a token or a stage is wrong, or a report is incomplete because the device hung; 2 usage, or a file that cannot be
written; 3 no such device.";

/// Flags of `ruminate doctor`.
#[derive(Args)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) struct Doctor {
    /// Shapes are those of huginn-0125 unless a model is named
    #[command(flatten)]
    model: ModelArgument,
    #[command(flatten)]
    device: DeviceOptions,
    /// Print every case
    #[arg(short, long, help_heading = "Output")]
    verbose: bool,
    /// Print JSON, for a bug report
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Examine the device for up to ten minutes and write a report into FILE; - is stdout
    ///
    /// The report contains limits and memory; checks of every kernel and variant, and of greedy tokens of small models, against the CPU reference; the device's
    /// best rates; the speed of the demo and of random weights of published shapes in bf16, q8 and q4; and the choices that `tune` would change. The format is
    /// JSON if the name ends in .json, otherwise text; --report can be given twice for both. The file is updated as the work goes on, so if the driver crashes,
    /// there is a report that is marked incomplete and names the work under way. Work that needs more time or memory than there is, is listed as skipped. Only
    /// a driver is needed: no files, no network.
    #[arg(long, value_name = "FILE", conflicts_with = "verbose", help_heading = "Report")]
    report: Vec<PathBuf>,
    /// Take at most two minutes for the report
    #[arg(long, requires = "report", help_heading = "Report")]
    quick: bool,
}

/// Reason why the CPU reference cannot be examined.
const WHY: &str = "the doctor compares a device with the CPU reference";

/// Results of all checks.
struct Report {
    device: Device,
    spec: Spec,
    findings: Vec<Finding>,
    whole: std::result::Result<Whole, ruminate::Error>,
    round_trip: Option<Duration>,
}

/// Runs `ruminate doctor`.
pub(crate) fn doctor(options: &Doctor) -> Result<Done> {
    if !options.report.is_empty() {
        return report::report(options);
    }
    let spec = match options.model.is_some() {
        true => Spec::open(&options.model.source()?)?,
        false => Synthetic::parse("huginn-0125")?.spec().clone(),
    };
    let device = options.device.open_gpu(Arithmetic::F32, WHY)?;
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("examining {bar:30} {pos}/{len} {msg}")?);
    let findings = examine(&device, KERNELS, &spec, Dtype::Bf16, &mut |finding, at, total| {
        bar.set_length(total as u64);
        bar.set_position(at as u64);
        bar.set_message(finding.kernel);
    });
    bar.finish_and_clear();
    let whole = examine_demo(&device);
    let round_trip = round_trip(&device).ok();
    let report = Report { device, spec, findings, whole, round_trip };
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &report.json())?;
        writeln!(out)?;
    } else {
        report.print(&mut out, options.verbose)?;
    }
    out.flush()?;
    match report.problem() {
        None => Ok(Done::Complete),
        Some(problem) => anyhow::bail!("{problem}"),
    }
}

impl Report {
    fn wrong(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| !finding.passed())
    }

    /// Returns the problem as a message, if there is one.
    fn problem(&self) -> Option<String> {
        let advice = "update the driver, try another --backend or --gpu, or run on --cpu; `ruminate doctor --report FILE` writes a bug report";
        let name = self.device.name();
        let wrong = self.wrong().count();
        if let Some(first) = self.wrong().next() {
            let what = match &first.outcome {
                Ok(verdict) => verdict.to_string(),
                Err(error) => format!("{}, {}: {error}", first.variant, first.case),
            };
            return Some(format!(
                "{name} computes wrong results in {wrong} of {} cases, the first: {what}; {advice}",
                self.findings.len()
            ));
        }
        match &self.whole {
            Ok(whole) if whole.passed() => None,
            Ok(whole) => Some(format!("{name} computes wrong logits of the demo: error {:.1e}; {advice}", whole.error)),
            Err(error) => Some(format!("{name} cannot run the demo: {error}; {advice}")),
        }
    }

    fn print(&self, out: &mut impl Write, verbose: bool) -> Result<()> {
        match self.device.summary() {
            Some(it) => {
                let caps = it.caps;
                writeln!(out, "{} ({}, {:?}), {}", it.name, it.backend, it.kind, it.driver)?;
                let subgroups = caps
                    .subgroups
                    .map_or("none".to_owned(), |(a, b)| if a == b { a.to_string() } else { format!("{a} to {b}") });
                writeln!(
                    out,
                    "bindings of {} MiB, buffers of {} MiB, {} invocations and {} KiB per workgroup, subgroups: {subgroups}, timestamps: {}",
                    caps.max_binding >> 20,
                    it.max_buffer >> 20,
                    caps.max_invocations,
                    caps.max_workgroup_memory >> 10,
                    yes(it.timestamps),
                )?;
                writeln!(out, "prompts: {}", ManyRows::report(&caps))?;
            }
            None => writeln!(out, "{}", self.device.name())?,
        }
        let memory = self.device.memory();
        if let Some(available) = memory.available {
            let whose = if memory.shared { " of the host's memory" } else { "" };
            write!(out, "{:.1} GB{whose} free", available as f64 / 1e9)?;
            let steps = self.spec.steps.default;
            let session = Extent { context: 0, steps, kv_dtype: Dtype::Bf16, share: KvShare::None };
            let context = self.spec.longest_context(Dtype::Bf16, session, &self.device.caps(), memory);
            match context {
                Some(context) => {
                    writeln!(
                        out,
                        ": the model in bf16 fits with a context of {context} at {}",
                        counted(steps, "step")
                    )?;
                }
                None => writeln!(out, ": the model in bf16 does not fit")?,
            }
        }
        if let Some(time) = self.round_trip {
            writeln!(out, "a round trip takes {:.0} µs", time.as_secs_f64() * 1e6)?;
        }
        writeln!(out, "\n{:<16} {:>9} {:>16} {:>22}", "kernel", "right", "error / bound", "one row: µs, GB/s")?;
        for (kernel, findings) in self.by_kernel() {
            let right = findings.iter().filter(|finding| finding.passed()).count();
            let verdicts = || findings.iter().filter_map(|finding| Some((finding, finding.outcome.as_ref().ok()?)));
            let error = verdicts().map(|(_, verdict)| verdict.error()).fold(0.0, f64::max);
            let one =
                verdicts().filter(|(finding, _)| finding.rows == Some(1)).max_by_key(|(finding, _)| finding.bytes);
            let speed = one.map_or(String::new(), |(finding, verdict)| {
                let seconds = verdict.time.as_secs_f64();
                format!("{:.1}, {:.2}", seconds * 1e6, finding.bytes as f64 / seconds.max(1e-12) / 1e9)
            });
            let mark = if right == findings.len() { "" } else { "  WRONG" };
            writeln!(
                out,
                "{kernel:<16} {:>9} {error:>16.1e} {speed:>22}{mark}",
                format!("{right} of {}", findings.len())
            )?;
        }
        match &self.whole {
            Ok(whole) => {
                let mark = if whole.passed() { "" } else { "  WRONG" };
                writeln!(out, "{:<16} {:>9} {:>16.1e}{mark}", "demo, 16 steps", "", whole.error / whole.bound)?;
            }
            Err(error) => writeln!(out, "demo, 16 steps: {error}")?,
        }
        for finding in self.findings.iter().filter(|finding| verbose || !finding.passed()) {
            let (mark, text) = match &finding.outcome {
                Ok(verdict) => (if verdict.passed() { "right" } else { "WRONG" }, verdict.to_string()),
                Err(error) => ("FAILED", format!("{}, {}: {error}", finding.variant, finding.case)),
            };
            writeln!(out, "{mark}: {text}")?;
        }
        if self.problem().is_none() {
            writeln!(
                out,
                "\n{}, all right: this device computes what it should",
                counted(self.findings.len(), "case")
            )?;
        }
        Ok(())
    }

    fn by_kernel(&self) -> Vec<(&'static str, Vec<&Finding>)> {
        let mut groups: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
        self.findings.iter().for_each(|finding| groups.entry(finding.kernel).or_default().push(finding));
        let mut order: Vec<&'static str> = self.findings.iter().map(|finding| finding.kernel).collect();
        order.dedup();
        order.into_iter().filter_map(|kernel| Some((kernel, groups.remove(kernel)?))).collect()
    }

    fn json(&self) -> Value {
        let summary = self.device.summary();
        let case = |finding: &Finding| {
            let mut object = json!({
                "kernel": finding.variant, "case": finding.case, "rows": finding.rows, "passed": finding.passed(), "bytes": finding.bytes,
            });
            match &finding.outcome {
                Ok(verdict) => {
                    object["microseconds"] = json!(verdict.time.as_secs_f64() * 1e6);
                    let output = |it: &ruminate::engine::Comparison| json!({"binding": it.binding, "error": finite(it.error), "bound": it.bound});
                    object["outputs"] = verdict.outputs.iter().map(output).collect();
                }
                Err(error) => object["failure"] = json!(error.to_string()),
            }
            object
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            "device": self.device.name(),
            "driver": summary.map(|it| &it.driver),
            "backend": summary.map(|it| &it.backend),
            "prompts": summary.map(|it| ManyRows::report(&it.caps)),
            "kind": summary.map(|it| format!("{:?}", it.kind).to_lowercase()),
            "limits": summary.map(|it| json!({
                "max_binding_bytes": it.caps.max_binding, "max_buffer_bytes": it.max_buffer, "max_invocations": it.caps.max_invocations,
                "max_workgroup_memory": it.caps.max_workgroup_memory, "subgroup_sizes": it.caps.subgroups.map(|(a, b)| [a, b]),
                "timestamps": it.timestamps,
            })),
            "memory": {"total_bytes": self.device.memory().total, "available_bytes": self.device.memory().available},
            "round_trip_microseconds": self.round_trip.map(|time| time.as_secs_f64() * 1e6),
            "model": self.spec,
            "passed": self.problem().is_none(),
            "problem": self.problem(),
            "demo_error": self.whole.as_ref().ok().map(|whole| finite(whole.error)),
            "cases": self.findings.iter().map(case).collect::<Vec<_>>(),
        })
    }
}

/// Returns an error as a JSON number, or the string `infinite`, because JSON has no infinity.
fn finite(error: f64) -> Value {
    if error.is_finite() { json!(error) } else { json!("infinite") }
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
