//! Stage that measures whole models: time per decoded token and per prompt token, compared with the device's ceilings.
//!
//! The models are the demo, and random weights of published shapes. Each dtype of each model has a share of the time that is left. Within it, fewer steps come
//! first, and the time of every later measurement is estimated from the first, in proportion to the weights that its tokens read.

use std::time::Duration;

use ruminate_engine::bench::Sample;
use ruminate_engine::clock::Instant;
use ruminate_shaders::Dtype;

use super::{Examination, NO_TIME, Speed, counted};
use crate::arch::REPORTED;
use crate::bench::{Phase, TokenTiming, time};
use crate::cancel::CancelToken;
use crate::error::Error;
use crate::memory_budget;
use crate::options::{LoadOptions, SessionOptions};
use crate::source::Source;
use crate::{Model, Session, Synthetic, demo};

/// Steps to measure in addition to a model's default.
const STEPS: [u32; 2] = [1, 8];
/// Lengths of prompts in tokens. The longest for which there is time is measured.
const PROMPTS: [u32; 3] = [32, 128, 512];
/// Minimum and maximum number of tokens decoded per measurement.
const DECODED: [u32; 2] = [2, 32];
/// Seconds that one measurement should not exceed; slow devices are measured with fewer tokens.
const PATIENCE: f64 = 2.0;
/// Number of measurements of each time.
const REPETITIONS: u32 = 3;
/// Factor by which real times may exceed estimates.
const MARGIN: f64 = 1.2;
/// Shapes of random weights, of 4 and 80 MB in bf16, whose loading time predicts that of larger models. The second is more exact; it is loaded if the first
/// shows that there is time for it.
const TRIALS: [&str; 2] = [
    "n_embd=256,heads=4,hidden=512,layers=1/1/1,vocab=512",
    "n_embd=1024,heads=16,hidden=2048,layers=1/1/1,vocab=2048",
];
/// Share of the time of a model in one dtype that loading may take.
const LOADING: f64 = 0.8;

/// Measures models until there is no time left.
pub(super) fn measure(examination: &mut Examination<'_>) -> Result<(), Error> {
    let [bf16, q8, q4] = [Dtype::Bf16, Dtype::Q8, Dtype::Q4];
    let [huginn, ouro] = REPORTED.map(|name| Synthetic::parse(name).map(Synthetic::source));
    let (huginn, ouro) = (huginn?, ouro?);
    let [huginn_name, ouro_name] = REPORTED.map(|name| format!("synthetic:{name}"));
    let demo = demo::source();
    // The dtypes alternate between the large models, so that each dtype is measured early.
    let all = [
        ("demo", &demo, bf16),
        ("demo", &demo, q8),
        ("demo", &demo, q4),
        (&huginn_name[..], &huginn, bf16),
        (&ouro_name, &ouro, q4),
        (&huginn_name[..], &huginn, q4),
        (&ouro_name, &ouro, bf16),
        (&huginn_name[..], &huginn, q8),
        (&ouro_name, &ouro, q8),
    ];
    let stage_end = examination.deadline;
    // Bytes of random weights loaded per second, so that a load that cannot end in time is not begun.
    let mut rate = None;
    for (at, (name, source, dtype)) in all.into_iter().enumerate() {
        examination.deadline = stage_end;
        let share = examination.left().div_f64((all.len() - at) as f64);
        examination.deadline = examination.begin.elapsed() + share;
        if rate.is_none() && matches!(source, Source::Synthetic(_)) {
            rate = rate_of_loading(examination)?;
        }
        let outcome = one(examination, name, source, dtype, &mut rate);
        examination.deadline = stage_end;
        outcome?;
    }
    Ok(())
}

/// Measures the bytes per second at which small models of random weights load. Returns `None` if there is no time for it.
fn rate_of_loading(examination: &mut Examination<'_>) -> Result<Option<f64>, Error> {
    let mut rate = None;
    for shape in TRIALS {
        let made = Synthetic::parse(shape)?;
        // The first of two loads compiles kernels.
        let bytes = 2.0 * made.spec().weight_bytes(Dtype::Bf16) as f64;
        if !examination.affords(rate.map_or(0.0, |rate| bytes / rate)) {
            break;
        }
        examination.begin(format!("synthetic:{shape}: loading"));
        let device = examination.device()?;
        let source = made.source();
        let load = || {
            let begin = Instant::now();
            let loading = LoadOptions { dtype: Some(Dtype::Bf16), ..LoadOptions::default() };
            let model = Model::open(&source, &device, loading)?;
            device.wait_idle()?;
            Ok::<_, Error>(model.weight_bytes() as f64 / begin.elapsed().as_secs_f64().max(1e-9))
        };
        load()?;
        rate = Some(load()?);
    }
    Ok(rate)
}

