//! Generation without blocking: wakers announce tokens, and a warm-up leaves the session unchanged.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use anyhow::{Context as _, Result, ensure};
use pollster::block_on;
use ruminate::{
    BatchOptions, Criterion, Device, Error, Event, Exit, GenerateOptions, LoadOptions, Model, Pipeline, Session,
    SessionOptions, Speculate, Synthetic, demo,
};
use ruminate_tests::{device, trial};

const PROMPT: &str = demo::PROMPTS[0].0;

fn asked() -> GenerateOptions {
    GenerateOptions { max_tokens: Some(6), steps: Some(8), end_tokens: Some(Vec::new()), ..GenerateOptions::default() }
}

fn session(device: &Device, seed: u64) -> Result<Session> {
    let model = Model::demo(device, LoadOptions::default())?;
    Ok(model.session(SessionOptions { seed, ..SessionOptions::default() })?)
}

async fn polled(session: &mut Session, options: &GenerateOptions) -> Result<Vec<u32>, Error> {
    let mut generation = session.generate(PROMPT, options)?;
    let mut tokens = Vec::new();
    while let Some(piece) = poll_fn(|cx| generation.poll_next(cx)).await {
        tokens.push(piece?.token);
    }
    Ok(tokens)
}

fn iterated(session: &mut Session, options: &GenerateOptions) -> Result<Vec<u32>, Error> {
    session.generate(PROMPT, options)?.map(|piece| Ok(piece?.token)).collect()
}

#[trial(device, cpu)]
fn polled_tokens_equal_iterator_tokens(device: &Device) -> Result<()> {
    for options in [
        asked(),
        GenerateOptions { exit: Some(Exit::new(Criterion::Kl)), ..asked() },
        GenerateOptions { speculate: Some(Speculate::default()), ..asked() },
        GenerateOptions { pipeline: Some(Pipeline::default()), ..asked() },
    ] {
        let expected = iterated(&mut session(device, 3)?, &options)?;
        let found = block_on(polled(&mut session(device, 3)?, &options))?;
        ensure!(found == expected && found.len() == 6, "{found:?} instead of {expected:?}");
    }
    Ok(())
}

/// A task awaits the events of a batch.
#[trial(device, cpu)]
fn polled_batches_generate_same_tokens_as_sessions(device: &Device) -> Result<()> {
    let expected: Vec<_> = [3, 4].map(|seed| session(device, seed).map(|mut it| iterated(&mut it, &asked()))).into();
    let model = Model::demo(device, LoadOptions::default())?;
    let mut batch = model.batch(BatchOptions { sequences: 2, ..BatchOptions::default() })?;
    let ids = [batch.add(PROMPT, 3, &asked())?, batch.add(PROMPT, 4, &asked())?];
    let (mut tokens, mut ended) = ([Vec::new(), Vec::new()], 0);
    while let Some(event) = block_on(poll_fn(|cx| batch.poll_next(cx))) {
        match event? {
            Event::Token { id, piece } => tokens[usize::from(id == ids[1])].push(piece.token),
            Event::Done { .. } => ended += 1,
            other => anyhow::bail!("{other:?}"),
        }
    }
    ensure!(ended == 2, "{ended} sequences ended");
    for (found, expected) in tokens.iter().zip(expected) {
        let expected = expected??;
        ensure!(*found == expected, "{found:?} instead of {expected:?}");
    }
    Ok(())
}

/// Lavapipe computes most submissions in the call that submits, so there is nothing to wait for.
fn waits_for_nothing() -> Option<String> {
    let lavapipe = device().is_some_and(|device| device.name().contains("llvmpipe"));
    lavapipe.then(|| "the driver may compute in the call that submits".to_owned())
}

