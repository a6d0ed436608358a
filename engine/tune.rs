//! Tuning: finds the fastest of several equivalent launches on a device by timing them, and keeps the choices in a file.
//!
//! A [`Tuning`] maps classes of work to names of launches. Without a tuning, or for unknown classes, the first variant is used, which suits most devices. With
//! a given tuning, the choice is always the same, and so are the results; another tuning may round sums differently.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ruminate_shaders::{Launch, Trial, Variants};
use serde::{Deserialize, Serialize};

use crate::adapter::AdapterSummary;
use crate::bench::{self, Bench, Sample};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::gates::{LOOPS, LoopWay};

/// Launches that a device prefers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Whether weights and caches are in textures, for subgroups of a known size; by default, if a device is known to gain by it.
    pub textures: Option<bool>,
    choices: BTreeMap<String, String>,
    forced: Option<usize>,
}

/// Source of a device's tuning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TuningFrom {
    /// No tuning: the defaults.
    #[default]
    Defaults,
    /// A folder with the tunings of several devices; a tuning of another version of the engine is ignored.
    Folder(PathBuf),
    /// A file, which must be for this device and this version.
    File(PathBuf),
    /// The given tuning.
    Given(Tuning),
}

/// Content of a file.
#[derive(Serialize, Deserialize)]
struct Stored {
    engine: String,
    device: String,
    driver: String,
    backend: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    textures: Option<bool>,
    choices: BTreeMap<String, String>,
}

/// Version of the engine; kernels change with it.
const ENGINE: &str = env!("CARGO_PKG_VERSION");

/// Maximum bytes of a file: thousands of classes.
const LARGEST: u64 = 4 << 20;

impl Tuning {
    /// Uses variant n everywhere, modulo the number of variants: for tests of all variants.
    #[must_use]
    pub fn forced(n: usize) -> Self {
        Self { forced: Some(n), ..Self::default() }
    }

    /// A tuning that only decides the memory of weights and caches.
    #[must_use]
    pub fn with_textures(textures: bool) -> Self {
        Self { textures: Some(textures), ..Self::default() }
    }

    /// Adds a choice.
    pub fn choose(&mut self, class: &str, name: &str) {
        self.choices.insert(class.to_owned(), name.to_owned());
    }

    /// Classes with the names of the launches chosen for them.
    pub fn choices(&self) -> impl Iterator<Item = (&str, &str)> {
        self.choices.iter().map(|(class, name)| (class.as_str(), name.as_str()))
    }

    /// Picks the launch of a class.
    ///
    /// # Panics
    /// If there are no variants.
    #[must_use]
    pub fn pick(&self, mut variants: Variants) -> Launch {
        if let Some(n) = self.forced {
            let n = n % variants.launches.len();
            return variants.launches.swap_remove(n);
        }
        let chosen = self.choices.get(&variants.class).and_then(|name| variants.named(name)).cloned();
        chosen.unwrap_or_else(|| variants.into_first())
    }

    /// Chosen way to launch loops in which all rows may exit; `None` if none was chosen.
    #[must_use]
    pub fn loops(&self) -> Option<LoopWay> {
        if let Some(n) = self.forced {
            return Some(LoopWay::ALL[n % LoopWay::ALL.len()]);
        }
        let chosen = self.choices.get(LOOPS)?;
        LoopWay::ALL.into_iter().find(|way| way.name() == chosen)
    }

    /// Name of a device's file in a folder of tunings.
    #[must_use]
    pub fn file_name(summary: &AdapterSummary) -> String {
        let all = format!("{} {} {}", summary.name, summary.driver, summary.backend).to_lowercase();
        let words: Vec<&str> =
            all.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        words.join("-") + ".json"
    }

    /// Writes the tuning for a device, completely or not at all. Missing folders are created.
    ///
    /// # Errors
    /// [`Error::Tuning`] if the file cannot be written.
    pub fn write(&self, path: &Path, summary: &AdapterSummary) -> Result<()> {
        let failed = |problem: String| Error::Tuning { file: path.display().to_string(), problem };
        let stored = Stored {
            engine: ENGINE.to_owned(),
            device: summary.name.clone(),
            driver: summary.driver.clone(),
            backend: summary.backend.clone(),
            textures: self.textures,
            choices: self.choices.clone(),
        };
        let text = serde_json::to_string_pretty(&stored).map_err(|error| failed(error.to_string()))? + "\n";
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        let mut aside = path.as_os_str().to_owned();
        aside.push(".part");
        let written = fs::write(&aside, text).and_then(|()| fs::rename(&aside, path));
        written.map_err(|error| failed(error.to_string()))
    }

    /// Reads the tuning of a device.
    ///
    /// # Errors
    /// [`Error::Tuning`] if the file does not exist, is not a tuning, or is for another device or version.
    pub fn read(path: &Path, summary: &AdapterSummary) -> Result<Self> {
        let failed = |problem: String| Error::Tuning { file: path.display().to_string(), problem };
        let found = fs::metadata(path).map_err(|error| failed(error.to_string()))?;
        if !found.is_file() || found.len() > LARGEST {
            return Err(failed(format!("not a tuning: expected a file of at most {} MB", LARGEST >> 20)));
        }
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let stored: Stored = serde_json::from_str(&text).map_err(|error| failed(format!("not a tuning: {error}")))?;
        let expected = [
            ("version of the engine", stored.engine.as_str(), ENGINE),
            ("device", &stored.device, &summary.name),
            ("driver", &stored.driver, &summary.driver),
            ("backend", &stored.backend, &summary.backend),
        ];
        match expected.into_iter().find(|(_, found, wanted)| found != wanted) {
            Some((what, found, wanted)) => {
                Err(failed(format!("made for {what} {found}, but this is {wanted}; tune again")))
            }
            None => Ok(Self { textures: stored.textures, choices: stored.choices, forced: None }),
        }
    }
}

