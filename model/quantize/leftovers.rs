//! Temporary folders beside the output folder, and leftovers of interrupted processes.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

use super::BESIDE;
use super::files::{failed, is_weights};
use crate::error::Result;

/// Prefix of names of unfinished files and folders; the process id follows.
const MARK: &str = ".quantize-";

/// Prefix of the names that this process creates.
pub(super) fn prefix() -> String {
    format!("{MARK}{}-", std::process::id())
}

/// Creates a temporary folder beside another one, on the same file system.
pub(super) fn beside(folder: &Path) -> Result<TempDir> {
    let (parent, name) = place(folder)?;
    let made = Builder::new().prefix(&format!(".{name}{}", prefix())).tempdir_in(&parent);
    made.map_err(|error| failed(&parent, error))
}

/// Replaces `folder` by a new folder beside it, in one step if the system can. Files of the old folder that belong to no model are moved to the new one, the
/// others are removed.
pub(super) fn exchange(new: TempDir, folder: &Path) -> Result<()> {
    let folder = folder.canonicalize().map_err(|error| failed(folder, error))?;
    let permissions = fs::metadata(&folder).map_err(|error| failed(&folder, error))?.permissions();
    fs::set_permissions(new.path(), permissions).map_err(|error| failed(&folder, error))?;
    swap(new.path(), &folder).map_err(|error| failed(&folder, error))?;
    // The kept path now is the old folder, whose other files must not be removed.
    let old = new.keep();
    empty_into(&old, &folder)
}

/// Removes leftovers of dead processes in a folder and beside it.
pub(super) fn clear(folder: &Path) -> Result<()> {
    for entry in entries(folder)? {
        if is_dead(&name_of(&entry), MARK) && entry.is_file() {
            fs::remove_file(&entry).map_err(|error| failed(&entry, error))?;
        }
    }
    let (parent, name) = place(folder)?;
    // If the parent cannot be read, its leftovers cannot be found.
    for entry in entries(&parent).unwrap_or_default() {
        if is_dead(&name_of(&entry), &format!(".{name}{MARK}")) && entry.is_dir() {
            empty_into(&entry, folder)?;
        }
    }
    Ok(())
}

/// Removes model files from the old folder, moves other files to the new one unless it has one of that name, and removes the old folder if it is then empty.
fn empty_into(old: &Path, new: &Path) -> Result<()> {
    for entry in entries(old)? {
        let name = name_of(&entry);
        let done = if is_weights(&name) || BESIDE.contains(&name.as_str()) || name.starts_with(MARK) {
            fs::remove_file(&entry)
        } else if new.join(&name).symlink_metadata().is_err() {
            fs::rename(&entry, new.join(&name))
        } else {
            Ok(())
        };
        done.map_err(|error| failed(&entry, error))?;
    }
    let _ = fs::remove_dir(old);
    Ok(())
}

#[cfg(target_os = "linux")]
fn swap(new: &Path, old: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => swap_in_steps(new, old),
        done => Ok(done?),
    }
}

#[cfg(not(target_os = "linux"))]
fn swap(new: &Path, old: &Path) -> std::io::Result<()> {
    swap_in_steps(new, old)
}

/// Fallback without a system call for the exchange: the old folder is missing for a moment, and is restored if the new one cannot take its place.
fn swap_in_steps(new: &Path, old: &Path) -> std::io::Result<()> {
    let aside = new.with_extension("old");
    fs::rename(old, &aside)?;
    fs::rename(new, old).inspect_err(|_| drop(fs::rename(&aside, old)))?;
    fs::rename(&aside, new)
}

/// Parent and name of a folder.
fn place(folder: &Path) -> Result<(PathBuf, String)> {
    let whole = folder.canonicalize().map_err(|error| failed(folder, error))?;
    let name = name_of(&whole);
    Ok((whole.parent().unwrap_or(&whole).to_path_buf(), name))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    read.map_err(|error| failed(folder, error))
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a name was given by a process that is no longer running; names from earlier versions have no process id.
fn is_dead(name: &str, start: &str) -> bool {
    let Some(rest) = name.strip_prefix(start) else { return false };
    let process = rest.split_once('-').and_then(|(number, _)| number.parse().ok());
    process.is_none_or(|process| !is_running(process))
}

#[cfg(unix)]
fn is_running(process: i32) -> bool {
    let Some(process) = rustix::process::Pid::from_raw(process) else { return false };
    // A process that may not be signalled belongs to another user, but runs.
    !matches!(rustix::process::test_kill_process(process), Err(rustix::io::Errno::SRCH))
}

#[cfg(not(unix))]
fn is_running(_: i32) -> bool {
    // All leftovers count as dead: Windows refuses to remove files that a program has open.
    false
}