/// While a task awaits a token, the device has the next token's pass already.
#[trial(device, needs(waits_for_nothing))]
fn polled_passes_are_submitted_ahead(device: &Device) -> Result<()> {
    // A pass takes longer than its encoding, and fits into a piece on slow devices as well.
    let source = Synthetic::parse("n_embd=64,heads=2,hidden=128,vocab=512,layers=1/1/1")?.source();
    let model = Model::open(&source, device, LoadOptions::default())?;
    let mut session = model.session(SessionOptions { seed: 3, ..SessionOptions::default() })?;
    let options = GenerateOptions { steps: Some(4), max_tokens: Some(20), ..asked() };
    let mut usual = Launches::default();
    // The first generations measure the pace of the device.
    for _ in 0..3 {
        usual = Launches::since(device);
        for piece in session.generate(&[5], &options)? {
            piece?;
            usual.token(device);
        }
    }
    let mut generation = session.generate(&[5], &options)?;
    let polled = |cx: &mut Context<'_>| generation.poll_next(cx).map_ok(|_| true);
    polls_ahead(device, &usual, polled).context("a session")?;
    drop(generation);

    let mut batch = model.batch(BatchOptions::default())?;
    for _ in 0..3 {
        batch.add(&[5], 3, &options)?;
        usual = Launches::since(device);
        while let Some(event) = batch.wait()? {
            if matches!(event, Event::Token { .. }) {
                usual.token(device);
            }
        }
    }
    batch.add(&[5], 3, &options)?;
    let polled = |cx: &mut Context<'_>| batch.poll_next(cx).map_ok(|event| matches!(event, Event::Token { .. }));
    polls_ahead(device, &usual, polled).context("a batch")
}

/// Launches of a generation until each of its tokens.
#[derive(Default)]
struct Launches {
    before: u64,
    until: Vec<u64>,
}

impl Launches {
    fn since(device: &Device) -> Self {
        Self { before: device.counters().launches, until: Vec::new() }
    }

    fn token(&mut self, device: &Device) {
        self.until.push(device.counters().launches - self.before);
    }
}

/// Fails unless passes are submitted ahead of awaited tokens, and no more of them than usual. `poll` returns whether a token has come.
fn polls_ahead(
    device: &Device,
    usual: &Launches,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<bool, Error>>>,
) -> Result<()> {
    let (pass, all) = (usual.until[3] - usual.until[2], usual.until[19]);
    ensure!(pass > 0, "{:?}", usual.until);
    let mut launches = Launches::since(device);
    let mut ahead = 0;
    while let Some(came) = block_on(poll_fn(|cx| {
        let polled = poll(cx);
        // The prompt's pass brings the first token, and each token after it takes one more pass.
        let submitted = device.counters().launches - launches.before;
        ahead += u32::from(polled.is_pending() && submitted + pass * (19 - launches.until.len() as u64) > all);
        polled
    })) {
        if came? {
            launches.token(device);
        }
    }
    ensure!(launches.until.len() == 20 && launches.until[19] == all, "{:?} instead of {all}", launches.until);
    ensure!(ahead > 0, "no pass was submitted before the one ahead of it was done");
    Ok(())
}

/// Counts its wakes and unparks the waiting thread.
struct Counting(AtomicU32, std::thread::Thread);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
        self.1.unpark();
    }
}

/// Two generations share a thread, which sleeps whenever neither can continue.
#[trial(device)]
fn tasks_share_a_thread_that_sleeps_between_wakes(device: &Device) -> Result<()> {
    let expected = [3, 4].map(|seed| session(device, seed).and_then(|mut it| Ok(iterated(&mut it, &asked())?)));
    let (mut first, mut second) = (session(device, 3)?, session(device, 4)?);
    let options = asked();
    let mut tasks = (pin!(polled(&mut first, &options)), pin!(polled(&mut second, &options)));
    let counting = Arc::new(Counting(AtomicU32::new(0), std::thread::current()));
    let waker = Waker::from(Arc::clone(&counting));
    let mut cx = Context::from_waker(&waker);
    let (mut done, mut polls) = ((None, None), 0);
    while done.0.is_none() || done.1.is_none() {
        let before = counting.0.load(Relaxed);
        if done.0.is_none()
            && let Poll::Ready(tokens) = tasks.0.as_mut().poll(&mut cx)
        {
            done.0 = Some(tokens?);
        }
        if done.1.is_none()
            && let Poll::Ready(tokens) = tasks.1.as_mut().poll(&mut cx)
        {
            done.1 = Some(tokens?);
        }
        polls += 1;
        let unfinished = done.0.is_none() || done.1.is_none();
        if unfinished && counting.0.load(Relaxed) == before {
            std::thread::park_timeout(std::time::Duration::from_secs(60));
        }
    }
    let [one, other] = expected;
    ensure!((done.0, done.1) == (Some(one?), Some(other?)));
    let wakes = counting.0.load(Relaxed);
    ensure!(wakes > 0 && polls <= wakes + 2, "{polls} polls, {wakes} wakes");
    Ok(())
}

