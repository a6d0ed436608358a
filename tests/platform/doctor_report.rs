//! The examination of `doctor --report`: a wrong kernel is reported, a short time limit is kept, and every piece of work is reported before it begins.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ruminate::Device;
use ruminate::doctor::report::{Report, ReportOptions, report};
use ruminate_shaders::{Kernel, recur};
use ruminate_tests::{options, trial};

use crate::doctor::WRONG;

/// Examines the device under test with some kernels and a limit in seconds.
fn examined(kernels: &'static [&'static Kernel], seconds: u64, heard: &mut dyn FnMut(&Report)) -> Result<Report> {
    let open = options().context("no device")?;
    let limit = Duration::from_secs(seconds);
    Ok(report(&ReportOptions { kernels, limit, ..ReportOptions::new(open, true) }, heard)?)
}

#[trial(device, full)]
fn wrong_kernel_is_a_problem_and_named(_: &Device) -> Result<()> {
    let kernels: &[&Kernel] = Box::leak(Box::new([&*WRONG, &recur::ADVANCE]));
    let found = examined(kernels, 30, &mut |_| ())?;
    ensure!(found.complete && !found.passed, "{:?}", found.problems);
    ensure!(found.problems.iter().any(|problem| problem.contains("rms_norm")), "{:?}", found.problems);
    ensure!(found.kernels.passed < found.kernels.cases && !found.kernels.wrong.is_empty(), "{:?}", found.kernels);
    let of = |name: &str| found.kernels.variants.iter().filter(|it| it.kernel == name).collect::<Vec<_>>();
    ensure!(
        of("advance").iter().all(|variant| variant.passed == variant.cases && variant.cases > 0),
        "{:?}",
        of("advance")
    );
    ensure!(of("rms_norm").iter().any(|variant| variant.passed < variant.cases), "{:?}", of("rms_norm"));
    // The later stages still ran.
    ensure!(found.stages.len() == 6 && found.stages.iter().all(|stage| stage.failure.is_none()), "{:?}", found.stages);
    Ok(())
}

#[trial(device, full)]
fn work_for_which_there_is_no_time_is_listed(device: &Device) -> Result<()> {
    let mut heard: Vec<(&str, bool)> = Vec::new();
    let found = examined(ruminate::KERNELS, 1, &mut |report| {
        heard.push((report.running.as_ref().map_or("end", |running| running.stage), report.complete));
    })?;
    ensure!(found.complete && found.passed, "{:?}", found.problems);
    ensure!(found.kernels.skipped > 100, "{:?}", found.kernels.skipped);
    let of = |stage: &str| found.skipped.iter().filter(|skipped| skipped.stage == stage).count();
    ensure!(of("kernels") > 0 && of("tokens") > 0 && of("speed") > 0, "{:?}", found.skipped);
    ensure!(found.skipped.iter().any(|skipped| skipped.reason.contains("no time left")), "{:?}", found.skipped);
    ensure!(found.device.as_ref().is_some_and(|facts| facts.name == device.name()), "{:?}", found.device);
    // A report with work under way is never complete.
    ensure!(heard.last() == Some(&("end", true)) && heard.first() == Some(&("device", false)), "{heard:?}");
    ensure!(heard.iter().all(|(stage, complete)| *complete == (*stage == "end")), "{heard:?}");
    Ok(())
}
