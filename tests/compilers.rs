//! Every assembled kernel variant through the compilers of real platforms; see `compilers/mod.rs`.
//!
//! Where a tool is missing, its trials are ignored, and counted as such. `tests/get-compilers` installs all of them.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use ruminate_tests::compilers::{Checked, Dxc, amd, dxil, labels, msl, spirv, variants};

fn main() {
    let arguments = Arguments::from_args();
    let mut all = Vec::new();
    all.push(trial("the_validator_of_spirv_sees_errors".to_owned(), spirv::available(), wrong_spirv));
    all.push(trial("the_compiler_of_dxil_sees_errors".to_owned(), dxil::library().is_some(), wrong_hlsl));
    for label in labels() {
        let name = |compiler: &str| format!("{compiler}::{label}");
        let tested = label.clone();
        all.push(trial(name("spirv"), spirv::available(), move || each(&tested, validate)));
        let tested = label.clone();
        all.push(trial(name("dxil"), dxil::library().is_some(), move || each(&tested, compile)));
        let tested = label.clone();
        all.push(trial(name("msl"), true, move || each(&tested, |checked| msl::translate(checked).map(drop))));
        for family in amd::FAMILIES {
            let tested = label.clone();
            all.push(trial(name(family), amd::driver().is_some(), move || fits(family, &tested)));
        }
    }
    libtest_mimic::run(&arguments, all).exit();
}

fn trial(name: String, possible: bool, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || run().map_err(|error| Failed::from(format!("{error:#}")))).with_ignored_flag(!possible)
}

/// Runs a check with every set of constants of a variant.
fn each(label: &str, check: fn(&Checked) -> Result<()>) -> Result<()> {
    let variants = variants(label)?;
    ensure!(!variants.is_empty(), "{label} has no case");
    variants.iter().try_for_each(|variant| check(&variant.module()?).with_context(|| variant.constants()))
}

fn validate(checked: &Checked) -> Result<()> {
    let targets = [spirv::Target::oldest(checked), spirv::NEWEST];
    targets.iter().try_for_each(|&target| spirv::validate(&spirv::translate(checked, target)?, target))
}

fn compile(checked: &Checked) -> Result<()> {
    let dxc = dxc()?;
    dxil::MODELS.iter().try_for_each(|&model| dxil::compile(dxc, checked, model).map(drop))
}

/// Loaded once per process: it is large.
fn dxc() -> Result<&'static Dxc> {
    static DXC: OnceLock<Dxc> = OnceLock::new();
    if let Some(dxc) = DXC.get() {
        return Ok(dxc);
    }
    let path = dxil::library().context("no DXC")?;
    Ok(DXC.get_or_init(|| Dxc::load(&path).expect("the library loads")))
}

/// Neither spills nor scratch memory, whatever the constants.
fn fits(family: &str, label: &str) -> Result<()> {
    let program = Path::new(env!("CARGO_BIN_EXE_compilers"));
    let reports = amd::reports(program, family, &[label.to_owned()])?;
    ensure!(reports.len() == variants(label)?.len(), "{} reports", reports.len());
    for report in reports {
        ensure!(report.label == label, "a report on {}", report.label);
        ensure!(report.device.to_lowercase().contains(family), "compiled for {} instead", report.device);
        report.statistics.check().with_context(|| format!("{} on {}", report.constants, report.device))?;
    }
    Ok(())
}

/// A module whose bound is too small.
fn wrong_spirv() -> Result<()> {
    let variants = variants(&labels().next().context("no kernel")?)?;
    let mut words = spirv::translate(&variants[0].module()?, spirv::NEWEST)?;
    spirv::validate(&words, spirv::NEWEST)?;
    words[3] = 2;
    ensure!(spirv::validate(&words, spirv::NEWEST).is_err(), "nothing was found");
    Ok(())
}

/// A text that the compiler rejects, and one that the validator rejects: twice the workgroup memory that DX12 allows.
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
    let compiler = dxc.compile(&kernel(64, "nothing"), &arguments).map(drop).expect_err("`nothing` is not declared");
    ensure!(compiler.to_string().contains("undeclared identifier"), "{compiler:#}");
    let validator = dxc.compile(&kernel(16 << 10, "1.0"), &arguments).map(drop).expect_err("64 KiB are too much");
    ensure!(validator.to_string().contains("Total Thread Group Shared Memory"), "{validator:#}");
    Ok(())
}