#[trial(device)]
fn lost_device_wakes_and_fails_tasks(device: &Device) -> Result<()> {
    let mut session = session(device, 1)?;
    let asked = GenerateOptions { steps: Some(64), max_tokens: Some(500), ..asked() };
    session.start(PROMPT, &asked)?;
    let mut count = 0;
    let outcome = block_on(poll_fn(|cx| {
        count += 1;
        if count == 3 {
            device.lose_for_test();
        }
        match session.poll_next(cx) {
            Poll::Ready(Some(Ok(_))) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            other => other,
        }
    }));
    let error = outcome.context("the generation never failed")?.err().context("the generation succeeded")?;
    ensure!(error.code() == "device-lost", "{error}");
    // On a lost device `wake_when_done` fails at once instead of waiting forever.
    ensure!(device.wake_when_done(Waker::noop()).is_err());
    Ok(())
}

/// After a warm-up neither the start nor the first token compiles pipelines, and the session is unchanged.
#[trial(device)]
fn warmed_up_session_compiles_nothing(device: &Device) -> Result<()> {
    let expected = iterated(&mut session(device, 3)?, &asked())?;
    for options in [asked(), GenerateOptions { speculate: Some(Speculate::default()), logprobs: Some(2), ..asked() }] {
        let mut warm = session(device, 3)?;
        warm.warm_up(64, &options)?;
        ensure!(warm.position() == 0 && warm.next_token().is_none());
        let before = device.counters();
        let tokens = iterated(&mut warm, &options)?;
        let done = device.counters() - before;
        ensure!(done.pipelines == 0, "{} pipelines were compiled after the warm-up", done.pipelines);
        ensure!(tokens == expected || options.speculate.is_some(), "{tokens:?} instead of {expected:?}");
        // Also in the middle of a text.
        let (position, next) = (warm.position(), warm.next_token());
        warm.warm_up(8, &options)?;
        ensure!((warm.position(), warm.next_token()) == (position, next), "the warm-up changed the session");
    }
    Ok(())
}

/// On a device that computes in the call that submits, each call brings an event of the sequences that share rounds.
#[trial(device, cpu)]
fn sequences_with_own_passes_are_not_kept_waiting(device: &Device) -> Result<()> {
    let plain = GenerateOptions { max_tokens: Some(20), ..asked() };
    let own = GenerateOptions { speculate: Some(Speculate::default()), max_tokens: Some(4), ..asked() };
    let expected = iterated(&mut session(device, 4)?, &own)?;
    let model = Model::demo(device, LoadOptions::default())?;
    for polls in [false, true] {
        let mut batch = model.batch(BatchOptions { sequences: 3, ..BatchOptions::default() })?;
        batch.add(PROMPT, 3, &plain)?;
        let ids = [batch.add(PROMPT, 4, &own)?, batch.add(PROMPT, 4, &own)?];
        let mut tokens = [Vec::new(), Vec::new()];
        let mut before = 0;
        while !batch.is_idle() {
            let event = if polls {
                block_on(poll_fn(|cx| batch.poll_next(cx))).transpose()?
            } else {
                batch.step(std::time::Duration::from_millis(16))?
            };
            let Some(Event::Token { id, piece }) = event else { continue };
            match ids.iter().position(|own| *own == id) {
                Some(which) => tokens[which].push(piece.token),
                None => before += u32::from(tokens.iter().any(Vec::is_empty)),
            }
        }
        for found in tokens {
            ensure!(found == expected, "{found:?} instead of {expected:?}");
        }
        ensure!(before < 15, "{before} of 20 tokens came before the first of every sequence with its own passes");
    }
    Ok(())
}
