//! Models of any size: synthetic weights, files in the published layout, and errors for insufficient memory.

use anyhow::{Context, Result, ensure};
use ruminate::{
    Device, Dtype, Error, Extent, Fits, KvShare, LoadOptions, Model, SessionOptions, Shortage, Source, State, Synthetic,
};
use ruminate_tests::synth::{Layout, write};
use ruminate_tests::{Folder, compare, trial};

/// A shape whose widths are not multiples of a tile, so that rows are padded; it has every part of a model.
const ODD: &str =
    "n_embd=130,heads=5,head_dim=26,hidden=77,vocab=777,layers=1/2/1,block_size=300,mean_recurrence=4,seed=7";

/// Compares with the sizes of the published files, revision bb6621b of tomg-group-umd/huginn-0125.
#[trial]
fn huginn_0125_has_published_layout() -> Result<()> {
    let model = Synthetic::parse("huginn-0125")?;
    ensure!(model.tensors().len() == 77, "{} tensors", model.tensors().len());
    let shards = Layout::of(&model, 5_000_000_000)?.shards;
    let found: Vec<(&str, u64)> = shards.iter().map(|shard| (shard.name.as_str(), shard.bytes)).collect();
    let published = [
        ("model-00001-of-00004.safetensors", 4_771_970_936),
        ("model-00002-of-00004.safetensors", 4_744_780_096),
        ("model-00003-of-00004.safetensors", 4_744_737_616),
        ("model-00004-of-00004.safetensors", 1_384_120_448),
    ];
    ensure!(found == published, "{found:?}");
    Ok(())
}

fn logits(source: &Source, device: &Device, dtype: Dtype) -> Result<Vec<f32>> {
    let model = Model::open(source, device, LoadOptions { dtype: Some(dtype), ..LoadOptions::default() })?;
    let mut session = model.session(SessionOptions { seed: 3, ..SessionOptions::default() })?;
    Ok(session.forward(&[5, 300, 776, 0], 3, State::Seeded, true)?)
}

#[trial(device, full)]
fn synthetic_weights_match_their_files(device: &Device) -> Result<()> {
    for (shape, shard) in [(ODD.to_owned(), 200_000), (format!("{ODD},tie_embeddings=false,qk_bias=false"), 0)] {
        let made = Synthetic::parse(&shape)?;
        let folder = Folder::new()?;
        write(&made, &Layout::of(&made, shard)?, folder.path(), &mut |_, _| ())?;
        for dtype in Dtype::ALL {
            let stored = logits(&folder.source(), device, dtype)?;
            let drawn = logits(&made.clone().source(), device, dtype)?;
            ensure!(stored == drawn, "{shape}, {}: logits differ", dtype.name());
            ensure!(stored.iter().all(|value| value.is_finite()) && stored.iter().any(|&value| value != 0.0));
        }
    }
    Ok(())
}

#[trial(device, full)]
fn memory_estimate_matches_allocation(device: &Device) -> Result<()> {
    [Dtype::Bf16, Dtype::Q8].into_iter().try_for_each(|kv_dtype| need_of(device, kv_dtype))
}

fn need_of(device: &Device, kv_dtype: Dtype) -> Result<()> {
    let shape = "n_embd=192,heads=2,hidden=512,vocab=2000,layers=1/1/1,block_size=300,mean_recurrence=6";
    let source = Synthetic::parse(shape)?.source();
    let before = device.counters().live_bytes;
    let model = Model::open(&source, device, LoadOptions::default())?;
    let weights = device.counters().live_bytes - before;
    let extent = Extent { context: 300, steps: 6, kv_dtype, share: KvShare::None };
    let need = model.spec().need(model.dtype(), extent, &device.caps());
    ensure!(weights.abs_diff(need.weights) < 1024, "weights take {weights} bytes, estimated {}", need.weights);

    let mut session = model.session(SessionOptions { context: Some(300), kv_dtype, ..SessionOptions::default() })?;
    let prompt: Vec<u32> = (0..290).collect();
    session.forward(&prompt, 6, State::Seeded, false)?;
    (0..10).try_for_each(|token| session.forward(&[token], 6, State::Seeded, false).map(drop))?;
    let kv = session.kv_bytes();
    ensure!(kv.abs_diff(need.kv) < need.kv / 50, "the cache takes {kv} bytes, estimated {}", need.kv);
    let all = device.counters().live_bytes - before;
    ensure!(all <= need.total(), "{all} bytes in use, estimated {}", need.total());
    ensure!(all * 2 > need.total(), "{all} bytes in use, estimated {}: the estimate is too high", need.total());
    Ok(())
}

