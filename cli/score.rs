//! `ruminate score`: likelihood of a text at several depths, and the divergence of another model or precision.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use ruminate::score::{Score, windows};
use ruminate::{Arithmetic, Dtype, Error, MAX_STEPS, Model, Precision, SessionOptions, Spec, Specials, Tokenizer};
use serde_json::{Value, json};

use crate::continuations;
use crate::device::DeviceOptions;
use crate::exit_code::{Done, Usage};
use crate::interrupt::Interrupt;
use crate::model::{ModelOptions, open_session};
use crate::model_choice::ModelChoice;
use crate::options::{CacheOptions, ExitOptions, kv_dtypes};
use crate::words::counted;
use crate::{progress, prompt};

/// Flags of `ruminate score`.
#[derive(Args)]
pub(crate) struct ScoreOptions {
    #[command(flatten)]
    pub(crate) model: ModelOptions,
    /// Text to score; - reads stdin
    ///
    /// \n is a line break, \t a tab, and \\ a backslash.
    #[arg(value_name = "TEXT", conflicts_with = "file", help_heading = "Common", display_order = 0)]
    text: Option<String>,
    /// Read the text from FILE; - for stdin
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    file: Option<PathBuf>,
    /// Treat special tokens in the text, such as <|end_turn|>, as plain text
    #[arg(long, conflicts_with = "continuations", help_heading = "Input", hide_short_help = true)]
    no_parse_special: bool,
    /// Score continuations in FILE instead of a text; - for stdin
    ///
    /// One JSON object per line: {"context":"2+2=","continuations":["4","5"],"gold":0}. Many share a pass.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "file", "against", "against_kv", "max_tokens"], help_heading = "Input")]
    pub(crate) continuations: Option<PathBuf>,
    /// Compare with another dtype of this model, or with another model
    ///
    /// Takes what --dtype takes, or a model of the same vocabulary.
    #[arg(long, value_name = "DTYPE|MODEL", help_heading = "Input")]
    against: Option<Against>,
    /// Compare with keys and values of another dtype: f32, bf16 or q8
    #[arg(long, value_name = "DTYPE", value_parser = kv_dtypes(), help_heading = "Input", hide_possible_values = true)]
    against_kv: Option<Dtype>,
    /// Tokens of the text to score at most [default: all]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Input")]
    max_tokens: Option<u32>,

    /// Steps per token, a row for each number [default: the model's own]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STEPS)), help_heading = "Common", display_order = 2)]
    pub(crate) steps: Vec<u32>,
    /// Tokens per window, cut independently [default: 512, or the model's context]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..), help_heading = "Input")]
    pub(crate) ctx_size: Option<u32>,
    /// Seed of the initial states
    #[arg(short, long, value_name = "N", default_value_t = 0, help_heading = "Depth")]
    pub(crate) seed: u64,

