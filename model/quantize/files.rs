//! Output folder whose files appear together, once all of them are complete.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

use super::{BESIDE, leftovers};
use crate::error::{Error, Result};
use crate::source::Source;

/// The output folder.
///
/// If a model is overwritten, the new one is built in a folder beside it, and the two are exchanged when it is complete: at every moment either the old or the
/// new model can be loaded.
pub(super) struct Folder {
    path: PathBuf,
    beside: Option<TempDir>,
    finished: Vec<(String, NamedTempFile)>,
    /// Whether this process created the folder; if nothing is written, it is removed again.
    made: bool,
}

/// A file being written.
pub(super) struct Writer {
    name: String,
    path: PathBuf,
    file: NamedTempFile,
}

impl Folder {
    /// Opens a folder that is new or empty, or may be overwritten, and is not the source.
    pub(super) fn open(path: &Path, source: &Source, force: bool) -> Result<Self> {
        let wrong = |problem| Err(Error::Folder { folder: path.display().to_string(), problem });
        let made = !path.exists();
        if !made && !path.is_dir() {
            return wrong("is a file; name a folder");
        }
        std::fs::create_dir_all(path).map_err(|error| failed(path, error))?;
        if let Source::Dir(read) = source
            && same(read, path)
        {
            return wrong("holds the model that is read; name another folder");
        }
        leftovers::clear(path)?;
        let empty = std::fs::read_dir(path).map_err(|error| failed(path, error))?.next().is_none();
        if !empty && !force {
            return wrong("is not empty; name another folder, or overwrite the model in it (force)");
        }
        replaceable(path)?;
        let beside = if empty { None } else { Some(leftovers::beside(path)?) };
        Ok(Self { path: path.to_path_buf(), beside, finished: Vec::new(), made })
    }

    /// Folder in which files are created.
    fn place(&self) -> &Path {
        self.beside.as_ref().map_or(&self.path, TempDir::path)
    }

    /// Creates a file under a temporary name; it is removed when dropped before [`Self::commit`].
    pub(super) fn file(&self, name: &str) -> Result<Writer> {
        let path = self.path.join(name);
        let mut builder = Builder::new();
        let prefix = leftovers::prefix();
        builder.prefix(&prefix).suffix(".part");
        // The user's umask applies, as for any other file; temporary files are private by default.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(self.place()).map_err(|error| failed(&path, error))?;
        Ok(Writer { name: name.to_owned(), path, file })
    }

    /// Syncs a file to disk.
    pub(super) fn finish(&mut self, writer: Writer) -> Result<()> {
        writer.file.as_file().sync_all().map_err(|error| failed(&writer.path, error))?;
        self.finished.push((writer.name, writer.file));
        Ok(())
    }

    /// Writes a whole file.
    pub(super) fn whole(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut writer = self.file(name)?;
        writer.write(0, content)?;
        self.finish(writer)
    }

    /// Gives the files their names, in the order in which they were finished, and returns names and sizes. An existing model is replaced as a whole; other
    /// files stay.
    pub(super) fn commit(mut self) -> Result<Vec<(String, u64)>> {
        let files = std::mem::take(&mut self.finished);
        let mut written = Vec::new();
        for (name, file) in files {
            let path = self.path.join(&name);
            let file = file.persist(self.place().join(&name)).map_err(|error| failed(&path, error.error))?;
            written.push((name, file.metadata().map_err(|error| failed(&path, error))?.len()));
            self.made = false;
        }
        // Syncs the names too. Systems on which a folder cannot be opened as a file do not need it.
        let sync = |path: &Path| drop(File::open(path).map(|folder| folder.sync_all()));
        sync(self.place());
        if let Some(beside) = self.beside.take() {
            leftovers::exchange(beside, &self.path)?;
            if let Some(parent) = self.path.canonicalize().ok().as_deref().and_then(Path::parent) {
                sync(parent);
            }
        }
        Ok(written)
    }
}

/// Checks that the files of a model that is overwritten can be replaced.
fn replaceable(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let entry = entry.map_err(|error| failed(folder, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_weights(&name) && !BESIDE.contains(&name.as_str()) {
            continue;
        }
        let refused = |problem| Err(Error::Output { file: entry.path().display().to_string(), problem });
        let found = std::fs::symlink_metadata(entry.path()).map_err(|error| failed(&entry.path(), error))?;
        if found.is_symlink() {
            return refused("is a link, possibly into another model; remove it, or name another folder");
        }
        if !found.is_file() {
            return refused("is not a regular file; remove it, or name another folder");
        }
        if found.permissions().readonly() {
            return refused("is read-only; make it writable, or name another folder");
        }
    }
    Ok(())
}

/// Whether a file name is that of weights or of a shard index.
pub(super) fn is_weights(name: &str) -> bool {
    name.starts_with("model") && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"))
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.finished.clear();
        if self.made {
            // Fails, as intended, if the folder contains other files.
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

impl Writer {
    /// Writes bytes at an offset.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = self.file.as_file_mut();
        let written = file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes));
        written.map_err(|error| failed(&self.path, error))
    }
}

pub(super) fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Write { file: path.display().to_string(), source }
}

/// Whether two paths are the same folder.
fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
