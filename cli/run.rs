//! `ruminate run`: generates text from a prompt.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use ruminate::{GenerateOptions, MAX_LOGPROBS, Model, Piece, Progress, Prompt, Spec};
use serde_json::json;

use crate::device::DeviceOptions;
use crate::exit_code::{Done, Usage};
use crate::interrupt::Interrupt;
use crate::logprobs;
use crate::model::{ModelOptions, open_session};
use crate::options::GenerationOptions;
use crate::progress::Tokens;
use crate::prompt::PromptOptions;
use crate::report::{Report, stop_name};
use crate::snapshot::SnapshotOptions;
use crate::steps::ShownSteps;
use crate::{depth_demo, visible};

/// Flags of `ruminate run`.
#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    #[command(flatten)]
    pub(crate) input: PromptOptions,
    #[command(flatten)]
    snapshot: SnapshotOptions,

    #[command(flatten)]
    pub(crate) generation: GenerationOptions,
    #[cfg(feature = "structured")]
    #[command(flatten)]
    structured: crate::structured::StructuredOptions,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,

    /// Print one JSON object instead of text
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// With --json: one object per token, then one with the figures
    #[arg(long, requires = "json", help_heading = "Output")]
    pub(crate) stream: bool,
    /// Show the steps of each token, by color or as a small number
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub(crate) show_steps: bool,
    /// Print a line per token: its log-probability and the K most likely tokens
    ///
    /// At most 20; with --json, part of the objects. The values are the model's own: at temperature 1, before biases, penalties and filters.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_LOGPROBS)), conflicts_with = "show_steps", help_heading = "Output", hide_short_help = true)]
    pub(crate) logprobs: Option<u32>,
    /// Print the executor's counters afterwards
    #[arg(long, visible_alias = "verbose", help_heading = "Output")]
    pub(crate) stats: bool,
    /// Time each kernel of one more token afterwards
    #[arg(long, help_heading = "Output", hide_short_help = true)]
    pub(crate) profile: bool,
    /// Print nothing but the text
    #[arg(short, long, conflicts_with_all = ["stats", "profile"], help_heading = "Output")]
    pub(crate) quiet: bool,
}

impl Run {
    /// First given flag that needs a single generated text, which the demo's run at several depths is not.
    fn of_one_text(&self) -> Option<&'static str> {
        let given = [
            ("--json", self.json),
            ("--show-steps", self.show_steps),
            ("--logprobs", self.logprobs.is_some()),
            ("--stats", self.stats),
            ("--profile", self.profile),
            ("--no-bos", self.input.no_bos),
            ("--no-parse-special", self.input.no_parse_special),
        ];
        let given = given.into_iter().find_map(|(flag, given)| given.then_some(flag));
        #[cfg(feature = "structured")]
        let given = given.or(self.structured.given());
        given
    }

    /// Reads the prompt from a flag, a file or stdin.
    fn prompt(&self) -> Result<Option<String>> {
        #[cfg(feature = "structured")]
        if self.structured.reads_stdin() && self.input.reads_stdin() {
            let flag = self.structured.given().unwrap_or_default();
            return Err(Usage(format!("{flag} - reads stdin; give the prompt in another way")).into());
        }
        self.input.read()
    }
}

/// Runs `ruminate run`.
pub(crate) fn run(options: &Run) -> Result<Done> {
    let interrupt = Interrupt::watch()?;
    let text = options.prompt()?;
    options.snapshot.check(text.is_some())?;
    let resumes = options.snapshot.resume.is_some();
    if text.is_none() && !options.model.argument.is_demo() && !resumes {
        return Err(Usage("no prompt: give one as argument, with -p or -f, or on stdin".to_owned()).into());
    }
    if text.is_none()
        && !resumes
        && let Some(flag) = options.of_one_text()
    {
        let problem =
            "without one, the demo answers at several depths; give a prompt as argument, with -p or -f, or on stdin";
        return Err(Usage(format!("{flag} needs a prompt: {problem}")).into());
    }
    let source = options.model.argument.source()?;
    if let Some(text) = text.as_deref().filter(|_| !options.quiet && !resumes) {
        options.model.argument.note_demo([text]);
    }
    let device = options.device.open(options.model.products(), options.quiet)?;
    let session = options.generation.session(&Spec::open(&source)?)?;
    let model = options.model.load(&source, &device, session, options.quiet)?;
    let done = match text {
        text if text.is_some() || resumes => generate(&model, text.as_deref(), options, &interrupt),
        _ => depth_demo::show_depths(&model, options, &interrupt),
    };
    if !options.quiet {
        options.input.note_unread();
    }
    done
}

