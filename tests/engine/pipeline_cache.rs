//! Persistent pipeline cache: foreign or damaged data must do no harm.

use anyhow::{Context, Result, ensure};
use ruminate_engine::{Device, Error, Graph, OpenOptions, PipelineCache, Tier, wgpu};
use ruminate_shaders::embed::select;
use ruminate_tests::{Folder, options, trial};

fn open(cache: PipelineCache) -> Result<Device> {
    let options = options().context("no device")?;
    Ok(Device::open(&OpenOptions { pipeline_cache: cache, ..options })?)
}

/// Compiles and runs a kernel; returns the number of pipelines compiled.
fn work(device: &Device) -> Result<u64> {
    let before = device.counters().pipelines;
    device.compile([&select(1, 1, 64)])?;
    let graph = Graph::new("nothing");
    device.execute(&device.plan(graph)?, &[], &[])?;
    Ok(device.counters().pipelines - before)
}

fn lacks_cache() -> Option<String> {
    let device = Device::open(&options()?).ok()?;
    let vulkan = device.summary()?.backend == wgpu::Backend::Vulkan.to_str();
    if !vulkan {
        return Some("wgpu supports pipeline caches only on Vulkan".to_owned());
    }
    // The feature is optional and disabled under simulated limits.
    let limited = options()?.limits != Tier::default();
    limited.then(|| "the WebGPU limits exclude pipeline caches".to_owned())
}

#[trial(device, needs(lacks_cache))]
fn cache_data_carries_over_between_devices(_: &Device) -> Result<()> {
    ensure!(open(PipelineCache::Off)?.pipeline_cache().is_none(), "no cache was requested");
    let first = open(PipelineCache::Data(Vec::new()))?;
    ensure!(work(&first)? == 1);
    let data = first.pipeline_cache().context("a cache")?;
    let second = open(PipelineCache::Data(data.clone()))?;
    ensure!(work(&second)? == 1 && second.pipeline_cache().is_some());
    Ok(())
}

/// With changed bytes, a truncated end, or foreign data, the device works as without a cache.
#[trial(device, full, needs(lacks_cache))]
fn damaged_cache_data_is_ignored(_: &Device) -> Result<()> {
    let first = open(PipelineCache::Data(Vec::new()))?;
    work(&first)?;
    let data = first.pipeline_cache().context("a cache")?;
    let places = (0..data.len()).step_by((data.len() / 24).max(1));
    let changed = places.map(|place| {
        let mut changed = data.clone();
        changed[place] ^= 0x55;
        changed
    });
    let cut = [0, 1, 20, 53, data.len() - 1].map(|length| data[..length.min(data.len())].to_vec());
    let other = [b"GGUF".to_vec(), vec![0xff; 4096], [data.clone(), vec![0]].concat()];
    for (case, damaged) in changed.chain(cut).chain(other).enumerate() {
        let device = open(PipelineCache::Data(damaged))?;
        ensure!(work(&device)? == 1, "case {case}");
        device.check()?;
    }
    Ok(())
}

#[trial(device, needs(lacks_cache))]
fn cache_folder_has_a_file_per_driver(_: &Device) -> Result<()> {
    let folder = Folder::new()?;
    let cache = || PipelineCache::Folder(folder.path().join("new"));
    let idle = open(cache())?;
    ensure!(!idle.save_pipelines()?, "nothing was compiled");
    let device = open(cache())?;
    work(&device)?;
    ensure!(device.save_pipelines()?, "there is something new");
    let files: Vec<_> = std::fs::read_dir(folder.path().join("new"))?.collect::<Result<_, _>>()?;
    ensure!(files.len() == 1 && files[0].file_name().to_string_lossy().ends_with(".pipelines"), "{files:?}");
    // A damaged file is ignored and replaced.
    std::fs::write(files[0].path(), b"something else")?;
    let device = open(cache())?;
    work(&device)?;
    ensure!(device.save_pipelines()? && std::fs::read(files[0].path())?.starts_with(b"ruminate pipelines"));
    // A path that cannot be a folder.
    let file = folder.path().join("file");
    std::fs::write(&file, "x")?;
    let device = open(PipelineCache::Folder(file))?;
    work(&device)?;
    ensure!(matches!(device.save_pipelines(), Err(Error::PipelineCache { .. })));
    Ok(())
}
