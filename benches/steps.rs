//! Cost of depth: the demo model decoding with one step per token and with many.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ruminate::{GenerateOptions, LoadOptions, Model, Sampling, SessionOptions, demo};
use ruminate_benches::{announce, device};

const TOKENS: u32 = 16;

fn steps(criterion: &mut Criterion) {
    let device = device();
    announce(&device);
    let model = Model::demo(&device, LoadOptions::default()).expect("the demo loads");
    let (prompt, _) = demo::PROMPTS[0];
    let prompt = model.tokenizer().encode(prompt, ruminate::Specials::Bos).expect("the prompt is text");
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(TOKENS)));
    for steps in [1, 4, 16, 64] {
        let options = GenerateOptions {
            steps: Some(steps),
            // The first token comes with the prompt and is not timed.
            max_tokens: Some(TOKENS + 1),
            sampling: Sampling::GREEDY,
            // The demo's answers are short, so it must continue past its end token.
            end_tokens: Some(Vec::new()),
            ..GenerateOptions::default()
        };
        group.bench_function(BenchmarkId::new("steps", steps), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| decode(&model, &prompt, &options)).sum());
        });
    }
    group.finish();
}

/// The time from the first generated token to the last.
fn decode(model: &Model, prompt: &[u32], options: &GenerateOptions) -> Duration {
    let session = SessionOptions { context: Some(256), ..SessionOptions::default() };
    let mut session = model.session(session).expect("the demo has a session");
    let mut generation = session.generate(prompt, options).expect("the prompt is accepted");
    for piece in generation.by_ref() {
        piece.expect("the device works");
    }
    let statistics = generation.statistics();
    assert_eq!(statistics.tokens, TOKENS + 1, "the rate is per token");
    statistics.decode_time
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = steps
}
criterion_main!(benches);