impl TuningFrom {
    /// The tuning of a device.
    pub(crate) fn of(&self, summary: &AdapterSummary) -> Result<Tuning> {
        match self {
            Self::Defaults => Ok(Tuning::default()),
            Self::Given(tuning) => Ok(tuning.clone()),
            Self::File(path) => Tuning::read(path, summary),
            // A folder is a cache: unsuitable files count as missing.
            Self::Folder(folder) => {
                Ok(Tuning::read(&folder.join(Tuning::file_name(summary)), summary).unwrap_or_default())
            }
        }
    }
}

/// Result of timing the variants of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The class.
    pub class: String,
    /// Name of the fastest variant, or of the first if no other is faster by more than [`GAIN`].
    pub chosen: String,
    /// Times of the first variant, in seconds.
    pub first: Sample,
    /// Times of the chosen variant, in seconds.
    pub best: Sample,
    /// Number of variants that were timed.
    pub tried: usize,
}

/// Share of the time that another variant must save to be preferred over the first; less is noise.
pub const GAIN: f64 = 0.03;
/// Times that each variant is measured, all variants in turn.
const ROUNDS: u32 = 3;
/// Minimum duration of one measurement.
const LEAST: Duration = Duration::from_millis(10);
/// A variant that is this many times slower than the fastest so far is not timed further.
const HOPELESS: f64 = 2.0;
/// Bytes of all copies of the data, which are used in turn so that no cache holds what the next launch reads.
const COPIES: u64 = 256 << 20;
/// Maximum number of copies.
const MOST_COPIES: u64 = 16;

/// Times the variants of a trial and chooses the fastest. Variants that the device rejects are left out. `going` is asked before every measurement; once it
/// returns false, the result is `None`.
///
/// # Errors
/// If the device is lost, or the data does not fit it.
pub fn tune(device: &Device, trial: &Trial, going: &dyn Fn() -> bool) -> Result<Option<Tuned>> {
    let bytes: u64 = trial.case.data.iter().map(|words| words.len() as u64 * 4).sum();
    let copies = (COPIES / bytes.max(1)).clamp(1, MOST_COPIES);
    let memory = (0..copies).map(|_| bench::upload(device, &trial.case)).collect::<Result<Vec<_>>>()?;
    let mut ready: Vec<(&Launch, Bench, Vec<f64>)> = Vec::new();
    let mut fastest = f64::INFINITY;
    for launch in &trial.variants.launches {
        if !going() {
            return Ok(None);
        }
        if device.lacks(launch).is_some() {
            continue;
        }
        let turns: Vec<_> = memory.iter().map(|buffers| (launch.clone(), buffers.clone())).collect();
        let bench = match Bench::new(device, &turns) {
            Ok(bench) => bench,
            Err(error @ (Error::Lost(_) | Error::Timeout { .. })) => return Err(error),
            Err(_) => continue,
        };
        let once = bench.time(1)?.as_secs_f64() / copies as f64;
        fastest = fastest.min(once);
        // The first variant is kept in any case: others are compared with it.
        if ready.is_empty() || once < HOPELESS * fastest {
            ready.push((launch, bench, Vec::new()));
        }
    }
    for _ in 0..ROUNDS {
        for (_, bench, seconds) in &mut ready {
            if !going() {
                return Ok(None);
            }
            seconds.push(bench.sample(1, LEAST)?.least());
        }
    }
    let samples: Vec<(&Launch, Sample)> =
        ready.into_iter().map(|(launch, _, seconds)| (launch, Sample::new(seconds))).collect();
    let refused = || Error::Launch {
        launch: trial.variants.class.clone(),
        problem: "no variant is supported on this device".to_owned(),
    };
    let (first, best) = (
        samples.first().ok_or_else(refused)?,
        samples.iter().min_by(|(_, a), (_, b)| a.median().total_cmp(&b.median())).ok_or_else(refused)?,
    );
    let best = if best.1.median() < (1.0 - GAIN) * first.1.median() { best } else { first };
    Ok(Some(Tuned {
        class: trial.variants.class.clone(),
        chosen: best.0.name(),
        first: first.1.clone(),
        best: best.1.clone(),
        tried: samples.len(),
    }))
}

/// Share of the time by which indirect launches may be slower while rows are active and still be preferred: they save time once all rows have exited.
const WORTH: f64 = 0.1;

/// Times a loop of small launches for an active row both ways, and chooses the better one. `None` on the CPU reference, which has one way only.
///
/// # Errors
/// As [`tune`].
pub fn tune_loops(device: &Device) -> Result<Option<Tuned>> {
    if device.is_cpu() {
        return Ok(None);
    }
    let chain = bench::chain(device)?;
    let [indirect, direct] = LoopWay::ALL.map(|way| Bench::in_loop(device, &chain, way));
    let (indirect, direct) = (indirect?, direct?);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        first.push(indirect.sample(1, LEAST)?.least());
        second.push(direct.sample(1, LEAST)?.least());
    }
    let (first, second) = (Sample::new(first), Sample::new(second));
    let slow = second.median() < (1.0 - WORTH) * first.median();
    let (way, best) = if slow { (LoopWay::Direct, second) } else { (LoopWay::Indirect, first.clone()) };
    let (class, chosen) = (LOOPS.to_owned(), way.name().to_owned());
    Ok(Some(Tuned { class, chosen, first, best, tried: LoopWay::ALL.len() }))
}
