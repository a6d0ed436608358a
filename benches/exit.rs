//! What leaving early saves, and what the steps cost that are then not taken: a token that may have 64 steps and leaves after a few, beside one that is given
//! just so many. Then what other ways of stopping would cost, reckoned from what their parts cost on this device: launches whose number of workgroups is read
//! from memory, none of a row that has left; and submissions of some steps, the next but one held back until the host has read that a row has left.
//! `RUMINATE_BENCH_MODEL=SHAPE` names another synthetic model than one with Huginn's core block; `RUMINATE_BENCH_ROUNDS=N` another number of
//! rounds than 3.
//!
//! ```console
//! $ cargo bench -p ruminate-benches --bench exit
//! ```

use std::env;
use std::time::Instant;

use ruminate::{Criterion, Exit, LoadOptions, Model, SessionOptions, State, Synthetic};
use ruminate_benches::{announce, device};
use ruminate_engine::bench::Costs;

/// Huginn's core block, with one layer before and behind it and a small vocabulary.
const SHAPE: &str = "n_embd=5280,heads=55,hidden=17920,vocab=1000,layers=1/4/1,block_size=64,mean_recurrence=64,seed=1";
/// Steps that a token may have.
const MOST: u32 = 64;
/// Steps of a submission, where the host looks in between.
const PIECE: u32 = 8;
/// Steps that it takes.
const TAKEN: [u32; 5] = [1, 4, 8, 16, 32];

#[expect(clippy::print_stdout, reason = "these are the figures")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = device();
    announce(&device);
    let shape = env::var("RUMINATE_BENCH_MODEL").unwrap_or_else(|_| SHAPE.to_owned());
    let rounds: usize = env::var("RUMINATE_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let model = Model::open(&Synthetic::parse(&shape)?.source(), &device, LoadOptions::default())?;
    let mut session = model.session(SessionOptions { context: Some(32), ..SessionOptions::default() })?;
    let mut time = |steps: u32, exit: Option<Exit>| -> Result<f64, ruminate::Error> {
        session.rewind(0)?;
        let start = Instant::now();
        match exit {
            None => drop(session.forward(&[1], steps, State::Seeded, false)?),
            Some(exit) => drop(session.forward_until_settled(&[1], steps, &exit, State::Seeded, false)?),
        }
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    // Everything has settled at the first check.
    let at = |steps: u32| Exit { threshold: f32::MAX, min_steps: steps - 1, ..Exit::new(Criterion::LatentDiff) };
    // Kernels are compiled, tables are as large as they will be.
    time(MOST, Some(at(1)))?;
    let whole = time(MOST, None)?;
    println!("all {MOST} steps: {whole:.1} ms");
    println!("steps taken  fixed depth   of {MOST} at most   steps not taken   of all {MOST}");
    let mut idle = Vec::new();
    for taken in TAKEN {
        let (mut fixed, mut early) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            fixed.push(time(taken, None)?);
            early.push(time(MOST, Some(at(taken)))?);
        }
        let (fixed, early) = (median(fixed), median(early));
        let rest = early - fixed;
        idle.push(rest / f64::from(MOST - taken));
        println!("{taken:>11} {fixed:>9.1} ms {early:>13.1} ms {rest:>14.1} ms {:>12.1} %", 100.0 * rest / whole);
    }
    let mut launches = |steps: u32| {
        let before = device.counters();
        time(steps, None)?;
        Ok::<_, ruminate::Error>((device.counters() - before).launches)
    };
    let launches = (launches(2)? - launches(1)?) as f64;
    let idle = median(idle);
    let costs = Costs::measure(&device, 3)?;
    let (dependent, submission) = (costs.dependent.median() * 1e3, costs.submission.median() * 1e3);
    println!(
        "\nway of stopping                  a step that is taken   a step that is not   {launches} launches a step"
    );
    println!("direct launches (as it is)       {:>17.3} ms {idle:>17.3} ms", 0.0);
    for (name, cost) in [("indirect launches", costs.indirect), ("the same, checked by wgpu", costs.indirect_checked)] {
        let Some(cost) = cost.map(|cost| cost.median() * 1e3) else { continue };
        println!("{name:<32} {:>+17.3} ms {:>17.3} ms", launches * (cost - dependent), launches * cost);
    }
    let (piece, behind) = (submission / f64::from(PIECE), 2 * PIECE - 1);
    println!("submissions of {PIECE} steps           {piece:>+17.3} ms {idle:>17.3} ms, of {behind} at most");
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
