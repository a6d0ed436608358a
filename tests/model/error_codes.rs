//! Error codes, the page that lists them, and terms that the library's texts and sources must avoid: flags of the command line, system clocks and files.

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
fn embedding_page_lists_every_code_and_limit() -> Result<()> {
    let codes = ERROR_CODES.iter().chain(engine::ERROR_CODES);
    let codes: String = codes.map(|(code, meaning)| format!("| `{code}` | {meaning} |\n")).collect();
    let limits =
        REQUIRED_LIMITS.iter().map(|limit| format!("| `{}` | {} | {} |\n", limit.name, limit.least, limit.why));
    let limits: String = limits.collect();
    let page = page()?;
    for (heading, table) in [("code | meaning |\n|---|---|", codes), ("at least | for |\n|---|---|---|", limits)] {
        let (_, found) = page.split_once(&format!("{heading}\n")).context("docs/embedding.md lacks a table")?;
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

/// Calls `look` with each source file of the library: its path relative to the repository, and its lines without comments.
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
    ensure!(files > 100, "only {files} files were found");
    Ok(())
}

/// Apps and bindings show these messages to users who do not know the command line.
#[trial]
fn library_texts_name_no_flag_or_command() -> Result<()> {
    each_source(|path, lines| {
        for line in lines {
            let flag = line.split("--").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            ensure!(!flag && !line.contains("`ruminate "), "{path}: {line}");
        }
        Ok(())
    })
}

/// Browsers have neither the standard library's clocks nor its files.
#[trial]
fn clocks_and_files_are_used_only_in_listed_sources() -> Result<()> {
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
            ensure!(!clock, "{path} uses a clock other than ruminate_engine::clock: {line}");
            ensure!(!line.contains("std::fs") || FILES.contains(&path), "{path} uses files: {line}");
        }
        Ok(())
    })
}
