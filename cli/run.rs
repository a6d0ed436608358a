//! `ruminate run`: text from a prompt.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use ruminate::{Device, GenerateOptions, LoadOptions, Model, SessionOptions, Source};
use serde_json::json;

use crate::exit::{Done, Usage};
use crate::options::Run;
use crate::report::{Report, stop_name};
use crate::{prompt, tour};

/// Runs the verb.
pub(crate) fn run(options: &Run) -> Result<Done> {
    let interrupted = on_interrupt()?;
    let text = prompt::read(options)?;
    if text.is_none() && options.model.is_some() {
        return Err(Usage("no prompt: give one as argument, with -p or -f, or on stdin".to_owned()).into());
    }
    let source = match &options.model {
        None => ruminate::demo::source(),
        Some(path) => match path.to_str().and_then(|text| text.strip_prefix("synthetic:")) {
            Some(shape) => ruminate::Synthetic::parse(shape)?.source(),
            None => Source::dir(path)?,
        },
    };
    let device = options.device.open(options.quiet)?;
    let model = load(&source, &device, options)?;
    match text {
        Some(text) => generate(&model, &text, options, &interrupted),
        None => tour::tour(&model, options, &interrupted),
    }
}

/// Sets a flag at the first Ctrl-C and leaves at the second.
fn on_interrupt() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("cannot watch for Ctrl-C")?;
    Ok(flag)
}

/// Loads the model, with a progress bar on a terminal.
fn load(source: &Source, device: &Device, options: &Run) -> Result<Model> {
    let bar =
        if options.quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("loading {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?;
    bar.set_style(style);
    let mut progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let loading = LoadOptions {
        dtype: options.dtype.map(Into::into),
        session: session_options(options),
        overcommit: options.overcommit,
        progress: Some(&mut progress),
    };
    let model = Model::open(source, device, loading)?;
    bar.finish_and_clear();
    Ok(model)
}

/// The session that the flags ask for, and its seed.
pub(crate) fn session_options(options: &Run) -> SessionOptions {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::from(since.subsec_nanos()));
    SessionOptions {
        context: options.ctx_size,
        steps: options.steps,
        seed: options.seed.unwrap_or_else(clock),
        init_scale: options.init_scale,
        ..SessionOptions::default()
    }
}

/// What the flags ask to generate.
pub(crate) fn generate_options(model: &Model, options: &Run) -> GenerateOptions {
    let checkpoint = model.generation_config();
    GenerateOptions {
        steps: options.steps,
        max_tokens: options.max_tokens.or(checkpoint.max_new_tokens),
        sampling: options.sampling(checkpoint),
        stop: options.stop.clone(),
        add_bos: !options.no_bos && model.tokenizer().bos().is_some(),
        ..GenerateOptions::default()
    }
}

fn generate(model: &Model, text: &str, options: &Run, interrupted: &AtomicBool) -> Result<Done> {
    let settings = session_options(options);
    let seed = settings.seed;
    let mut session = model.session(settings)?;
    let usual = model.config().block_size.min(4096);
    if options.ctx_size.is_none() && session.context() < usual && !options.quiet {
        anstream::eprintln!(
            "note: memory allows a context of {} positions at this depth; the model could hold {usual}",
            session.context()
        );
    }
    let asked = generate_options(model, options);
    let before = model.device().counters();
    let mut generation = session.generate(text, &asked)?;
    let mut out = std::io::stdout().lock();
    let (mut whole, mut tokens, mut newline) = (String::new(), Vec::new(), true);
    while !interrupted.load(Ordering::SeqCst) {
        let Some(piece) = generation.next() else { break };
        let piece = piece?;
        tokens.push(piece.token);
        if options.stream {
            let object = json!({ "token": piece.token, "text": piece.text, "steps": piece.steps });
            writeln!(out, "{object}")?;
        } else if !options.json {
            write!(out, "{}", piece.text)?;
        }
        if !piece.text.is_empty() {
            newline = piece.text.ends_with('\n');
        }
        out.flush()?;
        whole.push_str(&piece.text);
    }
    if !options.json && !newline {
        writeln!(out)?;
    }
    let (statistics, stop) = (generation.statistics().clone(), generation.stop_reason());
    drop(generation);
    let report = Report {
        model,
        statistics: &statistics,
        steps: asked.steps.unwrap_or(model.config().mean_recurrence),
        seed,
        counters: model.device().counters() - before,
    };
    if options.json {
        let mut object = report.json();
        object["stop"] = json!(stop.map_or("interrupted", stop_name));
        if !options.stream {
            object["text"] = json!(whole);
            object["tokens"] = json!(tokens);
        }
        writeln!(out, "{object}")?;
    }
    if !options.quiet {
        report.print(options.stats);
    }
    let done = interrupted.load(Ordering::SeqCst);
    if options.profile && !done {
        crate::report::profile(&session.profile(report.steps, asked.sampling)?);
    }
    Ok(if done { Done::Interrupted } else { Done::Complete })
}