/// Measures a model in one dtype. `known` is the loading rate of random weights in bytes per second, if known.
fn one(
    examination: &mut Examination<'_>,
    name: &str,
    source: &Source,
    dtype: Dtype,
    known: &mut Option<f64>,
) -> Result<(), Error> {
    let what = format!("{name} in {}", dtype.name());
    if !examination.affords(0.0) {
        examination.skip(what, NO_TIME);
        return Ok(());
    }
    examination.begin(format!("{what}: loading"));
    let device = examination.device()?;
    let spec = crate::arch::Spec::open(source)?;
    let steps = depths(spec.steps.default);
    let deepest = steps.iter().copied().max().unwrap_or(1);
    let session = SessionOptions {
        context: Some(PROMPTS[PROMPTS.len() - 1].min(spec.context - 2) + 2),
        steps: Some(deepest),
        ..SessionOptions::default()
    };
    let needed = memory_budget::wanted(&spec, dtype.into(), &session, &device.caps()).1.total();
    if let Some(free) = memory_budget::usable(device.memory()).filter(|&free| free < needed) {
        examination.skip(what, format!("needs {}, the device has {} to give", gb(needed), gb(free)));
        return Ok(());
    }
    let allowed = examination.left().mul_f64(LOADING);
    let all = spec.weight_bytes(dtype) as f64;
    if let Some(seconds) = known.map(|rate| all / rate).filter(|&seconds| seconds > allowed.as_secs_f64()) {
        examination.skip(what, format!("{NO_TIME}: loading would take about {seconds:.0} s"));
        return Ok(());
    }
    let (cancel, begin) = (CancelToken::new(), Instant::now());
    let mut rate = f64::INFINITY;
    let mut progress = |done: u64, total: u64| {
        let elapsed = begin.elapsed();
        rate = done.max(1) as f64 / elapsed.as_secs_f64().max(1e-9);
        if !ends_in_time(elapsed, done as f64 / total.max(1) as f64, allowed) {
            cancel.cancel();
        }
    };
    let loading = LoadOptions {
        dtype: Some(dtype),
        session: session.clone(),
        progress: Some(&mut progress),
        cancel: cancel.clone(),
        ..LoadOptions::default()
    };
    let model = match Model::open(source, &device, loading) {
        Ok(model) => model,
        Err(Error::Cancelled) => {
            if matches!(source, Source::Synthetic(_)) {
                *known = Some(rate);
            }
            examination.skip(what, format!("{NO_TIME}: loading would take about {:.0} s", all / rate));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut timed = Timed { what, name, dtype, session: model.session(session)?, model };
    for phase in [Phase::Decode, Phase::Prefill] {
        timed.phase(examination, phase, &steps)?;
    }
    // The next model needs the memory.
    drop(timed);
    device.wait_idle()?;
    Ok(())
}

/// Returns the steps to measure, fewest first.
fn depths(default: u32) -> Vec<u32> {
    let mut all: Vec<u32> = STEPS.into_iter().chain([default]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether work of which the fraction `done` is done will end in the allowed time. Assumed true for work that has just begun.
fn ends_in_time(elapsed: Duration, done: f64, allowed: Duration) -> bool {
    const EARLY: f64 = 0.1;
    if elapsed > allowed {
        return false;
    }
    done < EARLY || elapsed.as_secs_f64() / done < allowed.as_secs_f64()
}

/// A model with its session.
struct Timed<'a> {
    what: String,
    name: &'a str,
    dtype: Dtype,
    model: Model,
    session: Session,
}

impl Timed<'_> {
    /// Measures decoding or prompts at all depths.
    fn phase(&mut self, examination: &mut Examination<'_>, phase: Phase, depths: &[u32]) -> Result<(), Error> {
        let label = name_of(phase);
        let fewest = if phase == Phase::Decode { DECODED[0] } else { PROMPTS[0] };
        if !examination.affords(0.0) {
            examination.skip(format!("{}: {label}", self.what), NO_TIME);
            return Ok(());
        }
        // The first run compiles kernels.
        examination.begin(format!("{}: {label}, first run", self.what));
        time(&mut self.session, phase, fewest, depths[0])?;
        let begin = Instant::now();
        time(&mut self.session, phase, fewest, depths[0])?;
        let mut measured = begin.elapsed().as_secs_f64() / f64::from(fewest);
        for &steps in depths {
            let what = format!("{}: {label} at {}", self.what, counted(steps, "step"));
            let estimate = MARGIN * measured * self.weights(phase, steps) / self.weights(phase, depths[0]);
            let tokens = affordable(phase, estimate);
            if !examination.affords(estimate * f64::from(tokens)) {
                examination.skip(what, NO_TIME);
                continue;
            }
            examination.begin(what);
            // A longer prompt has other passes, whose kernels are compiled in a separate run.
            if phase == Phase::Prefill && tokens != fewest && steps == depths[0] {
                time(&mut self.session, phase, tokens, steps)?;
            }
            let (mut seconds, mut host) = (Vec::new(), Vec::new());
            let begin = Instant::now();
            while seconds.is_empty()
                || (seconds.len() < REPETITIONS as usize && examination.affords(estimate * f64::from(tokens)))
            {
                let (token, encoding) = time(&mut self.session, phase, tokens, steps)?;
                seconds.push(token);
                host.push(encoding);
            }
            if steps == depths[0] {
                measured = begin.elapsed().as_secs_f64() / (seconds.len() as f64 * f64::from(tokens));
            }
            let host = Sample::new(host).median();
            let timing = TokenTiming::new(&self.model, phase, tokens, steps, Sample::new(seconds), host);
            let speed = self.speed(examination, &timing);
            examination.report.speed.push(speed);
        }
        Ok(())
    }

    fn weights(&self, phase: Phase, steps: u32) -> f64 {
        self.model.spec().weights_per_token(steps, phase == Phase::Decode) as f64
    }

    fn speed(&self, examination: &Examination<'_>, timing: &TokenTiming) -> Speed {
        let seconds = timing.time.median();
        let ceilings = examination.ceilings.as_ref();
        let bound_by = |it: &crate::bench::Ceilings| {
            if timing.bytes * it.read() > timing.flops * it.compute() { "read" } else { "f32" }
        };
        Speed {
            model: self.name.to_owned(),
            dtype: self.dtype.name().to_owned(),
            weight_bytes: self.model.weight_bytes(),
            phase: name_of(timing.phase),
            steps: timing.steps,
            tokens: timing.tokens,
            repetitions: timing.time.repetitions(),
            ms_per_token: 1e3 * seconds,
            tokens_per_s: 1.0 / seconds,
            gb_per_s: 1e-9 * timing.bytes / seconds,
            gflop_per_s: 1e-9 * timing.flops / seconds,
            percent_of_ceiling: ceilings.map(|it| 100.0 * timing.bound(it) / seconds),
            bound_by: ceilings.map(bound_by),
        }
    }
}

const fn name_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Prefill => "prefill",
        Phase::Decode => "decode",
    }
}

