//! Turns the functions registered by `#[trial]` into the trials of a test binary.
//!
//! A trial is named `TIER::MODULE::PLACE::FUNCTION`, such as `quick::early_exit::device::exited_tokens_match_a_pass_of_as_many_steps`. `TIER` selects the
//! runs that include it (see `tests/run`), `PLACE` is where it runs; tests without a device have no place. A trial that needs something the machine
//! lacks is counted as ignored. If `RUMINATE_TEST_IGNORED` names a file, every ignored trial or case is written there with the reason, one per line.

use std::fs::OpenOptions as File;
use std::io::Write;
use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::{Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};
use ruminate_engine::{Device, OpenOptions, Select, Tier, adapters};

use crate::device::options;

/// Test function, as registered by `#[trial]`.
pub struct Registered {
    /// `quick`, `full` or `matrix`.
    pub tier: &'static str,
    /// Module path, including the crate.
    pub module: &'static str,
    /// Name of the function.
    pub name: &'static str,
    /// Returns the reason why the test cannot run on this machine, if any.
    pub needs: Option<fn() -> Option<String>>,
    /// Function, and where it runs.
    pub run: Run,
}

inventory::collect!(Registered);

/// Place where a registered function runs.
pub enum Run {
    /// On the host, without a device.
    Host(fn() -> Result<()>),
    /// On the device under test.
    Device(fn(&Device) -> Result<()>),
    /// On the device under test, with the limits of WebGPU and no optional features.
    Limited(fn(&Device) -> Result<()>),
    /// On the CPU reference.
    Cpu(fn(&Device) -> Result<()>),
    /// On every adapter of the machine, each with all its features.
    Adapters(fn(&Device) -> Result<()>),
    /// The function returns a list of trials.
    List(fn() -> Vec<Entry>),
}

/// Trial returned by a function.
pub struct Entry {
    /// Name within the module.
    pub name: String,
    /// Reason why the trial cannot run on this machine, if any.
    pub lacks: Option<String>,
    /// Body of the trial.
    pub run: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl Entry {
    /// Creates a trial that can run everywhere.
    pub fn new(name: impl Into<String>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        Self { name: name.into(), lacks: None, run: Box::new(run) }
    }

    /// Marks the trial as ignored if there is a reason.
    #[must_use]
    pub fn unless(mut self, lacks: Option<String>) -> Self {
        self.lacks = self.lacks.or(lacks);
        self
    }
}

/// Return type of a test.
pub trait Outcome {
    /// Converts to a common type.
    ///
    /// # Errors
    /// If the test failed.
    fn outcome(self) -> Result<()>;
}

impl Outcome for () {
    fn outcome(self) -> Result<()> {
        Ok(())
    }
}

impl<E: Into<anyhow::Error>> Outcome for Result<(), E> {
    fn outcome(self) -> Result<()> {
        self.map_err(Into::into)
    }
}

/// Runs the registered tests selected by the command line.
#[must_use]
pub fn main() -> ExitCode {
    main_with(&Arguments::from_args())
}

/// Runs the registered tests selected by the arguments.
#[must_use]
pub fn main_with(arguments: &Arguments) -> ExitCode {
    // A process for one trial builds only that trial.
    let only = arguments.filter.clone().filter(|_| arguments.exact);
    let mut trials = Vec::new();
    for registered in inventory::iter::<Registered> {
        let module = registered.module.split_once("::").map_or("", |(_, module)| module);
        let module =
            if module.is_empty() { registered.tier.to_owned() } else { format!("{}::{module}", registered.tier) };
        if only.as_ref().is_none_or(|only| only.starts_with(&module)) {
            trials.extend(entries(registered, &module, only.as_deref()));
        }
    }
    let wanted = |entry: &Entry| only.as_ref().is_none_or(|only| *only == entry.name);
    trials.retain(wanted);
    trials.sort_by(|a, b| a.name.cmp(&b.name));
    if !arguments.list || !arguments.ignored {
        trials
            .iter()
            .filter_map(|entry| Some((&entry.name, entry.lacks.as_ref()?)))
            .for_each(|(name, lacks)| ignored(name, lacks));
    }
    let all = trials.into_iter().map(|Entry { name, lacks, run }| {
        Trial::test(name, move || run().map_err(|error| Failed::from(format!("{error:#}"))))
            .with_ignored_flag(lacks.is_some())
    });
    // Exits instead of returning from `main`, because drivers may crash at the end of a process that still has a device.
    libtest_mimic::run(arguments, all.collect()).exit_code()
}

/// Records a trial, or a case of one, that cannot run here.
pub fn ignored(name: &str, lacks: &str) {
    let Some(path) = std::env::var_os("RUMINATE_TEST_IGNORED") else { return };
    let file = File::new().create(true).append(true).open(path);
    // One write per line, so that lines of parallel processes do not mix.
    let written = file.and_then(|mut file| file.write_all(format!("{lacks}\t{name}\n").as_bytes()));
    if let Err(error) = written {
        eprintln!("RUMINATE_TEST_IGNORED: {error}");
    }
}

fn entries(registered: &Registered, module: &str, only: Option<&str>) -> Vec<Entry> {
    let Registered { name, needs, run, .. } = registered;
    let lacks = || needs.and_then(|needs| needs());
    // The device is opened only for trials that need one.
    let wanted = |place: &str| only.is_none_or(|only| only == format!("{module}::{place}::{name}"));
    let on = |place: &str, opened: Option<OpenOptions>, test: fn(&Device) -> Result<()>| {
        let lacks = lacks().or_else(|| opened.is_none().then(|| "no device, only the CPU reference".to_owned()));
        let run = move || test(&Device::open(&opened.ok_or_else(|| anyhow!("no device"))?)?);
        vec![Entry::new(format!("{module}::{place}::{name}"), run).unless(lacks)]
    };
    match *run {
        Run::Host(test) => vec![Entry::new(format!("{module}::{name}"), test).unless(lacks())],
        Run::Cpu(test) => {
            vec![Entry::new(format!("{module}::cpu::{name}"), move || test(&Device::cpu())).unless(lacks())]
        }
        Run::Device(test) if wanted("device") => on("device", under_test(), test),
        Run::Limited(test) if wanted("limited") => {
            on("limited", under_test().map(|options| OpenOptions { limits: Tier::WebGpuDefaults, ..options }), test)
        }
        Run::Device(_) | Run::Limited(_) => Vec::new(),
        Run::Adapters(test) => {
            let found = adapters(OpenOptions::default().backends);
            let each = found.iter().flat_map(|adapter| {
                let options = OpenOptions { select: Select::Index(adapter.index), ..OpenOptions::default() };
                on(&format!("adapter_{}", adapter.index), Some(options), test)
            });
            let each: Vec<Entry> = each.collect();
            if each.is_empty() { on("adapter_0", None, test) } else { each }
        }
        Run::List(list) => {
            let listed = list().into_iter().map(|entry| Entry { name: format!("{module}::{}", entry.name), ..entry });
            listed.map(|entry| entry.unless(lacks())).collect()
        }
    }
}

/// Options for opening the device under test, if there is one.
fn under_test() -> Option<OpenOptions> {
    static FOUND: LazyLock<bool> = LazyLock::new(|| options().is_some_and(|options| Device::open(&options).is_ok()));
    options().filter(|_| *FOUND)
}