fn shortage(outcome: Result<impl Sized, Error>) -> Result<Shortage> {
    match outcome.err().context("the request was accepted")? {
        Error::Memory(shortage) => Ok(*shortage),
        other => Err(other.into()),
    }
}

#[trial(device, full)]
fn oversized_weights_are_refused_before_loading(device: &Device) -> Result<()> {
    let source = Synthetic::parse("n_embd=98304,heads=1024,layers=8/8/8")?.source();
    let before = device.counters();
    let found = shortage(Model::open(&source, device, LoadOptions::default()))?;
    ensure!(found.fits == Fits::Nothing && found.need.weights > 1 << 40, "{found:?}");
    ensure!((device.counters() - before).bytes_written == 0, "weights were loaded");
    let text = found.to_string();
    ensure!(text.contains("not enough memory: weights ") && text.contains(device.name()), "{text}");
    Ok(())
}

/// For a model that only fits with fewer bits per weight, the error suggests the most precise dtype that fits.
#[trial(device, full)]
fn shortage_suggests_fitting_dtype(device: &Device) -> Result<()> {
    let made = |layers: u64| Synthetic::parse(&format!("n_embd=5280,heads=55,vocab=300,layers=0/{layers}/0"));
    let bytes = |layers| Ok::<_, Error>(made(layers)?.spec().weight_bytes(Dtype::Bf16));
    let available = device.memory().available.context("the system does not report its free memory")?;
    for (tenths, fits) in [(14, Dtype::Q8), (25, Dtype::Q4)] {
        let layers = available / 10 * tenths / (bytes(2)? - bytes(1)?);
        let session = SessionOptions { context: Some(256), steps: Some(1), ..SessionOptions::default() };
        let loading = LoadOptions { session, ..LoadOptions::default() };
        let found = shortage(Model::open(&made(layers)?.source(), device, loading))?;
        ensure!(found.fits == Fits::Dtype(fits), "{tenths}: {found}");
    }
    Ok(())
}

/// A model and a number of steps for which each position of the cache takes a thousandth of the free memory.
fn thirsty(device: &Device) -> Result<(Synthetic, u32)> {
    let shape = "n_embd=512,heads=16,head_dim=128,hidden=64,vocab=300,layers=0/2/0";
    let model = Synthetic::parse(shape)?;
    let available = device.memory().available.context("the system does not report its free memory")?;
    let per_step = model.spec().kv_bytes_per_token(1, Dtype::Bf16, KvShare::None);
    Ok((model, u32::try_from(available / 1000 / per_step)?))
}

#[trial(device, full)]
fn shortage_suggests_fitting_share_or_context(device: &Device) -> Result<()> {
    let (made, steps) = thirsty(device)?;
    let options = SessionOptions { context: Some(4096), steps: Some(steps), ..SessionOptions::default() };
    let loading = LoadOptions { session: options.clone(), ..LoadOptions::default() };
    let found = shortage(Model::open(&made.clone().source(), device, loading))?;
    let Fits::Share(apart) = found.fits else { anyhow::bail!("{found:?}") };
    ensure!(found.to_string().contains("kv_share 4"), "{found}");
    let shared = SessionOptions { share: KvShare::Steps(apart), ..options.clone() };
    let loading = LoadOptions { session: shared.clone(), ..LoadOptions::default() };
    ensure!(Model::open(&made.clone().source(), device, loading)?.session(shared)?.context() == 4096);

    // This sharing saves nothing, so the suggestion is a shorter context.
    let options = SessionOptions { share: KvShare::Steps(steps), ..options };
    let loading = LoadOptions { session: options.clone(), ..LoadOptions::default() };
    let found = shortage(Model::open(&made.clone().source(), device, loading))?;
    let Fits::Context(context) = found.fits else { anyhow::bail!("{found:?}") };
    ensure!((600..1000).contains(&context), "{found}");

    // Half of the suggested context is accepted at load and by the session; the original request is refused again.
    let shorter = SessionOptions { context: Some(context / 2), ..options.clone() };
    let loading = LoadOptions { session: shorter.clone(), ..LoadOptions::default() };
    let model = Model::open(&made.source(), device, loading)?;
    ensure!(model.session(shorter)?.context() == context / 2);
    let found = shortage(model.session(options))?;
    ensure!(matches!(found.fits, Fits::Context(600..1000)), "{found}");
    Ok(())
}

