//! Every kernel of the registry on its own test cases, in bytes that must be moved per second.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ruminate_benches::{announce, device};
use ruminate_engine::bench::Bench;
use ruminate_shaders::KERNELS;

fn kernels(criterion: &mut Criterion) {
    let device = device();
    announce(&device);
    for kernel in KERNELS {
        let mut group = criterion.benchmark_group(kernel.name);
        // Equally long samples: with growing ones a slow device would take five times as long.
        group.sampling_mode(SamplingMode::Flat);
        for case in (kernel.cases)() {
            group.throughput(Throughput::Bytes(case.launch.cost.bytes));
            // Made for the first round, so that a filter on the command line keeps the other cases off the device.
            let mut run = None;
            group.bench_function(BenchmarkId::from_parameter(&case.name), |bencher| {
                let run =
                    run.get_or_insert_with(|| Bench::case(&device, &case, 1, 1).expect("the device runs every case"));
                bencher.iter_custom(|rounds| run.time(rounds).expect("the device runs every case"));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    // There are many cases: a glance at each.
    config = Criterion::default()
        .sample_size(10)
        // Statistics on ten samples would otherwise take longer than the samples.
        .nresamples(2_000)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150));
    targets = kernels
}
criterion_main!(benches);
