//! `ruminate bench`: measures a device's best rates, and how close kernels and a whole model come to them.

mod load;
mod report;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ruminate::bench::{Ceilings, Costs, Tokens, kernels, launched, tokens};
use ruminate::engine::shaders::Kernel;
use ruminate::{Device, Dtypes, KERNELS, MAX_STEPS, SessionOptions, Source, Spec};

use crate::device::DeviceOptions;
use crate::exit_code::{Done, Usage};
use crate::interrupt::{Generating, Interrupt};
use crate::model::ModelOptions;
use crate::options::CacheOptions;
use crate::words::counted;
use report::{Format, Report};

/// Flags of `ruminate bench`.
#[derive(Args)]
pub(crate) struct Bench {
    /// Kernels are timed at the shapes of the model
    #[command(flatten)]
    model: ModelOptions,
    /// Measure only these parts: ceilings, kernels, tokens
    ///
    /// ceilings: the device's best rates, and the overheads of using it. kernels: each kernel at the shapes of the model. tokens: whole tokens.
    #[arg(
        long,
        value_enum,
        value_name = "PART,…",
        value_delimiter = ',',
        help_heading = "Tests",
        hide_possible_values = true
    )]
    only: Vec<Part>,
    /// Only these kernels
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', help_heading = "Tests")]
    kernel: Vec<String>,
    /// Rows per pass in which kernels are timed
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8,16,64,512", value_parser = clap::value_parser!(u32).range(1..=4096), help_heading = "Tests")]
    rows: Vec<u32>,
    /// Steps of whole tokens
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,4,8,16,32,64", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STEPS)), help_heading = "Common", display_order = 2)]
    steps: Vec<u32>,
    /// Tokens of the prompt; 0 for none [default: 512, or what the model holds]
    #[arg(long, value_name = "N", help_heading = "Tests")]
    prefill: Option<u32>,
    /// Tokens to decode; 0 for none [default: 128, or what the model holds]
    #[arg(long, value_name = "N", help_heading = "Tests")]
    decode: Option<u32>,
    /// Measurements of each figure
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Tests")]
    repetitions: u32,
    /// Approximate seconds for whole tokens; with too few, fewer tokens are measured
    #[arg(long, value_name = "SECONDS", default_value_t = 120, help_heading = "Tests")]
    budget: u32,

    #[command(flatten)]
    cache: CacheOptions,
    #[command(flatten)]
    device: DeviceOptions,
    /// Format: md, csv or json
    #[arg(short, long, value_enum, default_value_t = Format::Md, help_heading = "Output", hide_possible_values = true)]
    output: Format,
}

/// Part of the measurements.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The device's best rates, and the overheads of using it
    Ceilings,
    /// Every kernel
    Kernels,
    /// Whole tokens
    Tokens,
}

/// The model, device, kernels and tokens to measure.
struct Subject {
    source: Source,
    spec: Spec,
    device: Device,
    chosen: Vec<&'static Kernel>,
    asked: Tokens,
}

/// Runs `ruminate bench`.
pub(crate) fn bench(options: &Bench) -> Result<Done> {
    let interrupt = Interrupt::watch()?;
    let chosen = options.kernels()?;
    let source = options.model.argument.source_or_shape()?;
    let spec = Spec::open(&source)?;
    let asked = options.tokens(&spec)?;
    let products = options.model.products();
    let device = match options.only[..] {
        [Part::Ceilings] => options.device.open_gpu(products, "the CPU reference has no ceilings")?,
        _ => options.device.open(products, false)?,
    };
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let watch = interrupt.working();
    let mut report = Report::new(&spec, &device);
    let subject = Subject { source, spec, device, chosen, asked };
    let finished = options.measure(&subject, &mut report, &bar, &watch)?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    report.print(options.output, &mut out)?;
    out.flush()?;
    for note in &report.notes {
        remark!("note: {note}");
    }
    Ok(if finished { Done::Complete } else { Done::Interrupted })
}

