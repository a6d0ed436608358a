//! Detects other programs that disturb a measurement.

use ruminate::Device;
use ruminate::engine::Kind;

/// Load average over one minute, in processes, from which a measurement on the processor counts as disturbed.
const BUSY: f64 = 0.75;

/// Returns a note if the processors were busy before the measurement, and the device computes on them. Needs Linux's load average.
pub(super) fn before(device: &Device) -> Option<String> {
    let on_host = device.summary().is_none_or(|summary| summary.kind == Kind::Cpu);
    if on_host { busy(&std::fs::read_to_string("/proc/loadavg").ok()?) } else { None }
}

/// Returns the note for the content of Linux's `/proc/loadavg`, if the load is high.
fn busy(loads: &str) -> Option<String> {
    let load: f64 = loads.split_whitespace().next()?.parse().ok()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (load >= BUSY).then(|| {
        format!(
            "this device computes on the processors ({processors} of them), which were busy: in the minute before, {load:.1} processes wanted one on average; \
             ceilings and times may be too slow; measure again when the machine is idle"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::busy;

    #[test]
    fn a_busy_machine_is_told_from_an_idle_one() {
        assert!(busy("2.61 1.10 0.53 3/214 99\n").is_some_and(|note| note.contains("2.6 processes")));
        assert_eq!([busy("0.12 1.10 3.53 1/214 99\n"), busy(""), busy("x")], [None, None, None]);
    }
}
