//! Stage that finds the kernels that `tune` would choose instead of the defaults.

use ruminate_engine::TuningFrom;
use ruminate_engine::clock::Instant;
use ruminate_shaders::Dtype;

use super::{Change, Examination, NO_TIME, Tuned};
use crate::arch::Spec;
use crate::error::Error;
use crate::tune::tune_model;
use crate::{Synthetic, demo};

/// Rows per pass: decoding and prompts.
const ROWS: [u32; 2] = [1, 64];

/// Times the variants of every class of work until there is no time left. The choices are not stored.
pub(super) fn measure(examination: &mut Examination<'_>) -> Result<(), Error> {
    let device = examination.device()?;
    // At full width a software driver needs minutes for work that a GPU does in seconds.
    let (shapes, spec) = match device.caps().software {
        true => ("demo", Spec::open(&demo::source())?),
        false => ("huginn-0125", Synthetic::parse("huginn-0125")?.spec().clone()),
    };
    examination.report.tuning = Tuned { shapes: format!("{shapes} in bf16"), ..Tuned::default() };
    let rows = ROWS.map(|rows| rows.to_string()).join(" and ");
    if !examination.affords(0.0) {
        examination.skip(format!("tuning at the shapes of {shapes}"), NO_TIME);
        return Ok(());
    }
    examination.begin(format!("variants at the shapes of {shapes}"));
    drop(device);
    // The variants are compared with the defaults, so earlier tuning is ignored.
    let open = ruminate_engine::OpenOptions { tuning: TuningFrom::Defaults, ..examination.options.open.clone() };
    let end = Instant::now() + examination.left();
    let going = || Instant::now() < end;
    let finished = tune_model(&open, &spec, Dtype::Bf16.into(), &ROWS, &going, &mut |tuned, textures| {
        let tuning = &mut examination.report.tuning;
        tuning.classes += 1;
        if tuned.best != tuned.first {
            tuning.changes.push(Change {
                class: tuned.class.clone(),
                textures,
                choice: tuned.chosen.clone(),
                default_us: 1e6 * tuned.first.median(),
                best_us: 1e6 * tuned.best.median(),
            });
        }
        examination.begin(format!("after {}", tuned.class));
    })?;
    if finished.is_none() {
        let classes = examination.report.tuning.classes;
        let what = format!("tuning at the shapes of {shapes} for {rows} rows, after {classes} classes");
        examination.skip(what, NO_TIME);
    }
    Ok(())
}
