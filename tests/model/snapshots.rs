//! Saved and forked sessions: both continue like the session they come from.

use anyhow::{Result, ensure};
use ruminate::{
    Continuous, Criterion, Device, Dtype, Error, Exit, GenerateOptions, KvShare, LoadOptions, Lookup, Model, Prompt,
    Sampling, Session, SessionOptions, SnapshotProblem, Source, State, Synthetic, demo,
};
use ruminate_tests::demo_files::{self, Parts};
use ruminate_tests::{Folder, compare, demo_model, prompt_of, tokens_of, trial};

const PROMPT: &str = demo::PROMPTS[0].0;

/// Options for up to `tokens` tokens, sampled or greedy.
fn asking(tokens: u32, sampled: bool) -> GenerateOptions {
    let drawn = Sampling { temperature: 2.0, repeat_penalty: 1.1, ..Sampling::GREEDY };
    GenerateOptions {
        steps: Some(5),
        max_tokens: Some(tokens),
        sampling: if sampled { drawn } else { Sampling::GREEDY },
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    }
}

/// Options that cover everything that a continuation depends on.
fn kinds() -> Vec<(SessionOptions, GenerateOptions)> {
    let plain = SessionOptions { seed: u64::MAX - 5, context: Some(200), ..SessionOptions::default() };
    let kept = |kv_dtype| SessionOptions { kv_dtype, ..plain.clone() };
    let shared = |share, lookup| SessionOptions { share, lookup, ..plain.clone() };
    let leaving = |criterion| GenerateOptions { exit: Some(Exit::new(criterion)), steps: Some(12), ..asking(8, true) };
    let carrying = |how| GenerateOptions { continuous: Some(how), ..asking(8, true) };
    vec![
        (plain.clone(), asking(8, false)),
        (plain.clone(), asking(8, true)),
        (kept(Dtype::Q8), asking(8, true)),
        (kept(Dtype::F32), asking(8, true)),
        (shared(KvShare::Steps(2), Lookup::Latest), asking(8, true)),
        (shared(KvShare::Anchor, Lookup::AlwaysLast), leaving(Criterion::LatentDiff)),
        (shared(KvShare::None, Lookup::Full), leaving(Criterion::Kl)),
        (SessionOptions { invariant: true, steps: Some(40), init_scale: 0.5, ..plain.clone() }, asking(8, false)),
        (plain.clone(), carrying(Continuous::Raw)),
        (plain, carrying(Continuous::Normed)),
    ]
}

/// A session after several prompts of different depths and a rewind.
fn used(model: &Model, options: &SessionOptions, asked: &GenerateOptions) -> Result<Session> {
    let mut session = model.session(options.clone())?;
    let first = session.encode(PROMPT, ruminate::Specials::Bos)?;
    tokens_of(&mut session, &first, asked)?;
    tokens_of(&mut session, &prompt_of(40), &GenerateOptions { steps: Some(3), ..asked.clone() })?;
    session.rewind(session.position() - 9)?;
    // Deeper than the session was created for, so that its tables grow.
    tokens_of(&mut session, &prompt_of(5), &GenerateOptions { steps: Some(40), exit: None, ..asked.clone() })?;
    Ok(session)
}

