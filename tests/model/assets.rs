//! Checkpoints that an app provides itself: in memory, through range readers, damaged and failing.

use std::io::{Error as IoError, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result, bail, ensure};
use ruminate::{
    Asset, Assets, CancelToken, Device, Error, GenerateOptions, LoadOptions, Model, ReadAt, SessionOptions, Source,
    demo,
};
use ruminate_tests::demo_files::{FIRST, INDEX, SECOND, WEIGHTS, sharded};
use ruminate_tests::trial;

const PACK: &str = "level1.pak";

/// A reader that counts its reads and fails after a number of them.
struct Ranges {
    bytes: Arc<[u8]>,
    /// The size that it reports.
    size: u64,
    reads: Arc<AtomicUsize>,
    fails_at: usize,
}

impl Ranges {
    fn of(bytes: &[u8]) -> Self {
        let (size, bytes) = (bytes.len() as u64, bytes.into());
        Self { bytes, size, reads: Arc::default(), fails_at: usize::MAX }
    }
}

impl ReadAt for Ranges {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), IoError> {
        if self.reads.fetch_add(1, Relaxed) >= self.fails_at {
            return Err(IoError::new(ErrorKind::TimedOut, "the pack's server does not answer"));
        }
        let start = usize::try_from(offset).map_err(|_| ErrorKind::UnexpectedEof)?;
        let found = self.bytes.get(start..start + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }
}

fn files() -> Result<&'static [(&'static str, &'static [u8])]> {
    let Source::Embedded(files) = demo::source() else { bail!("the demo is not embedded") };
    Ok(files)
}

/// The demo with its weights in the given asset.
fn with_weights(weights: impl Into<Asset>) -> Result<Source> {
    let mut assets = Assets::new(PACK);
    assets.extend(files()?.iter().map(|&(name, bytes)| (name, bytes.to_vec())));
    assets.insert(WEIGHTS, weights);
    Ok(assets.into())
}

fn weights() -> Result<&'static [u8]> {
    let found = files()?.iter().find(|(name, _)| *name == WEIGHTS);
    Ok(found.context("the demo has no weights")?.1)
}

fn text(source: &Source, device: &Device) -> Result<String> {
    let model = Model::open(source, device, LoadOptions::default())?;
    let mut session = model.session(SessionOptions { seed: 1, ..SessionOptions::default() })?;
    let options = GenerateOptions { max_tokens: Some(4), steps: Some(8), ..model.generate_options()? };
    session.generate(demo::PROMPTS[0].0, &options)?.map(|piece| Ok(piece?.text)).collect()
}

fn failure(source: &Source) -> Result<Error> {
    Model::open(source, &Device::cpu(), LoadOptions::default()).err().context("the model was loaded")
}

#[trial(cpu)]
fn memory_and_range_assets_generate_same_text_as_files(device: &Device) -> Result<()> {
    let expected = text(&demo::source(), device)?;
    let ranges = Ranges::of(weights()?);
    let reads = Arc::clone(&ranges.reads);
    for weights in [Asset::from(weights()?.to_vec()), Arc::<[u8]>::from(weights()?).into(), Asset::reader(ranges)] {
        let found = text(&with_weights(weights)?, device)?;
        ensure!(found == expected, "{found:?} instead of {expected:?}");
    }
    ensure!(reads.load(Relaxed) > 10, "the weights were not read in ranges");
    Ok(())
}

/// Shards are found through the index, or without an index by their names in the pack.
#[trial(cpu)]
fn packs_can_hold_shards(device: &Device) -> Result<()> {
    let folder = sharded(|_| {})?;
    let mut assets = Assets::new(PACK);
    for entry in std::fs::read_dir(folder.path())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a name")?;
        assets.insert(name, Asset::reader(Ranges::of(&std::fs::read(&path)?)));
    }
    let mut without = Assets::new(PACK);
    without.extend(assets.names().filter(|name| *name != INDEX).map(|name| (name, assets.get(name).unwrap().clone())));
    ensure!(without.names().any(|name| name == FIRST) && without.names().any(|name| name == SECOND));
    let expected = text(&demo::source(), device)?;
    ensure!(text(&assets.into(), device)? == expected && text(&without.into(), device)? == expected);
    Ok(())
}

#[trial]
fn damaged_assets_are_explained() -> Result<()> {
    let all = weights()?;
    let error = failure(&with_weights(all[..all.len() / 2].to_vec())?)?.to_string();
    ensure!(error.contains("truncated") && error.contains(WEIGHTS) && error.contains(PACK), "{error}");
    let error = failure(&with_weights(Vec::new())?)?.to_string();
    ensure!(error.contains("too few for a safetensors header"), "{error}");
    let error = failure(&with_weights(b"version https://git-lfs.github.com/spec/v1\n".to_vec())?)?.to_string();
    ensure!(error.contains("Git LFS"), "{error}");
    let error = failure(&Assets::new(PACK).into())?.to_string();
    ensure!(error.contains("config.json of level1.pak"), "{error}");

    // The reader reports more bytes than it has.
    let short = Ranges { bytes: all[..all.len() - 100_000].into(), ..Ranges::of(all) };
    let error = failure(&with_weights(Asset::reader(short))?)?;
    ensure!(matches!(&error, Error::File { source, .. } if source.kind() == ErrorKind::UnexpectedEof), "{error}");
    // A text file that is far too large is not read.
    let mut assets = Assets::new(PACK);
    assets.insert("config.json", Asset::reader(Ranges { size: 1 << 40, ..Ranges::of(b"{}") }));
    let error = failure(&assets.into())?.to_string();
    ensure!(error.contains("1099511627776 bytes") && error.contains("at most"), "{error}");
    Ok(())
}

/// The load fails with the reader's message, whichever read fails.
#[trial]
fn reader_errors_end_the_load() -> Result<()> {
    for fails_at in [0, 1, 2, 3, 7, 20] {
        let reader = Ranges { fails_at, ..Ranges::of(weights()?) };
        let error = failure(&with_weights(Asset::reader(reader))?)?;
        let message = error.to_string();
        ensure!(matches!(&error, Error::File { source, .. } if source.kind() == ErrorKind::TimedOut), "{message}");
        ensure!(message.contains("does not answer"), "{message}");
    }
    Ok(())
}

/// Cancelled before the start or by its own progress callback, a load fails with that error and frees its memory.
#[trial(device, cpu)]
fn cancelled_load_frees_device_memory(device: &Device) -> Result<()> {
    for calls in [0, 1, 5] {
        let cancel = CancelToken::new();
        let mut heard = 0;
        if calls == 0 {
            cancel.cancel();
        }
        let mut progress = |_, _| {
            heard += 1;
            if heard == calls {
                cancel.cancel();
            }
        };
        let options = LoadOptions { progress: Some(&mut progress), cancel: cancel.clone(), ..LoadOptions::default() };
        let before = device.counters();
        let error = Model::demo(device, options).err().context("the model was loaded")?;
        ensure!(matches!(error, Error::Cancelled) && error.to_string() == "cancelled before it was done", "{error}");
        ensure!(heard == calls, "{heard} blocks were reported, but the load was cancelled at {calls}");
        let after = device.counters();
        ensure!((after.live_bytes, after.live_buffers) == (before.live_bytes, before.live_buffers));
    }
    // A load with a token that is never cancelled succeeds.
    Model::demo(device, LoadOptions { cancel: CancelToken::new(), ..LoadOptions::default() })?;
    Ok(())
}
