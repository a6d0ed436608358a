//! Throughput of every case of every kernel, in bytes that must be moved per second. A benchmark's name is the identity of its case, as [`Case::id`] returns
//! it.
//!
//! [`Case::id`]: ruminate_shaders::Case::id

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ruminate_benches::{announce, device};
use ruminate_engine::bench::Bench;
use ruminate_shaders::KERNELS;

fn kernels(criterion: &mut Criterion) {
    let device = device();
    announce(&device);
    let mut lacking = 0;
    for case in KERNELS.iter().flat_map(|kernel| kernel.all_cases()) {
        if device.lacks(&case.launch).is_some() {
            lacking += 1;
            continue;
        }
        // A group and its benchmark are named after the two halves of the identity, which criterion joins with `/` again.
        let mut group = criterion.benchmark_group(case.launch.kernel.label(case.launch.choice));
        // Equally long samples: growing ones would take five times as long on a slow device.
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Bytes(case.launch.cost.bytes));
        // Created for the first iteration, so that a filter on the command line keeps other cases off the device.
        let mut run = None;
        group.bench_function(&case.name, |bencher| {
            let run = run.get_or_insert_with(|| Bench::case(&device, &case, 1, 1).expect("the device runs every case"));
            bencher.iter_custom(|rounds| run.time(rounds).expect("the device runs every case"));
        });
        group.finish();
    }
    if lacking > 0 {
        eprintln!("{lacking} cases were skipped: not supported on this device");
    }
}

criterion_group! {
    name = benches;
    // There are many cases, so each gets little time.
    config = Criterion::default()
        .sample_size(10)
        // Statistics on ten samples would otherwise take longer than the samples.
        .nresamples(2_000)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150));
    targets = kernels
}
criterion_main!(benches);