#[trial(device, cpu, full)]
fn resumed_session_continues_like_saved_one(device: &Device) -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.path().join("session.safetensors");
    for (place, (options, asked)) in kinds().iter().enumerate() {
        let mut saved = used(&demo_model(device)?, options, asked)?;
        saved.save(&path)?;
        let mut resumed = demo_model(device)?.resume(&path)?;
        ensure!(
            resumed.position() == saved.position() && resumed.next_token() == saved.next_token(),
            "kind {place}: at {}, not {}",
            resumed.position(),
            saved.position()
        );
        let more = prompt_of(7);
        for prompt in [Prompt::Continue, Prompt::Tokens(&more)] {
            let (found, expected) = (tokens_of(&mut resumed, prompt, asked)?, tokens_of(&mut saved, prompt, asked)?);
            ensure!(found == expected, "kind {place}: {found:?}, not {expected:?}");
        }
        let logits = |session: &mut Session| session.forward(&[7], 6, State::Carried, false);
        ensure!(logits(&mut resumed)? == logits(&mut saved)?, "kind {place}: the logits differ");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn generation_across_save_gives_same_tokens(device: &Device) -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.path().join("session.safetensors");
    for (place, (options, asked)) in kinds().iter().enumerate() {
        let of = |count| GenerateOptions { max_tokens: Some(count), ..asked.clone() };
        let model = demo_model(device)?;
        let expected = tokens_of(&mut model.session(options.clone())?, &prompt_of(35), &of(12))?;
        for cut in [1, 5] {
            let mut session = model.session(options.clone())?;
            let mut found = tokens_of(&mut session, &prompt_of(35), &of(cut))?;
            session.save(&path)?;
            let mut resumed = model.resume(&path)?;
            found.extend(tokens_of(&mut resumed, Prompt::Continue, &of(12 - cut))?);
            ensure!(found == expected, "kind {place}, saved after {cut} tokens: {found:?}, not {expected:?}");
        }
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn resumed_session_saves_identical_file(device: &Device) -> Result<()> {
    let folder = Folder::new()?;
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let model = demo_model(device)?;
    for (options, asked) in kinds() {
        used(&model, &options, &asked)?.save(&first)?;
        model.resume(&first)?.save(&second)?;
        ensure!(std::fs::read(&first)? == std::fs::read(&second)?, "{options:?}");
    }
    // An empty session and a full one.
    let options = SessionOptions { context: Some(32), ..SessionOptions::default() };
    let mut session = model.session(options)?;
    session.save(&first)?;
    let expected = session.forward(&prompt_of(32), 4, State::Seeded, false)?;
    ensure!(
        model.resume(&first)?.forward(&prompt_of(32), 4, State::Seeded, false)? == expected,
        "an empty session resumes differently"
    );
    session.save(&first)?;
    let mut full = model.resume(&first)?;
    ensure!(
        full.position() == 32
            && matches!(full.forward(&[1], 4, State::Seeded, false), Err(Error::PromptTooLong { .. }))
    );
    Ok(())
}

#[trial(device, cpu, full)]
fn saved_session_is_plain_safetensors(device: &Device) -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.path().join("session.safetensors");
    let mut session =
        demo_model(device)?.session(SessionOptions { kv_dtype: Dtype::F32, ..SessionOptions::default() })?;
    session.forward(&prompt_of(45), 3, State::Seeded, false)?;
    session.save(&path)?;
    let bytes = std::fs::read(&path)?;
    let file = safetensors::SafeTensors::deserialize(&bytes)?;
    ensure!(file.tensor("tokens")?.data() == bytemuck::cast_slice::<u32, u8>(&prompt_of(45)));
    ensure!(file.tensor("depth")?.data() == bytemuck::cast_slice::<u32, u8>(&[3; 45]));
    let bytes_of = |name: &str| file.tensor(name).map(|tensor| tensor.shape().to_vec());
    ensure!(
        bytes_of("kv.core.0.2")?[0] == 45 && bytes_of("kv.core.0.3").is_err(),
        "the cache does not have the slots of three steps"
    );
    // The keys of the first position are not rotated, so a file of this token alone begins with the same values.
    let core = file.tensor("kv.core.0.0")?;
    ensure!(
        core.data().chunks(core.shape()[1]).all(|position| position.iter().any(|&byte| byte != 0)),
        "a position has no keys"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        folder.write("other", "")?;
        let mode = |path: &std::path::Path| std::fs::metadata(path).map(|it| it.permissions().mode());
        ensure!(
            mode(&path)? == mode(&folder.path().join("other"))?,
            "the file's mode differs from that of other files"
        );
    }
    Ok(())
}

/// Moves a session from the device to the CPU reference, which keeps in buffers what a device can keep in textures.
#[trial(device, cpu, full)]
fn saved_session_resumes_on_another_device(device: &Device) -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.path().join("session.safetensors");
    for (kv_dtype, bound) in [(Dtype::F32, 1e-8), (Dtype::Bf16, 1e-4), (Dtype::Q8, 1e-3)] {
        let mut session = demo_model(device)?.session(SessionOptions { kv_dtype, ..SessionOptions::default() })?;
        session.forward(&prompt_of(75), 6, State::Seeded, false)?;
        session.save(&path)?;
        let mut resumed = demo_model(&Device::cpu())?.resume(&path)?;
        let expected = session.forward(&[7, 8], 6, State::Seeded, true)?;
        compare(&resumed.forward(&[7, 8], 6, State::Seeded, true)?, &expected, bound)?;
    }
    Ok(())
}

/// The logits after a continuation, and its tokens.
fn goes_on(session: &mut Session, seed: u32) -> Result<(Vec<f32>, Vec<u32>)> {
    let prompt: Vec<u32> = prompt_of(60)[seed as usize..].iter().map(|token| (token + seed) % 400).collect();
    let found = tokens_of(session, &prompt, &asking(9, false))?;
    Ok((session.forward(&[3], 5, State::Seeded, false)?, found))
}

