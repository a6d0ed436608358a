//! Execution of plans: loops, counts, objects, submissions, tickets.

use anyhow::{Context, anyhow};
use ruminate_engine::{Buffer, Count, Device, Error, Graph, LOOPS, LoopWay, Plan, Result, Tuning, TuningFrom};
use ruminate_shaders::recur::advance_until;
use ruminate_shaders::{Row, Sequence};
use ruminate_tests::{options, trial};

use crate::Outcome;
use crate::kernels::{saxpy, saxpy_of};

const N: u32 = 100;

/// Buffer with `N` copies of a value.
pub(crate) fn filled(device: &Device, label: &str, value: f32) -> Result<Buffer> {
    let buffer = device.buffer(label, u64::from(N) * 4)?;
    device.write(&buffer, 0, bytemuck::cast_slice(&[value; N as usize]))?;
    Ok(buffer)
}

/// Common value of the `N` numbers of a result, which must be equal.
pub(crate) fn uniform(bytes: &[u8]) -> anyhow::Result<f32> {
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[..N as usize * 4]);
    if values.iter().all(|value| *value == values[0]) { Ok(values[0]) } else { Err(anyhow!("{values:?}")) }
}

/// Plan that adds x = 1 to y, `n` times, where `n` is its only count.
pub(crate) fn adder(device: &Device) -> Result<(Plan, Buffer)> {
    let (x, y) = (filled(device, "x", 1.0)?, filled(device, "y", 0.0)?);
    let mut graph = Graph::new("adder");
    let (tx, ty) = (graph.import(&x), graph.import(&y));
    let n = graph.count("n");
    graph.repeat(n, |graph| graph.launch(saxpy(N, 1.0), &[tx, ty]))?;
    Ok((device.plan(graph)?, y))
}

/// Plan with nested loops and fixed counts: adds 1 + 3·(2 + n·(4 + 5·m)) to y.
pub(crate) fn nested(device: &Device) -> Result<(Plan, Buffer)> {
    let (x, y) = (filled(device, "x", 1.0)?, filled(device, "y", 0.0)?);
    let mut graph = Graph::new("nested");
    let bound = [graph.import(&x), graph.import(&y)];
    let (n, m) = (graph.count("n"), graph.count("m"));
    graph.launch(saxpy(N, 1.0), &bound)?;
    graph.repeat(Count::from(3), |graph| {
        graph.launch(saxpy(N, 2.0), &bound)?;
        graph.repeat(n, |graph| {
            graph.launch(saxpy(N, 4.0), &bound)?;
            graph.repeat(m, |graph| graph.launch(saxpy(N, 5.0), &bound))
        })
    })?;
    Ok((device.plan(graph)?, y))
}

/// Launches that do not check rows themselves reveal which launches run: indirect ones until all rows have exited, direct ones always.
#[trial(adapters)]
fn indirect_loop_launches_nothing_after_rows_exit(_: &Device) -> Outcome {
    for (way, expected) in [(LoopWay::Indirect, 1.0 + 2.0 * 3.0), (LoopWay::Direct, 1.0 + 2.0 * 8.0)] {
        let mut tuning = Tuning::default();
        tuning.choose(LOOPS, way.name());
        let mut options = options().context("the CPU reference launches nothing")?;
        options.tuning = TuningFrom::Given(tuning);
        let device = &Device::open(&options)?;
        assert_eq!(device.loops(), way);
        let (x, y) = (filled(device, "x", 1.0)?, filled(device, "y", 0.0)?);
        // The first row exits after its third step.
        let rows = [Row::new(0, 0, 0), Row::RESTING];
        let table = device.buffer("rows", size_of_val(&rows) as u64)?;
        let sequence = [Sequence { seed: [0; 2], state_seed: [0; 2], state_std: 0.0, steps: 3, reserved: [0; 2] }];
        let sequences = device.buffer("sequences", size_of_val(&sequence) as u64)?;
        device.write(&sequences, 0, bytemuck::cast_slice(&sequence))?;
        let mut graph = Graph::new("gated");
        let [x, y_tensor, table_tensor, sequences] = [&x, &y, &table, &sequences].map(|buffer| graph.import(buffer));
        let n = graph.count("n");
        graph.launch(saxpy(N, 1.0), &[x, y_tensor])?;
        graph.repeat_while_live(n, table_tensor, 2, |graph| {
            // The condition also applies to a loop inside.
            graph.repeat(Count::from(2), |graph| graph.launch(saxpy(N, 1.0), &[x, y_tensor]))?;
            graph.launch(advance_until(2, 1), &[table_tensor, sequences])
        })?;
        let plan = device.plan(graph)?;
        // The gate is reset for the next execution.
        for _ in 0..2 {
            device.write(&y, 0, &vec![0; N as usize * 4])?;
            device.write(&table, 0, bytemuck::cast_slice(&rows))?;
            let before = device.counters();
            let found = device.execute(&plan, &[8], &[&y])?.context("no ticket")?.wait()?;
            assert_eq!(uniform(&found[0])?, expected, "{way:?}");
            let gates = if way == LoopWay::Indirect { 8 } else { 0 };
            assert_eq!((device.counters() - before).launches, 1 + 8 * 3 + gates, "{way:?}");
        }
    }
    Ok(())
}

