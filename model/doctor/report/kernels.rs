//! Stage that checks every kernel and variant that the device may run against the CPU reference.
//!
//! First come each kernel's own cases, then every variant that tuning may choose, at the shapes of the demo, and then the launches of models of published
//! shapes on this device, with tuned choices, in each dtype and arithmetic mode.

use std::collections::{BTreeMap, BTreeSet};

use ruminate_engine::clock::Instant;
use ruminate_engine::{Device, Error as EngineError};
use ruminate_shaders::matmul::{
    Arithmetic, MATMUL_COOPERATIVE, MATMUL_LANES, MATMUL_TILED, MATMUL_TILED_INT8, MATVEC, MATVEC_INT8, ManyRows,
    ROUND_ROWS, STAGE,
};
use ruminate_shaders::{Case, Dtype, Kernel, Workload, trials};

use super::{Examination, NO_TIME, Variant, Wrong, counted};
use crate::arch::REPORTED;
use crate::arch::Spec;
use crate::error::Error;
use crate::precision::{Dtypes, Precision};
use crate::{Synthetic, demo};

/// Rows per pass: decoding, a short prompt, and a long one.
const ROWS: [u32; 3] = [1, 8, 64];
/// Rows of a weight matrix in a case. They have all their columns, so the arithmetic of a row is the model's.
const WEIGHT_ROWS: u32 = 256;
/// Positions that attention reads.
const POSITIONS: u32 = 512;
/// Dtypes of weights.
const DTYPES: [Dtype; 3] = [Dtype::Bf16, Dtype::Q8, Dtype::Q4];
/// Kernels that depend on the dtype of weights.
const PRODUCTS: [&str; 8] = [
    MATVEC.name,
    MATVEC_INT8.name,
    MATMUL_TILED.name,
    MATMUL_TILED_INT8.name,
    MATMUL_COOPERATIVE.name,
    MATMUL_LANES.name,
    STAGE.name,
    ROUND_ROWS.name,
];
/// Maximum number of wrong cases listed.
const MOST_WRONG: usize = 40;

/// Function that makes the cases of one group for a device. Cases hold their data, so they are made only when needed.
type Make = Box<dyn Fn(&Device) -> Vec<Case>>;

/// Cases that are reported together.
struct Group {
    /// Shapes, as named in reports.
    name: String,
    cases: Make,
}

/// Verifies kernels until there is no time left.
pub(super) fn verify(examination: &mut Examination<'_>) -> Result<(), Error> {
    let device = examination.device()?;
    // Time of each kernel's last case, the estimate for its next one.
    let mut seconds: BTreeMap<&str, f64> = BTreeMap::new();
    for group in groups(examination.options.kernels, &device)? {
        let (mut skipped, mut last) = (0_u32, "");
        for case in broad_first((group.cases)(&device)) {
            if device.lacks(&case.launch).is_some() {
                continue;
            }
            let kernel = case.launch.kernel.name;
            if !examination.affords(seconds.get(kernel).copied().unwrap_or(0.0)) {
                skipped += 1;
                continue;
            }
            if last != kernel {
                examination.begin(format!("{}, {}", case.id(), group.name));
            }
            last = kernel;
            let begin = Instant::now();
            examine(examination, &device, &case, &group.name)?;
            seconds.insert(kernel, begin.elapsed().as_secs_f64());
        }
        if skipped > 0 {
            examination.report.kernels.skipped += skipped as usize;
            examination.skip(format!("{}: {}", group.name, counted(skipped, "case")), NO_TIME);
        }
    }
    let kernels = &examination.report.kernels;
    let wrong = kernels.cases - kernels.passed;
    if let (1.., Some(first)) = (wrong, kernels.wrong.first()) {
        let problem = format!(
            "{wrong} of {} cases of kernels are wrong, the first: {}: {}",
            kernels.cases, first.case, first.problem
        );
        examination.problem(problem);
    }
    Ok(())
}

/// Orders cases so that one of every kernel comes first, then one of every variant, then a second one of each, and so on. When time runs out, every kernel and
/// variant has had about the same number of cases.
fn broad_first(cases: Vec<Case>) -> Vec<Case> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut kernels: BTreeSet<&str> = BTreeSet::new();
    let mut counted: Vec<(usize, Case)> = cases
        .into_iter()
        .map(|case| {
            let count = counts.entry(case.launch.kernel.label(case.launch.choice)).or_default();
            *count += 1;
            let turn = if kernels.insert(case.launch.kernel.name) { 0 } else { *count };
            (turn, case)
        })
        .collect();
    counted.sort_by_key(|(turn, _)| *turn);
    counted.into_iter().map(|(_, case)| case).collect()
}