#[trial(device, cpu, full)]
fn fork_matches_recomputed_prefix(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for kv_dtype in [Dtype::F32, Dtype::Bf16, Dtype::Q8] {
        for prefix in [64, 75] {
            let options = SessionOptions { kv_dtype, context: Some(300), seed: 3, ..SessionOptions::default() };
            let fresh = || -> Result<Session> {
                let mut session = model.session(options.clone())?;
                session.forward(&prompt_of(prefix), 5, State::Seeded, false)?;
                Ok(session)
            };
            let mut original = fresh()?;
            let forks = [original.fork()?, original.fork()?];
            let [one, mut two] = forks;
            // If the last page is full, no page is copied.
            let little = prefix != 64 || one.kv_bytes() < original.kv_bytes() / 4;
            ensure!(one.position() == prefix && little, "{} bytes", one.kv_bytes());
            let mut three = two.fork()?;
            drop(one);
            // Sums over the segments of a cache are added in another order; in q8 a number can then round to its neighbor.
            let bound = if kv_dtype == Dtype::F32 { 1e-8 } else { 1e-3 };
            for (seed, session) in [(1, &mut original), (2, &mut two), (3, &mut three)] {
                let (expected, said) = goes_on(&mut fresh()?, seed)?;
                let (found, says) = goes_on(session, seed)?;
                compare(&found, &expected, bound)?;
                ensure!(kv_dtype != Dtype::F32 || says == said, "{says:?}, not {said:?}");
            }
        }
    }
    let invariant = SessionOptions { invariant: true, context: Some(64), ..SessionOptions::default() };
    let refused = model.session(invariant)?.fork().err().map(|error| error.to_string());
    ensure!(refused.as_deref().is_some_and(|text| text.contains("invariant")), "{refused:?}");
    // The fork has the carried state as well.
    let mut original = model.session(SessionOptions::default())?;
    original.forward(&prompt_of(20), 5, State::Seeded, false)?;
    let mut fork = original.fork()?;
    let expected = original.forward(&[9], 5, State::Carried, false)?;
    compare(&fork.forward(&[9], 5, State::Carried, false)?, &expected, 1e-8)
}

#[trial(device, cpu, full)]
fn forks_do_not_change_shared_pages(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let options = SessionOptions { kv_dtype: Dtype::F32, context: Some(300), seed: 3, ..SessionOptions::default() };
    let fresh = |prefix: &[u32]| -> Result<Session> {
        let mut session = model.session(options.clone())?;
        session.forward(prefix, 5, State::Seeded, false)?;
        Ok(session)
    };
    let prefix = prompt_of(100);
    let other: Vec<u32> = prompt_of(90).into_iter().map(|token| (token + 11) % 400).collect();
    let untouched = goes_on(&mut fresh(&prefix)?, 4)?.0;
    // The original rewinds into the shared prefix, then the fork does.
    for back in [40, 64, 0] {
        let mut alone = fresh(&[&prefix[..back as usize], &other].concat())?;
        let expected = alone.forward(&[5], 5, State::Seeded, false)?;
        for who in [0, 1] {
            let mut original = fresh(&prefix)?;
            let fork = original.fork()?;
            let mut both = [original, fork];
            both[who].rewind(back)?;
            both[who].forward(&other, 5, State::Seeded, false)?;
            compare(&both[who].forward(&[5], 5, State::Seeded, false)?, &expected, 1e-8)?;
            compare(&goes_on(&mut both[1 - who], 4)?.0, &untouched, 1e-8)?;
        }
    }
    // A saved fork does not depend on its original.
    let folder = Folder::new()?;
    let path = folder.path().join("fork.safetensors");
    let mut original = fresh(&prefix)?;
    let mut fork = original.fork()?;
    fork.forward(&other, 5, State::Seeded, false)?;
    fork.save(&path)?;
    drop(original);
    let mut resumed = model.resume(&path)?;
    let (found, expected) = (goes_on(&mut resumed, 6)?, goes_on(&mut fork, 6)?);
    ensure!(found.0 == expected.0 && found.1 == expected.1, "a resumed fork continues differently");
    Ok(())
}

/// The problem of a file with this content.
fn said(model: &Model, content: &[u8]) -> Result<SnapshotProblem> {
    let folder = Folder::new()?;
    folder.write("session", content)?;
    match model.resume(folder.path().join("session")) {
        Err(Error::Snapshot { problem, .. }) => Ok(problem),
        Err(other) => anyhow::bail!("another error: {other}"),
        Ok(_) => anyhow::bail!("it was accepted"),
    }
}

