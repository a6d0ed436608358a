//! Tables of README.md and docs/models.md, generated from the code: sizes of the published models, their expected speed, and the features of each architecture.
//!
//! `RUMINATE_WRITE_DOCS=1 tests/run model -- family_table` writes them.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ruminate::{
    BatchOptions, Continuation, Continuous, Criterion, Device, Diffusion, Dtype, Error, Exit, GenerateOptions, KvShare,
    LikelihoodOptions, LoadOptions, Model, Noise, NoiseKind, Pipeline, QuantizeOptions, SessionOptions, Source,
    Speculate, State, Synthetic, published, quantize,
};
use ruminate_tests::{Folder, golden_folder, trial};

/// Columns of the feature table: a display name and a fixture.
const MODELS: [(&str, &str); 5] = [
    ("Huginn", "tiny"),
    ("Retrofitted Llama", "retro_tinyllama"),
    ("Retrofitted OLMo-2", "retro_olmo"),
    ("Ouro", "ouro"),
    ("Nanbeige 4.2", "nanbeige"),
];

const PROMPT: [u32; 3] = [11, 12, 13];

/// Generates a few tokens.
fn generate(model: &Model, session: SessionOptions, options: GenerateOptions) -> Result<(), Error> {
    let options = GenerateOptions { max_tokens: Some(3), end_tokens: Some(Vec::new()), ..options };
    let mut session = model.session(session)?;
    session.generate(&PROMPT[..], &options)?.try_for_each(|piece| piece.map(drop))
}

fn with(model: &Model, options: GenerateOptions) -> Result<(), Error> {
    generate(model, SessionOptions::default(), options)
}

fn exit(model: &Model, exit: Exit) -> Result<(), Error> {
    with(model, GenerateOptions { exit: Some(exit), ..GenerateOptions::default() })
}

/// The rows of the feature table: a name and a function that tries the feature.
type Feature = (&'static str, fn(&Model) -> Result<(), Error>);

const FEATURES: [Feature; 19] = [
    ("generation, greedy and sampled", |model| with(model, GenerateOptions::default())),
    ("`--exit latent-diff` and other criteria", |model| exit(model, Exit::new(Criterion::LatentDiff))),
    ("`--exit gate`, the learned gate", |model| exit(model, Exit::new(Criterion::Gate))),
    ("`--exit gate,posthoc`", |model| exit(model, Exit { posthoc: true, ..Exit::new(Criterion::Gate) })),
    ("speculation", |model| {
        with(model, GenerateOptions { speculate: Some(Speculate::default()), ..GenerateOptions::default() })
    }),
    ("pipelined decoding", |model| {
        with(model, GenerateOptions { pipeline: Some(Pipeline::default()), ..GenerateOptions::default() })
    }),
    ("diffusion forcing", |model| {
        with(model, GenerateOptions { diffusion: Some(Diffusion::default()), ..GenerateOptions::default() })
    }),
    ("continuous compute", |model| {
        with(model, GenerateOptions { continuous: Some(Continuous::Raw), ..GenerateOptions::default() })
    }),
    ("noise between steps, normed", |model| {
        with(model, GenerateOptions { noise: Some(Noise::new(NoiseKind::Fixed, 0.1)), ..GenerateOptions::default() })
    }),
    ("noise between steps, raw", |model| {
        let noise = Noise { renorm: false, ..Noise::new(NoiseKind::Fixed, 0.1) };
        with(model, GenerateOptions { noise: Some(noise), ..GenerateOptions::default() })
    }),
    ("keys shared between steps (`--kv-share 1`)", |model| {
        generate(
            model,
            SessionOptions { share: KvShare::Steps(1), ..SessionOptions::default() },
            GenerateOptions::default(),
        )
    }),
    ("keys in q8", |model| {
        generate(model, SessionOptions { kv_dtype: Dtype::Q8, ..SessionOptions::default() }, GenerateOptions::default())
    }),
    ("batches", |model| {
        let mut batch = model.batch(BatchOptions {
            sequences: 2,
            session: SessionOptions { context: Some(32), ..SessionOptions::default() },
            ..BatchOptions::default()
        })?;
        for seed in 0..2 {
            let options = GenerateOptions { max_tokens: Some(2), ..GenerateOptions::default() };
            batch.add(&PROMPT[..], seed, &options)?;
        }
        while batch.wait()?.is_some() {}
        Ok(())
    }),
    ("sessions: save, resume, fork", |model| {
        let folder = Folder::new().map_err(|error| Error::Option {
            name: "folder",
            value: error.to_string(),
            allowed: "a temporary one",
        })?;
        let file = folder.path().join("session");
        let mut session = model.session(SessionOptions { context: Some(32), ..SessionOptions::default() })?;
        session.forward(&PROMPT, 2, State::Seeded, false)?;
        session.save(&file)?;
        drop(session.fork()?);
        model.resume(&file).map(drop)
    }),
    ("likelihoods", |model| {
        let asked = [Continuation { context: PROMPT.to_vec(), continuation: vec![14, 15] }];
        model.likelihoods(&asked, &LikelihoodOptions::default(), &mut |_| true).map(drop)
    }),
    ("traces, steering, step-wise calls", |model| {
        let mut session = model.session(SessionOptions { context: Some(32), ..SessionOptions::default() })?;
        session.begin(&PROMPT, 2, State::Seeded)?;
        session.iterate_with(1, |_, states| {
            states.iter_mut().for_each(|state| *state *= 1.01);
            Ok::<(), Error>(())
        })?;
        session.iterate_keeping(1, &["states", "head"]).map(drop)
    }),
    ("weights in q8 and q4", |model| {
        let source = Source::dir(golden_folder(fixture_of(model)))?;
        for dtype in [Dtype::Q8, Dtype::Q4] {
            let options = LoadOptions { dtype: Some(dtype), ..LoadOptions::default() };
            with(&Model::open(&source, &Device::cpu(), options)?, GenerateOptions::default())?;
        }
        Ok(())
    }),
    ("`ruminate quantize`", |model| {
        let folder = Folder::new().map_err(|error| Error::Option {
            name: "folder",
            value: error.to_string(),
            allowed: "a temporary one",
        })?;
        let to = folder.path().join("q8");
        quantize(&Source::dir(golden_folder(fixture_of(model)))?, &to, QuantizeOptions::default())?;
        with(&Model::open(&Source::dir(&to)?, &Device::cpu(), LoadOptions::default())?, GenerateOptions::default())
    }),
    ("invariant mode", |model| {
        generate(
            model,
            SessionOptions { invariant: true, context: Some(32), ..SessionOptions::default() },
            GenerateOptions::default(),
        )
    }),
];

/// The fixture that a model was loaded from.
fn fixture_of(model: &Model) -> &'static str {
    let spec = model.spec();
    let is = |name: &str| ruminate::Spec::open(&Source::Dir(golden_folder(name))).is_ok_and(|other| other == *spec);
    MODELS.iter().find(|(_, name)| is(name)).map_or("tiny", |(_, name)| name)
}

