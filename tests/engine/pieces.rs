//! Execution in pieces, for hosts that share the device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ruminate_engine::{Counters, Device, Error, Execution, OpenOptions, Result, Select, Tier};
use ruminate_tests::{Host, trial};

use crate::Outcome;
use crate::execution::{adder, nested, uniform};

/// Budget for one launch per piece: none fits, but the first is always submitted.
const LEAST: Duration = Duration::ZERO;
/// Budget larger than any work here.
const MUCH: Duration = Duration::from_secs(1000);

/// Advances until the device is done; returns the number of pieces.
fn complete(device: &Device, execution: &mut Execution, budget: Duration) -> Result<u64> {
    let mut pieces = 0;
    loop {
        let before = device.counters();
        let done = execution.advance(budget)?;
        pieces += u64::from((device.counters() - before).launches > 0);
        if done {
            return Ok(pieces);
        }
        std::thread::yield_now();
    }
}

#[trial(adapters, cpu)]
fn execution_in_pieces_gives_same_results(device: &Device) -> Outcome {
    let (plan, y) = nested(device)?;
    let mut expected = 0.0;
    for (n, m) in [(0_u8, 7_u8), (1, 0), (2, 3)] {
        let launches = plan.launches(&[n.into(), m.into()]);
        for (budget, number) in [(LEAST, launches), (MUCH, 1)] {
            let mut execution = device.begin(&plan, &[n.into(), m.into()], &[&y, &y])?;
            let before = device.counters();
            assert_eq!(complete(device, &mut execution, budget)?, number, "{n} and {m} rounds, {budget:?}");
            assert_eq!((device.counters() - before).launches, launches);
            assert!(execution.advance(budget)?, "a finished execution stays finished");
            let results = execution.finish()?.expect("results were asked for").wait()?;
            assert_eq!((device.counters() - before).waits, 0);
            expected += 1.0 + 3.0 * (2.0 + f32::from(n) * (4.0 + 5.0 * f32::from(m)));
            assert_eq!((uniform(&results[0])?, uniform(&results[1])?), (expected, expected));
        }
    }
    Ok(())
}

#[trial(adapters, cpu)]
fn finish_completes_remaining_work(device: &Device) -> Outcome {
    let (plan, y) = nested(device)?;
    for pieces in [0, 1, 5] {
        device.write(&y, 0, &[0; 400])?;
        let mut execution = device.begin(&plan, &[2, 3], &[&y])?;
        for _ in 0..pieces {
            execution.advance(LEAST)?;
        }
        let results = execution.finish()?.expect("results were asked for").wait()?;
        assert_eq!(uniform(&results[0])?, 121.0, "after {pieces} pieces");
    }
    assert!(device.begin(&plan, &[0, 0], &[])?.finish()?.is_none());
    assert_eq!(uniform(&device.read(&y, 0..y.size())?)?, 128.0);
    Ok(())
}

#[trial(adapters, cpu)]
fn other_plans_run_between_pieces(device: &Device) -> Outcome {
    let (one, y) = nested(device)?;
    let (two, z) = nested(device)?;
    let (other, w) = adder(device)?;
    let mut first = device.begin(&one, &[2, 3], &[&y])?;
    let mut second = device.begin(&two, &[1, 1], &[&z])?;
    let mut rounds = 0.0;
    while !(first.advance(LEAST)? & second.advance(LEAST)?) {
        // Waits for the result: work submitted faster than the device completes it would delay the next piece forever.
        rounds += 1.0;
        let result = device.execute(&other, &[1], &[&w])?.expect("a result was asked for").wait()?;
        assert_eq!(uniform(&result[0])?, rounds);
    }
    let read = |execution: Execution| execution.finish()?.expect("results were asked for").wait();
    assert_eq!((uniform(&read(first)?[0])?, uniform(&read(second)?[0])?), (121.0, 34.0));
    assert!(rounds > 0.0, "nothing ran between the pieces");
    Ok(())
}

