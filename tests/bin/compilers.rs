//! Generates `docs/kernels.md`: results of the compilers of real platforms for every kernel variant.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ruminate_shaders::{KERNELS, Kernel};
use ruminate_tests::compilers::amd::{self, NullGpu, Report, Statistics};
use ruminate_tests::compilers::listing::Loop;
use ruminate_tests::compilers::{Dxc, Variant, all_variants, dxil, msl, named, spirv};

/// Print the results of the compilers of real platforms for every kernel variant, as Markdown.
#[derive(Parser)]
struct Arguments {
    /// Print the reports of Mesa's compiler for one family of AMD GPUs instead, one JSON object per line.
    #[arg(long, value_name = "FAMILY", value_parser = amd::FAMILIES)]
    amd: Option<String>,
    /// Kernels such as `matvec`, to print only their tables. With --amd also variants such as `matvec.bf16.plain.store.rows1.subgroup`, and WGSL files
    /// without override constants. Default: all kernels.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// With --amd: print the instructions instead.
    #[arg(long, requires = "amd")]
    listing: bool,
    /// With --amd: compile WGSL files without the checks that naga adds, like trusted kernels.
    #[arg(long, requires = "amd")]
    trusted: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.amd {
        Some(family) => reports(family, &arguments),
        None => table(&arguments.names),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints reports, in a child process unless this is that child.
fn reports(family: &str, arguments: &Arguments) -> Result<()> {
    let Arguments { names, listing, trusted, .. } = arguments;
    let mut out = std::io::stdout().lock();
    let mut print = |report: &Report| -> Result<()> {
        if *listing {
            writeln!(out, "; {} {} on {}", report.label, report.constants, report.device)?;
            return Ok(writeln!(out, "{}", report.listing)?);
        }
        Ok(writeln!(out, "{}", serde_json::to_string(report)?)?)
    };
    if !amd::started_for(family) {
        let names = names.iter().map(String::as_str);
        let flags = [(*listing, "--listing"), (*trusted, "--trusted")];
        let flags = flags.into_iter().filter_map(|(set, flag)| set.then_some(flag));
        let arguments: Vec<&str> = flags.chain(names).collect();
        return Ok(write!(out, "{}", amd::said(&std::env::current_exe()?, family, &arguments)?)?);
    }
    let gpu = NullGpu::open()?;
    let mut report = |variants: &[Variant]| {
        let mut launched = variants.iter().filter(|variant| variant.runs_on(family));
        launched.try_for_each(|variant| print(&gpu.report(variant)?))
    };
    if names.is_empty() {
        return report(&all_variants());
    }
    let mut files = Vec::new();
    for name in names {
        let path = Path::new(name);
        if path.extension().is_some_and(|extension| extension == "wgsl") {
            files.push(path);
        } else {
            report(&named(name)?)?;
        }
    }
    files.into_iter().try_for_each(|path| print(&gpu.report_file(path, *trusted)?))
}

/// Sizes of a variant in bytes for each platform.
#[derive(Clone, Copy, Default)]
struct Sizes {
    spirv: usize,
    dxil: usize,
    msl: usize,
}

fn sizes(dxc: &Dxc, variant: &Variant) -> Result<Sizes> {
    let checked = variant.module()?;
    let mut sizes = Sizes::default();
    if msl::has(&checked) {
        sizes.msl = msl::translate(&checked)?.len();
    }
    for target in spirv::Target::all(&checked) {
        let words = spirv::translate(&checked, target)?;
        if checked.matrices.is_none() || spirv::knows_matrices() {
            spirv::validate(&words, target)?;
        }
        sizes.spirv = sizes.spirv.max(4 * words.len());
    }
    for &model in dxil::models(&checked) {
        sizes.dxil = sizes.dxil.max(dxil::compile(dxc, &checked, model)?.len());
    }
    Ok(sizes)
}

/// Row of the table: a variant with all of its constants, and the worst of each figure.
#[derive(Default)]
struct Row {
    constants: Vec<String>,
    sizes: Sizes,
    amd: Vec<Statistics>,
    /// Inner loop on each family, for the first of the constants.
    inner: Vec<Option<Loop>>,
}

fn table(names: &[String]) -> Result<()> {
    let program = std::env::current_exe()?;
    let dxc = Dxc::load(&dxil::library().context("DXC is not installed; run tests/get-compilers")?)?;
    ensure!(spirv::available(), "spirv-val is not installed; run tests/get-compilers");

    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let variants = match names[..] {
        [] => all_variants(),
        _ => names.iter().map(|name| named(name)).collect::<Result<Vec<_>>>()?.concat(),
    };
    for variant in variants {
        let made = sizes(&dxc, &variant).with_context(|| format!("{} {}", variant.label(), variant.constants()))?;
        let row = rows.entry(variant.label()).or_default();
        row.constants.push(variant.constants());
        row.sizes.spirv = row.sizes.spirv.max(made.spirv);
        row.sizes.dxil = row.sizes.dxil.max(made.dxil);
        row.sizes.msl = row.sizes.msl.max(made.msl);
    }
    let mut devices = Vec::new();
    for (index, family) in amd::FAMILIES.into_iter().enumerate() {
        for report in amd::reports(&program, family, &names)? {
            report.statistics.check().with_context(|| format!("{} {} on {family}", report.label, report.constants))?;
            let row = rows.get_mut(&report.label).with_context(|| format!("{} is unknown", report.label))?;
            match row.amd.get_mut(index) {
                Some(worst) => *worst = worst.worse(&report.statistics),
                None => {
                    row.amd.push(report.statistics);
                    row.inner.push(report.inner);
                }
            }
            if devices.len() == index {
                devices.push(report.device);
            }
        }
    }
    // Printed at the end, so that a failure leaves no partial table.
    if names.is_empty() {
        print!("{}", document(&rows, &devices)?);
        return Ok(());
    }
    let mut page = String::new();
    let known = |kernel: &&&Kernel| names.contains(&kernel.name);
    KERNELS.iter().filter(known).try_for_each(|kernel| section(&mut page, kernel, &rows))?;
    print!("{page}");
    Ok(())
}

fn document(rows: &BTreeMap<String, Row>, devices: &[String]) -> Result<String> {
    let mut page = String::new();
    let constants: usize = rows.values().map(|row| row.constants.len()).sum();
    writeln!(page, "{INTRODUCTION}")?;
    writeln!(
        page,
        "{} variants, {constants} with their constants; `spirv-val` {}; for AMD, {}.\n",
        rows.len(),
        spirv_tools()?,
        devices.join(", ")
    )?;
    for kernel in KERNELS {
        section(&mut page, kernel, rows)?;
    }
    streams(&mut page, rows)?;
    Ok(page)
}

/// Table of a kernel.
fn section(page: &mut String, kernel: &Kernel, rows: &BTreeMap<String, Row>) -> Result<()> {
    writeln!(page, "## {}\n", kernel.name)?;
    let families: String = amd::FAMILIES.iter().map(|family| format!(" {family} |")).collect();
    writeln!(page, "| variant | constants | SPIR-V | DXIL | MSL | LDS | spills | scratch |{families}")?;
    writeln!(page, "|---|---|--:|--:|--:|--:|--:|--:|{}", "--:|".repeat(amd::FAMILIES.len()))?;
    for choice in kernel.variants() {
        let label = kernel.label(choice);
        let row = rows.get(&label).with_context(|| format!("{label} has no row"))?;
        let most = |what: fn(&Statistics) -> u64| row.amd.iter().map(what).max().unwrap_or_default();
        let name = label.strip_prefix(kernel.name).unwrap_or_default().trim_start_matches('.');
        let name = if name.is_empty() { "–" } else { name };
        let constants = row.constants.join(" ");
        let Sizes { spirv, dxil, msl } = row.sizes;
        write!(page, "| {name} | {constants} | {spirv} | {dxil} | {msl} | {} |", most(|s| s.lds))?;
        write!(page, " {} | {} |", most(|s| s.spilled_vgprs + s.spilled_sgprs), most(|s| s.scratch))?;
        if row.amd.is_empty() {
            write!(page, "{}", " – |".repeat(amd::FAMILIES.len()))?;
        }
        for s in &row.amd {
            write!(
                page,
                " {} · {} · {} · {} · {} |",
                s.vgprs, s.sgprs, s.occupancy, s.instructions, s.inverse_throughput
            )?;
        }
        writeln!(page)?;
    }
    writeln!(page)?;
    Ok(())
}

/// Cost per weight of the kernels that read weights.
fn streams(page: &mut String, rows: &BTreeMap<String, Row>) -> Result<()> {
    writeln!(page, "{STREAMS}")?;
    writeln!(page, "| variant | weights per round |{}", amd::FAMILIES.map(|family| format!(" {family} |")).concat())?;
    writeln!(page, "|---|--:|{}", "--:|".repeat(amd::FAMILIES.len()))?;
    let ints = WEIGHTS_PER_ROUND.into_iter().filter(|(dtype, _)| dtype.starts_with('q'));
    let all = WEIGHTS_PER_ROUND.into_iter().map(|of| ("matvec", "plain", of));
    let all: Vec<_> = all.chain(ints.map(|of| ("matvec_int8", "rounded", of))).collect();
    let counts = ["rows1", "rows8"].into_iter().flat_map(|count| all.iter().map(move |&of| (count, of)));
    for (count, (kernel, input, (dtype, weights))) in counts {
        // With eight rows of x, the inner loop of block dtypes may run over those rows, which says nothing about weights.
        if count == "rows8" && dtype.starts_with('q') {
            continue;
        }
        for reduce in ["workgroup", "subgroup"] {
            let label = format!("{kernel}.{dtype}.{input}.store.{count}.{reduce}");
            let row = rows.get(&label).with_context(|| format!("{label} has no row"))?;
            write!(page, "| {label} | {weights} |")?;
            for inner in &row.inner {
                let Loop { vector, wide_loads, narrow_loads, .. } = inner.context("a matvec has a loop")?;
                write!(page, " {:.2} · {wide_loads} · {narrow_loads} |", vector as f64 / f64::from(weights))?;
            }
            writeln!(page)?;
        }
    }
    Ok(())
}

fn spirv_tools() -> Result<String> {
    let output = Command::new("spirv-val").arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().nth(1).unwrap_or_default().to_owned())
}

/// Weights that a lane processes in one iteration of `matvec`'s inner loop: a unit of 16 bytes (32 for f32) of each of four rows.
const WEIGHTS_PER_ROUND: [(&str, u32); 6] =
    [("f32", 32), ("f16", 32), ("bf16", 32), ("q8", 64), ("q4", 128), ("q4_1", 128)];

const STREAMS: &str = "\
## Streams of weights

The inner loop of `matvec` and `matvec_int8` for one row and for eight, by the listings of the AMD compiler: vector instructions per weight · loads of 16 bytes per lane · other loads. A round takes
a unit of 16 bytes (32 in f32) of each of four rows of W, and the same places of x; factors of blocks are the other loads.
";

const INTRODUCTION: &str = "\
# What compilers make of the kernels

Made by

```console
$ tests/get-compilers
$ cargo run --release -p ruminate-tests --bin compilers > docs/kernels.md
```

The tables list every variant of every kernel, as the engine would give it to wgpu, compiled without such a device. The SPIR-V passed
`spirv-val` for the oldest and the newest Vulkan that wgpu supports. The DXIL (shader models 6.0 and 6.6) was made by Microsoft's compiler
and passed its validator; it is not signed, because the signing validator exists on Windows only. The MSL is naga's translation; no compiler
for Metal was available. `tests/platform/compilers.rs` checks the same, and fails if a kernel spills registers or needs scratch memory.

Each row is a variant. If it is compiled with several constants, the row shows the worst of each figure. SPIR-V, DXIL, MSL, LDS (workgroup memory, as
AMD allocates it) and scratch are in bytes. For each family of AMD GPUs: VGPRs · SGPRs · subgroups per SIMD unit · instructions · estimated busy clocks
per subgroup. vega10 is GCN 5, navi21 RDNA 2, gfx1100 RDNA 3. Variants
for a subgroup size that these GPUs do not have are not compiled for them.
";