fn generate(model: &Model, text: Option<&str>, options: &Run, interrupt: &Interrupt) -> Result<Done> {
    let (mut session, resumed) = match &options.snapshot.resume {
        Some(path) => SnapshotOptions::open(model, path, text, !options.input.no_parse_special)?,
        None => (open_session(model, options.generation.session(model.spec())?, options.quiet)?, Vec::new()),
    };
    let prompt = match &options.snapshot.resume {
        None => Prompt::Text(text.unwrap_or_default()),
        Some(_) if resumed.is_empty() => Prompt::Continue,
        Some(_) => Prompt::Tokens(&resumed),
    };
    let seed = session.options().seed;
    let asked = options.generation.generate_options(model)?;
    let add_bos = asked.add_bos && !options.input.no_bos;
    let parse_special = !options.input.no_parse_special;
    #[cfg(feature = "structured")]
    let asked =
        GenerateOptions { constraint: options.structured.constraint(model.tokenizer(), options.quiet)?, ..asked };
    let asked = GenerateOptions { add_bos, parse_special, logprobs: options.logprobs, ..asked };
    let before = model.device().counters();
    let watch = interrupt.generating();
    let mut generation = session.generate(prompt, &asked)?;
    if !options.quiet {
        options.generation.note(model, &asked);
    }
    let most = asked.steps.unwrap_or(model.spec().steps.default);
    let mut shown = options.show_steps.then(|| ShownSteps::on_stdout(most, asked.diffusion.is_none()));
    let mut coming = Tokens::new(options.quiet);
    let mut out = std::io::stdout().lock();
    let (mut whole, mut tokens, mut newline) = (String::new(), Vec::new(), true);
    let mut ranked = Vec::new();
    if let Some(count) = options.logprobs.filter(|_| !options.json) {
        writeln!(out, "{}", logprobs::heading(count))?;
    }
    while !watch.stopped() {
        let piece = match coming.next(&mut generation)? {
            Progress::Token(piece) => piece,
            Progress::Done(_) => break,
            _ => continue,
        };
        tokens.push(piece.token);
        let mut object = json!({ "token": piece.token, "text": piece.text, "steps": piece.steps });
        logprobs::add(&mut object, &piece, model.tokenizer());
        if options.stream {
            writeln!(out, "{object}")?;
        } else if options.json {
            ranked.extend(piece.logprob.map(|_| object));
        } else if piece.logprob.is_some() {
            writeln!(out, "{}", logprobs::line(&piece, model.tokenizer()))?;
        } else if let Some(shown) = &mut shown {
            let text = visible::generated(&piece.text).into_owned();
            shown.write(&mut out, &Piece { text, ..piece.clone() })?;
        } else {
            write!(out, "{}", visible::generated(&piece.text))?;
        }
        if !piece.text.is_empty() && piece.logprob.is_none() {
            newline = piece.text.ends_with('\n');
        }
        out.flush()?;
        whole.push_str(&piece.text);
    }
    if !options.json && !newline {
        writeln!(out)?;
    }
    if let Some(shown) = shown.filter(|_| !options.quiet) {
        remark!("{}", shown.legend());
    }
    let (statistics, stop) = (generation.statistics().clone(), generation.stop_reason());
    drop(generation);
    let report = Report {
        model,
        statistics: &statistics,
        steps: asked.steps.unwrap_or(model.spec().steps.default),
        seed,
        counters: model.device().counters() - before,
        shares_passes: asked.is_parallel(),
    };
    if options.json {
        let mut object = report.json();
        object["stop"] = json!(stop.map_or("interrupted", stop_name));
        if !options.stream {
            object["text"] = json!(whole);
            object["tokens"] = json!(tokens);
            if options.logprobs.is_some() {
                object["logprobs"] = json!(ranked);
            }
        }
        writeln!(out, "{object}")?;
    }
    if !options.quiet {
        report.print(options.stats);
    }
    let done = watch.stopped();
    if let Some(path) = &options.snapshot.save_session {
        // The session would hold only part of the prompt, which could not be told apart from a complete one.
        if done && tokens.is_empty() {
            remark!("note: interrupted before the first token, so {} is not written", path.display());
        } else {
            session.save(path)?;
        }
    }
    if options.profile && !done {
        crate::report::profile(&session.profile(report.steps, asked.sampling)?);
    }
    Ok(if done { Done::Interrupted } else { Done::Complete })
}
