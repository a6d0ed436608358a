//! Embedding in a host app: on its device, next to its own work, with several models and sessions at once, and without leaks.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ruminate::wgpu;
use ruminate::{
    Counters, Device, GenerateOptions, LoadOptions, Model, Progress, Prompt, Sampling, Session, SessionOptions, Source,
    demo,
};
use ruminate_engine::{OpenOptions, Tier};
use ruminate_tests::{Host, golden_folder, greedy, options, trial};

/// The time that a frame gives to the engine.
const BUDGET: Duration = Duration::from_millis(2);

fn demo(device: &Device) -> Result<Model> {
    Ok(Model::demo(device, LoadOptions::default())?)
}

fn tiny(device: &Device) -> Result<Model> {
    Ok(Model::open(&Source::dir(golden_folder("tiny"))?, device, LoadOptions::default())?)
}

/// All tokens of a generation, by the iterator.
fn whole(mut session: Session, prompt: &[u32], options: &GenerateOptions) -> Result<Vec<u32>> {
    let pieces = session.generate(prompt, options)?;
    Ok(pieces.map(|piece| piece.map(|piece| piece.token)).collect::<Result<_, _>>()?)
}

/// The work of one of several sessions.
struct Stream {
    model: Model,
    seed: u64,
    prompt: Vec<u32>,
    options: GenerateOptions,
}

/// Sessions of both models: short and long prompts, greedy and sampled, shallow and deep.
fn streams(device: &Device) -> Result<Vec<Stream>> {
    let (demo, tiny) = (demo(device)?, tiny(device)?);
    let drawn = Sampling { temperature: 2.0, repeat_penalty: 1.1, ..Sampling::GREEDY };
    let prompt = |count: u32, vocab: u32| (0..count).map(|i| (i * 37 + i * i) % vocab).collect();
    let stream = |model: &Model, seed, prompt, options| Stream { model: model.clone(), seed, prompt, options };
    Ok(vec![
        stream(&demo, 1, prompt(20, 400), greedy(8, 8)),
        stream(&tiny, 2, prompt(7, 64), greedy(3, 12)),
        stream(&demo, 3, prompt(300, 400), GenerateOptions { sampling: drawn, ..greedy(2, 6) }),
        stream(&tiny, 4, prompt(20, 64), GenerateOptions { sampling: drawn, ..greedy(5, 10) }),
    ])
}

fn session(Stream { model, seed, .. }: &Stream) -> Result<Session> {
    Ok(model.session(SessionOptions { seed: *seed, ..SessionOptions::default() })?)
}

/// Runs streams in turns, one bounded step each, and returns their tokens.
fn in_turns(streams: &[Stream], budget: Duration) -> Result<Vec<Vec<u32>>> {
    let mut sessions = streams.iter().map(session).collect::<Result<Vec<_>>>()?;
    for (session, stream) in sessions.iter_mut().zip(streams) {
        session.start(&stream.prompt[..], &stream.options)?;
    }
    let mut found = vec![Vec::new(); sessions.len()];
    let mut left = sessions.len();
    while left > 0 {
        left = sessions.len();
        for (session, found) in sessions.iter_mut().zip(&mut found) {
            match session.step(budget)? {
                Progress::Token(piece) => found.push(piece.token),
                Progress::Done(_) => left -= 1,
                _ => {}
            }
        }
    }
    Ok(found)
}

fn alone(streams: &[Stream]) -> Result<Vec<Vec<u32>>> {
    streams.iter().map(|stream| whole(session(stream)?, &stream.prompt, &stream.options)).collect()
}