#[trial(device, cpu, full)]
fn invalid_files_are_refused_with_reason(device: &Device) -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.path().join("session");
    let model = demo_model(device)?;
    let mut session = model.session(SessionOptions::default())?;
    session.forward(&prompt_of(40), 4, State::Seeded, false)?;
    session.save(&path)?;
    let whole = std::fs::read(&path)?;
    let header = 8 + usize::try_from(u64::from_le_bytes(whole[..8].try_into()?))?;

    for other in [&b""[..], b"abc", b"It was a dark and stormy night.", &demo::source().read("model.safetensors")?] {
        ensure!(said(&model, other)? == SnapshotProblem::Other, "{:?}", &other[..other.len().min(40)]);
    }
    for length in [9, 200, header, header + 1, whole.len() / 2, whole.len() - 1] {
        let problem = said(&model, &whole[..length])?;
        ensure!(matches!(problem, SnapshotProblem::CutOff { .. }), "{length} bytes: {problem}");
    }
    let longer = [&whole[..], b"x"].concat();
    ensure!(matches!(said(&model, &longer)?, SnapshotProblem::Damaged { .. }));
    for place in [header, header + 100, whole.len() - 40, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[place] ^= 4;
        let problem = said(&model, &damaged)?;
        ensure!(problem.to_string().contains("checksum"), "byte {place}: {problem}");
    }
    // A change of any byte of the header is detected too.
    for place in (0..header).step_by(7) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        said(&model, &damaged)?;
    }
    let text = String::from_utf8(whole[8..header].to_vec())?;
    for version in ["1", "3"] {
        let other = text.replace("\"version\":\"2\"", &format!("\"version\":\"{version}\""));
        ensure!(other != text, "{text} has no version");
        let other = [&whole[..8], other.as_bytes(), &whole[header..]].concat();
        let problem = said(&model, &other)?;
        ensure!(problem == SnapshotProblem::Version { found: version.to_owned(), expected: 2 }, "{problem}");
    }

    ensure!(matches!(model.resume(folder.path().join("none")), Err(Error::File { .. })));
    ensure!(matches!(session.save(folder.path()), Err(Error::Output { .. })), "a session was saved to a folder's path");
    ensure!(matches!(session.save(folder.path().join("none/session")), Err(Error::Output { .. })));
    ensure!(std::fs::read_dir(folder.path())?.count() == 1, "files are left");
    Ok(())
}

#[trial(device, cpu, full)]
fn saved_sessions_of_other_models_are_refused(device: &Device) -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.path().join("session");
    let mut session = demo_model(device)?.session(SessionOptions::default())?;
    session.forward(&prompt_of(3), 4, State::Seeded, false)?;
    session.save(&path)?;
    let problem = |source: &Source, dtype| -> Result<SnapshotProblem> {
        let model = Model::open(source, device, LoadOptions { dtype, ..LoadOptions::default() })?;
        said(&model, &std::fs::read(&path)?)
    };
    let wide = problem(&Synthetic::parse("n_embd=64,heads=2,vocab=512")?.source(), None)?;
    ensure!(matches!(wide, SnapshotProblem::Shape { .. }), "{wide}");
    let rounded = problem(&demo::source(), Some(Dtype::Q8))?;
    ensure!(matches!(&rounded, SnapshotProblem::Rounded { expected, .. } if expected == "q8"), "{rounded}");
    for name in ["transformer.ln_f.weight", "transformer.core_block.1.mlp.proj.weight"] {
        let mut parts = Parts::demo()?;
        parts.bytes(name)?[1] ^= 1;
        let trained = demo_files::with_weights(&parts.file())?;
        let other = problem(&trained.source(), None)?;
        ensure!(other == SnapshotProblem::Weights, "{name}: {other}");
    }
    // The same weights in two shards, and without the unused copy of the embedding, are accepted.
    let spread = [
        demo_files::sharded(|_| {})?,
        demo_files::with_weights(&Parts::demo()?.only(|name| name != "lm_head.weight")?)?,
    ];
    for folder in spread {
        let same = Model::open(&folder.source(), device, LoadOptions::default())?;
        ensure!(same.resume(&path)?.position() == 3);
    }
    let made = |seed| -> Result<Model> {
        let source = Synthetic::parse(&format!("n_embd=64,heads=2,hidden=64,vocab=300,seed={seed}"))?.source();
        Ok(Model::open(&source, device, LoadOptions::default())?)
    };
    let mut session = made(1)?.session(SessionOptions::default())?;
    session.forward(&prompt_of(3), 4, State::Seeded, false)?;
    session.save(&path)?;
    ensure!(made(1)?.resume(&path)?.position() == 3);
    let other = said(&made(2)?, &std::fs::read(&path)?)?;
    ensure!(other == SnapshotProblem::Weights, "{other}");
    Ok(())
}