fn features() -> Result<String> {
    let models: Vec<Model> = MODELS
        .iter()
        .map(|(_, name)| Ok(Model::open(&Source::dir(golden_folder(name))?, &Device::cpu(), LoadOptions::default())?))
        .collect::<Result<_>>()?;
    let mut table =
        format!("| | {} |\n|---|{}\n", MODELS.map(|(name, _)| name).join(" | "), ":-:|".repeat(MODELS.len()));
    let mut reasons: Vec<String> = Vec::new();
    for (name, try_it) in FEATURES {
        let mut cells = Vec::new();
        for model in &models {
            let cell = match try_it(model) {
                Ok(()) => "yes".to_owned(),
                Err(error @ (Error::Option { .. } | Error::Range { .. } | Error::Together { .. })) => {
                    let reason = error.to_string();
                    let at = reasons.iter().position(|known| *known == reason).unwrap_or_else(|| {
                        reasons.push(reason);
                        reasons.len() - 1
                    });
                    format!("no ({})", at + 1)
                }
                Err(error) => return Err(error).with_context(|| name.to_owned()),
            };
            cells.push(cell);
        }
        writeln!(table, "| {name} | {} |", cells.join(" | "))?;
    }
    table.push('\n');
    for (at, reason) in reasons.iter().enumerate() {
        writeln!(table, "{}. {reason}", at + 1)?;
    }
    Ok(table)
}

/// The number of parameters that the engine reads, in billions.
fn parameters(made: &Synthetic) -> f64 {
    let spec = made.spec();
    let read = made.tensors();
    let read = read.iter().filter(|it| spec.is_parameter(&it.name) && spec.reads(&it.name));
    read.map(|it| it.shape.iter().product::<usize>()).sum::<usize>() as f64 / 1e9
}

fn sizes() -> Result<String> {
    let mut table = "| model | architecture | parameters | layers before / in / after the loop | steps | context | weights, bf16 | read per token, bf16, at 1 step | at the default | q4, at the default |\n|---|---|--:|:-:|--:|--:|--:|--:|--:|--:|\n".to_owned();
    for model in published() {
        let made = Synthetic::parse(model.name)?;
        let spec = made.spec();
        let gb = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
        let read = |dtype, steps| gb(spec.weight_bytes_per_token(dtype, steps));
        writeln!(
            table,
            "| `{}` | {} | {:.2} B | {} / {} / {} | {} | {} | {} | {} | {} | {} |",
            model.name,
            spec.architecture,
            parameters(&made),
            spec.layers.before,
            spec.layers.core,
            spec.layers.after,
            spec.steps.default,
            spec.context,
            gb(spec.weight_bytes(Dtype::Bf16)),
            read(Dtype::Bf16, 1),
            read(Dtype::Bf16, spec.steps.default),
            read(Dtype::Q4, spec.steps.default),
        )?;
    }
    Ok(table)
}

