//! Formats a report as Markdown, to read or to paste into an issue.

use std::fmt::Write as _;
use std::io::Write;

use anyhow::Result;
use ruminate::doctor::report::{DeviceFacts, Kernels, Report};

use crate::table::table;
use crate::words::{counted, size};

/// Maximum number of skipped pieces of work listed per stage.
const MOST_SKIPPED: usize = 12;

/// Formats the whole page.
pub(super) fn page(report: &Report) -> Result<String> {
    let mut out = Vec::new();
    head(report, &mut out)?;
    if let Some(device) = &report.device {
        facts(device, report, &mut out)?;
    }
    stages(report, &mut out)?;
    ceilings(report, &mut out)?;
    kernels(&report.kernels, &mut out)?;
    tokens(report, &mut out)?;
    speed(report, &mut out)?;
    tuning(report, &mut out)?;
    skipped(report, &mut out)?;
    Ok(String::from_utf8(out)?)
}

/// Writes the verdict and all problems.
fn head(report: &Report, out: &mut impl Write) -> Result<()> {
    let device = report.device.as_ref().map_or("the device", |device| &device.name);
    writeln!(out, "# Ruminate {} on {device}\n", report.version)?;
    let verdict = match (&report.running, report.problems.len()) {
        (Some(running), _) => format!("INCOMPLETE: the report ends at {}: {}", running.stage, running.what),
        (None, 0) => {
            let left = match report.kernels.skipped {
                0 => String::new(),
                some => format!(", while there was no time for {some}"),
            };
            let tokens: usize = report.tokens.iter().map(|check| check.tokens).sum();
            format!(
                "All that ran is right: {} of kernels{left}, and {}.",
                counted(report.kernels.cases, "case"),
                counted(tokens, "token")
            )
        }
        (None, some) => format!("WRONG: {}.", counted(some, "problem")),
    };
    writeln!(out, "{verdict}")?;
    for problem in &report.problems {
        writeln!(out, "- {problem}")?;
    }
    Ok(())
}

