//! Output of `ruminate bench`: tables for people, or one line per measurement for programs.

use std::io::Write;

use anyhow::Result;
use clap::ValueEnum;
use ruminate::bench::{Ceiling, Ceilings, Costs, KernelTiming, Line, Phase, Sample, TokenTiming};
use ruminate::{Device, Dtype, Dtypes, Model, Spec};
use serde::Serialize;
use serde_json::json;

use crate::table::table;
use crate::words::size;

/// Version of the program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Ratio of the longest to the shortest measurement of a ceiling above which a note is printed.
const UNSTEADY: f64 = 1.3;

/// Output format.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// Markdown tables
    Md,
    /// One line per measurement
    Csv,
    /// One object: model, device, measurements, and the line fitted to the time per token
    Json,
}

/// All measurements.
pub(crate) struct Report {
    model: String,
    device: String,
    pub(crate) dtypes: Dtypes,
    weights: Option<u64>,
    step_bytes: f64,
    pub(crate) ceilings: Option<Ceilings>,
    pub(crate) costs: Option<Costs>,
    /// Seconds of a launch, if the other costs are not measured.
    pub(crate) launch: Option<Sample>,
    /// Reasons why the figures are less certain than they look.
    pub(crate) notes: Vec<String>,
    pub(crate) kernels: Vec<KernelTiming>,
    pub(crate) tokens: Vec<TokenTiming>,
}

/// One measurement.
#[derive(Default, Serialize)]
struct Record {
    /// `ceiling`, `cost`, `kernel` or `tokens`.
    part: &'static str,
    /// Name of a ceiling, a cost or a kernel's variant, or `prefill` or `decode`.
    name: String,
    /// Shape of a kernel's case.
    case: Option<String>,
    /// Rows of a kernel's pass.
    rows: Option<u32>,
    /// Recurrence steps.
    steps: Option<u32>,
    /// Tokens per measurement.
    tokens: Option<u32>,
    /// Median seconds per byte, operation, launch or token.
    seconds: f64,
    /// Shortest time.
    seconds_least: f64,
    /// Longest time.
    seconds_most: f64,
    /// Number of measurements.
    repetitions: usize,
    /// Billions of bytes per second, from the median time; for a ceiling, from the shortest.
    gb_per_s: Option<f64>,
    /// Billions of floating-point operations per second, from the same time.
    gflop_per_s: Option<f64>,
    /// Tokens per second.
    tokens_per_s: Option<f64>,
    /// Percentage of the speed that the ceilings allow.
    percent: Option<f64>,
    /// Limiting ceiling: `read` or `f32`, or `launch` if the launch itself takes longer than its work.
    bound_by: Option<&'static str>,
    /// Host time for a token, which overlaps the device's, in percent of the token's time.
    host_percent: Option<f64>,
    /// Model, dtype, device and version, for self-contained lines in CSV. In JSON they are outside the records.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
}

impl Record {
    fn new(part: &'static str, name: impl Into<String>, time: &Sample) -> Self {
        let [seconds, seconds_least, seconds_most] = [time.median(), time.least(), time.most()];
        let repetitions = time.repetitions();
        Self { part, name: name.into(), seconds, seconds_least, seconds_most, repetitions, ..Self::default() }
    }

    /// Formats the spread, half the difference between the longest and the shortest time, in percent of the median; `-` for a single measurement.
    fn spread(&self) -> String {
        match self.repetitions {
            1 => "-".to_owned(),
            _ => format!("{:.1} %", 50.0 * (self.seconds_most - self.seconds_least) / self.seconds),
        }
    }
}