/// A device with the figures that bound decoding.
struct Card {
    /// Display name.
    name: &'static str,
    /// Memory bandwidth in GB/s, from the vendor's data sheet.
    bandwidth: f64,
    /// Memory in GB.
    memory: f64,
}

/// Common devices, slowest first. The laptop has two channels of DDR5-5600 memory.
const CARDS: [Card; 6] = [
    Card { name: "laptop, DDR5-5600", bandwidth: 89.6, memory: 32.0 },
    Card { name: "RTX 4060, 8 GB", bandwidth: 272.0, memory: 8.0 },
    Card { name: "Arc B580, 12 GB", bandwidth: 456.0, memory: 12.0 },
    Card { name: "M4 Max, 36 GB", bandwidth: 546.0, memory: 36.0 },
    Card { name: "RX 7900 XTX, 24 GB", bandwidth: 960.0, memory: 24.0 },
    Card { name: "RTX 4090, 24 GB", bandwidth: 1008.0, memory: 24.0 },
];

/// The devices in the README's table.
const SHOWN: [&str; 4] = ["laptop, DDR5-5600", "RTX 4060, 8 GB", "M4 Max, 36 GB", "RTX 4090, 24 GB"];

/// Formats a number: one decimal below 10, none from there on.
fn digits(value: f64) -> String {
    if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// The table of upper bounds on tokens per second, set by the weight reads at the default steps, in bf16 and in q4. Models of one shape share a row.
fn rates(cards: &[&Card]) -> Result<String> {
    let heads: String = cards.iter().map(|card| format!(" {}: {} GB/s |", card.name, card.bandwidth)).collect();
    let mut table =
        format!("| model | parameters | steps | memory |{heads}\n|---|--:|--:|--:|{}\n", "--:|".repeat(cards.len()));
    let mut shapes: Vec<(Synthetic, Vec<&str>)> = Vec::new();
    for model in published() {
        let made = Synthetic::parse(model.name)?;
        match shapes.iter_mut().find(|(known, _)| known.spec() == made.spec()) {
            Some((_, names)) => names.push(model.name),
            None => shapes.push((made, vec![model.name])),
        }
    }
    for (made, names) in shapes {
        let spec = made.spec();
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let steps = spec.steps.default;
        let rate = |card: &Card, dtype| {
            let fits = spec.weight_bytes(dtype) as f64 / 1e9 < card.memory;
            let rate = card.bandwidth * 1e9 / spec.weight_bytes_per_token(dtype, steps) as f64;
            if fits { digits(rate) } else { "–".to_owned() }
        };
        let rates: String =
            cards.iter().map(|card| format!(" {} / {} |", rate(card, Dtype::Bf16), rate(card, Dtype::Q4))).collect();
        let gb = |dtype| format!("{:.1}", spec.weight_bytes(dtype) as f64 / 1e9);
        writeln!(
            table,
            "| {} | {:.1} B | {steps} | {} / {} GB |{rates}",
            names.join(", "),
            parameters(&made),
            gb(Dtype::Bf16),
            gb(Dtype::Q4),
        )?;
    }
    Ok(table)
}

/// Compares the generated block of a page, between two comments, with `made`; or writes it.
fn check(page: &str, name: &str, made: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("tests is not in the workspace")?.join(page);
    let text = std::fs::read_to_string(&path)?;
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), "<!-- end -->");
    let (before, rest) = text.split_once(&begin).with_context(|| format!("{page} has no {begin}"))?;
    let (found, after) = rest.split_once(end).context("a generated block lacks its end comment")?;
    if std::env::var_os("RUMINATE_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{made}{end}{after}"))?;
        return Ok(());
    }
    ensure!(found == made, "{page} is not up to date: RUMINATE_WRITE_DOCS=1 tests/run model -- family_table");
    Ok(())
}

#[trial]
fn tables_of_models_are_up_to_date() -> Result<()> {
    check("docs/models.md", "sizes", &sizes()?)?;
    check("docs/models.md", "rates", &rates(&CARDS.iter().collect::<Vec<_>>())?)?;
    check("docs/models.md", "features", &features()?)?;
    check("README.md", "rates", &rates(&CARDS.iter().filter(|card| SHOWN.contains(&card.name)).collect::<Vec<_>>())?)
}
