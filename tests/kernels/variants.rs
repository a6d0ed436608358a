//! All launches that compute the same, on the same data, against the CPU reference: what a tuning may choose must not change what is computed.
//!
//! A trial is a kernel in a class of work, with all its variants and numbers of lanes. Launches that the device cannot run are counted as ignored.

use std::collections::BTreeMap;

use ruminate_engine::Device;
use ruminate_shaders::matmul::Arithmetic;
use ruminate_shaders::{Caps, Case, Cooperative, Dtype, Workload, case_trials, trials};
use ruminate_tests::{Entry, device, trial};

use crate::cases::of_cases;

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

/// Workloads in which every kernel that has variants is met: decoding and prefill in every dtype, and each arithmetic mode.
fn workloads(caps: Caps) -> Vec<(String, Workload)> {
    let mut all = Vec::new();
    let caps = everything(caps);
    // Weights in rows, and in textures where the device has those.
    let in_rows = Caps { lanes: None, ..caps };
    let places = [Some(("rows", in_rows)), caps.lanes.map(|_| ("texture", caps))];
    for (place, caps) in places.into_iter().flatten() {
        for dtype in Dtype::ALL {
            for arithmetic in Arithmetic::ALL {
                let meets = match arithmetic {
                    Arithmetic::F32 => true,
                    // Only kernels for f32 read weights from textures.
                    _ if caps.lanes.is_some() => false,
                    Arithmetic::F16 | Arithmetic::Cooperative => dtype == Dtype::Bf16,
                    Arithmetic::Int8 => arithmetic.rounds(dtype),
                };
                for rows in [1, 40].into_iter().filter(|_| meets) {
                    let name = format!("{} {}, {rows} rows, weights in {place}", dtype.name(), arithmetic.name());
                    all.push((name, work(caps, dtype, arithmetic, rows)));
                }
            }
        }
    }
    all
}

#[trial(list, full)]
fn variants_agree() -> Vec<Entry> {
    let device = device();
    let caps = device.as_ref().map_or(Caps::WEBGPU, Device::caps);
    let mut groups: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    let mut add = |work: &str, case: Case| {
        let kernel = case.launch.kernel.name;
        groups.entry(format!("device::variants::{kernel}: {work}")).or_default().push(case);
    };
    for trial in case_trials(&everything(caps)) {
        trial.cases().for_each(|case| add(&trial.case.name, case));
    }
    for (name, work) in workloads(caps) {
        // The variants of norms and sampling do not depend on the weights; the kernels' own cases have them.
        let matmuls = trials(&work).into_iter().filter(|trial| trial.variants.class.starts_with("matmul"));
        matmuls.for_each(|trial| trial.cases().for_each(|case| add(&name, case)));
    }
    let entry = |(name, cases): (String, Vec<Case>)| of_cases(name, device.as_ref(), move || cases.clone());
    groups.into_iter().map(entry).collect()
}