    #[command(flatten)]
    pub(crate) exit: ExitOptions,
    #[command(flatten)]
    pub(crate) cache: CacheOptions,
    #[command(flatten)]
    pub(crate) device: DeviceOptions,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

/// Reference of a comparison.
#[derive(Clone)]
enum Against {
    /// The model with other dtypes.
    Dtype(Precision),
    /// Another model; also the parse error of the text as a dtype, if it may have been meant as one.
    Model(ModelChoice, Option<String>),
}

impl From<OsString> for Against {
    fn from(text: OsString) -> Self {
        match text.to_str().map(str::parse) {
            Some(Ok(dtype)) => Self::Dtype(dtype),
            parsed => {
                // A word that is neither a path nor owner/name may have been meant as a dtype.
                let alone = !Path::new(&text).exists() && text.to_str().is_some_and(|text| !text.contains(['/', ':']));
                Self::Model(ModelChoice::from(text), parsed.and_then(Result::err).filter(|_| alone))
            }
        }
    }
}

/// Begin token, if the tokenizer prepends it to a text.
fn begin(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.bos().filter(|bos| tokenizer.prefix().contains(bos))
}

/// Runs `ruminate score`.
pub(crate) fn score(options: &ScoreOptions) -> Result<Done> {
    let interrupt = Interrupt::watch()?;
    if let Some(file) = &options.continuations {
        return continuations::score(options, file, &interrupt);
    }
    let text = prompt::text("the text", options.text.as_deref(), options.file.as_deref())?;
    let text = text.ok_or_else(|| Usage("no text: give one as argument, with -f, or on stdin".to_owned()))?;
    let source = options.model.argument.source()?;
    // The device must support the arithmetic modes of both models.
    let products = match &options.against {
        Some(Against::Dtype(other)) if other.products == Arithmetic::Cooperative => other.products,
        _ => options.model.products(),
    };
    let device = options.device.open(products, options.json)?;
    if !options.json {
        options.model.argument.note_demo([text.as_str()]);
        prompt::note_unread(options.text.as_deref(), options.file.as_deref());
    }
    let other_source = match &options.against {
        Some(Against::Model(choice, None)) => Some(choice.source()?),
        Some(Against::Model(choice, Some(why))) => {
            let neither = |error| Usage(format!("--against names neither a dtype ({why}) nor a model ({error:#})"));
            Some(choice.source().map_err(neither)?)
        }
        Some(Against::Dtype(_)) | None => None,
    };
    let window = match options.ctx_size {
        Some(window) => window,
        // The smaller of both models' contexts.
        None => {
            let sources = [Some(&source), other_source.as_ref()].into_iter().flatten();
            let contexts = sources.map(|source| Ok(Spec::open(source)?.usual_context()));
            contexts.collect::<Result<Vec<_>, ruminate::Error>>()?.into_iter().fold(512, u32::min)
        }
    };
    let asked = SessionOptions {
        context: Some(window),
        steps: options.steps.iter().copied().max(),
        seed: options.seed,
        ..options.cache.session(&Spec::open(&source)?)?
    };
    let asked_of_other =
        SessionOptions { kv_dtype: options.against_kv.unwrap_or(options.cache.kv_dtype()), ..asked.clone() };
    let load = |model: &ModelOptions, source: &_| model.load(source, &device, asked.clone(), options.json);
    let model = load(&options.model, &source)?;
    let other = match &options.against {
        None => options.against_kv.map(|_| model.clone()),
        Some(Against::Dtype(dtype)) => {
            let held = load(&options.model.held(dtype), &source);
            Some(held.map_err(|error| match error.downcast_ref::<Error>() {
                Some(Error::Requantize { asked, stored }) => Usage(format!(
                    "--against {asked} loads the same files in another dtype, but they hold the weights in {stored}, which are already rounded; \
                     name the original model: --against MODEL"
                ))
                .into(),
                _ => error,
            })?)
        }
        Some(Against::Model(..)) => {
            let load = |source| load(&options.model.for_other(source)?, source);
            other_source.as_ref().map(load).transpose()?
        }
    };
    let mut session = open_session(&model, asked.clone(), true)?;
    let mut reference = other.as_ref().map(|other| open_session(other, asked_of_other.clone(), true)).transpose()?;
    let mut tokens = match options.no_parse_special {
        true => model.tokenizer().encode_plain(&text, Specials::None)?,
        false => model.tokenizer().encode(&text, Specials::None)?,
    };
    tokens.truncate(options.max_tokens.map_or(usize::MAX, |most| most as usize));
    let texts = windows(&tokens, begin(model.tokenizer()), window);
    if texts.is_empty() {
        return Err(Usage("the text has no token to score".to_owned()).into());
    }
    let depths = match options.steps[..] {
        [] => vec![model.spec().steps.default],
        ref steps => steps.to_vec(),
    };
    crate::options::remark_depth(model.spec(), depths.iter().copied());
    // Work is weighted by depth: a window takes longer at more steps.
    let work: u64 = depths.iter().map(|&steps| texts.len() as u64 * model.bytes_per_token(steps)).sum();
    let bar = progress::bar(std::io::stderr().is_terminal(), work, "scoring {bar:30} {percent:>3} %{left}, {msg}")?;
    let watch = interrupt.working();
    let mut rows = Vec::new();
    for &steps in &depths {
        bar.set_message(counted(steps, "step"));
        let mut score = Score::default();
        for window in &texts {
            if watch.stopped() {
                return Ok(Done::Interrupted);
            }
            session.score(window, steps, options.exit.exit().as_ref(), reference.as_mut(), &mut score)?;
            bar.inc(model.bytes_per_token(steps));
        }
        rows.push((steps, score));
    }
    bar.finish_and_clear();
    let report = Report {
        model: &model,
        kv_dtype: asked.kv_dtype,
        against: other.as_ref().map(|other| (other, asked_of_other.kv_dtype)),
        windows: texts.len(),
        rows,
    };
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", report.json())?;
    } else {
        report.print(&mut out)?;
    }
    Ok(Done::Complete)
}