#[trial(adapters, cpu)]
fn loops_run_as_often_as_their_count(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    let mut expected = 0.0;
    for n in [0_u8, 1, 5, 0, 17] {
        device.execute(&plan, &[u32::from(n)], &[])?;
        expected += f32::from(n);
        assert_eq!(uniform(&device.read(&y, 0..y.size())?)?, expected, "after {n} rounds");
        assert_eq!(plan.launches(&[u32::from(n)]), u64::from(n));
    }

    let (plan, y) = nested(device)?;
    for (n, m) in [(0_u8, 7_u8), (1, 0), (2, 3)] {
        device.write(&y, 0, &vec![0; N as usize * 4])?;
        device.execute(&plan, &[n.into(), m.into()], &[])?;
        let (n, m) = (f32::from(n), f32::from(m));
        assert_eq!(uniform(&device.read(&y, 0..y.size())?)?, 1.0 + 3.0 * (2.0 + n * (4.0 + 5.0 * m)));
    }
    Ok(())
}

#[trial(adapters, cpu)]
fn repeated_execution_creates_no_objects(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    let run = || device.execute(&plan, &[3], &[&y]).map(|ticket| ticket.expect("results were asked for"));
    // Two tickets in flight create all staging buffers that are needed below.
    let (first, second) = (run()?, run()?);
    first.wait()?;
    second.wait()?;
    let before = device.counters();
    for _ in 0..5 {
        let (first, second) = (run()?, run()?);
        second.wait()?;
        first.wait()?;
    }
    device.execute(&plan, &[1000], &[])?;
    let done = device.counters() - before;
    assert_eq!((done.pipelines, done.buffers, done.bind_groups), (0, 0, 0), "{done:?}");
    assert_eq!(done.launches, 5 * 2 * 3 + 1000);
    Ok(())
}

#[trial(adapters, cpu)]
fn tickets_can_be_read_in_any_order(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    let mut tickets = Vec::new();
    for _ in 0..4 {
        tickets.push(device.execute(&plan, &[1], &[&y, &y])?.expect("results were asked for"));
    }
    drop(tickets.remove(3));
    for number in [2, 0, 0] {
        let ticket = tickets.remove(number);
        // Submitted in the order 1, 2, 3 and read as 3, 1, 2.
        let expected = [3.0, 1.0, 2.0][2 - tickets.len()];
        let results = ticket.wait()?;
        assert_eq!((uniform(&results[0])?, uniform(&results[1])?), (expected, expected));
    }
    // The dropped ticket's memory is reused, and its execution still took effect.
    let ticket = device.execute(&plan, &[1], &[&y])?.expect("results were asked for");
    while !ticket.ready() {
        std::thread::yield_now();
    }
    let before = device.counters();
    assert_eq!(uniform(&ticket.wait()?[0])?, 5.0);
    assert_eq!((device.counters() - before).waits, 0, "a ready ticket does not wait");
    assert!(device.execute(&plan, &[1], &[])?.is_none());
    Ok(())
}

#[trial(adapters, cpu)]
fn dropped_ticket_does_not_affect_the_next(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    for round in 1..=20_u8 {
        // Finishes soon after its ticket is dropped, while the next execution still runs.
        drop(device.execute(&plan, &[100], &[&y])?);
        let ticket = device.execute(&plan, &[900], &[&y])?.expect("results were asked for");
        while !ticket.ready() {
            std::thread::yield_now();
        }
        assert_eq!(uniform(&ticket.wait()?[0])?, 1000.0 * f32::from(round));
    }
    Ok(())
}

