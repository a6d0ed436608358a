//! Checkpoints that an app holds itself: in memory, behind readers of ranges, damaged, failing.

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

/// A reader that notes what is read, and fails after a number of reads.
struct Ranges {
    bytes: Arc<[u8]>,
    /// Size that it claims.
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
    let Source::Embedded(files) = demo::source() else { bail!("the demo is embedded") };
    Ok(files)
}

/// The demo with its weights as another asset.
fn with_weights(weights: impl Into<Asset>) -> Result<Source> {
    let mut assets = Assets::new(PACK);
    assets.extend(files()?.iter().map(|&(name, bytes)| (name, bytes.to_vec())));
    assets.insert(WEIGHTS, weights);
    Ok(assets.into())
}

fn weights() -> Result<&'static [u8]> {
    let found = files()?.iter().find(|(name, _)| *name == WEIGHTS);
    Ok(found.context("the demo has weights")?.1)
}

fn text(source: &Source, device: &Device) -> Result<String> {
    let model = Model::open(source, device, LoadOptions::default())?;
    let mut session = model.session(SessionOptions { seed: 1, ..SessionOptions::default() })?;
    let options = GenerateOptions { max_tokens: Some(4), steps: Some(8), ..model.generate_options()? };
    session.generate(demo::PROMPTS[0].0, &options)?.map(|piece| Ok(piece?.text)).collect()
}

fn failure(source: &Source) -> Result<Error> {
    Model::open(source, &Device::cpu(), LoadOptions::default()).err().context("it was loaded")
}

#[trial(cpu)]
fn memory_and_ranges_give_the_same_text_as_files(device: &Device) -> Result<()> {
    let expected = text(&demo::source(), device)?;
    let ranges = Ranges::of(weights()?);
    let reads = Arc::clone(&ranges.reads);
    for weights in [Asset::from(weights()?.to_vec()), Arc::<[u8]>::from(weights()?).into(), Asset::reader(ranges)] {
        let found = text(&with_weights(weights)?, device)?;
        ensure!(found == expected, "{found:?} instead of {expected:?}");
    }
    ensure!(reads.load(Relaxed) > 10, "the weights were read in ranges");
    Ok(())
}

/// Shards are found by the index, and without one by the names in the pack.
#[trial(cpu)]
fn a_pack_may_hold_shards(device: &Device) -> Result<()> {
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
fn damage_is_named() -> Result<()> {
    let all = weights()?;
    let error = failure(&with_weights(all[..all.len() / 2].to_vec())?)?.to_string();
    ensure!(error.contains("truncated") && error.contains(WEIGHTS) && error.contains(PACK), "{error}");
    let error = failure(&with_weights(Vec::new())?)?.to_string();
    ensure!(error.contains("too few for a safetensors header"), "{error}");
    let error = failure(&with_weights(b"version https://git-lfs.github.com/spec/v1\n".to_vec())?)?.to_string();
    ensure!(error.contains("Git LFS"), "{error}");
    let error = failure(&Assets::new(PACK).into())?.to_string();
    ensure!(error.contains("config.json of level1.pak"), "{error}");

    // A reader that claims more than it has.
    let short = Ranges { bytes: all[..all.len() - 100_000].into(), ..Ranges::of(all) };
    let error = failure(&with_weights(Asset::reader(short))?)?;
    ensure!(matches!(&error, Error::File { source, .. } if source.kind() == ErrorKind::UnexpectedEof), "{error}");
    // A text file beyond all measure is not read.
    let mut assets = Assets::new(PACK);
    assets.insert("config.json", Asset::reader(Ranges { size: 1 << 40, ..Ranges::of(b"{}") }));
    let error = failure(&assets.into())?.to_string();
    ensure!(error.contains("1099511627776 bytes") && error.contains("at most"), "{error}");
    Ok(())
}

/// Whichever read fails, the reader's words arrive, with the file's name.
#[trial]
fn a_failing_reader_ends_the_load() -> Result<()> {
    for fails_at in [0, 1, 2, 3, 7, 20] {
        let reader = Ranges { fails_at, ..Ranges::of(weights()?) };
        let error = failure(&with_weights(Asset::reader(reader))?)?;
        let message = error.to_string();
        ensure!(matches!(&error, Error::File { source, .. } if source.kind() == ErrorKind::TimedOut), "{message}");
        ensure!(message.contains("does not answer"), "{message}");
    }
    Ok(())
}

/// Cancelled before it begins, or by its own progress: the error says so, and nothing stays on the device.
#[trial(device, cpu)]
fn a_cancelled_load_leaves_nothing_on_the_device(device: &Device) -> Result<()> {
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
        let error = Model::demo(device, options).err().context("it was loaded")?;
        ensure!(matches!(error, Error::Cancelled) && error.to_string() == "cancelled before it was done", "{error}");
        ensure!(heard == calls, "{heard} blocks were loaded after the flag was set at {calls}");
        let after = device.counters();
        ensure!((after.live_bytes, after.live_buffers) == (before.live_bytes, before.live_buffers));
    }
    // A load that nobody cancels is done.
    Model::demo(device, LoadOptions { cancel: CancelToken::new(), ..LoadOptions::default() })?;
    Ok(())
}