/// Verifies a case, and records the result.
fn examine(examination: &mut Examination<'_>, device: &Device, case: &Case, shapes: &str) -> Result<(), Error> {
    let outcome = device.verify(case);
    let kernels = &mut examination.report.kernels;
    let label = case.launch.kernel.label(case.launch.choice);
    let at = kernels.variants.iter().position(|variant| variant.variant == label).unwrap_or_else(|| {
        let kernel = case.launch.kernel.name;
        kernels.variants.push(Variant { kernel, variant: label, cases: 0, passed: 0, error_over_bound: 0.0 });
        kernels.variants.len() - 1
    });
    let variant = &mut kernels.variants[at];
    variant.cases += 1;
    kernels.cases += 1;
    let problem = match &outcome {
        Ok(verdict) => {
            variant.error_over_bound = variant.error_over_bound.max(verdict.error());
            (!verdict.passed()).then(|| verdict.to_string())
        }
        Err(error) => Some(error.to_string()),
    };
    match problem {
        None => {
            variant.passed += 1;
            kernels.passed += 1;
        }
        Some(problem) if kernels.wrong.len() < MOST_WRONG => {
            kernels.wrong.push(Wrong { case: case.id(), shapes: shapes.to_owned(), problem });
        }
        Some(_) => {}
    }
    match outcome {
        // A device that has failed gives no meaningful results afterwards.
        Err(error @ (EngineError::Lost(_) | EngineError::Timeout { .. })) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Makes all groups of cases, the most informative first.
fn groups(kernels: &'static [&'static Kernel], device: &Device) -> Result<Vec<Group>, Error> {
    let mut all: Vec<Group> = Vec::new();
    all.push(Group {
        name: "shapes of the kernels' own".to_owned(),
        cases: Box::new(move |device| kernels.iter().flat_map(|kernel| kernel.cases_for(&device.caps())).collect()),
    });
    let small = Spec::open(&demo::source())?;
    for dtype in DTYPES {
        for rows in ROWS {
            let work = small.workload(dtype, rows, POSITIONS, WEIGHT_ROWS, device.caps());
            let cases =
                move |_: &Device| trials(&work).iter().flat_map(|trial| trial.cases().collect::<Vec<_>>()).collect();
            let name = format!("variants for the demo in {}, {}", dtype.name(), counted(rows, "row"));
            all.push(Group { name, cases: Box::new(among(kernels, cases)) });
        }
    }
    // Arithmetic modes that are off by default come last.
    for arithmetic in Arithmetic::ALL.into_iter().filter(|&mode| ManyRows::lacks(&device.caps(), mode).is_none()) {
        for (rows, model) in ROWS.into_iter().flat_map(|rows| REPORTED.map(|model| (rows, model))) {
            let spec = Synthetic::parse(model)?.spec().clone();
            // Only weights in blocks (q8, q4) can be multiplied as integers.
            for dtype in DTYPES.into_iter().filter(|dtype| arithmetic != Arithmetic::Int8 || dtype.in_blocks()) {
                let precision = Precision { dtype: Some(dtype), products: arithmetic, ..Precision::default() };
                let dtypes: Dtypes = precision.dtypes(&spec)?;
                let work = spec.workload(dtypes, rows, POSITIONS, WEIGHT_ROWS, device.caps());
                // Other kernels do not depend on the dtype, so they are checked once.
                let whole = dtype == DTYPES[0] && arithmetic == Arithmetic::F32;
                let cases = move |device: &Device| launches(kernels, &work, device, whole);
                all.push(Group {
                    name: format!("{model} in {dtypes}, {}", counted(rows, "row")),
                    cases: Box::new(cases),
                });
            }
        }
    }
    Ok(all)
}

/// Restricts cases to those of `kernels`.
fn among(kernels: &'static [&'static Kernel], cases: impl Fn(&Device) -> Vec<Case>) -> impl Fn(&Device) -> Vec<Case> {
    move |device| {
        let mut cases = cases(device);
        cases.retain(|case| kernels.iter().any(|kernel| kernel.name == case.launch.kernel.name));
        cases
    }
}

/// Makes the cases for the launches of a model on this device: the default ones, and those that tuning has chosen instead. If `whole` is false, only
/// those of [`PRODUCTS`].
fn launches(kernels: &'static [&'static Kernel], work: &Workload, device: &Device, whole: bool) -> Vec<Case> {
    let wanted = kernels.iter().filter(|kernel| whole || PRODUCTS.contains(&kernel.name));
    let mut cases: Vec<Case> = wanted.clone().flat_map(|kernel| (kernel.at)(work)).collect();
    for trial in trials(work) {
        let chosen = device.pick(trial.variants.clone()).name();
        if chosen != trial.variants.launches[0].name() {
            let tuned = trial.cases().filter(|case| case.launch.name() == chosen);
            cases.extend(tuned.filter(|case| wanted.clone().any(|kernel| kernel.name == case.launch.kernel.name)));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use ruminate_shaders::{Caps, KERNELS};

    use super::*;

    #[test]
    fn every_kernel_and_then_every_variant_has_its_turn_before_any_has_more() {
        let all: Vec<Case> = KERNELS.iter().flat_map(|kernel| kernel.cases_for(&Caps::WEBGPU)).collect();
        let label = |case: &Case| case.launch.kernel.label(case.launch.choice);
        let name = |case: &Case| case.launch.kernel.name.to_owned();
        let of = |cases: &[Case], what: &dyn Fn(&Case) -> String| cases.iter().map(what).collect::<BTreeSet<_>>();
        let (count, kernels, variants) = (all.len(), of(&all, &name), of(&all, &label));
        let ordered = broad_first(all);
        assert!(ordered.len() == count && count > 2 * (kernels.len() + variants.len()), "{count}");
        assert_eq!(of(&ordered[..kernels.len()], &name), kernels);
        assert_eq!(of(&ordered[..kernels.len() + variants.len()], &label), variants);
    }
}
