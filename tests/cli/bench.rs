//! What `ruminate bench` makes of its measurements, and what it says of them.

use ruminate::Device;
use ruminate_tests::trial;

use crate::call::{output, text};

/// Kernels of the demo, at one row, measured once.
fn kernels(more: &[&str]) -> std::process::Output {
    output(&[&["bench", "--cpu", "--only=kernels", "--rows=1", "-r=1"], more].concat())
}

#[trial]
fn every_kernel_has_few_short_lines() {
    let shown = text(&kernels(&[]).stdout);
    let of = |name: &str| shown.lines().filter(|line| line.starts_with(&format!("| {name} "))).count();
    for name in ["wavefront_freeze", "verify", "guess", "enlist"] {
        assert_eq!(of(name), 1, "{name}: {shown}");
    }
    let widest = shown.lines().map(|line| line.chars().count()).max();
    assert!(widest.is_some_and(|width| width < 200) && !shown.contains("{ "), "{widest:?}: {shown}");
    // Measured once, nothing has a spread.
    assert!(!shown.contains("0.0 %") && shown.contains("| - "), "{shown}");
}

#[trial]
fn a_spread_is_told_where_there_is_one() {
    let shown = text(&output(&["bench", "--cpu", "--only=kernels", "--kernel=argmax", "--rows=1", "-r=3"]).stdout);
    assert!(shown.contains(" % |") && !shown.contains("| - "), "{shown}");
}

#[trial]
fn every_line_of_csv_stands_alone() {
    let done = kernels(&["--kernel=argmax,select", "--output=csv"]);
    let mut csv = csv::Reader::from_reader(&done.stdout[..]);
    let heads = csv.headers().expect("a line of names").clone();
    let lines: Vec<csv::StringRecord> = csv.records().map(|record| record.expect("a line of values")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        let value = |name: &str| &line[heads.iter().position(|head| head == name).expect(name)];
        assert_eq!((value("dtype"), value("version")), ("bf16", env!("CARGO_PKG_VERSION")), "{line:?}");
        assert!(value("device") == "CPU twins" && value("model").starts_with("width 96,"), "{line:?}");
        assert_eq!(value("repetitions"), "1", "{line:?}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&kernels(&["--kernel=argmax", "-o=json"]).stdout).expect("JSON");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"), "{json}");
    assert!(json["notes"].is_array() && json["records"][0]["device"].is_null(), "{json}");
}

/// Products of whole numbers are not asked for, so their kernel is not launched.
#[trial]
fn kernels_that_are_never_launched_are_named() {
    let done = kernels(&["--kernel=matvec_int8"]);
    let errors = text(&done.stderr);
    let says = "a model of this shape in bf16 never launches matvec_int8 on this device; there are ";
    assert!(done.status.code() == Some(2) && errors.contains(says) && errors.contains("argmax"), "{errors}");
    assert!(done.stdout.is_empty());
    let done = kernels(&["--kernel=matvec_int8,argmax"]);
    let errors = text(&done.stderr);
    assert!(done.status.success() && errors.contains("never launches matvec_int8 on this device, so"), "{errors}");
}

/// A launch of one row of the demo does less than launching it takes.
#[trial(device, full)]
fn a_kernel_without_work_is_bound_by_its_launch(device: &Device) {
    let name = device.name();
    if device.is_cpu() {
        return;
    }
    let line = ["bench", "--only=kernels", "--kernel=advance", "--rows=1", "-r=2", "-o=json", "--gpu", name];
    let done = output(&line);
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let records = json["records"].as_array().expect("records");
    let found = records.iter().find(|record| record["part"] == "kernel").expect("a kernel");
    assert_eq!(found["bound_by"], "launch", "{found}");
    assert!(found["percent"].as_f64().is_some_and(|percent| percent > 5.0), "{found}");
}
