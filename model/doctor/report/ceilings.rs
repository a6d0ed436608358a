//! Stage that measures the device's best rates, and the overheads of using it.

use ruminate_engine::bench::{Ceiling, Ceilings, Costs, Sample};
use ruminate_engine::clock::Instant;

use super::{Cost, Examination, NO_TIME, Rate};
use crate::error::Error;

/// Measurements of each rate.
const REPETITIONS: u32 = 3;
/// Measurements of each rate in the short form.
const QUICK_REPETITIONS: u32 = 2;

/// Measures ceilings and costs.
pub(super) fn measure(examination: &mut Examination<'_>) -> Result<(), Error> {
    let device = examination.device()?;
    let repetitions = if examination.options.quick { QUICK_REPETITIONS } else { REPETITIONS };
    let mut samples: Vec<(Ceiling, Sample)> = Vec::new();
    let mut last = 0.0;
    for ceiling in Ceiling::ALL {
        // These are always measured, because other results are compared with them.
        let needed = matches!(ceiling, Ceiling::ReadBuffer | Ceiling::F32 | Ceiling::Copy);
        if !needed && !examination.affords(last) {
            examination.skip(ceiling.name(), NO_TIME);
            continue;
        }
        examination.begin(ceiling.name());
        let begin = Instant::now();
        match ceiling.measure(&device, repetitions)? {
            Some(sample) => {
                let rate = 1e-9 / sample.least();
                examination.report.ceilings.push(Rate {
                    name: ceiling.name(),
                    gb_per_s: ceiling.is_of_bytes().then_some(rate),
                    gflop_per_s: (!ceiling.is_of_bytes()).then_some(rate),
                    longest_over_shortest: sample.most() / sample.least(),
                });
                samples.push((ceiling, sample));
            }
            None => examination.skip(ceiling.name(), "not supported by this device, or not used on it"),
        }
        last = begin.elapsed().as_secs_f64();
    }
    let of = |wanted: Ceiling| samples.iter().find(|(ceiling, _)| *ceiling == wanted).map(|(_, sample)| sample.clone());
    if let (Some(read_buffer), Some(copy), Some(f32)) = (of(Ceiling::ReadBuffer), of(Ceiling::Copy), of(Ceiling::F32)) {
        let (read_texture, f16) = (of(Ceiling::ReadTexture), of(Ceiling::F16));
        let (int8, cooperative) = (of(Ceiling::Int8), of(Ceiling::Cooperative));
        examination.ceilings = Some(Ceilings { read_buffer, read_texture, copy, f32, f16, int8, cooperative });
    }
    if !examination.affords(last) {
        examination.skip("launches, submissions, read-backs", NO_TIME);
        return Ok(());
    }
    examination.begin("launches, submissions, read-backs");
    let costs = Costs::measure(&device, repetitions)?;
    examination.report.costs = of_costs(&costs);
    Ok(())
}

fn of_costs(costs: &Costs) -> Vec<Cost> {
    let all = [
        ("launch, independent", Some(&costs.independent)),
        ("launch, dependent", Some(&costs.dependent)),
        ("launch, indirect", costs.indirect.as_ref()),
        ("launch, indirect, checked by wgpu", costs.indirect_checked.as_ref()),
        ("encode a launch (host)", Some(&costs.encode)),
        ("submit and wait", Some(&costs.submission)),
        ("read 4 bytes back", Some(&costs.read_back)),
    ];
    let known = all.into_iter().filter_map(|(name, sample)| Some((name, sample?)));
    known.map(|(name, sample)| Cost { name, median_us: 1e6 * sample.median() }).collect()
}
