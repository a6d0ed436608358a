//! Memory: shared scratch tensors, transfers, limits.

use ruminate_engine::{Count, Device, Error, Graph, Result, Tensor};
use ruminate_shaders::Noise;

use crate::Outcome;
use crate::execution::filled;
use crate::kernels::{hash, saxpy, sum};
use ruminate_tests::trial;

const N: u32 = 64;
const BYTES: u64 = 4 * N as u64;

#[trial(adapters, cpu)]
fn memory_sharing_does_not_change_results(device: &Device) -> Outcome {
    let run = |keep: bool| -> Result<(Vec<u8>, u64)> {
        let x = device.buffer("x", BYTES)?;
        device.write(&x, 0, bytemuck::cast_slice(&(0..N).collect::<Vec<_>>()))?;
        let out = device.buffer("out", BYTES)?;
        let mut graph = Graph::new("chain");
        let (tx, tout) = (graph.import(&x), graph.import(&out));
        let mut state = tx;
        let mut all = Vec::new();
        let n = graph.count("n");
        let carried = graph.scratch("carried", BYTES);
        graph.launch(hash(N), &[tx, tx, carried])?;
        graph.repeat(n, |graph| {
            state = carried;
            for number in 0..6 {
                let next = graph.scratch(&format!("t{number}"), BYTES * (1 + number % 2));
                graph.launch(hash(N), &[state, tx, next])?;
                all.push(next);
                state = next;
            }
            graph.launch(sum(N), &[state, state, carried, tx])
        })?;
        graph.launch(hash(N), &[carried, tx, tout])?;
        all.iter().filter(|_| keep).for_each(|&tensor| graph.keep(tensor));
        let plan = device.plan(graph)?;
        device.execute(&plan, &[4], &[])?;
        assert_eq!(plan.tensor("t3").is_some(), keep);
        Ok((device.read(&out, 0..BYTES)?, plan.scratch_bytes()))
    };
    let ((shared, few), (kept, many)) = (run(false)?, run(true)?);
    assert_eq!(shared, kept);
    // Two tensors are live at a time, in addition to the one that the loop carries.
    assert_eq!((few, many), (BYTES * 4, BYTES * 10));
    Ok(())
}

/// Random graph under construction. Its first tensor accumulates every launch's output, so that any wrong value shows.
struct Random {
    noise: Noise,
    tensors: Vec<Tensor>,
    written: Vec<Tensor>,
    counts: [Count; 4],
}

impl Random {
    fn pick<T: Copy>(noise: &mut Noise, from: &[T]) -> T {
        from[noise.below(u32::try_from(from.len()).unwrap_or(1)) as usize]
    }

    /// Records random launches and loops.
    fn fill(&mut self, graph: &mut Graph, depth: u32) -> Result<()> {
        let io = self.tensors[0];
        for _ in 0..2 + self.noise.below(6) {
            // Inputs are mostly tensors that a launch has written, because a tensor that is read before it is written is kept and shares no memory.
            let [x, y, z] = std::array::from_fn(|_| {
                let any = self.noise.below(32) == 0;
                Self::pick(&mut self.noise, if any { &self.tensors } else { &self.written })
            });
            let out = Self::pick(&mut self.noise, &self.tensors);
            if depth < 3 && self.noise.below(4) == 0 {
                let count = Self::pick(&mut self.noise, &self.counts);
                graph.repeat(count, |graph| self.fill(graph, depth + 1))?;
            } else if ![x, y, z, io].contains(&out) {
                let launch = if self.noise.below(2) == 0 { hash(N) } else { sum(N) };
                let bound = &[x, y, out, z][..launch.sizes.len()];
                graph.launch(launch, bound)?;
                self.written.push(out);
                let witness = graph.scratch("witness", BYTES);
                graph.launch(hash(N), &[io, out, witness])?;
                graph.launch(hash(N), &[witness, witness, io])?;
            }
        }
        Ok(())
    }
}

/// First tensor of a random graph after two executions, and its scratch bytes.
fn random_graph(device: &Device, seed: u64, keep: bool) -> Result<(Vec<u8>, u64)> {
    let io = device.buffer("io", BYTES)?;
    device.write(&io, 0, bytemuck::cast_slice(&(0..N).collect::<Vec<_>>()))?;
    let mut graph = Graph::new("random");
    let mut noise = Noise::new(seed);
    let mut tensors = vec![graph.import(&io)];
    for number in 0..2 + noise.below(8) {
        let bytes = BYTES * u64::from(1 + noise.below(3));
        tensors.push(graph.scratch(&format!("t{number}"), bytes));
    }
    tensors[1..].iter().filter(|_| keep).for_each(|&tensor| graph.keep(tensor));
    let counts = [graph.count("a"), graph.count("b"), Count::from(2), Count::from(0)];
    Random { noise, written: vec![tensors[0]], tensors, counts }.fill(&mut graph, 0)?;
    let plan = device.plan(graph)?;
    device.execute(&plan, &[2, 0], &[])?;
    device.execute(&plan, &[0, 3], &[])?;
    Ok((device.read(&io, 0..BYTES)?, plan.scratch_bytes()))
}

