//! Savings of early exit, and the cost of the steps that it skips.
//!
//! A token that may take 64 steps (a model with a learned gate: its trained number) and exits after a few is compared with one that is given exactly that
//! number, with indirect launches in the loop and with direct ones, alternately. The criterion is the gate, if the model has one, and otherwise latent-diff.
//! Then the costs of other ways to stop are computed from the costs of their parts on this device: indirect launches that wgpu checks; and submissions of
//! some steps each, with the next but one held back until the host has read that a row has exited. `RUMINATE_BENCH_MODEL=SHAPE` selects another synthetic
//! model than one with Huginn's core block; `RUMINATE_BENCH_ROUNDS=N` sets the number of rounds (default 3).
//!
//! ```console
//! $ cargo bench -p ruminate-benches --bench early_exit
//! $ RUMINATE_BENCH_MODEL=ouro-1.4b cargo bench -p ruminate-benches --bench early_exit
//! ```

use std::env;
use std::time::Instant;

use ruminate::{
    Criterion, Device, Exit, LoadOptions, Model, Session, SessionOptions, State, Synthetic, Tuning, TuningFrom,
};
use ruminate_benches::{announce, device_with};
use ruminate_engine::bench::Costs;
use ruminate_engine::{LOOPS, LoopWay};

/// Huginn's core block, with one layer before and one after it, and a small vocabulary.
const SHAPE: &str = "n_embd=5280,heads=55,hidden=17920,vocab=1000,layers=1/4/1,block_size=64,mean_recurrence=64,seed=1";
/// Maximum steps of a token in models without a gate.
const MOST: u32 = 64;
/// Steps per submission, if the host checks in between.
const PIECE: u32 = 8;
/// Steps that a token takes, if fewer than the maximum.
const TAKEN: [u32; 7] = [1, 2, 3, 4, 8, 16, 32];

/// A model on a device that launches loops in one way.
struct Bed {
    way: LoopWay,
    device: Device,
    session: Session,
}

impl Bed {
    fn new(way: LoopWay, shape: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let mut tuning = Tuning::default();
        tuning.choose(LOOPS, way.name());
        let device = device_with(TuningFrom::Given(tuning));
        let model = Model::open(&Synthetic::parse(shape)?.source(), &device, LoadOptions::default())?;
        let session = model.session(SessionOptions { context: Some(32), ..SessionOptions::default() })?;
        Ok(Self { way, device, session })
    }

    /// Milliseconds for a token.
    fn time(&mut self, steps: u32, exit: Option<Exit>) -> Result<f64, ruminate::Error> {
        self.session.rewind(0)?;
        let start = Instant::now();
        match exit {
            None => drop(self.session.forward(&[1], steps, State::Seeded, false)?),
            Some(exit) => drop(self.session.forward_until_exit(&[1], steps, &exit, State::Seeded, false)?),
        }
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    /// Launches for a token.
    fn launches(&mut self, steps: u32) -> Result<u64, ruminate::Error> {
        let before = self.device.counters();
        self.time(steps, None)?;
        Ok((self.device.counters() - before).launches)
    }
}

#[expect(clippy::print_stdout, reason = "these are the figures")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shape = env::var("RUMINATE_BENCH_MODEL").unwrap_or_else(|_| SHAPE.to_owned());
    let rounds: usize = env::var("RUMINATE_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let [indirect, direct] = LoopWay::ALL.map(|way| Bed::new(way, &shape));
    let mut beds = [indirect?, direct?];
    announce(&beds[0].device);
    println!("the engine's choice here: {} launches", device_with(TuningFrom::Defaults).loops().name());
    let spec = beds[0].session.model().spec();
    let most = if spec.gate { spec.steps.default } else { MOST };
    // The criterion is met at the first check.
    let (criterion, threshold) = if spec.gate { (Criterion::Gate, 0.0) } else { (Criterion::LatentDiff, f32::MAX) };
    let at = |steps: u32| Exit { threshold, min_steps: steps - 1, ..Exit::new(criterion) };
    // Warm-up: compiles kernels, and lets tables grow to their final size.
    let mut whole = Vec::new();
    for bed in &mut beds {
        bed.time(most, Some(at(1)))?;
        whole.push(bed.time(most, None)?);
    }
    let whole = median(whole);
    println!("all {most} steps: {whole:.1} ms; exits by {}", criterion.name());
    println!("                           of {most} at most               steps not taken, of all {most}");
    println!("steps taken  fixed depth    indirect      direct          indirect            direct");
    let mut idle = None;
    for taken in TAKEN.into_iter().filter(|&taken| taken < most) {
        let (mut fixed, mut early, mut rest) = (Vec::new(), [Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..rounds {
            for ((bed, early), rest) in beds.iter_mut().zip(&mut early).zip(&mut rest) {
                let alone = bed.time(taken, None)?;
                let found = bed.time(most, Some(at(taken)))?;
                fixed.push(alone);
                early.push(found);
                rest.push(found - alone);
            }
        }
        let (fixed, early, rest) = (median(fixed), early.map(median), rest.map(median));
        // The more steps are skipped, the less noise counts.
        idle.get_or_insert(rest.map(|rest| rest / f64::from(most - taken)));
        let share = |rest: f64| format!("{rest:.1} ms {:>4.1} %", 100.0 * rest / whole);
        let [a, b] = rest.map(share);
        println!("{taken:>11} {fixed:>9.1} ms {:>8.1} ms {:>8.1} ms {a:>17} {b:>17}", early[0], early[1]);
    }
    let [indirect, direct] = &mut beds;
    let launches = (direct.launches(2)? - direct.launches(1)?) as f64;
    let costs = Costs::measure(&indirect.device, 3)?;
    let (dependent, submission) = (costs.dependent.median() * 1e3, costs.submission.median() * 1e3);
    println!(
        "\nway of stopping                  a step that is taken   a step that is not   {launches} launches a step"
    );
    let idle = idle.unwrap_or_default();
    let small = costs.indirect.map(|cost| launches * (cost.median() * 1e3 - dependent));
    for (bed, idle) in [&*indirect, &*direct].into_iter().zip(idle) {
        let more = if bed.way == LoopWay::Indirect { small } else { Some(0.0) };
        let more = more.map_or_else(|| "unknown".to_owned(), |more| format!("{more:+.3} ms"));
        println!("{:<32} {more:>20} {idle:>17.3} ms", format!("{} launches", bed.way.name()));
    }
    if let Some(cost) = costs.indirect_checked.map(|cost| cost.median() * 1e3) {
        let (more, idle) = (launches * (cost - dependent), launches * cost);
        println!("indirect, checked by wgpu        {more:>+17.3} ms {idle:>17.3} ms   computed");
    }
    let (piece, behind, idle) = (submission / f64::from(PIECE), 2 * PIECE - 1, idle[1]);
    println!(
        "direct, submissions of {PIECE} steps   {piece:>+17.3} ms {idle:>17.3} ms   computed; at most {behind} steps are not taken"
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
