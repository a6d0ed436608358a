//! All kernel variants through the compilers of real platforms; see `harness/compilers/mod.rs`. A trial compiles all variants of one kernel with one
//! compiler and lists the failures, because a process for each of the thousands of pairs would spend its time on startup.
//!
//! Trials of missing tools are counted as ignored. `tests/get-compilers` installs all tools.

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use ruminate_shaders::{Choice, KERNELS, Kernel, LANES};
use ruminate_tests::compilers::{Checked, Dxc, Variant, amd, dxil, msl, one_set_each, spirv, variants};
use ruminate_tests::{Entry, trial};

const TOOL_MISSING: &str = "a compiler is not installed; run tests/get-compilers";

fn entry(name: String, possible: bool, run: impl FnOnce() -> Result<()> + Send + 'static) -> Entry {
    Entry::new(name, run).unless((!possible).then(|| TOOL_MISSING.to_owned()))
}

/// Every choice of parts, with the sets of constants in turn for validators, and with every set on AMD's families, whose registers depend on them.
#[trial(list, full)]
fn compilers() -> Vec<Entry> {
    let mut all = vec![
        entry("spirv-val_sees_errors".to_owned(), spirv::available(), wrong_spirv),
        entry("dxc_sees_errors".to_owned(), dxil::library().is_some(), wrong_hlsl),
    ];
    let have_amd = amd::driver().is_some();
    for family in amd::FAMILIES {
        all.push(entry(format!("{family}_shows_what_does_not_fit"), have_amd, move || too_large(family)));
    }
    all.extend(validators(false));
    for &kernel in KERNELS {
        // A kernel for a subgroup size or for matrices that a family does not support is never launched there. All launches of such a kernel use one size, so
        // one launch suffices to decide.
        let one = || Variant { kernel, choice: Choice::default(), overrides: (kernel.random)(0).launch.overrides };
        let made_for = (of_matrices(kernel) || kernel.overrides.contains(&LANES)).then(one);
        let launched = |family: &&str| made_for.as_ref().is_none_or(|variant| variant.runs_on(family));
        for family in amd::FAMILIES.into_iter().filter(launched) {
            all.push(entry(format!("{family}::{}", kernel.name), have_amd, move || fits(family, kernel)));
        }
    }
    all
}

/// Every choice of parts with every set of constants, for every shader model.
#[trial(list, matrix)]
fn all_constants() -> Vec<Entry> {
    validators(true)
}

/// Trials of compilers that accept or refuse a module. With `all`, every choice of parts meets every set of constants and every shader model, otherwise one of
/// each in turn.
fn validators(all: bool) -> Vec<Entry> {
    let variants = if all { variants } else { one_set_each };
    let mut entries = Vec::new();
    for &kernel in KERNELS {
        let name = |compiler: &str| format!("{compiler}::{}", kernel.name);
        let knows = spirv::available() && (!of_matrices(kernel) || spirv::knows_matrices());
        entries.push(entry(name("spirv"), knows, move || each(&variants(kernel), validate)));
        if !of_matrices(kernel) {
            let compile = if all { compile_for_all } else { compile_for_one };
            entries.push(entry(name("dxil"), dxil::library().is_some(), move || each(&variants(kernel), compile)));
        }
        entries.push(entry(name("msl"), true, move || each(&variants(kernel), translate)));
    }
    entries
}

fn of_matrices(kernel: &Kernel) -> bool {
    kernel.needs_matrices(Choice::default()).is_some()
}

