//! Output paths that are not regular files: reported before anything is computed, and left unchanged. Unix only, because other systems have other kinds of
//! files.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ruminate_tests::{Folder, trial};

use crate::bad_input::call::{ruminate, said};

/// Calls that write a file; its name is appended. Their computation would take hours.
const CALLS: &[&[&str]] = &[
    &["run", "--cpu", "--steps", "65536", "-p", "Ball in C. Swap CE", "--save-session"],
    &["trace", "--cpu", "--steps", "65536", "--safetensors"],
    &["trace", "--cpu", "--steps", "65536", "--svg"],
    &["trace", "--cpu", "--steps", "65536", "--png"],
    &["sweep", "--cpu", "--steps", "65536", "--html"],
    &["tune", "--output"],
];

fn refused(home: &Folder, name: &str, words: &str) -> Result<()> {
    for call in CALLS {
        let output = ruminate(home.path(), &[call, &[name][..]].concat()).output()?;
        said(&output, 2, &[name, words]).with_context(|| format!("{call:?}"))?;
        ensure!(output.stdout.is_empty(), "{call:?} printed {:?}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

fn pipe(path: &Path) -> Result<()> {
    ensure!(Command::new("mkfifo").arg(path).status()?.success());
    Ok(())
}

#[trial(full)]
fn outputs_other_than_regular_files_are_refused() -> Result<()> {
    let home = Folder::new()?;
    fs::create_dir(home.path().join("folder"))?;
    pipe(&home.path().join("pipe"))?;
    symlink("pipe", home.path().join("link-to-a-pipe"))?;
    symlink("circle", home.path().join("circle"))?;
    let _listening = std::os::unix::net::UnixListener::bind(home.path().join("socket"))?;
    for (name, words) in [
        ("folder", "is a folder; name a file to write"),
        ("none/", "is a folder; name a file to write"),
        ("pipe", "is a pipe; name a file to write"),
        ("link-to-a-pipe", "is a pipe"),
        ("circle", "is a link that leads back to itself"),
        ("socket", "is a socket"),
        ("/dev/null", "is a device"),
    ] {
        refused(&home, name, words)?;
    }
    if Path::new("/proc/self/fd").exists() {
        refused(&home, "/dev/stdout", "is an open stream of a program")?;
    }
    ensure!(fs::symlink_metadata(home.path().join("pipe"))?.file_type().is_fifo(), "the pipe was replaced");
    ensure!(fs::symlink_metadata("/dev/null")?.file_type().is_char_device(), "a device was replaced");
    ensure!(fs::read_dir(home.path())?.count() == 5, "files are left");
    let output = ruminate(home.path(), &[CALLS[0], &["none/session"]].concat()).output()?;
    said(&output, 2, &["cannot write none/session: it is in a folder that does not exist; make it first"])?;
    Ok(())
}

#[trial(full)]
fn read_only_outputs_are_refused() -> Result<()> {
    let home = Folder::new()?;
    home.write("kept", "precious")?;
    fs::set_permissions(home.path().join("kept"), Permissions::from_mode(0o444))?;
    refused(&home, "kept", "is read-only; make it writable")?;
    ensure!(fs::read(home.path().join("kept"))? == b"precious");
    Ok(())
}

#[trial(full)]
fn outputs_through_links_replace_the_target() -> Result<()> {
    let home = Folder::new()?;
    let place = |name: &str| home.path().join(name);
    fs::create_dir(place("elsewhere"))?;
    home.write("elsewhere/old", "old")?;
    fs::set_permissions(place("elsewhere/old"), Permissions::from_mode(0o640))?;
    symlink("elsewhere/old", place("old"))?;
    symlink("elsewhere/new", place("new"))?;
    symlink("new", place("twice"))?;
    for (call, name, target) in [
        (&["run", "--cpu", "--steps", "2", "-p", "Ball in C.", "--save-session"][..], "old", "elsewhere/old"),
        (&["trace", "--cpu", "--steps", "2", "--svg"], "old", "elsewhere/old"),
        (&["trace", "--cpu", "--steps", "2", "--safetensors"], "old", "elsewhere/old"),
        (&["trace", "--cpu", "--steps", "2", "--html"], "twice", "elsewhere/new"),
    ] {
        let before = fs::read(place(target)).unwrap_or_default();
        let output = ruminate(home.path(), &[call, &[name]].concat()).output()?;
        said(&output, 0, &[])?;
        ensure!(fs::symlink_metadata(place(name))?.is_symlink(), "{call:?} replaced the link");
        let after = fs::read(place(target))?;
        ensure!(after.len() > 100 && after != before, "{call:?} wrote {} bytes", after.len());
    }
    let mode = fs::metadata(place("elsewhere/old"))?.permissions().mode() & 0o777;
    ensure!(mode == 0o640, "the file's permissions became {mode:o}");
    ensure!(fs::read_dir(place("elsewhere"))?.count() == 2, "files are left");
    Ok(())
}

#[trial(full)]
fn quantize_refuses_to_replace_links_pipes_and_read_only_files() -> Result<()> {
    let home = Folder::new()?;
    let place = |name: &str| home.path().join(name);
    fs::create_dir(place("small"))?;
    let call = ["quantize", "--dtype", "q8", "--force", "-o", "small"];
    home.write("weights", "of another model")?;
    symlink("../weights", place("small/model.safetensors"))?;
    let refused = |words| said(&ruminate(home.path(), &call).output()?, 2, &["small/", words]);
    refused("is a link, possibly into another model; remove it, or name another folder")?;
    fs::remove_file(place("small/model.safetensors"))?;
    pipe(&place("small/config.json"))?;
    refused("is not a regular file; remove it")?;
    fs::remove_file(place("small/config.json"))?;
    home.write("small/tokenizer.json", "{}")?;
    fs::set_permissions(place("small/tokenizer.json"), Permissions::from_mode(0o444))?;
    refused("is read-only; make it writable")?;
    ensure!(fs::read(place("weights"))? == b"of another model" && fs::read_dir(place("small"))?.count() == 1);
    fs::set_permissions(place("small/tokenizer.json"), Permissions::from_mode(0o644))?;
    said(&ruminate(home.path(), &call).output()?, 0, &[])?;
    Ok(())
}
