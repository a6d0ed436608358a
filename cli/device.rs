//! Flags that choose the device of a verb, and the devices that are open.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use etcetera::BaseStrategy;
use ruminate::{Arithmetic, Device, Error, OpenOptions, PipelineCache, Select, TuningFrom, backend, engine};

use crate::exit_code::{self, Usage};

/// Start of the message if there is no driver at all.
const NO_DRIVER: &str = "no Vulkan, Metal or DX12 driver found";
/// Advice on how to install a driver.
const DRIVERS: &str = "On Debian and Ubuntu, `apt install mesa-vulkan-drivers` installs drivers";

/// Flags that choose a device.
#[derive(Args)]
pub(crate) struct DeviceOptions {
    /// Device: index, PCI address, UUID or part of the name [default: the best one]
    ///
    /// `ruminate devices` lists indices, addresses and UUIDs. An index means the same device with and without --backend. A name must match exactly one device.
    #[arg(long, value_name = "DEVICE", conflicts_with = "cpu", help_heading = "Common", display_order = 9)]
    gpu: Option<String>,
    /// Graphics interface: vulkan, metal or dx12 [default: any]
    #[arg(
        long,
        value_enum,
        conflicts_with = "cpu",
        help_heading = "Device",
        hide_possible_values = true,
        hide_short_help = true
    )]
    backend: Option<Backend>,
    /// Run on the CPU reference, without a driver: exact, and slow
    #[arg(long, help_heading = "Device")]
    cpu: bool,
    /// Use the tuned kernel choices in FILE
    ///
    /// `ruminate tune --output FILE` writes such a file. By default, choices for this device in the user's cache are used.
    #[arg(long, value_name = "FILE", conflicts_with = "cpu", help_heading = "Device", hide_short_help = true)]
    tuning: Option<PathBuf>,
    /// Ignore tuned kernel choices
    ///
    /// The default kernels run, as on a device that was never tuned.
    #[arg(long, conflicts_with_all = ["cpu", "tuning"], help_heading = "Device", hide_short_help = true)]
    no_tune: bool,
    /// Give up on a device that does not answer for SECONDS [default: 120, or more for long work]
    ///
    /// A submission that takes longer is an error, and the program ends with exit code 3. By default it may also take twenty times as long as its work is
    /// estimated to take.
    #[arg(long, value_name = "SECONDS", value_parser = timeout, conflicts_with = "cpu", help_heading = "Device", hide_short_help = true)]
    device_timeout: Option<Duration>,
}

/// A graphics interface.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Backend {
    /// Vulkan
    Vulkan,
    /// Metal
    Metal,
    /// Direct3D 12
    Dx12,
}

impl DeviceOptions {
    /// Opens a GPU or a software driver for work that makes no sense on the CPU reference. `why` is the reason, for messages.
    ///
    /// # Errors
    /// [`Usage`] for `--cpu`; an error with exit code 3 if there is no device.
    pub(crate) fn open_gpu(&self, products: Arithmetic, why: &str) -> anyhow::Result<Device> {
        let options = self.gpu_options(products).ok_or_else(|| Usage(format!("{why}; leave out --cpu")))?;
        Device::open(&options).map(opened).map_err(|error| self.explained(error.into(), why))
    }

    /// Adds the advice to install a driver to an error of opening a device, if no device was named and there is no driver.
    pub(crate) fn explained(&self, error: Error, why: &str) -> anyhow::Error {
        match error {
            Error::Engine(engine::Error::NoAdapter { .. }) if !self.names_device() => {
                anyhow::Error::new(error).context(format!("{NO_DRIVER}, and {why}. {DRIVERS}"))
            }
            error => error.into(),
        }
    }

    /// Whether the flags name a device, which the CPU reference must not replace.
    fn names_device(&self) -> bool {
        self.gpu.is_some() || self.backend.is_some() || self.tuning.is_some()
    }

    /// Opens the device for an arithmetic mode. If the flags name no device and there is no driver at all, returns the CPU reference, and prints a note unless
    /// `quiet`.
    pub(crate) fn open(&self, products: Arithmetic, quiet: bool) -> Result<Device, Error> {
        let Some(options) = self.gpu_options(products) else { return Ok(Device::cpu()) };
        match Device::open(&options) {
            Err(engine::Error::NoAdapter { .. }) if !self.names_device() => {
                if !quiet {
                    remark!(
                        "note: {NO_DRIVER}; running on the CPU reference, which is meant for small models. {DRIVERS}."
                    );
                }
                Ok(Device::cpu())
            }
            outcome => Ok(outcome.map(opened)?),
        }
    }

    /// Whether a flag about tuning was given.
    pub(crate) fn speaks_of_tuning(&self) -> bool {
        self.tuning.is_some() || self.no_tune
    }

    /// Options to open the GPU for an arithmetic mode; `None` for the CPU reference.
    pub(crate) fn gpu_options(&self, products: Arithmetic) -> Option<OpenOptions> {
        if self.cpu {
            return None;
        }
        let tuning = match &self.tuning {
            Some(file) => TuningFrom::File(file.clone()),
            None if self.no_tune => TuningFrom::Defaults,
            None => tunings().map_or(TuningFrom::Defaults, TuningFrom::Folder),
        };
        let cooperative = products == Arithmetic::Cooperative;
        let pipeline_cache = kept("pipelines").map_or(PipelineCache::Off, PipelineCache::Folder);
        let timeout = self.device_timeout;
        let mut options = OpenOptions { tuning, cooperative, pipeline_cache, timeout, ..OpenOptions::default() };
        if let Some(text) = &self.gpu {
            options.select = Select::from(text.as_str());
        }
        if let Some(chosen) = self.backend {
            let name = chosen.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            options.backends = backend(&name).unwrap_or(options.backends);
        }
        Some(options)
    }
}

/// Parses `--device-timeout`.
fn timeout(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or("expected a number of seconds above 0".to_owned())
}

/// All opened devices, for [`close`].
static OPENED: Mutex<Vec<Device>> = Mutex::new(Vec::new());

fn opened(device: Device) -> Device {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner).push(device.clone());
    if !device.is_cpu() {
        let watched = device.clone();
        // If the thread cannot start, a driver that blocks the whole program goes unnoticed, but everything else works.
        let _ = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&watched));
    }
    device
}

/// Ends the program if a call of the driver does not return, because no error can reach the verb then. The verb reports all other faults.
fn watch(device: &Device) {
    loop {
        std::thread::sleep(device.look_interval().max(Duration::from_millis(10)));
        let before = device.check();
        if let (Ok(()), Err(error @ engine::Error::Timeout { .. })) = (before, device.look()) {
            exit_code::abandon(&Error::from(error).into());
        }
    }
}

/// Stores the compiled pipelines for the next run of the program; if that fails, the next run only takes longer. Returns whether a device has failed: it is
/// lost, or hangs.
pub(crate) fn close() -> bool {
    let mut failed = false;
    for device in OPENED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        match device.check() {
            Ok(()) => drop(device.save_pipelines()),
            Err(error) => failed |= matches!(error, engine::Error::Lost(_) | engine::Error::Timeout { .. }),
        }
    }
    failed
}

/// Folder for the tunings of this user's devices, if the system has a cache folder.
pub(crate) fn tunings() -> Option<PathBuf> {
    kept("tuning")
}

/// Path of a folder in the user's cache.
fn kept(name: &str) -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("ruminate").join(name))
}