impl Report {
    pub(crate) fn new(spec: &Spec, device: &Device) -> Self {
        let Spec { width, heads, hidden, .. } = spec;
        let layers = [spec.layers.before, spec.layers.core, spec.layers.after].map(|n| n.to_string());
        let driver = device.summary().map_or(String::new(), |summary| format!(", {}", summary.driver));
        Self {
            model: format!("width {width}, heads {heads}, hidden {hidden}, layers {}", layers.join("/")),
            device: format!("{}{driver}", device.name()),
            dtypes: Dtype::Bf16.into(),
            weights: None,
            step_bytes: 0.0,
            ceilings: None,
            costs: None,
            launch: None,
            notes: Vec::new(),
            kernels: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// Records the model whose tokens are measured.
    pub(crate) fn loaded(&mut self, model: &Model) {
        self.dtypes = model.dtypes();
        self.weights = Some(model.weight_bytes());
        self.step_bytes = (model.bytes_per_token(2) - model.bytes_per_token(1)) as f64;
    }

    /// Prints the report.
    pub(crate) fn print(&self, format: Format, out: &mut impl Write) -> Result<()> {
        match format {
            Format::Md => self.tables(out),
            Format::Csv => {
                let mut csv = csv::Writer::from_writer(out);
                let alone = |record| Record {
                    model: Some(self.model.clone()),
                    dtype: Some(self.dtypes.to_string()),
                    device: Some(self.device.clone()),
                    version: Some(VERSION),
                    ..record
                };
                self.records().try_for_each(|record| csv.serialize(alone(record)))?;
                Ok(csv.flush()?)
            }
            Format::Json => {
                let line = self.line().map(|(line, bound)| {
                    json!({
                        "base_s": line.base,
                        "slope_s_per_step": line.slope,
                        "residual": line.residual,
                        "bytes_alone_s_per_step": bound,
                    })
                });
                let all = json!({
                    "model": self.model,
                    "dtype": self.dtypes.to_string(),
                    "weight_bytes": self.weights,
                    "device": self.device,
                    "version": VERSION,
                    "notes": self.notes,
                    "records": self.records().collect::<Vec<_>>(),
                    "decode_line": line,
                });
                serde_json::to_writer_pretty(&mut *out, &all)?;
                Ok(writeln!(out)?)
            }
        }
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        let ceilings = self.ceilings().into_iter().chain(self.costs());
        let kernels = self.kernels.iter().map(|timing| self.kernel(timing));
        ceilings.chain(kernels).chain(self.tokens.iter().map(|timing| self.token(timing)))
    }

    fn ceilings(&self) -> Vec<Record> {
        let Some(it) = &self.ceilings else { return Vec::new() };
        let order = [
            Ceiling::ReadBuffer,
            Ceiling::ReadTexture,
            Ceiling::Copy,
            Ceiling::F32,
            Ceiling::F16,
            Ceiling::Int8,
            Ceiling::Cooperative,
        ];
        let record = |ceiling: Ceiling| {
            let time = it.of(ceiling)?;
            let (record, rate) = (Record::new("ceiling", ceiling.name(), time), 1e-9 / time.least());
            Some(match ceiling.is_of_bytes() {
                true => Record { gb_per_s: Some(rate), ..record },
                false => Record { gflop_per_s: Some(rate), ..record },
            })
        };
        order.into_iter().filter_map(record).collect()
    }

    fn costs(&self) -> Vec<Record> {
        let Some(it) = &self.costs else { return Vec::new() };
        let all = [
            ("launch, independent", Some(&it.independent)),
            ("launch, dependent", Some(&it.dependent)),
            ("launch, indirect", it.indirect.as_ref()),
            ("launch, indirect, checked by wgpu", it.indirect_checked.as_ref()),
            ("encoding a launch (host)", Some(&it.encode)),
            ("submit and wait", Some(&it.submission)),
            ("read 4 bytes back", Some(&it.read_back)),
        ];
        all.into_iter().filter_map(|(name, time)| time.map(|time| Record::new("cost", name, time))).collect()
    }

    fn kernel(&self, timing: &KernelTiming) -> Record {
        let KernelTiming { variant, case, rows, cost, time, .. } = timing;
        let bound = self.bound(cost.bytes as f64, cost.flops as f64, true);
        let record = Record::new("kernel", variant, time);
        Record {
            case: Some(case.clone()),
            rows: Some(*rows),
            gb_per_s: Some(cost.bytes as f64 / time.median() / 1e9),
            gflop_per_s: Some(cost.flops as f64 / time.median() / 1e9),
            percent: bound.map(|(bound, _)| 100.0 * bound / time.median()),
            bound_by: bound.map(|(_, by)| by),
            ..record
        }
    }

    /// Returns the minimum seconds of some work, and the name of what limits it: reading its bytes, computing in f32, or for a launch, its own cost.
    fn bound(&self, bytes: f64, flops: f64, is_launch: bool) -> Option<(f64, &'static str)> {
        let ceilings = self.ceilings.as_ref()?;
        let launch = self.launch.as_ref().or(self.costs.as_ref().map(|costs| &costs.independent));
        let launch = launch.filter(|_| is_launch).map_or(0.0, Sample::median);
        let all = [(bytes * ceilings.read(), "read"), (flops * ceilings.compute(), "f32"), (launch, "launch")];
        all.into_iter().reduce(|most, it| if it.0 > most.0 { it } else { most })
    }

    /// Returns notes about ceilings whose measurements varied much, which makes all comparisons with them uncertain.
    pub(crate) fn unsteady(&self) -> Vec<String> {
        let wide = self.ceilings().into_iter().filter(|it| it.seconds_most > UNSTEADY * it.seconds_least);
        let said = wide.map(|it| {
            let times = it.seconds_most / it.seconds_least;
            format!("`{}` took {times:.1} times as long in one measurement as in another, probably because of other work on the device; measure again without it", it.name)
        });
        said.collect()
    }

    fn token(&self, timing: &TokenTiming) -> Record {
        let TokenTiming { phase, tokens, steps, bytes, flops, time, host } = timing;
        let name = match phase {
            Phase::Prefill => "prefill",
            Phase::Decode => "decode",
        };
        let bound = self.bound(*bytes, *flops, false);
        let record = Record::new("tokens", name, time);
        Record {
            steps: Some(*steps),
            tokens: Some(*tokens),
            gb_per_s: Some(bytes / time.median() / 1e9),
            gflop_per_s: Some(flops / time.median() / 1e9),
            tokens_per_s: Some(1.0 / time.median()),
            percent: bound.map(|(bound, _)| 100.0 * bound / time.median()),
            host_percent: Some(100.0 * host / time.median()),
            bound_by: bound.map(|(_, by)| by),
            ..record
        }
    }

    /// Fits a line to the time per decoded token over steps. Also returns the minimum seconds for reading one step's weights.
    fn line(&self) -> Option<(Line, Option<f64>)> {
        let decoded = self.tokens.iter().filter(|timing| timing.phase == Phase::Decode);
        let points: Vec<_> = decoded.map(|timing| (timing.steps, timing.time.median())).collect();
        Some((Line::fit(&points)?, self.ceilings.as_ref().map(|it| self.step_bytes * it.read())))
    }

    fn tables(&self, out: &mut impl Write) -> Result<()> {
        let weights = self.weights.map_or(String::new(), |bytes| format!(", {}", size(bytes)));
        writeln!(out, "{} ({}{weights}) on {}", self.model, self.dtypes, self.device)?;
        if self.ceilings.is_some() {
            let rows = self.ceilings().into_iter().map(|it| {
                let (rate, unit) = match (it.gb_per_s, it.gflop_per_s) {
                    (Some(rate), _) => (rate, "GB/s"),
                    (_, rate) => (rate.unwrap_or_default(), "GFLOP/s"),
                };
                vec![it.name.clone(), format!("{rate:.1} {unit}"), it.spread()]
            });
            table(out, &["the device can, at its best", "rate", "±"], 1, rows)?;
        }
        if self.costs.is_some() {
            let rows = self.costs().into_iter().map(|it| {
                let micro = |seconds: f64| format!("{:.1}", 1e6 * seconds);
                vec![it.name, micro(it.seconds), micro(it.seconds_least), micro(it.seconds_most)]
            });
            table(out, &["cost", "µs", "least", "most"], 1, rows)?;
        }
        if !self.kernels.is_empty() {
            let rows = self.kernels.iter().map(|timing| {
                let it = self.kernel(timing);
                let (time, spread) = (format!("{:.1}", 1e6 * it.seconds), it.spread());
                let [gb, gflop, percent] = [it.gb_per_s, it.gflop_per_s, it.percent].map(digits);
                let bound = it.bound_by.unwrap_or_default().to_owned();
                vec![it.name, timing.case.clone(), time, spread, gb, gflop, percent, bound]
            });
            table(out, &["kernel", "case", "µs", "±", "GB/s", "GFLOP/s", "%", "of"], 2, rows)?;
        }
        if !self.tokens.is_empty() {
            let rows = self.tokens.iter().map(|timing| {
                let it = self.token(timing);
                let bound = self.ceilings.as_ref().map(|ceilings| 1e3 * timing.bound(ceilings));
                let test = format!("{} {}", it.name, timing.tokens);
                let [rate, ms, alone, gb, gflop, percent] =
                    [it.tokens_per_s, Some(1e3 * it.seconds), bound, it.gb_per_s, it.gflop_per_s, it.percent]
                        .map(digits);
                let (spread, of) = (it.spread(), it.bound_by.unwrap_or_default().to_owned());
                let host = format!("{:.2} %", it.host_percent.unwrap_or_default());
                vec![test, timing.steps.to_string(), rate, spread, ms, alone, gb, gflop, percent, of, host]
            });
            let heads = ["test", "steps", "t/s", "±", "ms/token", "at least", "GB/s", "GFLOP/s", "%", "of", "host"];
            table(out, &heads, 1, rows)?;
        }
        if let Some((line, bound)) = self.line() {
            let [base, slope] = [line.base, line.slope].map(|seconds| digits(Some(1e3 * seconds)));
            write!(out, "\ndecode: {base} ms + {slope} ms per step, residual {:.1} %", 100.0 * line.residual)?;
            if let Some(bound) = bound {
                let percent = 100.0 * bound / line.slope;
                write!(
                    out,
                    "; reading a step's weights takes {} ms, {percent:.0} % of that",
                    digits(Some(1e3 * bound))
                )?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Formats a number with three digits; empty for `None`.
fn digits(value: Option<f64>) -> String {
    let Some(value) = value else { return String::new() };
    let decimals = [100.0, 10.0, 1.0, 0.1].iter().position(|&least| value.abs() >= least).unwrap_or(4);
    format!("{value:.decimals$}")
}