impl Bench {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Returns the kernels to time.
    fn kernels(&self) -> Result<Vec<&'static Kernel>> {
        for name in &self.kernel {
            if !KERNELS.iter().any(|kernel| kernel.name == name) {
                let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
                return Err(Usage(format!("unknown kernel `{name}` (expected one of {})", known.join(", "))).into());
            }
        }
        let asked = |kernel: &&&Kernel| self.kernel.is_empty() || self.kernel.iter().any(|name| name == kernel.name);
        Ok(KERNELS.iter().filter(asked).copied().collect())
    }

    /// Returns a note about named kernels that the model does not launch, so that they are not timed.
    ///
    /// # Errors
    /// If only kernels are to be timed, and none of the named ones is launched.
    fn absent(&self, subject: &Subject, dtypes: Dtypes) -> Result<Option<String>> {
        let Subject { spec, device, chosen, .. } = subject;
        let met = launched(device, chosen, spec, dtypes, &self.rows);
        let absent: Vec<_> = chosen.iter().map(|kernel| kernel.name).filter(|name| !met.contains(name)).collect();
        let what = format!("a model of this shape in {dtypes} never launches {} on this device", absent.join(", "));
        if met.is_empty() && self.only == [Part::Kernels] {
            let all = launched(device, KERNELS, spec, dtypes, &self.rows);
            return Err(Usage(format!("{what}; it launches {}", all.join(", "))).into());
        }
        Ok((!absent.is_empty()).then(|| format!("{what}, so it is not timed")))
    }

    /// Returns the options for timing tokens.
    ///
    /// # Errors
    /// If the model's context is too short for them. This is checked before anything is measured.
    fn tokens(&self, spec: &Spec) -> Result<Tokens> {
        let most = spec.context.saturating_sub(2);
        let asked = [self.prefill, self.decode].into_iter().flatten().max().unwrap_or(0);
        if asked > most {
            return Err(Usage(format!("{asked} tokens exceed the model's context; at most {most} can be timed")).into());
        }
        Ok(Tokens {
            prefill: self.prefill.unwrap_or(512.min(most)),
            decode: self.decode.unwrap_or(128.min(most)),
            steps: self.steps.clone(),
            repetitions: self.repetitions,
            budget: Duration::from_secs(self.budget.into()),
        })
    }

    /// Makes the measurements. Returns false if they were interrupted.
    fn measure(
        &self,
        subject: &Subject,
        report: &mut Report,
        bar: &ProgressBar,
        watch: &Generating<'_>,
    ) -> Result<bool> {
        let Subject { source, spec, device, chosen, asked } = subject;
        let dtypes = if self.wants(Part::Kernels) { self.model.dtypes(spec)? } else { report.dtypes };
        if self.wants(Part::Kernels) && !self.kernel.is_empty() {
            let absent = self.absent(subject, dtypes)?;
            report.notes.extend(absent);
        }
        report.notes.extend(load::before(device));
        // All other measurements are compared with the ceilings. The CPU reference has none, because it is not written for speed.
        if !device.is_cpu() {
            bar.set_message("ceilings of the device");
            report.ceilings = Some(Ceilings::measure(device, self.repetitions)?);
            if self.wants(Part::Ceilings) {
                report.costs = Some(Costs::measure(device, self.repetitions)?);
            } else if self.wants(Part::Kernels) {
                report.launch = Some(Costs::launch(device, self.repetitions)?);
            }
            report.notes.extend(report.unsteady());
        }
        if watch.stopped() {
            return Ok(false);
        }
        if self.wants(Part::Kernels) {
            report.dtypes = dtypes;
            let (mut going, mut failed) = (true, None);
            kernels(device, chosen, spec, dtypes, &self.rows, self.repetitions, &mut |timed| {
                match timed {
                    Ok(timing) => {
                        bar.set_message(format!("{}, {}", timing.variant, timing.case));
                        report.kernels.push(timing);
                    }
                    Err(error) => failed = failed.take().or(Some(error)),
                }
                going = !watch.stopped();
                going
            })?;
            report.notes.extend(failed.map(|error| format!("not every kernel was timed: {error}")));
            if !going {
                return Ok(false);
            }
        }
        if self.wants(Part::Tokens) {
            bar.set_message("loading the model");
            let session = SessionOptions {
                context: Some(asked.context()),
                steps: self.steps.iter().copied().max(),
                kv_dtype: self.cache.kv_dtype(),
                ..SessionOptions::default()
            };
            let model = self.model.load(source, device, session, true)?;
            report.loaded(&model);
            let mut going = true;
            tokens(&model, asked, &mut |timing| {
                bar.set_message(format!("{:?} at {}", timing.phase, counted(timing.steps, "step")));
                report.tokens.push(timing);
                going = !watch.stopped();
                going
            })?;
            return Ok(going);
        }
        Ok(true)
    }
}
