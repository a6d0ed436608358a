//! All launches that compute the same, on the same data, against the twin: what a tuning may choose must not change what is computed.
//!
//! A trial is a variant of a kernel in a class of work, with every number of lanes. One that the device cannot run is ignored, and says why.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use ruminate_engine::Device;
use ruminate_shaders::matmul::Arithmetic;
use ruminate_shaders::{Caps, Case, Cooperative, Dtype, Workload, case_trials, trials};
use ruminate_tests::device;

/// Sizes that fit no tile, at one number of rows.
fn work(caps: Caps, dtype: Dtype, arithmetic: Arithmetic, rows: u32) -> Workload {
    Workload {
        n_embd: 130,
        heads: 5,
        kv_heads: 5,
        head_dim: 26,
        hidden: 77,
        vocab: 777,
        positions: 100,
        dtype,
        arithmetic,
        rows,
        most_weight_rows: 512,
        caps,
    }
}

/// What a device could do that has everything; its sizes and limits are those of the device.
fn everything(caps: Caps) -> Caps {
    Caps {
        subgroups: caps.subgroups.or(Some((32, 32))),
        f16: true,
        bytes: true,
        cooperative: if caps.matrices().is_some() { caps.cooperative } else { [true; Cooperative::ALL.len()] },
        ..caps
    }
}

/// Workloads in which every kernel that has variants is met, with weights that stand alone and in blocks, at decoding and prefill. More dtypes would compile
/// more pipelines, most of a second each on a software driver, for nothing but another way to unpack weights, which the kernels' own cases cover.
fn workloads(caps: Caps) -> Vec<(String, Workload)> {
    let caps = everything(caps);
    // Weights in rows, and in textures where the device has those, which only kernels for f32 read.
    let in_rows = Caps { lanes: None, ..caps };
    let (alone, blocks) = (Dtype::Bf16, Dtype::Q8);
    let mut all = vec![
        (in_rows, alone, Arithmetic::F32, 1),
        (in_rows, alone, Arithmetic::F32, 40),
        (in_rows, blocks, Arithmetic::F32, 40),
        (in_rows, alone, Arithmetic::F16, 40),
        (in_rows, alone, Arithmetic::Cooperative, 40),
        (in_rows, blocks, Arithmetic::Int8, 40),
    ];
    if caps.lanes.is_some() {
        all.extend([1, 40].map(|rows| (caps, alone, Arithmetic::F32, rows)));
        all.extend([1, 40].map(|rows| (caps, blocks, Arithmetic::F32, rows)));
    }
    let named = |(caps, dtype, arithmetic, rows): (Caps, Dtype, Arithmetic, u32)| {
        let place = if caps.lanes.is_some() { "texture" } else { "rows" };
        let name = format!("{} {}, {rows} rows, weights in {place}", dtype.name(), arithmetic.name());
        (name, work(caps, dtype, arithmetic, rows))
    };
    all.into_iter().map(named).collect()
}

/// Verifies cases; an error names each that is wrong.
fn run(device: &Device, cases: &[Case]) -> Result<()> {
    let mut wrong = Vec::new();
    for case in cases {
        let verdict = device.verify(case)?;
        if !verdict.passed() {
            wrong.push(verdict.to_string());
        }
    }
    ensure!(wrong.is_empty(), "{} of {} launches are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    Ok(())
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let device = device();
    let caps = device.as_ref().map_or(Caps::WEBGPU, Device::caps);
    let mut groups: BTreeMap<(String, Option<String>), Vec<Case>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut add = |work: &str, case: Case| {
        // Arithmetic modes share launches.
        if !seen.insert((case.launch.name(), case.launch.params.clone(), case.launch.sizes.clone())) {
            return;
        }
        let lacks = match &device {
            Some(device) => device.lacks(&case.launch),
            None => Some("there is no device".to_owned()),
        };
        // The lanes are the end of a name.
        let class = case.name.rsplit_once(" WG=").map_or(case.name.as_str(), |(class, _)| class);
        let name = format!("{work}: {class}: {}", case.launch.kernel.label(case.launch.choice));
        groups.entry((name, lacks)).or_default().push(case);
    };
    for trial in case_trials(&everything(caps)) {
        trial.cases().for_each(|case| add(&trial.case.name, case));
    }
    for (name, work) in workloads(caps) {
        // The variants of norms and sampling do not depend on the weights; the kernels' own cases have them.
        let matmuls = trials(&work).into_iter().filter(|trial| trial.variants.class.starts_with("matmul"));
        matmuls.for_each(|trial| trial.cases().for_each(|case| add(&name, case)));
    }
    let trial = |((name, lacks), cases): ((String, Option<String>), Vec<Case>)| {
        let device = device.clone();
        Trial::ignorable_test(name, move || match (&device, lacks) {
            (Some(device), None) => match run(device, &cases) {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => Err(Failed::from(format!("{error:#}"))),
            },
            (_, lacks) => Ok(Completion::ignored_with(lacks.unwrap_or_default())),
        })
    };
    let all = groups.into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, all).exit_code()
}
