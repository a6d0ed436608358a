//! `ruminate tune`: times kernel variants on a device and stores the fastest choices.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ruminate::tune::{ROWS, tune_model};
use ruminate::{Device, OutputFile, Spec, Tuned, Tuning, engine};

use crate::device::{DeviceOptions, tunings};
use crate::exit_code::{Done, Usage};
use crate::interrupt::Interrupt;
use crate::model::ModelOptions;
use crate::plot::writable;
use crate::table::table;
use crate::words::counted;

/// Flags of `ruminate tune`.
#[derive(Args)]
pub(crate) struct Tune {
    /// Model with the shapes to tune
    #[command(flatten)]
    model: ModelOptions,
    /// Rows per pass to tune: 1 for decoding, up to 512 for a prompt
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = ROWS, value_parser = clap::value_parser!(u32).range(1..=4096), help_heading = "Tests")]
    rows: Vec<u32>,
    #[command(flatten)]
    device: DeviceOptions,
    /// File to write [default: the device's, in the user's cache]
    ///
    /// Every verb finds the default.
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
}

/// Reason why the CPU reference cannot be tuned.
const WHY: &str = "the CPU reference has only one variant of each kernel";

/// Result for a kernel class, and whether weights were in textures.
type Line = (Tuned, bool);

/// Runs `ruminate tune`.
pub(crate) fn tune(options: &Tune) -> Result<Done> {
    let interrupt = Interrupt::watch()?;
    let Some(asked) = options.device.gpu_options(options.model.products()) else {
        return Err(Usage(format!("{WHY}; leave out --cpu")).into());
    };
    if options.device.speaks_of_tuning() {
        let problem = "--tuning and --no-tune are for commands that use a tuning; `tune` times all kernels itself, and writes to --output";
        return Err(Usage(problem.to_owned()).into());
    }
    if let Some(path) = &options.output {
        writable(path)?;
    }
    let spec = Spec::open(&options.model.argument.source_or_shape()?)?;
    let dtypes = options.model.dtypes(&spec)?;
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let watch = interrupt.working();
    let mut lines: Vec<Line> = Vec::new();
    let tuned = tune_model(&asked, &spec, dtypes, &options.rows, &|| !watch.stopped(), &mut |tuned, textures| {
        bar.set_message(format!("{}, {}", tuned.class, counted(tuned.tried, "variant")));
        lines.push((tuned.clone(), textures));
    });
    bar.finish_and_clear();
    let tuned = tuned.map_err(|error| options.device.explained(error, WHY))?;
    let Some((device, tuning)) = tuned else { return Ok(Done::Interrupted) };
    let mut out = std::io::stdout().lock();
    print(&mut out, &lines)?;
    let path = write(options, &device, &tuning)?;
    writeln!(out, "\n{dtypes} on {}: {}", device.name(), summary(&lines))?;
    writeln!(out, "written to {}", path.display())?;
    Ok(Done::Complete)
}

/// Merges the choices into the file and returns its path.
fn write(options: &Tune, device: &Device, tuning: &Tuning) -> Result<PathBuf> {
    let summary = device.summary().ok_or(engine::Error::NoAdapter { asked: "tuning".to_owned(), found: vec![] })?;
    let usual = || Some(tunings()?.join(Tuning::file_name(summary)));
    let asked = options.output.as_ref().map(OutputFile::check).transpose()?;
    let Some(path) = asked.or_else(usual) else {
        return Err(Usage("the user's cache folder is unknown; name a file with --output".to_owned()).into());
    };
    // Choices for other models or dtypes are kept.
    let mut all = Tuning::read(&path, summary).unwrap_or_default();
    all.textures = tuning.textures;
    for (class, name) in tuning.choices() {
        all.choose(class, name);
    }
    all.write(&path, summary)?;
    Ok(path)
}

/// Summary of the gains.
fn summary(lines: &[Line]) -> String {
    let other = lines.iter().filter(|(tuned, _)| tuned.best != tuned.first);
    let most = lines.iter().map(|(tuned, _)| tuned.first.median() / tuned.best.median()).fold(1.0, f64::max);
    format!(
        "{}, {} with another choice than the default, at most {most:.2} times as fast",
        counted(lines.len(), "class"),
        other.count()
    )
}

/// Prints a table of the classes and their choices.
fn print(out: &mut impl Write, lines: &[Line]) -> Result<()> {
    let micro = |seconds: f64| format!("{:.1}", seconds * 1e6);
    let heads = ["what", "weights in", "choice", "tried", "default: µs", "best: µs", "gain"];
    let rows = lines.iter().map(|(tuned, textures)| {
        let (first, best) = (tuned.first.median(), tuned.best.median());
        vec![
            tuned.class.clone(),
            if *textures { "textures" } else { "buffers" }.to_owned(),
            tuned.chosen.clone(),
            tuned.tried.to_string(),
            micro(first),
            micro(best),
            format!("{:.2} ×", first / best),
        ]
    });
    table(out, &heads, 3, rows)
}