#[trial(device, full)]
fn shortage_suggests_fitting_kv_dtype(device: &Device) -> Result<()> {
    let (made, steps) = thirsty(device)?;
    let asked = SessionOptions { context: Some(1300), steps: Some(steps), ..SessionOptions::default() };
    let loading = LoadOptions { session: asked.clone(), ..LoadOptions::default() };
    let found = shortage(Model::open(&made.clone().source(), device, loading))?;
    ensure!(found.fits == Fits::KvDtype(Dtype::Q8) && found.to_string().contains("kv_dtype q8"), "{found}");
    let smaller = SessionOptions { kv_dtype: Dtype::Q8, ..asked.clone() };
    let loading = LoadOptions { session: smaller.clone(), ..LoadOptions::default() };
    let model = Model::open(&made.source(), device, loading)?;
    ensure!(model.session(smaller)?.context() == 1300);
    ensure!(shortage(model.session(asked))?.fits == Fits::KvDtype(Dtype::Q8));
    Ok(())
}

#[trial(device, full)]
fn default_context_fits_memory(device: &Device) -> Result<()> {
    let (made, steps) = thirsty(device)?;
    let model = Model::open(&made.source(), device, LoadOptions::default())?;
    let session = model.session(SessionOptions { steps: Some(steps), ..SessionOptions::default() })?;
    ensure!((600..1000).contains(&session.context()), "a context of {}", session.context());
    Ok(())
}

/// Compares a prompt that fills the longest context of the models with the CPU reference, and then adds a token.
#[trial(device, full)]
fn context_of_4096_works_and_refuses_one_more(device: &Device) -> Result<()> {
    let source = Synthetic::parse("n_embd=32,heads=1,head_dim=32,hidden=32,vocab=300,layers=0/1/0,seed=2")?.source();
    let prompt: Vec<u32> = (0..4096).map(|i| i * 7 % 300).collect();
    let run = |device: &Device| -> Result<Vec<f32>> {
        let model = Model::open(&source, device, LoadOptions::default())?;
        let mut session = model.session(SessionOptions::default())?;
        ensure!(session.context() == 4096, "a context of {}", session.context());
        let logits = session.forward(&prompt, 2, State::Seeded, false)?;
        let refused = session.forward(&[1], 2, State::Seeded, false).err().context("a 4097th position was accepted")?;
        ensure!(matches!(refused, Error::PromptTooLong { tokens: 4097, context: 4096, most: 4096 }), "{refused}");
        let longer = SessionOptions { context: Some(4097), ..SessionOptions::default() };
        let refused = model.session(longer).err().context("a context of 4097 was accepted")?;
        ensure!(refused.to_string().contains("context is 4097; it must be from 1 to 4096"), "{refused}");
        Ok(logits)
    };
    compare(&run(device)?, &run(&Device::cpu())?, 1e-8)
}

/// Compares a prompt of 16,384 positions and the tokens after it with the CPU reference, with keys in q8.
#[trial(device, matrix)]
fn nanbeige_continues_16384_positions_of_q8_keys(device: &Device) -> Result<()> {
    const SHAPE: &str = "nanbeige4.2-3b,num_hidden_layers=1,num_attention_heads=2,num_key_value_heads=1,head_dim=32,\
                         hidden_size=48,intermediate_size=64,vocab_size=300";
    let source = Synthetic::parse(SHAPE)?.source();
    let prompt: Vec<u32> = (0..16_384).map(|i| i * i % 293).collect();
    let run = |device: &Device| -> Result<Vec<f32>> {
        let model = Model::open(&source, device, LoadOptions::default())?;
        let options = SessionOptions { context: Some(16_400), kv_dtype: Dtype::Q8, ..SessionOptions::default() };
        let mut session = model.session(options)?;
        session.forward(&prompt, 2, State::Seeded, false)?;
        Ok(session.forward(&[1, 2, 3], 2, State::Seeded, true)?)
    };
    compare(&run(device)?, &run(&Device::cpu())?, 1e-6)
}

/// Uses all of Huginn's layers with a short vocabulary: 3.2 billion weights.
#[trial(device, matrix)]
fn one_pass_at_full_width_matches_the_cpu_reference(device: &Device) -> Result<()> {
    let source = Synthetic::parse("huginn-0125,vocab=512,block_size=64,seed=1")?.source();
    let run = |device: &Device| -> Result<(Vec<f32>, Vec<f32>)> {
        let model = Model::open(&source, device, LoadOptions::default())?;
        let mut session = model.session(SessionOptions { seed: 9, ..SessionOptions::default() })?;
        session.begin(&[17, 300], 2, State::Seeded)?;
        session.iterate(2)?;
        let states = session.states()?;
        Ok((states, session.read_out()?.logits))
    };
    // The runs are sequential, because two copies of the weights would not fit a small machine.
    let (states, logits) = run(device)?;
    let (reference_states, reference_logits) = run(&Device::cpu())?;
    compare(&states, &reference_states, 1e-8).context("states")?;
    compare(&logits, &reference_logits, 1e-8).context("logits")
}
