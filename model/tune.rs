//! Tunes a device at the shapes of a model.

use ruminate_engine::{Device, OpenOptions, Tuned, Tuning, TuningFrom, tune, tune_loops};
use ruminate_shaders::trials;

use crate::arch::Spec;
use crate::error::Error;
use crate::precision::Dtypes;

/// Rows per pass to tune: one number for each class of row counts.
pub const ROWS: [u32; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 512];
/// Maximum rows of a weight matrix in a trial.
const WEIGHT_ROWS: u32 = 2048;
/// Positions that attention reads.
const POSITIONS: u32 = 512;

/// Finds the fastest variant of every launch that a model makes in passes of `rows` rows.
///
/// It also chooses whether weights are read from buffers or textures, and how loops are launched that end early when all rows have exited. `done` gets the
/// result for each class, and whether it was measured with weights in textures. `going` is called before every measurement; if it returns false, tuning stops
/// and the result is `None`.
///
/// # Errors
/// If the device cannot be opened or is lost.
pub fn tune_model(
    options: &OpenOptions,
    spec: &Spec,
    dtypes: Dtypes,
    rows: &[u32],
    going: &dyn Fn() -> bool,
    done: &mut dyn FnMut(&Tuned, bool),
) -> Result<Option<(Device, Tuning)>, Error> {
    let mut best: Option<(f64, Device, Tuning)> = None;
    for textures in [false, true] {
        let given = TuningFrom::Given(Tuning::with_textures(textures));
        let device = Device::open(&OpenOptions { tuning: given, ..options.clone() })?;
        // Textures need subgroups of a known size, which not every device has.
        if device.caps().lanes.is_some() != textures {
            continue;
        }
        let mut tuning = Tuning::with_textures(textures);
        let Some(seconds) =
            tune_rows(&device, (spec, dtypes, 1), &mut tuning, going, &mut |tuned| done(tuned, textures))?
        else {
            return Ok(None);
        };
        if best.as_ref().is_none_or(|(least, ..)| seconds < *least) {
            best = Some((seconds, device, tuning));
        }
    }
    let Some((_, device, mut tuning)) = best else { return Ok(None) };
    let textures = tuning.textures.unwrap_or(false);
    for &rows in rows.iter().filter(|&&rows| rows > 1) {
        if tune_rows(&device, (spec, dtypes, rows), &mut tuning, going, &mut |tuned| done(tuned, textures))?.is_none() {
            return Ok(None);
        }
    }
    if let Some(tuned) = tune_loops(&device)? {
        tuning.choose(&tuned.class, &tuned.chosen);
        done(&tuned, textures);
    }
    Ok(Some((device, tuning)))
}

/// Tunes for one number of rows. Returns the total seconds of the best launches.
fn tune_rows(
    device: &Device,
    (spec, dtypes, rows): (&Spec, Dtypes, u32),
    tuning: &mut Tuning,
    going: &dyn Fn() -> bool,
    done: &mut dyn FnMut(&Tuned),
) -> Result<Option<f64>, Error> {
    let mut seconds = 0.0;
    for trial in trials(&spec.workload(dtypes, rows, POSITIONS, WEIGHT_ROWS, device.caps())) {
        // A single variant leaves nothing to choose.
        if trial.variants.launches.len() == 1 {
            continue;
        }
        let Some(tuned) = tune(device, &trial, going)? else { return Ok(None) };
        tuning.choose(&tuned.class, &tuned.chosen);
        seconds += tuned.best.median();
        done(&tuned);
    }
    Ok(Some(seconds))
}