#[trial(adapters, cpu)]
fn plan_is_busy_while_executing_in_pieces(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    let mut execution = device.begin(&plan, &[3], &[])?;
    execution.advance(LEAST)?;
    let taken =
        |outcome: Result<()>| assert!(matches!(&outcome, Err(Error::Busy { plan }) if plan == "adder"), "{outcome:?}");
    taken(device.execute(&plan, &[1], &[]).map(drop));
    taken(device.begin(&plan, &[1], &[]).map(drop));
    taken(device.profile(&plan, &[1]).map(drop));
    // Dropping the execution abandons the rest.
    drop(execution);
    device.execute(&plan, &[1], &[])?;
    assert_eq!(uniform(&device.read(&y, 0..y.size())?)?, 2.0);
    Ok(())
}

#[trial(adapters, cpu)]
fn empty_execution_is_done_without_submission(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    let before = device.counters();
    assert!(device.begin(&plan, &[0], &[])?.advance(LEAST)?);
    assert_eq!((device.counters() - before).submissions, 0);
    // Results may still be requested.
    let mut execution = device.begin(&plan, &[0], &[&y])?;
    assert_eq!(complete(device, &mut execution, MUCH)?, 0);
    assert_eq!(uniform(&execution.finish()?.expect("results were asked for").wait()?[0])?, 0.0);
    Ok(())
}

#[trial(adapters)]
fn each_piece_is_one_submission_after_the_previous_is_done(device: &Device) -> Outcome {
    hold_to_bounds(&host(device, Tier::Full)?)
}

#[trial(adapters)]
fn pieces_are_bounded_without_timestamps(device: &Device) -> Outcome {
    hold_to_bounds(&host(device, Tier::WebGpuDefaults)?)
}

fn host(device: &Device, limits: Tier) -> anyhow::Result<Host> {
    let index = device.summary().expect("a GPU has a summary").index;
    let options = OpenOptions { select: Select::Index(index), limits, ..OpenOptions::default() };
    Host::open(&options)
}

/// Checks the bounds of every call of `advance`.
fn hold_to_bounds(host: &Host) -> Outcome {
    let device = &host.engine()?;
    let (plan, y) = adder(device)?;
    // Creates the timestamp queries and their staging buffers.
    complete(device, &mut device.begin(&plan, &[3], &[&y])?, LEAST)?;
    let start = device.counters();
    let rounds = 50;
    let mut execution = device.begin(&plan, &[rounds], &[&y])?;
    let mut last: Option<Arc<AtomicBool>> = None;
    loop {
        let before = device.counters();
        let done = execution.advance(LEAST)?;
        let Counters { submissions, launches, waits, .. } = device.counters() - before;
        assert!((submissions, launches) == (1, 1) || (submissions, launches) == (0, 0), "{submissions}, {launches}");
        assert_eq!(waits, 0);
        if submissions == 1 {
            let told = Arc::new(AtomicBool::new(false));
            let behind = last.replace(Arc::clone(&told));
            let finished = behind.is_none_or(|last| last.load(Ordering::Relaxed));
            assert!(finished, "a piece was submitted before the previous one was done");
            host.queue.on_submitted_work_done(move || told.store(true, Ordering::Relaxed));
        }
        if done {
            break;
        }
    }
    assert_eq!(uniform(&execution.finish()?.expect("results were asked for").wait()?[0])?, 53.0);
    let Counters { submissions, launches, waits, buffers, bind_groups, pipelines, .. } = device.counters() - start;
    assert_eq!((submissions, launches, waits), (u64::from(rounds), u64::from(rounds), 0));
    assert_eq!((buffers, bind_groups, pipelines), (0, 0, 0));
    Ok(())
}

#[trial(adapters)]
fn device_loss_between_pieces_is_an_error(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    let mut execution = device.begin(&plan, &[3], &[&y])?;
    execution.advance(LEAST)?;
    device.lose_for_test();
    for _ in 0..2 {
        let outcome = execution.advance(LEAST);
        assert!(matches!(outcome, Err(Error::Lost(_))), "{outcome:?}");
    }
    let outcome = execution.finish();
    assert!(matches!(outcome, Err(Error::Lost(_))), "{outcome:?}");
    Ok(())
}
