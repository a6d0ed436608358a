//! From functions that `#[trial]` registers to the trials of a test binary.
//!
//! A trial is named `TIER::MODULE::PLACE::FUNCTION`, such as `quick::early_exit::device::exited_tokens_match_a_pass_of_as_many_steps`. `TIER` says in which
//! runs it takes part (see `tests/run`), `PLACE` on what it runs; tests of no device have no place. What a machine lacks makes a trial ignored, and
//! counted as such. If `RUMINATE_TEST_IGNORED` names a file, every ignored trial or case is written there with the reason, one per line.

use std::fs::OpenOptions as File;
use std::io::Write;
use std::process::ExitCode;
use std::sync::LazyLock;

use anyhow::{Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};
use ruminate_engine::{Device, OpenOptions, Select, Tier, adapters};

use crate::device::options;

/// A function that is a test, as `#[trial]` registers it.
pub struct Registered {
    /// `quick`, `full` or `matrix`.
    pub tier: &'static str,
    /// Path of its module, the crate's name first.
    pub module: &'static str,
    /// Name of the function.
    pub name: &'static str,
    /// Says why it cannot run on this machine, if it cannot.
    pub needs: Option<fn() -> Option<String>>,
    /// The function and where it runs.
    pub run: Run,
}

inventory::collect!(Registered);

/// What a registered function runs on.
pub enum Run {
    /// On nothing but the host.
    Host(fn() -> Result<()>),
    /// On the device under test.
    Device(fn(&Device) -> Result<()>),
    /// On the device under test, with the limits of WebGPU and no optional features.
    Limited(fn(&Device) -> Result<()>),
    /// On the CPU reference.
    Cpu(fn(&Device) -> Result<()>),
    /// On every adapter of this machine, each opened with all that it offers.
    Adapters(fn(&Device) -> Result<()>),
    /// The function lists its trials itself.
    List(fn() -> Vec<Entry>),
}

/// A trial that a function lists.
pub struct Entry {
    /// Its name within the module.
    pub name: String,
    /// Why it cannot run on this machine, if it cannot.
    pub lacks: Option<String>,
    /// The trial.
    pub run: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl Entry {
    /// A trial that can run everywhere.
    pub fn new(name: impl Into<String>, run: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        Self { name: name.into(), lacks: None, run: Box::new(run) }
    }

    /// The trial, ignored for a reason if there is one.
    #[must_use]
    pub fn unless(mut self, lacks: Option<String>) -> Self {
        self.lacks = self.lacks.or(lacks);
        self
    }
}

/// What a test returns.
pub trait Outcome {
    /// As one type.
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

/// Runs the registered tests that the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    main_with(&Arguments::from_args())
}

/// Runs the registered tests that the arguments ask for.
#[must_use]
pub fn main_with(arguments: &Arguments) -> ExitCode {
    // A process for one trial makes that one alone.
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
    // Not by returning from `main`: drivers may crash at the end of a process that still has a device.
    libtest_mimic::run(arguments, all.collect()).exit_code()
}

/// Notes a trial, or a case of one, that cannot run here.
pub fn ignored(name: &str, lacks: &str) {
    let Some(path) = std::env::var_os("RUMINATE_TEST_IGNORED") else { return };
    let file = File::new().create(true).append(true).open(path);
    // A line at a time, so that processes side by side do not mix theirs.
    let written = file.and_then(|mut file| file.write_all(format!("{lacks}\t{name}\n").as_bytes()));
    if let Err(error) = written {
        eprintln!("RUMINATE_TEST_IGNORED: {error}");
    }
}

fn entries(registered: &Registered, module: &str, only: Option<&str>) -> Vec<Entry> {
    let Registered { name, needs, run, .. } = registered;
    let lacks = || needs.and_then(|needs| needs());
    // Whether a device is there is found out only if one is asked for.
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

/// How the device under test is opened, if there is one.
fn under_test() -> Option<OpenOptions> {
    static FOUND: LazyLock<bool> = LazyLock::new(|| options().is_some_and(|options| Device::open(&options).is_ok()));
    options().filter(|_| *FOUND)
}
