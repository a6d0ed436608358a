//! All launches that compute the same, on the same data, against the CPU reference: what a tuning may choose must not change what is computed.
//!
//! A trial is a kernel in a class of work, with all its variants and numbers of lanes. Launches that the device cannot run are counted as ignored.

use std::collections::{BTreeMap, BTreeSet};

use ruminate_engine::Device;
use ruminate_shaders::matmul::{Arithmetic, FUSED_ROWS, Input, Output};
use ruminate_shaders::{Caps, Case, Cooperative, Dtype, Product, Trial, Workload, case_trials, trials};
use ruminate_tests::{Entry, device, trial};

use crate::cases::of_cases;

/// Products of sandwich blocks, with folded norms where there are few rows.
fn products(rows: u32) -> Vec<Product> {
    let product = |(k, n, input, output)| Product { k, n, input, output };
    let all = if rows <= FUSED_ROWS {
        [
            (130, 130, Input::Concat, Output::First),
            (130, 390, Input::Normed, Output::Store),
            (130, 130, Input::Plain, Output::Sum),
            (130, 154, Input::Normed, Output::GateUp),
            (77, 130, Input::Plain, Output::Sum),
            (130, 777, Input::Plain, Output::Store),
        ]
    } else {
        [
            (130, 130, Input::Concat, Output::Store),
            (130, 390, Input::Plain, Output::Store),
            (130, 130, Input::Plain, Output::Residual),
            (130, 154, Input::Plain, Output::GateUp),
            (77, 130, Input::Plain, Output::Residual),
            (130, 777, Input::Plain, Output::Store),
        ]
    };
    all.map(product).to_vec()
}

/// Sizes that fit no tile, at one number of rows.
fn work(caps: Caps, dtype: Dtype, arithmetic: Arithmetic, rows: u32) -> Workload {
    Workload {
        n_embd: 130,
        heads: 5,
        kv_heads: 5,
        head_dim: 26,
        hidden: 77,
        vocab: 777,
        products: products(rows),
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

#[trial(list, full)]
fn variants_agree() -> Vec<Entry> {
    let device = device();
    let caps = device.as_ref().map_or(Caps::WEBGPU, Device::caps);
    let mut groups: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut add = |work: &str, case: Case| {
        // Arithmetic modes share launches.
        if !seen.insert((case.launch.name(), case.launch.params.clone(), case.launch.sizes.clone())) {
            return;
        }
        let kernel = case.launch.kernel.name;
        groups.entry(format!("device::variants::{kernel}: {work}")).or_default().push(case);
    };
    for trial in case_trials(&everything(caps)) {
        trial.cases().for_each(|case| add(&trial.case.name, case));
    }
    for (name, work) in workloads(caps) {
        // The variants of norms and sampling do not depend on the workload; the kernels' own cases have them.
        let depends = |trial: &Trial| ["matmul", "attention"].iter().any(|op| trial.variants.class.starts_with(op));
        trials(&work).into_iter().filter(depends).for_each(|trial| trial.cases().for_each(|case| add(&name, case)));
    }
    let entry = |(name, cases): (String, Vec<Case>)| of_cases(name, device.as_ref(), move || cases.clone());
    groups.into_iter().map(entry).collect()
}
