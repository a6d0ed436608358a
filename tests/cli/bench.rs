//! Output of `ruminate bench`: tables, CSV and JSON.

use ruminate::Device;
use ruminate_tests::trial;

use crate::call::{output, text};

/// Runs `bench` on the demo's kernels, at one row, measured once.
fn kernels(more: &[&str]) -> std::process::Output {
    output(&[&["bench", "--cpu", "--only=kernels", "--rows=1", "-r=1"], more].concat())
}

#[trial]
fn each_kernel_has_one_short_line() {
    let shown = text(&kernels(&[]).stdout);
    let of = |name: &str| shown.lines().filter(|line| line.starts_with(&format!("| {name} "))).count();
    for name in ["wavefront_freeze", "verify", "guess", "enlist"] {
        assert_eq!(of(name), 1, "{name}: {shown}");
    }
    let widest = shown.lines().map(|line| line.chars().count()).max();
    assert!(widest.is_some_and(|width| width < 200) && !shown.contains("{ "), "{widest:?}: {shown}");
    // A single measurement has no spread.
    assert!(!shown.contains("0.0 %") && shown.contains("| - "), "{shown}");
}

#[trial]
fn spread_is_printed_for_repeated_measurements() {
    let shown = text(&output(&["bench", "--cpu", "--only=kernels", "--kernel=argmax", "--rows=1", "-r=3"]).stdout);
    assert!(shown.contains(" % |") && !shown.contains("| - "), "{shown}");
}

#[trial]
fn csv_lines_include_model_and_device() {
    let done = kernels(&["--kernel=argmax,select", "--output=csv"]);
    let mut csv = csv::Reader::from_reader(&done.stdout[..]);
    let heads = csv.headers().expect("a line of names").clone();
    let lines: Vec<csv::StringRecord> = csv.records().map(|record| record.expect("a line of values")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        let value = |name: &str| &line[heads.iter().position(|head| head == name).expect(name)];
        assert_eq!((value("dtype"), value("version")), ("bf16", env!("CARGO_PKG_VERSION")), "{line:?}");
        assert!(value("device") == "CPU reference" && value("model").starts_with("width 96,"), "{line:?}");
        assert_eq!(value("repetitions"), "1", "{line:?}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&kernels(&["--kernel=argmax", "-o=json"]).stdout).expect("JSON");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"), "{json}");
    assert!(json["notes"].is_array() && json["records"][0]["device"].is_null(), "{json}");
}

/// Without int8 arithmetic, its kernel is never launched.
#[trial]
fn kernels_that_the_model_never_launches_are_reported() {
    let done = kernels(&["--kernel=matvec_int8"]);
    let errors = text(&done.stderr);
    let says = "a model of this shape in bf16 never launches matvec_int8 on this device; it launches ";
    assert!(done.status.code() == Some(2) && errors.contains(says) && errors.contains("argmax"), "{errors}");
    assert!(done.stdout.is_empty());
    let done = kernels(&["--kernel=matvec_int8,argmax"]);
    let errors = text(&done.stderr);
    assert!(done.status.success() && errors.contains("never launches matvec_int8 on this device, so"), "{errors}");
}

/// At one row of the demo, the work of a launch takes less time than the launch itself.
#[trial(device, full)]
fn tiny_kernel_is_bound_by_launch_cost(device: &Device) {
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