/// Number of tokens per measurement, given the seconds per token.
fn affordable(phase: Phase, each: f64) -> u32 {
    let fits = |tokens: u32| f64::from(tokens) * each <= PATIENCE;
    match phase {
        Phase::Decode => (DECODED[0]..=DECODED[1]).rev().find(|&tokens| fits(tokens)).unwrap_or(DECODED[0]),
        Phase::Prefill => PROMPTS.into_iter().rev().find(|&tokens| fits(tokens)).unwrap_or(PROMPTS[0]),
    }
}

fn gb(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_devices_are_measured_with_fewer_tokens() {
        assert_eq!(affordable(Phase::Decode, 0.001), 32);
        assert_eq!(affordable(Phase::Decode, 0.2), 10);
        assert_eq!(affordable(Phase::Decode, 60.0), 2);
        assert_eq!(affordable(Phase::Prefill, 0.001), 512);
        assert_eq!(affordable(Phase::Prefill, 0.01), 128);
        assert_eq!(affordable(Phase::Prefill, 9.0), 32);
    }

    #[test]
    fn loading_is_given_up_as_soon_as_it_is_known_to_take_too_long() {
        let seconds = Duration::from_secs_f64;
        assert!(ends_in_time(seconds(1.0), 0.01, seconds(10.0)), "a start tells nothing");
        assert!(!ends_in_time(seconds(5.0), 0.2, seconds(10.0)));
        assert!(ends_in_time(seconds(5.0), 0.6, seconds(10.0)));
        assert!(!ends_in_time(seconds(11.0), 0.0, seconds(10.0)));
    }

    #[test]
    fn depths_are_different_and_ascend() {
        assert_eq!(depths(32), [1, 8, 32]);
        assert_eq!(depths(4), [1, 4, 8]);
        assert_eq!(depths(8), [1, 8]);
    }
}
