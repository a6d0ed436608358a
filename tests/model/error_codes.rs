//! Codes of errors, the page that lists them, and what the texts of the library keep out of: flags of the command line, clocks and files of the system.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ruminate::{ERROR_CODES, Error, REQUIRED_LIMITS, engine};
use ruminate_tests::trial;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> Result<String> {
    Ok(std::fs::read_to_string(root().join("docs/embedding.md"))?)
}

#[trial]
fn the_page_lists_every_code_and_limit() -> Result<()> {
    let codes = ERROR_CODES.iter().chain(engine::ERROR_CODES);
    let codes: String = codes.map(|(code, meaning)| format!("| `{code}` | {meaning} |\n")).collect();
    let limits =
        REQUIRED_LIMITS.iter().map(|limit| format!("| `{}` | {} | {} |\n", limit.name, limit.least, limit.why));
    let limits: String = limits.collect();
    let page = page()?;
    for (heading, table) in [("code | meaning |\n|---|---|", codes), ("at least | for |\n|---|---|---|", limits)] {
        let (_, found) = page.split_once(&format!("{heading}\n")).context("no such table")?;
        let found = found.split("\n\n").next().unwrap_or_default();
        ensure!(found.trim_end() == table.trim_end(), "docs/embedding.md should have this table:\n{table}");
    }
    Ok(())
}

#[trial]
fn codes_are_unique_and_in_kebab_case() -> Result<()> {
    let codes: Vec<&str> = ERROR_CODES.iter().chain(engine::ERROR_CODES).map(|(code, _)| *code).collect();
    ensure!(codes.iter().collect::<BTreeSet<_>>().len() == codes.len(), "a code is used twice");
    for code in codes {
        let words = code.split('-').all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()));
        ensure!(words, "{code} is not in kebab-case");
    }
    ensure!(Error::EmptyPrompt.code() == "empty-prompt");
    ensure!(
        Error::from(engine::Error::Lost(String::new())).code() == "device-lost",
        "errors of the engine keep theirs"
    );
    Ok(())
}

/// Calls `look` with the path, relative to the repository, and the lines of every source file of the library that are no comments.
fn each_source(mut look: impl FnMut(&str, &[&str]) -> Result<()>) -> Result<()> {
    let mut folders: Vec<PathBuf> = ["shaders", "engine", "model"].map(|name| root().join(name)).into();
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("examples") && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files += 1;
                let text = std::fs::read_to_string(&path)?;
                let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                look(&path.strip_prefix(root())?.display().to_string().replace('\\', "/"), &lines)?;
            }
        }
    }
    ensure!(files > 100, "{files} files were looked at");
    Ok(())
}

/// Apps and bindings show these messages to users who never saw the command line.
#[trial]
fn texts_of_the_library_name_no_flag_and_no_verb() -> Result<()> {
    each_source(|path, lines| {
        for line in lines {
            let flag = line.split("--").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            ensure!(!flag && !line.contains("`ruminate "), "{path}: {line}");
        }
        Ok(())
    })
}

/// Browsers have neither the clocks nor the files of the standard library.
#[trial]
fn clocks_and_files_are_named_in_few_places() -> Result<()> {
    const FILES: [&str; 8] = [
        "engine/memory.rs",
        "engine/pipeline_cache.rs",
        "engine/tune.rs",
        "model/output.rs",
        "model/quantize/files.rs",
        "model/quantize/leftovers.rs",
        "model/snapshot/file.rs",
        "model/source.rs",
    ];
    each_source(|path, lines| {
        for line in lines {
            let clock = line.contains("std::time::") && (line.contains("Instant") || line.contains("SystemTime"));
            ensure!(!clock, "{path} names a clock; use ruminate_engine::clock: {line}");
            ensure!(!line.contains("std::fs") || FILES.contains(&path), "{path} names files: {line}");
        }
        Ok(())
    })
}
