//! Combinations of policies: every pair is tried in a session and in a batch, and compared with what the policies declare and with `docs/combinations.md`.
//!
//! `RUMINATE_WRITE_DOCS=1 tests/run policies -- combinations` writes that page.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ruminate::{
    BatchOptions, Continuous, Criterion, Device, Diffusion, Error, Event, Exit, GenerateOptions, KvShare, Lookup,
    Model, Noise, NoiseKind, Pipeline, PrefillExit, Sampling, SessionOptions, Speculate, StepsOf,
    excluded_combinations,
};
use ruminate_tests::{demo_model, prompt_of, trial};

type Change = fn(&mut GenerateOptions, &mut SessionOptions);

/// The ways to generate, one a column of the table.
const WAYS: [(&str, Change); 5] = [
    ("plain", |_, _| {}),
    ("speculate", |options, _| options.speculate = Some(Speculate::default())),
    ("pipeline", |options, _| options.pipeline = Some(Pipeline::default())),
    ("diffusion", |options, _| options.diffusion = Some(Diffusion::default())),
    ("prompt_logprobs", |options, _| options.prompt_logprobs = true),
];

/// The options and settings that each way is combined with, one a row of the table.
const OTHERS: [(&str, Change); 19] = [
    ("nothing else", |_, _| {}),
    ("speculate", |options, _| options.speculate = Some(Speculate::default())),
    ("pipeline", |options, _| options.pipeline = Some(Pipeline::default())),
    ("exit by the state", |options, _| options.exit = Some(Exit::new(Criterion::LatentDiff))),
    ("exit by the next token", |options, _| options.exit = Some(Exit::new(Criterion::Kl))),
    ("exit of a prompt together", |options, _| {
        options.exit = Some(Exit { prefill: PrefillExit::Together, ..Exit::new(Criterion::LatentDiff) });
    }),
    ("continuous=raw", |options, _| options.continuous = Some(Continuous::Raw)),
    ("continuous=normed", |options, _| options.continuous = Some(Continuous::Normed)),
    ("noise", |options, _| options.noise = Some(Noise::new(NoiseKind::ALL[0], 0.1))),
    ("steps_of", |options, _| options.steps_of = Some(StepsOf::new(|at| 3 + at % 3))),
    ("logprobs", |options, _| options.logprobs = Some(2)),
    ("logprobs, verify_threshold 0.5", |options, _| {
        options.logprobs = Some(2);
        if let Some(speculate) = &mut options.speculate {
            speculate.threshold = 0.5;
        }
    }),
    ("penalties and bias", |options, _| {
        options.logit_bias = vec![(5, 2.0)];
        options.sampling.repeat_penalty = 1.2;
    }),
    ("bad_words", |options, _| options.bad_words = vec![vec![5, 6]]),
    ("min_tokens", |options, _| options.min_tokens = Some(2)),
    ("stop texts", |options, _| options.stop = vec!["zzz".to_owned()]),
    ("kv_share", |_, session| session.share = KvShare::Steps(2)),
    ("kv_lookup always-last", |_, session| session.lookup = Lookup::AlwaysLast),
    ("invariant", |_, session| session.invariant = true),
];

fn asked(way: Change, other: Change) -> (GenerateOptions, SessionOptions) {
    let mut options = GenerateOptions {
        steps: Some(4),
        max_tokens: Some(3),
        sampling: Sampling::GREEDY,
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    };
    let mut session = SessionOptions { context: Some(64), ..SessionOptions::default() };
    way(&mut options, &mut session);
    other(&mut options, &mut session);
    (options, session)
}

fn in_session(model: &Model, options: &GenerateOptions, session: &SessionOptions) -> Result<(), Error> {
    let mut session = model.session(session.clone())?;
    session.generate(&prompt_of(5), options)?.try_for_each(|piece| piece.map(drop))
}

fn in_batch(model: &Model, options: &GenerateOptions, session: &SessionOptions) -> Result<(), Error> {
    let session = session.clone();
    let mut batch = model.batch(BatchOptions { sequences: 2, session, ..BatchOptions::default() })?;
    batch.add(&prompt_of(5), 0, options)?;
    while let Some(event) = batch.wait()? {
        if let Event::Failed { error, .. } = event {
            return Err(error);
        }
    }
    Ok(())
}

/// A cell of the table: `yes`, or `no` with the number of the reason.
fn cell(outcome: Result<(), Error>, reasons: &mut Vec<String>) -> Result<String> {
    let (one, why) = match outcome {
        Ok(()) => return Ok("yes".to_owned()),
        Err(Error::Together { one, why, .. }) => (one, why),
        Err(error) => return Err(error.into()),
    };
    let declared = excluded_combinations();
    ensure!(declared.iter().any(|pair| pair.policy == one && pair.why == why), "{one}: {why:?} is not declared");
    let place = reasons.iter().position(|reason| reason == why).unwrap_or_else(|| {
        reasons.push(why.to_owned());
        reasons.len() - 1
    });
    Ok(format!("no ({})", place + 1))
}

#[trial(cpu, full)]
fn combinations_page_matches_behavior(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut reasons = Vec::new();
    let mut page = "# What goes together\n\nEvery pair below was tried with the demo model, in a session and in a batch. Ways to generate declare what they cannot be combined \
        with (`ruminate::excluded_combinations`); a test checks that the declarations and the trials agree with this page. A cell with two answers gives the session's first, then the batch's.\n\n"
        .to_owned();
    writeln!(page, "| | {} |", WAYS.map(|(name, _)| name).join(" | "))?;
    writeln!(page, "|---{}|", "|---".repeat(WAYS.len()))?;
    for (name, other) in OTHERS {
        let mut cells = Vec::new();
        for (way_name, way) in WAYS {
            let (options, session) = asked(way, other);
            let pair = || format!("{way_name} with {name}");
            let alone = cell(in_session(&model, &options, &session), &mut reasons).with_context(pair)?;
            let company = cell(in_batch(&model, &options, &session), &mut reasons).with_context(pair)?;
            cells.push(if alone == company { alone } else { format!("{alone}; {company}") });
        }
        writeln!(page, "| {name} | {} |", cells.join(" | "))?;
    }
    page.push('\n');
    for (at, reason) in reasons.iter().enumerate() {
        writeln!(page, "{}. {reason}", at + 1)?;
    }
    for pair in excluded_combinations() {
        let posthoc = pair.other.contains("posthoc");
        ensure!(posthoc || reasons.iter().any(|reason| reason == pair.why), "{pair:?} was not tried");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/combinations.md");
    if std::env::var_os("RUMINATE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page)?;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    ensure!(
        found == page,
        "docs/combinations.md is not up to date: RUMINATE_WRITE_DOCS=1 tests/run policies -- combinations"
    );
    Ok(())
}
