//! README.md and the book in docs/: links lead somewhere, commands and flags exist, examples run, and the reference is that of this version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use ruminate_tests::{Folder, trial};

use crate::call::{ruminate, text};

/// The project's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the project's folder")
}

/// Every page for readers, by its path in the project.
fn book_pages() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for page in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md", "benches/peers/README.md"] {
        found.insert(page.to_owned(), std::fs::read_to_string(root().join(page))?);
    }
    for folder in ["docs", "docs/reference"] {
        for entry in std::fs::read_dir(root().join(folder))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // A table of a thousand rows, which has no links.
            if name.ends_with(".md") && name != "kernels.md" {
                let page = format!("{folder}/{name}");
                let content = std::fs::read_to_string(root().join(&page))?;
                found.insert(page, content);
            }
        }
    }
    Ok(found)
}

fn parse(page: &str) -> Parser<'_> {
    Parser::new_ext(page, Options::ENABLE_TABLES)
}

/// Anchors of the headings of a page, as GitHub and mdBook make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let (mut found, mut heading) = (BTreeSet::new(), None);
    for event in parse(page) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let text = heading.take().unwrap_or_default().to_lowercase();
                let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
                found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
            }
            _ => {}
        }
    }
    found
}

#[trial]
fn links_lead_to_files_and_headings() -> Result<()> {
    let pages = book_pages()?;
    let mut broken = Vec::new();
    for (page, content) in &pages {
        let folder = root().join(page).parent().context("a page lies in a folder")?.to_path_buf();
        for event in parse(content) {
            let (Event::Start(Tag::Link { dest_url, .. }) | Event::Start(Tag::Image { dest_url, .. })) = event else {
                continue;
            };
            if dest_url.contains("://") {
                continue;
            }
            let (file, anchor) = dest_url.split_once('#').unwrap_or((&dest_url, ""));
            let target = if file.is_empty() { root().join(page) } else { folder.join(file) };
            let read = || std::fs::read_to_string(&target).unwrap_or_default();
            if !target.exists() || !anchor.is_empty() && !anchors(&read()).contains(anchor) {
                broken.push(format!("{page}: {dest_url}"));
            }
        }
    }
    ensure!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    Ok(())
}

#[trial]
fn every_page_is_a_chapter_of_the_book() -> Result<()> {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md"))?;
    let missing: Vec<String> = book_pages()?
        .into_keys()
        .filter_map(|page| page.strip_prefix("docs/").map(str::to_owned))
        .filter(|page| page != "SUMMARY.md" && !summary.contains(&format!("({page})")))
        .collect();
    ensure!(missing.is_empty(), "docs/SUMMARY.md lacks {}", missing.join(", "));
    Ok(())
}

/// A command of a console block.
struct Shown {
    page: String,
    line: String,
    /// Whether the block shows an error.
    fails: bool,
}

