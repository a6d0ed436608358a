//! `ruminate doctor --report`: what it writes, and what it refuses before any work.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ruminate::Device;
use ruminate_tests::{Folder, trial};
use serde_json::Value;

use crate::call::{output, ruminate, text};

/// Sections of the JSON.
const SECTIONS: [&str; 16] = [
    "schema_version",
    "version",
    "complete",
    "passed",
    "problems",
    "elapsed_s",
    "limit_s",
    "system",
    "device",
    "stages",
    "skipped",
    "ceilings",
    "kernels",
    "tokens",
    "speed",
    "tuning",
];

fn json(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path).with_context(|| path.display().to_string())?)?)
}

/// Runs the verb, which must fail with `code` and a message that contains `words`, and must leave the folder empty.
fn refused(folder: &Folder, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let done = output(&[&["doctor"], arguments].concat());
    let errors = text(&done.stderr);
    ensure!(done.status.code() == Some(code), "{arguments:?}: {:?}, {errors}", done.status.code());
    ensure!(words.iter().all(|word| errors.contains(word)), "{arguments:?}: {errors}");
    let left: Vec<_> = std::fs::read_dir(folder.path())?.collect();
    ensure!(left.is_empty(), "{arguments:?}: {left:?}");
    Ok(())
}

#[trial]
fn what_makes_no_report_is_refused_before_any_work() -> Result<()> {
    let folder = Folder::new()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, place) = (path("report.json"), folder.path().display().to_string());
    refused(&folder, &["--report", &place], 2, &["is a folder; name a file"])?;
    refused(&folder, &["--report", "/dev/null"], 2, &["/dev/null", "name a file"])?;
    refused(&folder, &["--report", &file, "--cpu"], 2, &["leave out --cpu"])?;
    refused(&folder, &["--report", &file, "-m", "demo"], 2, &["leave out --model"])?;
    refused(&folder, &["--report", &file, "--json"], 2, &["--report -"])?;
    refused(&folder, &["--report", "-", "--report", "-"], 2, &["given only once"])?;
    refused(&folder, &["--quick"], 2, &["--report"])?;
    refused(&folder, &["--report", &file, "--gpu", "no such device"], 3, &["no such device"])?;
    refused(&folder, &["--report", &file, "--gpu", "99"], 3, &["index 99"])
}

#[trial]
fn exit_codes_are_explained() {
    let help = text(&output(&["doctor", "--help"]).stdout);
    for code in ["0 everything", "1 a kernel", "2 usage", "3 no such device"] {
        assert!(help.contains(code), "{code}: {help}");
    }
}

/// Kills the program, because a crash of the driver ends it in the same way.
#[trial(device)]
fn a_program_that_is_killed_leaves_a_report_that_says_so(device: &Device) -> Result<()> {
    let folder = Folder::new()?;
    let [data, page] = ["report.json", "report.txt"].map(|name| folder.path().join(name));
    let mut command = ruminate(&["doctor", "--quick", "--gpu", device.name(), "--report"]);
    let mut child = command.arg(&data).arg("--report").arg(&page).stderr(std::process::Stdio::null()).spawn()?;
    let begin = Instant::now();
    // The page is written after the data.
    let told = || std::fs::read_to_string(&page).is_ok_and(|page| page.contains("the report ends at kernels"));
    let measuring = || json(&data).is_ok_and(|report| report["running"]["stage"] == "kernels") && told();
    while !measuring() && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    let report = json(&data)?;
    ensure!(report["complete"] == false && report["passed"] == false, "{report}");
    ensure!(report["running"]["what"].as_str().is_some_and(|what| !what.is_empty()), "{report}");
    ensure!(report["device"]["name"] == device.name(), "{report}");
    let page = std::fs::read_to_string(&page)?;
    ensure!(page.contains("INCOMPLETE: the report ends at ") && page.contains(device.name()), "{page}");
    Ok(())
}

#[trial(device, full)]
fn report_has_everything_and_keeps_its_limit(device: &Device) -> Result<()> {
    let folder = Folder::new()?;
    let [data, page] = ["report.json", "report.txt"].map(|name| folder.path().join(name));
    let mut command = ruminate(&["doctor", "--quick", "--gpu", device.name(), "--report"]);
    let done = command.arg(&data).arg("--report").arg(&page).output()?;
    let errors = text(&done.stderr);
    ensure!(done.status.success() && done.stdout.is_empty(), "{:?}, {errors}", done.status.code());
    let report = json(&data)?;
    let missing: Vec<_> = SECTIONS.iter().filter(|section| report[**section].is_null()).collect();
    ensure!(missing.is_empty(), "{missing:?} of {report}");
    ensure!(report["complete"] == true && report["passed"] == true && report["running"].is_null(), "{report}");
    ensure!(report["elapsed_s"].as_f64() <= report["limit_s"].as_f64(), "{}", report["elapsed_s"]);
    let stages: Vec<_> = report["stages"].as_array().context("stages")?.iter().map(|stage| &stage["name"]).collect();
    ensure!(stages == ["device", "kernels", "tokens", "ceilings", "speed", "tuning"], "{stages:?}");
    let count = |section: &str| report[section].as_array().map_or(0, Vec::len);
    ensure!(count("ceilings") >= 3 && count("tokens") >= 1, "{report}");
    let kernels = &report["kernels"];
    ensure!(kernels["cases"].as_u64() > Some(100) && kernels["cases"] == kernels["passed"], "{}", kernels["cases"]);
    // The report lists the skipped measurements.
    let speeds = count("speed");
    let skipped = report["skipped"].as_array().context("skipped")?;
    ensure!(speeds >= 4 && (speeds == 54 || skipped.iter().any(|it| it["stage"] == "speed")), "{speeds}, {skipped:?}");
    let page = std::fs::read_to_string(&page)?;
    for words in ["All that ran is right: ", "the device can, at its best", "kernel", "greedy tokens of", "demo"] {
        ensure!(page.contains(words), "no {words:?} in\n{page}");
    }
    Ok(())
}