/// Results of all depths.
struct Report<'a> {
    model: &'a Model,
    kv_dtype: Dtype,
    against: Option<(&'a Model, Dtype)>,
    windows: usize,
    rows: Vec<(u32, Score)>,
}

/// Dtypes of a model, with that of keys and values unless it is bf16.
fn held(model: &Model, kv_dtype: Dtype) -> String {
    let kv = if kv_dtype == Dtype::Bf16 { String::new() } else { format!(", keys and values in {}", kv_dtype.name()) };
    format!("{}{kv}", model.dtypes())
}

/// Formats a value and its standard error with a sensible number of digits.
fn spread(value: f64, error: f64) -> String {
    if error.is_nan() {
        // A single value has no standard error.
        return if value < 1e5 { format!("{value:.3}") } else { format!("{value:.2e}") };
    }
    if value < 1e5 { format!("{value:.3} ± {error:.3}") } else { format!("{value:.2e} ± {error:.0e}") }
}

impl Report<'_> {
    fn print(&self, out: &mut impl Write) -> Result<()> {
        let tokens = self.rows.first().map_or(0, |(_, score)| score.nll.count());
        let (dtype, device) = (held(self.model, self.kv_dtype), self.model.device().name());
        writeln!(
            out,
            "{} in {}, weights in {dtype}, on {device}",
            counted(tokens, "token"),
            counted(self.windows, "window")
        )?;
        let taken = self.rows.iter().any(|(_, score)| score.steps.count() > 0);
        write!(out, "{:>5}  {:>11}  {:>20}", "steps", "nats/token", "perplexity")?;
        if taken {
            write!(out, "  {:>6}", "taken")?;
        }
        let reference = self.against.map_or_else(String::new, |(other, kv)| format!("in {}", held(other, kv)));
        let width = reference.len().max(20);
        if self.against.is_some() {
            write!(out, "  {reference:>width$}  {:>21}  {:>10}  {:>8}", "KL", "KL most", "same top")?;
        }
        writeln!(out)?;
        for (steps, score) in &self.rows {
            write!(out, "{steps:>5}  {:>11.4}", score.nll.mean())?;
            write!(out, "  {:>20}", spread(score.perplexity(), score.perplexity_error()))?;
            if taken {
                write!(out, "  {:>6.2}", score.steps.mean())?;
            }
            if let Some(apart) = &score.divergence {
                let reference = &apart.reference_nll;
                let perplexity = reference.mean().exp();
                write!(out, "  {:>width$}", spread(perplexity, perplexity * reference.error()))?;
                let error = Some(apart.kl.error()).filter(|error| !error.is_nan());
                let error = error.map_or_else(String::new, |error| format!("± {error:.1e}"));
                write!(out, "  {:>10.3e} {error:<10}", apart.kl.mean())?;
                write!(out, "  {:>10.3e}  {:>6.2} %", apart.kl_most, apart.top_agreement() * 100.0)?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(steps, score)| {
            let mut row = json!({
                "steps": steps,
                "tokens": score.nll.count(),
                "nll": score.nll.mean(),
                "nll_error": score.nll.error(),
                "perplexity": score.perplexity(),
            });
            if score.steps.count() > 0 {
                row["steps_taken"] = json!(score.steps.mean());
            }
            if let Some(apart) = &score.divergence {
                row["reference_nll"] = json!(apart.reference_nll.mean());
                row["kl"] = json!(apart.kl.mean());
                row["kl_error"] = json!(apart.kl.error());
                row["kl_most"] = json!(apart.kl_most);
                row["top_agreement"] = json!(apart.top_agreement());
            }
            row
        });
        json!({
            "dtype": self.model.dtypes().to_string(),
            "kv_dtype": self.kv_dtype.name(),
            "against": self.against.map(|(other, _)| other.dtypes().to_string()),
            "against_kv": self.against.map(|(_, kv)| kv.name()),
            "device": self.model.device().name(),
            "windows": self.windows,
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}
