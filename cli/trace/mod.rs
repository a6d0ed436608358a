//! `ruminate trace`: shows the recurrent states while a text is continued.
//!
//! The text is generated first, as by `ruminate run --kv-dtype f32`. Then the same tokens are computed again, step by step, in a session with the same
//! seed, and every state is recorded.

mod gather;
mod noise;
mod page;
mod picture;
mod terminal;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use ruminate::trace::Trace;
use ruminate::{GenerateOptions, SessionOptions, Spec, demo};

use self::gather::{Asked, gather};
use crate::device::DeviceOptions;
use crate::exit_code::{Done, Usage};
use crate::interrupt::Interrupt;
use crate::model::ModelOptions;
use crate::options::GenerationOptions;
use crate::plot::{ChartOutput, distinct, say_written, writable};
use crate::prompt::PromptOptions;

/// Text after the flags in the help.
const HELP: &str = "\
Without --max-tokens, 64 tokens are generated at most. Without --html, --svg, --png and --safetensors, the trace is shown in the terminal.";

/// Flags of `ruminate trace`.
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct TraceOptions {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    input: PromptOptions,

    #[command(flatten)]
    generation: GenerationOptions,
    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    chart: ChartOutput,
    /// Write states and everything derived from them as tensors
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    safetensors: Option<PathBuf>,
    /// Position of the path to show [default: the prompt's last]
    ///
    /// Pictures show it, and pages show it first. The last position of the prompt begins the answer.
    #[arg(long, value_name = "N", help_heading = "Output")]
    token: Option<usize>,
    /// Do not report written files
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
}

/// Runs `ruminate trace`.
pub(crate) fn trace(options: &TraceOptions) -> Result<Done> {
    let interrupt = Interrupt::watch()?;
    let text = options.input.read()?;
    if text.is_none() && !options.model.argument.is_demo() {
        return Err(Usage("no prompt: give one as argument, with -p or -f, or on stdin".to_owned()).into());
    }
    if options.generation.continuous.is_some() {
        let problem = "a trace starts every token from its own initial state; leave out --continuous";
        return Err(Usage(problem.to_owned()).into());
    }
    if options.generation.noise.is_some() {
        let problem = "a trace shows states without added noise; leave out --noise";
        return Err(Usage(problem.to_owned()).into());
    }
    let parallel = &options.generation.parallel;
    if parallel.speculate.is_some() || parallel.pipeline.is_some() || parallel.diffusion.diffusion {
        let problem = "a trace computes one token at a time, so parallel decoding would not be visible; leave out --speculate, \
                       --pipeline and --diffusion";
        return Err(Usage(problem.to_owned()).into());
    }
    let files: Vec<&Path> = options.chart.files().chain(options.safetensors.as_deref()).collect();
    distinct(&files)?;
    for file in &files {
        writable(file)?;
    }
    if let Some(text) = text.as_deref().filter(|_| !options.quiet) {
        options.model.argument.note_demo([text]);
    }
    let text = text.unwrap_or_else(|| demo::PROMPTS[0].0.to_owned());
    let source = options.model.argument.source()?;
    let device = options.device.open(options.model.products(), options.quiet)?;
    let kv_dtype = options.generation.cache.exact_kv_dtype();
    let spec = Spec::open(&source)?;
    let session = SessionOptions { kv_dtype, ..options.generation.session(&spec)? };
    // A trace that is too large is rejected before anything is loaded, even though the prompt's length is not known yet.
    let steps = options.generation.steps.unwrap_or(spec.steps.default);
    let context = session.context.unwrap_or_else(|| spec.usual_context());
    Trace::check(&spec, options.generation.max_tokens.unwrap_or(1).min(context) as usize, steps)?;
    let model = options.model.load(&source, &device, session.clone(), options.quiet)?;
    let usual = options.generation.generate(&model, options.quiet)?;
    let generation = GenerateOptions {
        add_bos: usual.add_bos && !options.input.no_bos,
        parse_special: !options.input.no_parse_special,
        max_tokens: options.generation.max_tokens,
        ..usual
    };
    let products = options.model.products();
    let asked = Asked { text: &text, session, products, generation, token: options.token, quiet: options.quiet };
    let Some(found) = gather(&model, &asked, &interrupt)? else { return Ok(Done::Interrupted) };
    if !options.quiet {
        options.input.note_unread();
    }
    if files.is_empty() {
        terminal::print(&found)?;
    }
    options.chart.write(|| page::page(&found), |theme| picture::picture(&found, theme), options.quiet)?;
    if let Some(path) = &options.safetensors {
        found.trace.write_safetensors(&found.pca, found.about(), path)?;
        if !options.quiet {
            say_written(path);
        }
    }
    Ok(Done::Complete)
}