#[trial(device, cpu, full)]
fn models_and_sessions_on_one_device_generate_same_tokens(device: &Device) -> Result<()> {
    let streams = streams(device)?;
    let expected = alone(&streams)?;
    ensure!(expected.iter().all(|tokens| tokens.len() > 5), "{expected:?}");
    for budget in [Duration::from_micros(500), BUDGET] {
        let found = in_turns(&streams, budget)?;
        ensure!(found == expected, "{found:?} with {budget:?}, alone {expected:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn threads_on_one_device_generate_same_tokens(device: &Device) -> Result<()> {
    let streams = streams(device)?;
    let expected = alone(&streams)?;
    // Two threads have a session of each model and make bounded steps; a third one waits for its tokens.
    let found = std::thread::scope(|scope| {
        let (one, two) = streams.split_at(2);
        let turns = [one, two].map(|part| scope.spawn(|| in_turns(part, BUDGET)));
        let waiting = scope.spawn(|| alone(&streams));
        let [one, two] = turns.map(|thread| thread.join().expect("no thread panics"));
        Ok::<_, anyhow::Error>(([one?, two?].concat(), waiting.join().expect("no thread panics")?))
    })?;
    ensure!(found.0 == expected && found.1 == expected, "{found:?}, alone {expected:?}");
    Ok(())
}

/// Computes a prompt without generating tokens, by the iterator and by steps, and then continues it.
#[trial(device, cpu, full)]
fn prompt_can_be_computed_without_generating(device: &Device) -> Result<()> {
    let model = demo(device)?;
    let (prompt, _) = demo::PROMPTS[1];
    let tokens = |session: &mut Session, prompt: Prompt<'_>, count| -> Result<Vec<u32>> {
        session.generate(prompt, &greedy(4, count))?.map(|piece| Ok(piece?.token)).collect()
    };
    let mut session = model.session(SessionOptions::default())?;
    let whole = session.encode(prompt, ruminate::Specials::Prompt)?;
    let expected = tokens(&mut model.session(SessionOptions::default())?, Prompt::Tokens(&whole), 6)?;
    let (before, last) = whole.split_at(whole.len() - 2);
    ensure!(tokens(&mut session, Prompt::Tokens(before), 0)?.is_empty(), "a generation of 0 tokens returned one");
    ensure!(session.position() as usize == before.len() && session.next_token().is_none(), "{}", session.position());
    session.start(Prompt::Tokens(&last[..1]), &greedy(4, 0))?;
    let reason = loop {
        match session.step(BUDGET)? {
            Progress::Done(reason) => break reason,
            Progress::Token(piece) => anyhow::bail!("{piece:?}"),
            _ => {}
        }
    };
    ensure!(reason == ruminate::StopReason::MaxTokens, "{reason:?}");
    ensure!(session.generate(Prompt::Continue, &greedy(4, 1)).is_err(), "a continuation without a token was accepted");
    // A generation that reached its limit continues after its last token.
    let mut found = tokens(&mut session, Prompt::Tokens(&last[1..]), 2)?;
    found.extend(tokens(&mut session, Prompt::Continue, 1)?);
    found.extend(tokens(&mut session, Prompt::Continue, 3)?);
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}

#[trial(device, cpu, full)]
fn session_keeps_its_generation_between_steps(device: &Device) -> Result<()> {
    let model = demo(device)?;
    let (prompt, _) = demo::PROMPTS[1];
    let mut session = model.session(SessionOptions::default())?;
    ensure!(session.step(BUDGET).is_err() && session.statistics().is_none(), "a step before `start` was accepted");
    let tokens = |session: &mut Session, wanted: usize| -> Result<Vec<u32>> {
        let mut found = Vec::new();
        while found.len() < wanted {
            match session.step(BUDGET)? {
                Progress::Token(piece) => found.push(piece.token),
                Progress::Done(reason) => anyhow::bail!("{reason:?} after {found:?}"),
                _ => {}
            }
        }
        Ok(found)
    };
    session.start(prompt, &greedy(4, 8))?;
    let all = tokens(&mut session, 8)?;
    ensure!(matches!(session.step(BUDGET)?, Progress::Done(_)), "more than 8 tokens");
    let statistics = session.statistics().context("the generation was not stopped")?;
    ensure!(statistics.tokens == 8 && statistics.decode_rate() > 0.0, "{statistics:?}");

    // After an early stop the session continues as if there had been no stop; any other call also stops the generation.
    session.rewind(0)?;
    ensure!(session.statistics().is_none(), "a rewind does not stop the generation");
    session.start(prompt, &greedy(4, 8))?;
    let mut first = tokens(&mut session, 3)?;
    // Stop in the middle of a pass, or after one more token.
    if let Progress::Token(piece) = session.step(Duration::from_micros(100))? {
        first.push(piece.token);
    }
    session.stop();
    let position = session.position();
    let wanted = 9 - first.len();
    session.start(Prompt::Continue, &greedy(4, wanted as u32 - 1))?;
    let rest = tokens(&mut session, wanted - 1)?;
    ensure!([first, rest].concat() == all, "with a stop in between, the tokens are not {all:?}");
    ensure!(session.rewind(position).is_ok(), "the session lost positions");
    Ok(())
}

#[trial(device, cpu, full)]
fn dropped_prompt_leaves_session_unchanged(device: &Device) -> Result<()> {
    let model = demo(device)?;
    let prompt: Vec<u32> = (0..300).map(|i| (i * 31) % 400).collect();
    let expected = whole(model.session(SessionOptions::default())?, &prompt[..40], &greedy(3, 6))?;
    for pieces in [0, 1, 3] {
        let mut session = model.session(SessionOptions::default())?;
        let mut generation = session.generate(&prompt[..], &greedy(3, 6))?;
        for _ in 0..pieces {
            ensure!(
                generation.step(Duration::ZERO)? == Progress::Working,
                "a prompt of 300 tokens was computed in {pieces} launches"
            );
        }
        drop(generation);
        ensure!(session.position() == 0, "{} positions of a partial prompt", session.position());
        let found = whole(session, &prompt[..40], &greedy(3, 6))?;
        ensure!(found == expected, "{found:?} after {pieces} launches, expected {expected:?}");
    }
    Ok(())
}

#[trial(device, full)]
fn host_device_generates_same_tokens_as_own_device(_: &Device) -> Result<()> {
    let options = &options().context("no device")?;
    let (prompt, _) = demo::PROMPTS[0];
    let run = |device: &Device| -> Result<Vec<u32>> {
        let model = demo(device)?;
        let prompt = model.tokenizer().encode(prompt, ruminate::Specials::Bos)?;
        whole(model.session(SessionOptions::default())?, &prompt, &greedy(16, 12))
    };
    for limits in [options.limits, Tier::WebGpuDefaults] {
        let options = OpenOptions { limits, ..options.clone() };
        let (host, own) = (Host::open(&options)?, Device::open(&options)?);
        let engine = host.engine()?;
        ensure!(engine.caps() == own.caps(), "{:?}, on the engine's device {:?}", engine.caps(), own.caps());
        let (found, expected) = (run(&engine)?, run(&own)?);
        ensure!(found == expected, "{limits:?}: {found:?}, on the engine's device {expected:?}");
    }
    Ok(())
}

/// The host's work: copies for each frame, with a callback at their end.
struct Frames {
    from: wgpu::Buffer,
    to: wgpu::Buffer,
    done: std::sync::Arc<std::sync::atomic::AtomicU32>,
}

impl Frames {
    fn new(host: &Host) -> Self {
        let buffer = |usage| {
            host.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("the host's"),
                size: 1 << 16,
                usage,
                mapped_at_creation: false,
            })
        };
        let (from, to) = (buffer(wgpu::BufferUsages::COPY_SRC), buffer(wgpu::BufferUsages::COPY_DST));
        Self { from, to, done: std::sync::Arc::default() }
    }

    fn submit(&self, host: &Host) {
        let mut encoder = host.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&self.from, 0, &self.to, 0, 1 << 16);
        host.queue.submit([encoder.finish()]);
        let done = std::sync::Arc::clone(&self.done);
        host.queue.on_submitted_work_done(move || {
            done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
    }
}

