//! Instruction counts of the hot loops on AMD GPUs, against the project's own targets.
//!
//! Decoding is bound by bandwidth on every desktop GPU as long as a weight takes fewer instructions than fit in the time of reading it. Prompts are bound by
//! arithmetic as long as the loops consist mostly of multiply-adds.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ruminate_tests::compilers::amd::{self, Report};
use ruminate_tests::{Entry, trial};

/// Maximum vector instructions per weight. One iteration processes a unit of 16 bytes of each of four rows.
const PER_WEIGHT: [(&str, u32, f64); 7] = [
    ("matvec.bf16.plain.store.rows1", 32, 3.0),
    ("matvec.bf16.plain.store.rows8", 32, 11.0),
    ("matvec.q8.plain.store.rows1", 64, 4.5),
    ("matvec.q4.plain.store.rows1", 128, 4.5),
    ("matvec.q4_1.plain.store.rows1", 128, 4.5),
    ("matvec_int8.q8.rounded.store.rows1", 64, 1.5),
    ("matvec_int8.q4.rounded.store.rows1", 128, 1.5),
];

/// Kernels in which at least half of the loop's vector instructions must be multiply-adds.
const DENSE: [&str; 9] = [
    "attention_tiled.kv_f32.tile64.parts.head96",
    "attention_tiled.kv_bf16.tile16.parts.head32",
    "attention_tiled.kv_bf16.tile32.whole.head128",
    "attention_tiled.kv_bf16.tile64.parts.head64",
    "attention_tiled.kv_bf16.tile64.whole.head96",
    "attention_tiled.kv_bf16.tile64.whole.head128",
    "attention_tiled.kv_q8.tile64.whole.head128",
    "matmul_tiled.bf16.plain.store.tile64",
    "matmul_tiled.bf16.plain.store.tile128",
];

/// Maximum vector instructions per multiply-add in both loops of attention by rows, over keys and over values, by kind of keys and heads that share them.
///
/// A number in bf16 or q8 takes one instruction to unpack and one to multiply and add for each head. With a head of its own, those are two already, and the rest is
/// addresses; in q8 also the weights times their factors, for each head.
const PER_MULTIPLY_ADD: [(&str, u32, f64); 12] = [
    ("kv_f32", 1, 1.3),
    ("kv_f32", 2, 1.2),
    ("kv_f32", 4, 1.1),
    ("kv_f32", 8, 1.15),
    ("kv_bf16", 1, 2.25),
    ("kv_bf16", 2, 1.7),
    ("kv_bf16", 4, 1.4),
    ("kv_bf16", 8, 1.3),
    ("kv_q8", 1, 3.3),
    ("kv_q8", 2, 2.35),
    ("kv_q8", 4, 1.8),
    ("kv_q8", 8, 1.8),
];

#[trial(list, full)]
fn marks() -> Vec<Entry> {
    let missing = amd::driver().is_none().then(|| "RADV is not installed; run tests/get-compilers".to_owned());
    let of = |family: &'static str| {
        [
            Entry::new(format!("{family}::weights"), move || weights(family)).unless(missing.clone()),
            Entry::new(format!("{family}::multiply_adds"), move || multiply_adds(family)).unless(missing.clone()),
            Entry::new(format!("{family}::attention"), move || attention(family)).unless(missing.clone()),
        ]
    };
    amd::FAMILIES.into_iter().flat_map(of).collect()
}

fn reports(family: &str, labels: &[String]) -> Result<Vec<Report>> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let found = amd::reports(Path::new(env!("CARGO_BIN_EXE_compilers")), family, &labels)?;
    ensure!(found.len() >= labels.len(), "{} reports on {} variants", found.len(), labels.len());
    Ok(found)
}

/// Fails with a list of all missed targets.
fn summary(missed: &[String]) -> Result<()> {
    ensure!(missed.is_empty(), "{} miss their target:\n{}", missed.len(), missed.join("\n"));
    Ok(())
}

fn weights(family: &str) -> Result<()> {
    // GCN 5 lacks an instruction for products of bytes.
    let marks = PER_WEIGHT.iter().filter(|(label, ..)| family != "vega10" || !label.starts_with("matvec_int8"));
    let mut missed = Vec::new();
    for &(label, weights, most) in marks {
        let labels = ["workgroup", "subgroup"].map(|reduce| format!("{label}.{reduce}"));
        for report in reports(family, &labels)? {
            let inner = report.inner.with_context(|| format!("{} has no loop", report.label))?;
            let found = inner.vector as f64 / f64::from(weights);
            if found > most {
                missed.push(format!("{} {}: {found:.2} instead of {most} per weight", report.label, report.constants));
            }
        }
    }
    summary(&missed)
}

fn multiply_adds(family: &str) -> Result<()> {
    let mut missed = Vec::new();
    for report in reports(family, &DENSE.map(str::to_owned))? {
        let found = report.densest.with_context(|| format!("{} has no loop", report.label))?;
        if 2 * found.multiply_adds < found.vector {
            missed.push(format!("{}: {} of {} multiply and add", report.label, found.multiply_adds, found.vector));
        }
    }
    summary(&missed)
}

fn attention(family: &str) -> Result<()> {
    let mut missed = Vec::new();
    for (kv, heads, most) in PER_MULTIPLY_ADD {
        let ways = ["workgroup", "subgroup"].into_iter();
        let labels: Vec<String> = ways
            .flat_map(|reduce| {
                ["attention", "attention_fresh"].into_iter().flat_map(move |kernel| {
                    ["parts", "whole"].map(|out| format!("{kernel}.{kv}.{reduce}.{out}.heads{heads}"))
                })
            })
            .collect();
        for report in reports(family, &labels)? {
            let found = report.thinnest.with_context(|| format!("{} has no loop", report.label))?;
            let ratio = found.vector as f64 / found.multiply_adds as f64;
            if ratio > most {
                missed.push(format!("{}: {ratio:.2} instead of {most} per multiply-add", report.label));
            }
        }
    }
    summary(&missed)
}
