//! Passes over the core's weights per token, and tokens per second, of plain decoding, speculative decoding, pipelined decoding, diffusion forcing, and several
//! sequences at once.
//!
//! Some are also measured in invariant mode, in which all produce the same tokens; otherwise, the share of tokens that equal those of plain decoding is
//! counted. Arguments name model folders to measure instead of the demo. `RUMINATE_BENCH_ROUNDS=N` sets the number of timed rounds, of which the median counts
//! (default 3); 0 counts passes only.
//!
//! ```console
//! $ cargo bench -p ruminate-benches --bench passes -- tests/golden/tiny
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use ruminate::{
    BatchOptions, Device, Diffusion, Event, GenerateOptions, KvShare, LoadOptions, Model, Pipeline, Sampling,
    SessionOptions, Source, Speculate,
};
use ruminate_benches::{announce, device};

type Failure = Box<dyn std::error::Error>;

/// Steps per token.
const STEPS: u32 = 32;
/// Tokens to generate.
const TOKENS: u32 = 48;
/// Prompts, each with a seed of its own.
const PROMPTS: u32 = 4;

/// A way to decode: its name and options, whether all sequences run at once, and whether sums have a fixed order.
struct Way {
    name: &'static str,
    options: GenerateOptions,
    together: bool,
    invariant: bool,
}

fn ways() -> Vec<Way> {
    let way = |name, options| Way { name, options, together: false, invariant: false };
    let usual = GenerateOptions::default;
    let draft = |draft_steps, draft_len| {
        let speculate = Speculate { draft_steps: Some(draft_steps), draft_len, threshold: 1.0 };
        GenerateOptions { speculate: Some(speculate), ..usual() }
    };
    let guess = |every| GenerateOptions { pipeline: Some(Pipeline { every: Some(every) }), ..usual() };
    let wavefront = |headway, inner_steps| {
        let diffusion = Diffusion { headway, inner_steps, ..Diffusion::default() };
        GenerateOptions { diffusion: Some(diffusion), ..usual() }
    };
    vec![
        way("one by one", usual()),
        way("--speculate", draft(4, 4)),
        way("--speculate=8", draft(8, 4)),
        way("--speculate=8 --draft-len 8", draft(8, 8)),
        way("--pipeline", guess(4)),
        way("--pipeline=2", guess(2)),
        way("--pipeline=8", guess(8)),
        way("--diffusion", wavefront(1, 4)),
        way("--diffusion --inner-steps 2", wavefront(1, 2)),
        way("--diffusion --headway 2", wavefront(2, 4)),
        Way { together: true, ..way("four at once", usual()) },
        Way { invariant: true, ..way("one by one --invariant", usual()) },
        Way { invariant: true, ..way("--speculate --invariant", draft(4, 4)) },
        Way { invariant: true, ..way("--pipeline --invariant", guess(4)) },
        Way { together: true, invariant: true, ..way("four at once --invariant", usual()) },
    ]
}

#[expect(clippy::print_stdout, reason = "these are the figures")]
fn main() -> Result<(), Failure> {
    let device = device();
    announce(&device);
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).filter(|it| it != "--bench").map(PathBuf::from).collect();
    let rounds: usize = std::env::var("RUMINATE_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    println!("{STEPS} steps, {PROMPTS} prompts, {TOKENS} tokens each; passes over the core per token, tokens/s");
    let demo = folders.is_empty().then_some(("demo".to_owned(), None));
    let others = folders.iter().map(|folder| (folder.display().to_string(), Some(folder.as_path())));
    for (name, source) in demo.into_iter().chain(others) {
        let model = open(&device, source)?;
        for sampled in [false, true] {
            let how = if sampled { "sampled at 0.8" } else { "greedy" };
            println!(
                "\n| {name}, {how} | passes per token | tokens/s | same tokens as one by one |\n|---|---|---|---|"
            );
            let ways = ways();
            let mut times = vec![Vec::new(); ways.len()];
            let mut passes = vec![0.0; ways.len()];
            let mut said = vec![Vec::new(); ways.len()];
            // Alternately, since machines are noisy; the first round compiles.
            for round in 0..=rounds {
                for (at, way) in ways.iter().enumerate() {
                    let (seconds, taken, tokens) = measure(&model, way, sampled)?;
                    (passes[at], said[at]) = (taken, tokens);
                    if round > 0 {
                        times[at].push(seconds);
                    }
                }
            }
            for (((way, mut times), passes), tokens) in ways.iter().zip(times).zip(passes).zip(&said) {
                times.sort_by(f64::total_cmp);
                let rate = times.get(times.len() / 2).map(|time| f64::from(PROMPTS * TOKENS) / time);
                let rate = rate.map_or_else(|| "not timed".to_owned(), |rate| format!("{rate:.1}"));
                let same = tokens.iter().zip(&said[0]).filter(|(one, other)| one == other).count();
                let same = 100.0 * same as f64 / f64::from(PROMPTS * TOKENS);
                println!("| {} | {passes:.1} | {rate} | {same:.0} % |", way.name);
            }
        }
    }
    Ok(())
}

fn open(device: &Device, folder: Option<&Path>) -> Result<Model, Failure> {
    Ok(match folder {
        Some(folder) => Model::open(&Source::dir(folder)?, device, LoadOptions::default())?,
        None => Model::demo(device, LoadOptions::default())?,
    })
}

/// Returns the seconds for all prompts, passes per token, and the tokens.
fn measure(model: &Model, way: &Way, sampled: bool) -> Result<(f64, f64, Vec<u32>), Failure> {
    let sampling = if sampled { Sampling { temperature: 0.8, ..Sampling::GREEDY } } else { Sampling::GREEDY };
    let options = GenerateOptions {
        steps: Some(STEPS),
        max_tokens: Some(TOKENS),
        sampling,
        end_tokens: Some(Vec::new()),
        ..way.options.clone()
    };
    let prompt = |seed: u32| [3 + seed, 40 + 7 * seed, 5 + 11 * seed];
    let share = if way.options.diffusion.is_some() { Diffusion::SHARE } else { KvShare::None };
    let (context, steps) = (Some(64), Some(STEPS));
    let session = SessionOptions { context, steps, share, invariant: way.invariant, ..SessionOptions::default() };
    let (mut passes, mut said) = (0.0, Vec::new());
    let start = Instant::now();
    if way.together {
        let mut batch = model.batch(BatchOptions { sequences: PROMPTS, session, ..BatchOptions::default() })?;
        let mut each = vec![Vec::new(); PROMPTS as usize];
        let ids: Vec<_> =
            (0..PROMPTS).map(|seed| batch.add(&prompt(seed)[..], seed.into(), &options)).collect::<Result<_, _>>()?;
        while let Some(event) = batch.wait()? {
            if let Event::Token { id, piece } = event
                && let Some(at) = ids.iter().position(|it| *it == id)
            {
                each[at].push(piece.token);
            }
        }
        said = each.concat();
        passes = batch.totals().passes as f64 / f64::from(PROMPTS * TOKENS);
    } else {
        for seed in 0..PROMPTS {
            let mut session = model.session(SessionOptions { seed: seed.into(), ..session.clone() })?;
            let mut generation = session.generate(&prompt(seed)[..], &options)?;
            while let Some(piece) = generation.next().transpose()? {
                said.push(piece.token);
            }
            passes += generation.statistics().passes_per_token() / f64::from(PROMPTS);
        }
    }
    Ok((start.elapsed().as_secs_f64(), passes, said))
}
