//! `ruminate quantize`: writes a quantized copy of a model.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ruminate::{Error, Precision, QuantizeOptions};
use serde_json::json;

use crate::exit_code::Done;
use crate::interrupt::Interrupt;
use crate::model::ModelArgument;
use crate::options::{DTYPES, QUANTIZED_NAMES};
use crate::progress;

/// Flags of `ruminate quantize`.
#[derive(Args)]
pub(crate) struct Quantize {
    #[command(flatten)]
    model: ModelArgument,
    #[arg(long, value_name = "DTYPE", help = format!("Dtype of the matrices: {QUANTIZED_NAMES}"), long_help = format!("Dtype of the matrices, some of them in {QUANTIZED_NAMES}: {DTYPES}"), help_heading = "Output")]
    dtype: Precision,
    /// Folder to write: a new or empty one
    #[arg(short, long, value_name = "DIR", help_heading = "Output")]
    output: PathBuf,
    /// Overwrite a model in a folder that is not empty
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// Runs `ruminate quantize`.
pub(crate) fn quantize(options: &Quantize) -> Result<Done> {
    let interrupt = Interrupt::watch()?;
    let source = options.model.source()?;
    let template = "writing {bar:30} {bytes}/{total_bytes} {bytes_per_sec}{left}";
    let bar = progress::bar(std::io::stderr().is_terminal(), 0, template)?;
    let watch = interrupt.working();
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
        !watch.stopped()
    };
    let asked = QuantizeOptions {
        precision: options.dtype.clone(),
        force: options.force,
        progress: Some(&mut progress),
        ..QuantizeOptions::default()
    };
    let written = match ruminate::quantize(&source, &options.output, asked) {
        Err(Error::Cancelled) => return Ok(Done::Interrupted),
        done => done?,
    };
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if options.json {
        let files: Vec<_> = written.files.iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect();
        let all = json!({
            "folder": options.output,
            "dtype": written.dtypes.to_string(),
            "files": files,
            "weights": written.weights,
            "weight_bytes": written.weight_bytes,
            "bits_per_weight": written.bits_per_weight(),
        });
        writeln!(out, "{all:#}")?;
        return Ok(Done::Complete);
    }
    for (name, bytes) in &written.files {
        writeln!(out, "{bytes:>14}  {}", options.output.join(name).display())?;
    }
    let bits = written.bits_per_weight();
    writeln!(out, "{}: {} weights in matrices, {bits:.3} bits each", written.dtypes, written.weights)?;
    Ok(Done::Complete)
}
