//! Cache of compiled pipelines that lasts from one run of a program to the next, where wgpu supports it: on Vulkan.
//!
//! Most desktop drivers keep such a cache themselves; others, as on Android, leave it to the app. A driver trusts its input, so the data has a checksum, and
//! anything that an earlier run did not write is ignored: the cache then starts empty.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use sha2::{Digest, Sha256};

use crate::device::{Device, Engine};
use crate::error::{Error, Result};

/// First bytes of the data; the checksum of the rest follows.
const MAGIC: &[u8] = b"ruminate pipelines 1\n";
/// Bytes of a checksum.
const SUM: usize = 32;
/// Maximum bytes of a file: more than all kernels of all models take.
const LARGEST: u64 = 256 << 20;

/// Source of pipelines that earlier runs compiled.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PipelineCache {
    /// No source; pipelines are not kept.
    #[default]
    Off,
    /// Data that [`Device::pipeline_cache`] returned in an earlier run; empty in the first one. Data that is damaged, or of another adapter, driver or version,
    /// counts as empty.
    Data(Vec<u8>),
    /// A folder with a file for each adapter and driver, which [`Device::save_pipelines`] writes.
    Folder(PathBuf),
}

impl fmt::Debug for PipelineCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("Off"),
            Self::Data(data) => write!(f, "Data({} bytes)", data.len()),
            Self::Folder(folder) => write!(f, "Folder({})", folder.display()),
        }
    }
}

/// The cache of a device.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) cache: wgpu::PipelineCache,
    /// File to which it is written.
    file: Option<PathBuf>,
    /// Content at the start.
    begun_with: Vec<u8>,
}

impl Kept {
    /// Opens the cache that the options ask for, if the device supports one.
    pub(crate) fn open(device: &wgpu::Device, asked: &PipelineCache) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let (file, stored) = match asked {
            PipelineCache::Off => return None,
            PipelineCache::Data(data) => (None, data.clone()),
            PipelineCache::Folder(folder) => {
                let file = folder.join(file_name(&device.adapter_info())?);
                let stored = read(&file).unwrap_or_default();
                (Some(file), stored)
            }
        };
        let begun_with = unpacked(&stored).unwrap_or_default().to_vec();
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("ruminate"),
            data: Some(begun_with.as_slice()).filter(|data| !data.is_empty()),
            // Data of another adapter or driver is ignored.
            fallback: true,
        };
        // SAFETY: the data is unchanged output of `PipelineCache::get_data`: its checksum was compared. wgpu compares adapter and driver.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Self { cache, file, begun_with })
    }
}

impl Device {
    /// The pipelines that were compiled here or came from [`OpenOptions::pipeline_cache`](crate::OpenOptions::pipeline_cache), for [`PipelineCache::Data`] in
    /// the next run of the program. `None` if the device has no such cache, or none was requested.
    #[must_use]
    pub fn pipeline_cache(&self) -> Option<Vec<u8>> {
        Some(packed(&self.kept()?.cache.get_data()?))
    }

    /// Writes [`Self::pipeline_cache`] into the folder of [`PipelineCache::Folder`], if it has changed. Returns whether it was written. The file is replaced as
    /// a whole, so programs that run side by side do not disturb each other.
    ///
    /// # Errors
    /// [`Error::PipelineCache`] if the file cannot be written.
    pub fn save_pipelines(&self) -> Result<bool> {
        let Some((kept, file)) = self.kept().and_then(|kept| Some((kept, kept.file.as_ref()?))) else {
            return Ok(false);
        };
        if self.tally().pipelines.load(Relaxed) == 0 {
            return Ok(false);
        }
        let Some(data) = kept.cache.get_data().filter(|data| *data != kept.begun_with) else { return Ok(false) };
        write(file, &packed(&data))
            .map_err(|error| Error::PipelineCache { file: file.display().to_string(), problem: error.to_string() })?;
        Ok(true)
    }

    fn kept(&self) -> Option<&Kept> {
        match self.engine() {
            Engine::Gpu(gpu) => gpu.kept.get(),
            Engine::Cpu(_) => None,
        }
    }
}

/// Name of the file of an adapter and its driver; `None` if the backend has no cache.
fn file_name(info: &wgpu::AdapterInfo) -> Option<String> {
    let driver = format!("{} {} {}", info.name, info.driver, info.driver_info);
    let sum = Sha256::digest(driver.as_bytes());
    let sum: String = sum.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{}-{sum}.pipelines", wgpu::util::pipeline_cache_key(info)?))
}

/// The content of a file, if it can be read.
fn read(file: &Path) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let read = fs::File::open(file).ok()?.take(LARGEST + 1).read_to_end(&mut content).ok()?;
    (read as u64 <= LARGEST).then_some(content)
}

fn write(file: &Path, content: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let part = file.with_extension(format!("{}.part", std::process::id()));
    fs::write(&part, content).and_then(|()| fs::rename(&part, file)).inspect_err(|_| drop(fs::remove_file(&part)))
}

fn packed(data: &[u8]) -> Vec<u8> {
    [MAGIC, &Sha256::digest(data), data].concat()
}

/// The data, if it is undamaged.
fn unpacked(stored: &[u8]) -> Option<&[u8]> {
    let (sum, data) = stored.strip_prefix(MAGIC)?.split_at_checked(SUM)?;
    (Sha256::digest(data).as_slice() == sum).then_some(data)
}
