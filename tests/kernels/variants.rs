//! Equivalent launches on the same data against the CPU reference: the choice of a tuning must not change results.
//!
//! A trial covers a kernel in a class of work, with all its variants and workgroup sizes. Launches that the device cannot run are counted as ignored.

use std::collections::{BTreeMap, BTreeSet};

use ruminate_engine::Device;
use ruminate_shaders::matmul::{Arithmetic, FUSED_ROWS, Input, Output};
use ruminate_shaders::{Caps, Case, Cooperative, Dtype, Product, Trial, Workload, case_trials, trials};
use ruminate_tests::{Entry, device, trial};

use crate::cases::of_cases;

/// Products of sandwich blocks, with folded norms for few rows.
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

/// Workload with sizes that are not multiples of any tile, at one number of rows.
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

/// Capabilities of a device with all features, and with the sizes and limits of the given device.
fn everything(caps: Caps) -> Caps {
    Caps {
        subgroups: caps.subgroups.or(Some((32, 32))),
        f16: true,
        bytes: true,
        cooperative: if caps.matrices().is_some() { caps.cooperative } else { [true; Cooperative::ALL.len()] },
        ..caps
    }
}

/// Workloads that cover every kernel with variants, for scalar and block dtypes, at decoding and prefill. More dtypes would compile more pipelines, most of
/// a second each on a software driver, only for other ways of unpacking weights, which the kernels' own cases cover.
fn workloads(caps: Caps) -> Vec<(String, Workload)> {
    let caps = everything(caps);
    // Weights in rows, and in textures if the device supports them; only f32 kernels read textures.
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

/// Compares each variant on one product. Variants and products are paired in turn, because the parts of a kernel that tile, unpack and store do not depend on
/// each other. The matrix tier compares each variant on every product.
#[trial(list, full)]
fn variants_agree() -> Vec<Entry> {
    entries(|products, index, variant| variant % products == index)
}

#[trial(list, matrix)]
fn variants_agree_for_every_product() -> Vec<Entry> {
    entries(|_, _, _| true)
}

/// Trials of the variants that `takes` keeps. It gets the number of products with the same variants, the index of one of these products, and the index of the
/// variant. The first variant is the default, which is always kept.
fn entries(takes: impl Fn(usize, usize, usize) -> bool) -> Vec<Entry> {
    let device = device();
    let caps = device.as_ref().map_or(Caps::WEBGPU, Device::caps);
    let mut groups: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut add = |work: &str, case: Case| {
        // A launch that several arithmetic modes share is compared once.
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
        // The variants of norms and sampling do not depend on the workload; the kernels' own cases cover them.
        let depends = |trial: &Trial| ["matmul", "attention"].iter().any(|op| trial.variants.class.starts_with(op));
        let trials: Vec<Trial> = trials(&work).into_iter().filter(depends).collect();
        // Products with the same kernel and number of variants are counted together.
        let alike = |trial: &Trial| (trial.variants.launches[0].kernel.name, trial.variants.launches.len());
        let mut counts: BTreeMap<(&str, usize), usize> = BTreeMap::new();
        trials.iter().for_each(|trial| *counts.entry(alike(trial)).or_default() += 1);
        let mut indices: BTreeMap<(&str, usize), usize> = BTreeMap::new();
        for trial in &trials {
            let (products, index) = (counts[&alike(trial)], indices.entry(alike(trial)).or_default());
            let kept =
                trial.cases().enumerate().filter(|(variant, _)| *variant == 0 || takes(products, *index, *variant));
            kept.for_each(|(_, case)| add(&name, case));
            *index += 1;
        }
    }
    let entry = |(name, cases): (String, Vec<Case>)| of_cases(name, device.as_ref(), move || cases.clone());
    groups.into_iter().map(entry).collect()
}