#[trial(device, full)]
fn steps_stay_bounded_next_to_host_work(_: &Device) -> Result<()> {
    let options = &options().context("no device")?;
    let host = Host::open(options)?;
    let device = host.engine()?;
    let model = demo(&device)?;
    let (prompt, _) = demo::PROMPTS[0];
    let prompt = model.tokenizer().encode(prompt, ruminate::Specials::Bos)?;
    let options = greedy(8, 4);
    let expected = whole(model.session(SessionOptions::default())?, &prompt, &options)?;

    let frames = Frames::new(&host);
    let mut session = model.session(SessionOptions::default())?;
    session.start(&prompt[..], &options)?;
    let (mut found, mut drawn) = (Vec::new(), 0);
    loop {
        let before = device.counters();
        // A budget of zero time allows one launch, however fast the device is.
        let progress = session.step(Duration::ZERO)?;
        let Counters { submissions, waits, launches, pipelines, bind_groups, buffers, .. } = device.counters() - before;
        ensure!(submissions <= 1 && waits == 0, "{submissions} submissions and {waits} waits in one step");
        ensure!(launches <= 1, "{launches} launches in one step");
        ensure!(pipelines + bind_groups == 0, "created {pipelines}, {bind_groups} after the start");
        // The first frames create the timestamp buffer, its staging buffer and that of the tokens.
        ensure!(buffers == 0 || drawn < 3 || found.is_empty(), "{buffers} buffers created in frame {drawn}");
        match progress {
            Progress::Token(piece) => found.push(piece.token),
            Progress::Done(_) => break,
            _ => {}
        }
        frames.submit(&host);
        drawn += 1;
    }
    ensure!(found == expected, "{found:?} between frames, expected {expected:?}");
    ensure!(drawn > 100 * found.len() as u32, "{drawn} frames for all launches of {} tokens", found.len());
    host.device.poll(wgpu::PollType::wait_indefinitely())?;
    let done = frames.done.load(std::sync::atomic::Ordering::Relaxed);
    ensure!(done == drawn, "{done} of {drawn} frames were drawn");
    Ok(())
}