fn facts(device: &DeviceFacts, report: &Report, out: &mut impl Write) -> Result<()> {
    let yes = |value: bool| if value { "yes" } else { "no" };
    let bytes = |value: Option<u64>| value.map_or("unknown".to_owned(), size);
    let subgroups = match device.subgroup_sizes {
        None => "none".to_owned(),
        Some([least, most]) if least == most => least.to_string(),
        Some([least, most]) => format!("{least} to {most}"),
    };
    let cooperative = if device.cooperative.is_empty() { "no".to_owned() } else { device.cooperative.join(", ") };
    let host = if device.memory_shared { " (the host's)" } else { "" };
    let tuned = match device.tuned_classes {
        0 => "no, these are the defaults".to_owned(),
        some => counted(some, "class"),
    };
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let system = &report.system;
    let rows = [
        ("device", format!("{} ({}, {})", device.name, device.backend, device.kind)),
        ("driver", device.driver.clone()),
        ("system", format!("{} {}, {}", system.os, system.arch, counted(system.processors, "processor"))),
        ("memory", format!("{} of {} free{host}", bytes(device.memory_free_bytes), bytes(device.memory_total_bytes))),
        (
            "binding, buffer, texture",
            [device.max_binding_bytes, device.max_buffer_bytes, device.max_texture_bytes].map(mib).join(", "),
        ),
        (
            "workgroup",
            format!("{} invocations, {} KiB", device.max_invocations, device.max_workgroup_memory_bytes >> 10),
        ),
        ("subgroups", subgroups),
        ("f16, int8", format!("{}, {}", yes(device.f16), yes(device.int8))),
        ("cooperative matrices", cooperative),
        ("timestamps", yes(device.timestamps).to_owned()),
        ("prompts", device.prompts.clone()),
        ("tuned", tuned),
    ];
    table(out, &["", ""], 2, rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

fn stages(report: &Report, out: &mut impl Write) -> Result<()> {
    let rows = report.stages.iter().map(|stage| {
        let ended = stage.failure.as_ref().map_or("", |_| "FAILED");
        vec![stage.name.to_owned(), ended.to_owned(), format!("{:.1}", stage.elapsed_s)]
    });
    table(out, &["stage", "", "s"], 2, rows)?;
    let form = if report.quick { ", the short form" } else { "" };
    writeln!(out, "\n{:.0} of at most {:.0} s{form}", report.elapsed_s, report.limit_s)?;
    Ok(())
}

fn ceilings(report: &Report, out: &mut impl Write) -> Result<()> {
    if !report.ceilings.is_empty() {
        let rows = report.ceilings.iter().map(|rate| {
            let value = match (rate.gb_per_s, rate.gflop_per_s) {
                (Some(rate), _) => format!("{rate:.1} GB/s"),
                (None, rate) => format!("{:.1} GFLOP/s", rate.unwrap_or_default()),
            };
            vec![rate.name.to_owned(), value, format!("{:.2}", rate.longest_over_shortest)]
        });
        table(out, &["the device can, at its best", "rate", "longest / shortest"], 1, rows)?;
    }
    if !report.costs.is_empty() {
        let rows = report.costs.iter().map(|cost| vec![cost.name.to_owned(), format!("{:.1}", cost.median_us)]);
        table(out, &["cost", "µs"], 1, rows)?;
    }
    Ok(())
}

/// Writes one line per kernel. Only JSON lists the variants.
fn kernels(kernels: &Kernels, out: &mut impl Write) -> Result<()> {
    if kernels.cases == 0 {
        return Ok(());
    }
    let mut names: Vec<&str> = Vec::new();
    for variant in &kernels.variants {
        if !names.contains(&variant.kernel) {
            names.push(variant.kernel);
        }
    }
    let rows = names.into_iter().map(|name| {
        let of = || kernels.variants.iter().filter(|variant| variant.kernel == name);
        let (cases, passed): (usize, usize) =
            of().fold((0, 0), |(cases, passed), variant| (cases + variant.cases, passed + variant.passed));
        let error = of().map(|variant| variant.error_over_bound).fold(0.0, f64::max);
        let right = if passed == cases { "all".to_owned() } else { format!("{passed}, WRONG") };
        vec![name.to_owned(), right, of().count().to_string(), cases.to_string(), format!("{error:.1e}")]
    });
    table(out, &["kernel", "right", "variants", "cases", "error / bound"], 2, rows)?;
    let mut summary = format!(
        "{} of {} in {} are right",
        kernels.passed,
        counted(kernels.cases, "case"),
        counted(kernels.variants.len(), "variant")
    );
    if kernels.skipped > 0 {
        write!(summary, "; there was no time for {}", counted(kernels.skipped, "case"))?;
    }
    writeln!(out, "\n{summary}")?;
    for wrong in &kernels.wrong {
        writeln!(out, "- WRONG: {} ({}): {}", wrong.case, wrong.shapes, wrong.problem)?;
    }
    Ok(())
}

fn tokens(report: &Report, out: &mut impl Write) -> Result<()> {
    if report.tokens.is_empty() {
        return Ok(());
    }
    let rows = report.tokens.iter().map(|check| {
        let right = match (check.passed, check.equal == check.tokens) {
            (true, true) => "yes".to_owned(),
            (true, false) => format!("near tie ({:.4})", check.margin.unwrap_or_default()),
            (false, _) => "WRONG".to_owned(),
        };
        vec![
            check.model.clone(),
            check.dtype.clone(),
            right,
            check.steps.to_string(),
            format!("{} of {}", check.equal, check.tokens),
            format!("{:.1e}", check.logits_error),
        ]
    });
    table(out, &["greedy tokens of", "dtype", "right", "steps", "equal", "error of logits"], 3, rows)
}

fn speed(report: &Report, out: &mut impl Write) -> Result<()> {
    if report.speed.is_empty() {
        return Ok(());
    }
    let rows = report.speed.iter().map(|speed| {
        let percent = speed.percent_of_ceiling.map_or(String::new(), |percent| format!("{percent:.0}"));
        vec![
            speed.model.clone(),
            speed.dtype.clone(),
            format!("{} {}", speed.phase, speed.tokens),
            speed.steps.to_string(),
            format!("{:.2}", speed.tokens_per_s),
            format!("{:.2}", speed.ms_per_token),
            format!("{:.1}", speed.gb_per_s),
            format!("{:.1}", speed.gflop_per_s),
            percent,
            speed.bound_by.unwrap_or_default().to_owned(),
        ]
    });
    let heads = ["model", "dtype", "test", "steps", "tokens/s", "ms/token", "GB/s", "GFLOP/s", "%", "of"];
    table(out, &heads, 3, rows)
}

fn tuning(report: &Report, out: &mut impl Write) -> Result<()> {
    let tuning = &report.tuning;
    if tuning.classes == 0 {
        return Ok(());
    }
    if !tuning.changes.is_empty() {
        let rows = tuning.changes.iter().map(|change| {
            let memory = if change.textures { "textures" } else { "buffers" };
            let gain = change.default_us / change.best_us;
            vec![
                change.class.clone(),
                memory.to_owned(),
                change.choice.clone(),
                format!("{:.1}", change.default_us),
                format!("{:.1}", change.best_us),
                format!("{gain:.2} x"),
            ]
        });
        table(out, &["`tune` would change", "weights in", "choice", "default: µs", "best: µs", "gain"], 3, rows)?;
    }
    let (classes, changes) = (counted(tuning.classes, "class"), tuning.changes.len());
    writeln!(
        out,
        "\ntuning at the shapes of the {}: {classes}, {changes} with a faster kernel than the default",
        tuning.shapes
    )?;
    Ok(())
}

fn skipped(report: &Report, out: &mut impl Write) -> Result<()> {
    if report.skipped.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nSkipped:\n")?;
    let mut stages: Vec<&str> = report.skipped.iter().map(|skipped| skipped.stage).collect();
    stages.dedup();
    for stage in stages {
        let of = || report.skipped.iter().filter(|skipped| skipped.stage == stage);
        for skipped in of().take(MOST_SKIPPED) {
            writeln!(out, "- {stage}: {}: {}", skipped.what, skipped.reason)?;
        }
        if let more @ 1.. = of().count().saturating_sub(MOST_SKIPPED) {
            writeln!(out, "- {stage}: {more} more, for the same reasons")?;
        }
    }
    Ok(())
}
