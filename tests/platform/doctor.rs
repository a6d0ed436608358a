//! Tests of `ruminate doctor`: a correct device passes, and a wrong one is reported with the kernel's name.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use ruminate::doctor::{examine, examine_demo};
use ruminate::{Device, Dtype, KERNELS, Spec, Synthetic};
use ruminate_shaders::attention::{ATTENTION, ATTENTION_FRESH, ATTENTION_LANES};
use ruminate_shaders::ceiling::{COPY, DOT_INT8, MULTIPLY_ADD, MULTIPLY_MATRICES, STREAM};
use ruminate_shaders::matmul::{
    MATMUL_COOPERATIVE, MATMUL_LANES, MATMUL_TILED, MATMUL_TILED_INT8, MATVEC, MATVEC_INT8, ROUND_ROWS, STAGE,
};
use ruminate_shaders::norm::RMS_NORM;
use ruminate_shaders::{Case, Kernel, Workload, recur};
use ruminate_tests::trial;

/// RMSNorm with a shader that mixes up values when squaring them, as a driver that miscompiles it would.
pub(crate) static WRONG: LazyLock<Kernel> = LazyLock::new(|| {
    let right = "squares += v * v;";
    assert!(RMS_NORM.wgsl.contains(right), "the shader has changed; alter another part of it");
    let Kernel { name, parts, bindings, axes, overrides, params, params_size, reference, random, .. } = RMS_NORM;
    let wgsl = RMS_NORM.wgsl.replacen(right, "squares += v * v.yxzx;", 1).leak();
    Kernel { name, wgsl, parts, bindings, axes, overrides, params, params_size, reference, cases, random, at }
});

fn cases() -> Vec<Case> {
    (RMS_NORM.cases)().into_iter().map(altered).collect()
}

fn at(work: &Workload) -> Vec<Case> {
    (RMS_NORM.at)(work).into_iter().map(altered).collect()
}

fn altered(mut case: Case) -> Case {
    case.launch.kernel = &WRONG;
    case
}

/// Small model with sizes that are not multiples of any tile.
fn config() -> Result<Spec> {
    Ok(Synthetic::parse("n_embd=130,heads=5,head_dim=26,hidden=77,vocab=777,layers=1/2/1,block_size=100")?
        .spec()
        .clone())
}

#[trial(device, full)]
fn right_device_passes_at_the_shapes_of_a_model(device: &Device) -> Result<()> {
    let (mut told, config) = (0, config()?);
    // The kernels' own cases are trials of their own (tests/kernels/cases.rs).
    let without_cases =
        |kernel: &&'static Kernel| -> &'static Kernel { Box::leak(Box::new(Kernel { cases: Vec::new, ..**kernel })) };
    let kernels: Vec<&'static Kernel> = KERNELS.iter().map(without_cases).collect();
    let findings = examine(device, &kernels, &config, Dtype::Bf16, &mut |_, _, _| told += 1);
    ensure!(told == findings.len());
    let met = |name: &str| findings.iter().any(|finding| finding.kernel == name && finding.rows.is_some());
    // Kernels that read weights, keys or values run only if those are stored in the kernel's format.
    let matmuls = [MATVEC.name, MATMUL_TILED.name, MATMUL_LANES.name, STAGE.name];
    let attentions = [ATTENTION.name, ATTENTION_LANES.name, ATTENTION_FRESH.name];
    for family in [&matmuls[..], &attentions] {
        ensure!(family.iter().any(|name| met(name)), "none of {family:?} was examined at the model's shapes");
    }
    // Kernels that only measure a device are never launched by a model.
    let ceilings = [STREAM.name, COPY.name, MULTIPLY_ADD.name, DOT_INT8.name, MULTIPLY_MATRICES.name];
    // int8 and cooperative arithmetic run only if requested.
    let asked = [MATVEC_INT8.name, MATMUL_TILED_INT8.name, ROUND_ROWS.name, MATMUL_COOPERATIVE.name];
    let others = [&matmuls[..], &attentions, &ceilings, &asked].concat();
    for kernel in KERNELS.iter().filter(|kernel| !others.contains(&kernel.name)) {
        ensure!(met(kernel.name), "{} was not examined at the model's shapes", kernel.name);
    }
    let wrong = findings.iter().find(|finding| !finding.passed());
    ensure!(wrong.is_none(), "{wrong:?}");
    let whole = examine_demo(device)?;
    ensure!(whole.passed(), "{whole:?}");
    Ok(())
}

#[trial(device, full)]
fn wrong_kernel_is_detected_and_named(device: &Device) -> Result<()> {
    let kernels: [&Kernel; 2] = [&WRONG, &recur::ADVANCE];
    let findings = examine(device, &kernels, &config()?, Dtype::Bf16, &mut |_, _, _| ());
    let (wrong, right): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| !finding.passed());
    ensure!(right.iter().any(|finding| finding.kernel == "advance"), "{right:?}");
    ensure!(wrong.iter().all(|finding| finding.kernel == "rms_norm"), "{wrong:?}");
    let found = wrong.iter().find(|finding| finding.rows == Some(8)).context("it was not caught")?;
    let text = found.outcome.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?.to_string();
    ensure!(text.starts_with("rms_norm.") && text.contains("`y`: normalized mean square error"), "{text}");
    Ok(())
}