/// Fails with a list of all failures, or if there is no outcome.
fn summary(outcomes: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let outcomes: Vec<_> = outcomes.into_iter().collect();
    ensure!(!outcomes.is_empty(), "nothing was compiled: the kernel has no case");
    let failed: Vec<String> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(|error| format!("{error:#}")).collect();
    ensure!(failed.is_empty(), "{} of {} fail:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
    Ok(())
}

/// Runs a check on each variant. The check gets the variant's index, too.
fn each(variants: &[Variant], check: fn(&Checked, usize) -> Result<()>) -> Result<()> {
    summary(variants.iter().enumerate().map(|(at, variant)| {
        let checked = variant.module().and_then(|checked| check(&checked, at));
        checked.with_context(|| format!("{} {}", variant.label(), variant.constants()))
    }))
}

fn validate(checked: &Checked, _: usize) -> Result<()> {
    let targets = spirv::Target::all(checked);
    targets.iter().try_for_each(|&target| spirv::validate(&spirv::translate(checked, target)?, target))
}

fn translate(checked: &Checked, _: usize) -> Result<()> {
    if msl::has(checked) { msl::translate(checked).map(drop) } else { Ok(()) }
}

fn compile_for_all(checked: &Checked, _: usize) -> Result<()> {
    let dxc = dxc()?;
    dxil::models(checked).iter().try_for_each(|&model| dxil::compile(dxc, checked, model).map(drop))
}

fn compile_for_one(checked: &Checked, at: usize) -> Result<()> {
    let dxc = dxc()?;
    let models = dxil::models(checked);
    let count = models.len().max(1);
    // Shifted after each round, so that no part always meets the same model.
    models.get((at + at / count) % count).map_or(Ok(()), |&model| dxil::compile(dxc, checked, model).map(drop))
}

/// DXC, loaded once per process because it is large.
fn dxc() -> Result<&'static Dxc> {
    static DXC: OnceLock<Dxc> = OnceLock::new();
    if let Some(dxc) = DXC.get() {
        return Ok(dxc);
    }
    let loaded = Dxc::load(&dxil::library().context("no DXC")?)?;
    Ok(DXC.get_or_init(|| loaded))
}

/// Checks that no variant spills registers or uses scratch memory.
fn fits(family: &str, kernel: &'static Kernel) -> Result<()> {
    let reports = amd::reports(program(), family, &[kernel.name])?;
    let mut asked = variants(kernel);
    asked.retain(|variant| variant.runs_on(family));
    ensure!(reports.len() == asked.len(), "{} reports on {} variants", reports.len(), asked.len());
    summary(reports.iter().zip(&asked).map(|(report, variant)| {
        ensure!(report.label == variant.label(), "a report on {} instead of {}", report.label, variant.label());
        ensure!(report.device.to_lowercase().contains(amd::name_of(family)), "compiled for {} instead", report.device);
        let place = || format!("{} {} on {}", report.label, report.constants, report.device);
        report.statistics.check().with_context(place)
    }))
}

/// A module with a too small id bound is rejected.
fn wrong_spirv() -> Result<()> {
    let variant = variants(KERNELS[0]).into_iter().next().context("no variant")?;
    let mut words = spirv::translate(&variant.module()?, spirv::NEWEST)?;
    spirv::validate(&words, spirv::NEWEST)?;
    words[3] = 2;
    ensure!(spirv::validate(&words, spirv::NEWEST).is_err(), "the error was not detected");
    Ok(())
}

/// The compiler rejects an undeclared identifier, and the validator rejects twice the workgroup memory that DX12 allows.
fn wrong_hlsl() -> Result<()> {
    let arguments = ["-E", "main", "-T", "cs_6_0"];
    let kernel = |length: u32, value: &str| {
        format!(
            "groupshared float part[{length}]; RWByteAddressBuffer y : register(u0);
            [numthreads(64, 1, 1)] void main(uint3 id : SV_DispatchThreadID) {{
                part[id.x] = {value}; GroupMemoryBarrierWithGroupSync(); y.Store(0, asuint(part[id.y]));
            }}"
        )
    };
    let dxc = dxc()?;
    dxc.compile(&kernel(64, "1.0"), &arguments)?;
    let Err(compiler) = dxc.compile(&kernel(64, "nothing"), &arguments) else { bail!("`nothing` is not declared") };
    ensure!(compiler.to_string().contains("undeclared identifier"), "{compiler:#}");
    let Err(validator) = dxc.compile(&kernel(16 << 10, "1.0"), &arguments) else { bail!("64 KiB are too much") };
    ensure!(validator.to_string().contains("Total Thread Group Shared Memory"), "{validator:#}");
    Ok(())
}

/// An array that is indexed at run time and too large for registers is reported.
fn too_large(family: &str) -> Result<()> {
    let mut file = tempfile::Builder::new().suffix(".wgsl").tempfile()?;
    let kernel = "@group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
            var all: array<u32, 1024>;
            for (var k = 0u; k < 1024u; k += 1u) { all[y[k] % 1024u] += k; }
            y[i] = all[y[i] % 1024u];
        }";
    file.write_all(kernel.as_bytes())?;
    let path = file.path().to_str().context("a temporary file with an odd name")?;
    let reports = amd::reports(program(), family, &[path])?;
    let [report] = &reports[..] else { bail!("{} reports", reports.len()) };
    ensure!(report.statistics.scratch >= 4096, "{:?}", report.statistics);
    ensure!(report.statistics.check().is_err(), "{:?}", report.statistics);
    Ok(())
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_compilers"))
}
