//! The tables of docs/models.md, made from the code: sizes of the published models, and features that work for each architecture or are refused.
//!
//! `RUMINATE_WRITE_DOCS=1 tests/run model -- family_table` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ruminate::{
    BatchOptions, Continuation, Continuous, Criterion, Device, Diffusion, Dtype, Error, Exit, GenerateOptions, KvShare,
    LikelihoodOptions, LoadOptions, Model, Noise, NoiseKind, Pipeline, QuantizeOptions, SessionOptions, Source,
    Speculate, State, Synthetic, published, quantize,
};
use ruminate_tests::{Folder, golden_folder, trial};

/// Columns of the table of features: a name for readers, and a fixture.
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

/// A feature and how it is tried.
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
                Err(error @ (Error::Option { .. } | Error::Together { .. })) => {
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

fn sizes() -> Result<String> {
    let mut table = "| model | architecture | parameters | layers before / in / after the loop | steps | context | weights, bf16 | read per token, bf16, at 1 step | at the default | q4, at the default |\n|---|---|--:|:-:|--:|--:|--:|--:|--:|--:|\n".to_owned();
    for model in published() {
        let made = Synthetic::parse(model.name)?;
        let spec = made.spec();
        let parameters: usize = made
            .tensors()
            .iter()
            .filter(|it| spec.is_parameter(&it.name) && spec.reads(&it.name))
            .map(|it| it.shape.iter().product::<usize>())
            .sum();
        let gb = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
        let read = |dtype, steps| gb(spec.weight_bytes_per_token(dtype, steps));
        writeln!(
            table,
            "| `{}` | {} | {:.2} B | {} / {} / {} | {} | {} | {} | {} | {} | {} |",
            model.name,
            spec.architecture,
            parameters as f64 / 1e9,
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

/// Compares a generated block of docs/models.md, between two comments, with what is made now; or writes it.
fn check(name: &str, made: &str) -> Result<()> {
    let page =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("tests lie in the workspace")?.join("docs/models.md");
    let text = std::fs::read_to_string(&page)?;
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), "<!-- end -->");
    let (before, rest) = text.split_once(&begin).with_context(|| format!("docs/models.md has no {begin}"))?;
    let (found, after) = rest.split_once(end).context("a generated block has no end")?;
    if std::env::var_os("RUMINATE_WRITE_DOCS").is_some() {
        std::fs::write(&page, format!("{before}{begin}{made}{end}{after}"))?;
        return Ok(());
    }
    ensure!(found == made, "docs/models.md is not up to date: RUMINATE_WRITE_DOCS=1 tests/run model -- family_table");
    Ok(())
}

#[trial]
fn tables_of_the_models_page_are_up_to_date() -> Result<()> {
    check("sizes", &sizes()?)?;
    check("features", &features()?)
}