#[trial(adapters, cpu)]
fn random_graphs_give_same_results_with_and_without_sharing(device: &Device) -> Outcome {
    let mut saved = 0;
    for seed in 0..150 {
        let ((shared, few), (kept, many)) = (random_graph(device, seed, false)?, random_graph(device, seed, true)?);
        assert_eq!(shared, kept, "seed {seed}");
        assert!(few <= many, "seed {seed}: {few} bytes, {many} without sharing");
        saved += usize::from(few < many);
    }
    assert!(saved > 10, "memory was shared in only {saved} graphs");
    Ok(())
}

#[trial(adapters)]
fn random_graphs_match_cpu_reference(device: &Device) -> Outcome {
    let cpu = Device::cpu();
    for seed in 1000..1060 {
        assert_eq!(random_graph(device, seed, false)?, random_graph(&cpu, seed, false)?, "seed {seed}");
    }
    // In floating point, a multiply-add may be fused.
    let run = |device: &Device| -> Result<Vec<f32>> {
        let n = 1000;
        let mut noise = Noise::new(7);
        let (x, y) = (device.buffer("x", 4 * n)?, device.buffer("y", 4 * n)?);
        for buffer in [&x, &y] {
            device.write(buffer, 0, bytemuck::cast_slice(&noise.matrix(1, 1000, 1000)))?;
        }
        let mut graph = Graph::new("saxpy");
        let bound = [graph.import(&x), graph.import(&y)];
        graph.launch(saxpy(1000, -1.7), &bound)?;
        device.execute(&device.plan(graph)?, &[], &[])?;
        Ok(bytemuck::pod_collect_to_vec(&device.read(&y, 0..4 * n)?))
    };
    for (a, b) in run(device)?.into_iter().zip(run(&cpu)?) {
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
    }
    Ok(())
}

#[trial(adapters, cpu)]
fn kept_tensors_keep_their_values(device: &Device) -> Outcome {
    let x = filled(device, "x", 1.0)?;
    let mut graph = Graph::new("kept");
    let tx = graph.import(&x);
    let (y, other) = (graph.scratch("y", 400), graph.scratch("other", 400));
    graph.keep(y);
    graph.launch(saxpy(100, 2.0), &[tx, y])?;
    graph.launch(saxpy(100, 9.0), &[tx, other])?;
    let plan = device.plan(graph)?;
    let y = plan.tensor("y").expect("it was kept");
    assert!(plan.tensor("other").is_none());
    device.execute(&plan, &[], &[])?;
    device.execute(&plan, &[], &[])?;
    let value: Vec<f32> = bytemuck::pod_collect_to_vec(&device.read(y, 0..400)?);
    assert_eq!(value, [4.0; 100]);
    Ok(())
}

#[trial(adapters, cpu)]
fn transfers_handle_odd_sizes_and_ranges(device: &Device) -> Outcome {
    let buffer = device.buffer("odd", 37)?;
    assert_eq!(buffer.size(), 48);
    assert_eq!(device.read(&buffer, 0..48)?, [0; 48]);
    device.write(&buffer, 4, &[1, 2, 3, 4, 5])?;
    assert_eq!(device.read(&buffer, 4..14)?, [1, 2, 3, 4, 5, 0, 0, 0, 0, 0]);
    device.write(&buffer, 8, &[])?;
    assert!(device.read(&buffer, 8..8)?.is_empty());
    for (start, end) in [(0, 49), (3, 5), (64, 64)] {
        let outcome = device.read(&buffer, start..end);
        assert!(matches!(outcome, Err(Error::Range { size: 48, .. })), "{start}..{end}: {outcome:?}");
    }
    assert!(matches!(device.write(&buffer, 44, &[0; 5]), Err(Error::Range { .. })));
    assert!(matches!(device.write(&buffer, !3, &[0; 5]), Err(Error::Range { .. })));
    let empty = device.buffer("empty", 0)?;
    assert_eq!(empty.size(), 16);
    Ok(())
}

#[trial(adapters)]
fn large_transfers_round_trip(device: &Device) -> Outcome {
    let words: Vec<u32> = (0..(80 << 20) / 4 + 3).map(|word: u32| word.wrapping_mul(2_654_435_761)).collect();
    let bytes: &[u8] = bytemuck::cast_slice(&words);
    let buffer = device.buffer("large", bytes.len() as u64)?;
    device.write(&buffer, 0, bytes)?;
    assert!(device.read(&buffer, 0..bytes.len() as u64)? == bytes, "a large buffer was changed by the round trip");
    Ok(())
}

#[trial(adapters)]
fn too_large_buffers_and_bindings_are_refused(device: &Device) -> Outcome {
    let limit = device.summary().expect("a GPU has a summary").max_buffer;
    for bytes in [limit.saturating_add(16), u64::MAX] {
        assert!(matches!(device.buffer("huge", bytes), Err(Error::TooLarge { .. })));
    }
    let mut graph = Graph::new("huge");
    let x = filled(device, "x", 1.0)?;
    let tx = graph.import(&x);
    let y = graph.scratch("y", device.caps().max_binding + 16);
    graph.launch(saxpy(100, 1.0), &[tx, y])?;
    let outcome = device.plan(graph);
    assert!(matches!(&outcome, Err(Error::TooLarge { buffer, .. }) if buffer.contains("test_saxpy")), "{outcome:?}");
    Ok(())
}
