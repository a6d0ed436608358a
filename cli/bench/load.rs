//! Whether other programs take part of what is measured.

use ruminate::Device;
use ruminate::engine::Kind;

/// Processes that want a processor, on average over a minute, from which a measurement on the processor is disturbed.
const BUSY: f64 = 0.75;

/// A note that the processors were busy before anything was measured, if the device works on them and the system says so.
pub(super) fn before(device: &Device) -> Option<String> {
    let on_host = device.summary().is_none_or(|summary| summary.kind == Kind::Cpu);
    if on_host { busy(&std::fs::read_to_string("/proc/loadavg").ok()?) } else { None }
}

/// The note for what Linux says of its load.
fn busy(loads: &str) -> Option<String> {
    let load: f64 = loads.split_whitespace().next()?.parse().ok()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (load >= BUSY).then(|| {
        format!(
            "this device computes on the processors, of which there are {processors}; on average {load:.1} processes wanted one in the minute before, so ceilings \
             and times may be of less than the whole machine; measure again when it is idle"
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