/// Commands that the pages show: lines that begin with a dollar sign, without the remark at their end.
fn commands() -> Result<Vec<Shown>> {
    let mut found = Vec::new();
    // The comparison with other engines is a program of its own.
    for (page, content) in book_pages()?.into_iter().filter(|(page, _)| !page.starts_with("benches/")) {
        let (mut console, mut fails) = (false, false);
        for event in parse(&content) {
            match event {
                Event::Html(html) if html.contains("<!-- figures:") => fails = html.contains(" fails"),
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => console = &*language == "console",
                Event::Text(block) if console => {
                    for line in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
                        let line = line.split("  # ").next().unwrap_or_default().trim().to_owned();
                        found.push(Shown { page: page.clone(), line, fails });
                    }
                }
                Event::End(TagEnd::CodeBlock) => (console, fails) = (false, false),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// Words of a call of `ruminate` in a line: the verb and what follows, up to the next command.
fn words_of_calls(line: &str) -> Vec<Vec<String>> {
    let line = line.replace("cargo run --release -- ", "ruminate ");
    let calls = line.split("&&").flat_map(|part| part.split(" | "));
    let words = calls.filter_map(|call| {
        let (before, call) = call.split_once("ruminate ")?;
        // Variables of the environment may come before it, and nothing else.
        before.split_whitespace().all(|word| word.contains('=')).then_some(call)
    });
    words.map(|call| call.split_whitespace().map(str::to_owned).collect()).collect()
}

/// Flags that the help of a verb has; none if there is no such verb.
fn flags_of(verb: &str) -> Option<BTreeSet<String>> {
    let done = ruminate(&[verb, "--help"]).output().ok()?;
    let help = done.status.success().then(|| text(&done.stdout))?;
    let words = help.split(|c: char| c.is_whitespace() || ",[=<`;:()'".contains(c));
    Some(words.filter(|word| word.starts_with('-')).map(str::to_owned).collect())
}

#[trial]
fn commands_use_verbs_and_flags_that_exist() -> Result<()> {
    let mut known: HashMap<String, Option<BTreeSet<String>>> = HashMap::new();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for Shown { page, line, .. } in commands()? {
        for words in words_of_calls(&line) {
            let Some((verb, rest)) = words.split_first() else { continue };
            let flags = known.entry(verb.clone()).or_insert_with(|| flags_of(verb));
            let Some(flags) = flags else {
                wrong.push(format!("{page}: no verb {verb} in {line}"));
                continue;
            };
            seen += 1;
            // What is in quotes is text.
            let mut quoted = false;
            for word in rest {
                let inside = quoted;
                quoted ^= word.matches(['"', '\'']).count() % 2 == 1;
                let name = word.split('=').next().unwrap_or_default();
                let is_flag = name.starts_with('-') && name.len() > 1 && !name[1..].starts_with(char::is_numeric);
                if !inside && is_flag && !flags.contains(name) {
                    wrong.push(format!("{page}: {verb} has no {name} in {line}"));
                }
            }
        }
    }
    ensure!(seen > 40, "only {seen} commands found");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Verbs whose examples are quick.
const QUICK: [&str; 8] = ["run", "score", "trace", "inspect", "devices", "quantize", "completions", "manual"];

/// Whether a command needs a download, another command's files or minutes.
fn is_out_of_reach(line: &str) -> bool {
    let words = words_of_calls(line);
    let slow = words.iter().any(|words| !QUICK.contains(&words[0].as_str()));
    let hub = ["-m huginn", "-m ouro", "-m owner", "-m small", "-m /tmp", "-m NAME", "huginn-0125", "nanbeige"];
    let files = [" FILE", " DIR", "problems.txt", "problems.jsonl", "ORIGINAL", "…"];
    words.is_empty() || slow || hub.iter().chain(&files).any(|part| line.contains(part))
}

#[cfg(unix)]
#[trial(full)]
fn examples_run_or_fail_as_shown() -> Result<()> {
    let folder = Folder::new()?;
    std::os::unix::fs::symlink(root().join("docs"), folder.path().join("docs"))?;
    let binary = Path::new(env!("CARGO_BIN_EXE_ruminate")).parent().context("the program lies in a folder")?;
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::join_paths(std::iter::once(binary.to_path_buf()).chain(std::env::split_paths(&paths)))?;
    let mut run = 0;
    for Shown { page, line, fails } in commands()?.into_iter().filter(|shown| !is_out_of_reach(&shown.line)) {
        let line = line.replace("cargo run --release -- ", "ruminate ");
        let on_cpu = |verb: &str| line.contains(&format!("ruminate {verb}")) && !line.contains("--cpu");
        let device = ["run", "score", "trace"].iter().any(|verb| on_cpu(verb)) && !line.contains("--gpu");
        let line = if device { format!("{line} --cpu") } else { line };
        let mut shell = Command::new("sh");
        let shell =
            shell.args(["-c", &line]).current_dir(folder.path()).env("PATH", &paths).stdin(std::process::Stdio::null());
        let done = shell.output()?;
        let errors = text(&done.stderr);
        ensure!(done.status.success() != fails, "{page}: {line} ends with {:?}:\n{errors}", done.status.code());
        run += 1;
    }
    ensure!(run >= 12, "only {run} examples were run");
    Ok(())
}

#[trial]
fn reference_of_flags_is_up_to_date() -> Result<()> {
    let page = root().join("docs/reference/cli.md");
    let done = ruminate(&["manual", "--markdown"]).output()?;
    ensure!(done.status.success(), "{}", text(&done.stderr));
    let made = text(&done.stdout);
    if std::env::var_os("RUMINATE_WRITE_DOCS").is_some() {
        std::fs::write(page, made)?;
        return Ok(());
    }
    let found = std::fs::read_to_string(page)?;
    ensure!(found == made, "docs/reference/cli.md is not up to date: RUMINATE_WRITE_DOCS=1 tests/run cli -- book");
    Ok(())
}

fn mdbook_is_missing() -> Option<String> {
    let found = Command::new("mdbook").arg("--version").output().is_ok_and(|done| done.status.success());
    (!found).then(|| "mdbook is not installed (cargo install mdbook)".to_owned())
}

#[trial(needs(mdbook_is_missing))]
fn book_builds_without_warnings() -> Result<()> {
    let folder = Folder::new()?;
    let done = Command::new("mdbook").arg("build").arg(root().join("docs")).arg("-d").arg(folder.path()).output()?;
    let said = text(&done.stderr) + &text(&done.stdout);
    ensure!(done.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    ensure!(folder.path().join("quick-start.html").exists(), "the book has no pages");
    Ok(())
}