#[trial(adapters, cpu)]
fn counters_match_the_work_done(device: &Device) -> Outcome {
    let start = device.counters();
    let (plan, y) = adder(device)?;
    let made = device.counters() - start;
    let gpu = u64::from(!device.is_cpu());
    assert_eq!((made.pipelines, made.bind_groups), (gpu, gpu));
    assert_eq!((made.buffers, made.live_buffers, made.live_bytes), (2 + gpu, 2, 2 * y.size()));
    assert_eq!((made.submissions, made.waits, made.launches), (0, 0, 0));

    let before = device.counters();
    device.execute(&plan, &[2], &[])?;
    let ticket = device.execute(&plan, &[3], &[&y])?.expect("results were asked for");
    let encoded = device.counters() - before;
    assert_eq!((encoded.submissions, encoded.launches, encoded.waits, encoded.read_backs), (2 * gpu, 5, 0, 1));
    ticket.wait()?;
    device.read(&y, 4..9)?;
    let done = device.counters() - before;
    assert_eq!((done.read_backs, done.bytes_read), (2, y.size() + 5));
    assert!(done.waits <= 2 * gpu, "{done:?}");

    // The same kernel and constants share a pipeline; other constants need another.
    device.compile(&[saxpy(7, 3.0), saxpy_of(7, 3.0, 32), saxpy_of(9, 1.0, 32)])?;
    assert_eq!((device.counters() - before).pipelines, gpu);

    drop((plan, y));
    let live = device.counters();
    assert_eq!((live.live_buffers, live.live_bytes), (0, 0));
    Ok(())
}

#[trial(adapters, cpu)]
fn profile_lists_kernels_with_launches_and_bytes(device: &Device) -> Outcome {
    let (x, y) = (filled(device, "x", 1.0)?, filled(device, "y", 0.0)?);
    let mut graph = Graph::new("profiled");
    let (tx, ty) = (graph.import(&x), graph.import(&y));
    let t = graph.scratch("t", u64::from(N) * 4);
    let n = graph.count("n");
    graph.launch(crate::kernels::hash(N), &[tx, tx, t])?;
    graph.repeat(n, |graph| graph.launch(saxpy(N, 1.0), &[tx, ty]))?;
    let plan = device.plan(graph)?;
    // More launches than one query set holds.
    let rounds = 2500;
    let profile = device.profile(&plan, &[rounds])?;
    let mut labels: Vec<_> = profile.entries.iter().map(|it| (it.label.as_str(), it.launches, it.bytes)).collect();
    labels.sort_unstable();
    assert_eq!(labels, [("test_mix.hash", 1, 1200), ("test_saxpy", u64::from(rounds), 800 * u64::from(rounds))]);
    assert_eq!(profile.total, profile.entries.iter().map(|it| it.time).sum());
    assert!(!profile.total.is_zero());
    assert_eq!(uniform(&device.read(&y, 0..y.size())?)?, 2500.0);
    assert_eq!(plan.cost(&[rounds]).bytes, 1200 + 800 * u64::from(rounds));
    assert_eq!(plan.pipelines().collect::<Vec<_>>(), ["test_mix.hash", "test_saxpy"]);
    Ok(())
}

#[trial(adapters, cpu)]
fn threads_share_a_device_and_a_plan(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    let outcome: Result<Vec<()>, Error> = std::thread::scope(|scope| {
        let run = || -> Result<(), Error> {
            for _ in 0..20 {
                let ticket = device.execute(&plan, &[3], &[&y])?.expect("results were asked for");
                ticket.wait()?;
            }
            Ok(())
        };
        let threads = [scope.spawn(run), scope.spawn(run)];
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    outcome?;
    assert_eq!(uniform(&device.read(&y, 0..y.size())?)?, 120.0);
    Ok(())
}

#[trial(adapters)]
fn long_work_is_split_into_submissions_without_waiting(device: &Device) -> Outcome {
    let (x, y) = (filled(device, "x", 1.0)?, filled(device, "y", 0.0)?);
    let mut graph = Graph::new("heavy");
    let bound = [graph.import(&x), graph.import(&y)];
    let n = graph.count("n");
    let mut heavy = saxpy(N, 1.0);
    // Too much for two of them in one submission on any kind of device.
    heavy.cost.flops = 1 << 50;
    graph.repeat(n, |graph| graph.launch(heavy, &bound))?;
    let plan = device.plan(graph)?;
    let before = device.counters();
    let ticket = device.execute(&plan, &[7], &[&y])?.expect("results were asked for");
    let done = device.counters() - before;
    assert_eq!((done.submissions, done.launches, done.waits), (7, 7, 0));
    assert_eq!(uniform(&ticket.wait()?[0])?, 7.0);

    let (light, _) = adder(device)?;
    let before = device.counters();
    device.execute(&light, &[100], &[])?;
    assert_eq!((device.counters() - before).submissions, 1);
    device.execute(&light, &[0], &[])?;
    assert_eq!((device.counters() - before).submissions, 1, "an empty execution is not submitted");
    Ok(())
}
