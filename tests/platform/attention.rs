//! Attention for prompts: tiles of rows that share keys must match single rows.

use anyhow::{Context, Result, ensure};
use ruminate::{Dtype, LoadOptions, Model, OpenOptions, SessionOptions, State, Synthetic, Tuning, TuningFrom};
use ruminate_engine::Device;
use ruminate_shaders::Place;
use ruminate_shaders::attention::cache::{CacheShape, Lookup};
use ruminate_shaders::attention::{ATTENTION_TILED, Attention, attention_variants};
use ruminate_tests::{compare, options, trial};

/// Tokens of the prompt: more than a tile, with a remainder.
const PROMPT: u32 = 70;

/// Opens the device under test with caches in buffers, which tiles require. `n` forces the n-th variant of everything; `None` uses the defaults.
fn opened(n: Option<usize>) -> Result<Device> {
    let mut tuning = n.map_or_else(Tuning::default, Tuning::forced);
    tuning.textures = Some(false);
    let options = options().context("the CPU reference has no variants")?;
    Ok(Device::open(&OpenOptions { tuning: TuningFrom::Given(tuning), ..options })?)
}

/// Logits of a prompt in two passes, then of one more token. The keys of the first pass are cached when the second begins.
fn logits(device: &Device, kv_dtype: Dtype) -> Result<Vec<f32>> {
    let model = Synthetic::parse("n_embd=96,heads=3,hidden=128,vocab=300,layers=1/1/1,block_size=128,seed=4")?;
    let model = Model::open(&model.source(), device, LoadOptions::default())?;
    let mut session = model.session(SessionOptions { seed: 5, kv_dtype, ..SessionOptions::default() })?;
    let prompt: Vec<u32> = (0..PROMPT).map(|i| i * 7 % 300).collect();
    let (begun, rest) = prompt.split_at(40);
    let mut all = session.forward(begun, 2, State::Seeded, true)?;
    all.extend(session.forward(rest, 2, State::Seeded, true)?);
    all.extend(session.forward(&[11], 2, State::Seeded, true)?);
    Ok(all)
}

/// Whether the device's tuning uses tiled attention for `rows` rows.
fn takes_tiles(device: &Device, rows: u32, dtype: Dtype) -> bool {
    let cache = CacheShape {
        kv_heads: 3,
        head_dim: 32,
        dtype,
        place: Place::Buffer,
        sequences: 1,
        context: 128,
        steps: 2,
        slots: 3,
        lookup: Lookup::Latest,
        recurrent: true,
        page_base: 0,
        page_count: 12,
    };
    let shape = Attention { rows, heads: 3, cache, splits: 1, segment: 0, segments: 1 };
    device.pick(attention_variants(&device.caps(), shape)).kernel.name == ATTENTION_TILED.name
}

#[trial(device, full)]
fn tiled_attention_matches_single_rows(_: &Device) -> Result<()> {
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Q8] {
        let expected = logits(&opened(None)?, dtype)?;
        let mut tiles = 0;
        for n in 1..4 {
            let device = opened(Some(n))?;
            tiles += u32::from(takes_tiles(&device, 40, dtype));
            compare(&logits(&device, dtype)?, &expected, 1e-5).with_context(|| format!("{dtype:?}, variant {n}"))?;
        }
        ensure!(tiles > 1, "only {tiles} tiled variants");
    }
    Ok(())
}