#[trial(device, full)]
fn dropped_objects_are_freed(_: &Device) -> Result<()> {
    let options = &options().context("no device")?;
    let host = Host::open(options)?;
    let (nothing, bytes) = (host.alive()?, host.bytes());
    let device = host.engine()?;
    let empty = device.counters();
    let streams = streams(&device)?;
    in_turns(&streams, BUDGET)?;
    alone(&streams)?;
    let full = host.alive()?;
    ensure!(full.buffers > 50 && full.pipelines > 5, "{full:?} with two models");
    ensure!(device.counters().live_bytes > 1_000_000, "the models use no memory");
    ensure!(bytes == 0 || host.bytes() > bytes + 1_000_000, "{} bytes, {bytes} without the models", host.bytes());
    drop(streams);
    let left = device.counters();
    let live = |it: Counters| (it.live_buffers, it.live_bytes, it.live_bind_groups);
    ensure!(live(left) == live(empty), "{:?} left of {:?}", live(left), live(empty));
    // The device keeps what the next model needs too: pipelines, staging buffers and its timestamp buffers.
    let kept = host.alive()?;
    ensure!(kept.bind_groups == nothing.bind_groups && kept.pipelines == full.pipelines, "{kept:?} without a model");
    ensure!(kept.buffers <= nothing.buffers + 2 * 4 + 2, "{kept:?}, before {nothing:?}");
    drop(device);
    let end = host.alive()?;
    ensure!(end == nothing, "{end:?} at the end, before {nothing:?}");
    ensure!(host.bytes() <= bytes, "{} bytes at the end, {bytes} before", host.bytes());
    Ok(())
}

#[trial(device, full)]
fn work_in_flight_can_be_dropped_in_any_order(_: &Device) -> Result<()> {
    let options = &options().context("no device")?;
    let host = Host::open(options)?;
    let (nothing, bytes) = (host.alive()?, host.bytes());
    let engine = || -> Result<(Device, Model, Session)> {
        let device = host.engine()?;
        let model = demo(&device)?;
        let session = model.session(SessionOptions::default())?;
        Ok((device, model, session))
    };
    let (prompt, _) = demo::PROMPTS[0];
    let check = |what: &str| -> Result<()> {
        let left = host.alive()?;
        ensure!(left == nothing, "{what}: {left:?} remain, {nothing:?} before");
        ensure!(host.bytes() <= bytes, "{what}: {} bytes remain, {bytes} before", host.bytes());
        Ok(())
    };

    // A session outlives the handles of its device and its model.
    let (device, model, mut session) = engine()?;
    drop((device, model));
    let pieces: Vec<_> = session.generate(prompt, &greedy(4, 5))?.collect::<Result<_, _>>()?;
    ensure!(pieces.len() == 5, "{} tokens", pieces.len());
    drop(session);
    check("a session dropped last")?;

    // Passes that the iterator submitted ahead are in flight.
    let (device, model, mut session) = engine()?;
    let mut generation = session.generate(prompt, &greedy(32, 50))?;
    generation.next().transpose()?;
    drop(generation);
    drop((session, device, model));
    check("a generation dropped with passes in flight")?;

    // A pass is partly submitted, and its last piece is in flight.
    for pieces in [1, 40] {
        let (device, model, mut session) = engine()?;
        session.start(prompt, &greedy(32, 50))?;
        for _ in 0..pieces {
            session.step(Duration::from_micros(300))?;
        }
        drop(model);
        drop(device);
        drop(session);
        check("a session dropped in the middle of a pass")?;
    }

    // The host drops its device first; the engine's handle keeps it alive.
    let instance = host.instance.clone();
    let (device, model, mut session) = engine()?;
    drop(host);
    session.start(prompt, &greedy(4, 3))?;
    while !matches!(session.step(BUDGET)?, Progress::Done(_)) {}
    drop((device, model));
    session.stop();
    drop(session);
    let report = instance.generate_report().context("this backend has no report")?.hub;
    let left = [report.devices, report.queues, report.buffers, report.bind_groups, report.compute_pipelines];
    let left = left.map(|kind| kind.num_kept_from_user);
    ensure!(left == [0; 5], "{left:?} devices, queues, buffers, bind groups, pipelines remain");
    Ok(())
}
