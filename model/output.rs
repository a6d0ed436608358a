//! Output files, written completely or not at all, and only in place of regular files.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use safetensors::tensor::TensorView;
use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, Result};

/// Maximum length of a chain of symbolic links, as in Linux.
const MOST_LINKS: usize = 40;

/// A file being written, under a temporary name in the folder of its destination until it is complete. If it is dropped before, the temporary file is deleted
/// and an existing file at the destination stays.
pub struct OutputFile {
    /// Path as given by the caller, for messages.
    named: PathBuf,
    place: PathBuf,
    file: NamedTempFile,
    permissions: Permissions,
}

impl OutputFile {
    /// Checks that a file can be written, and returns its destination. Symbolic links are followed, so that their target is replaced and the link stays. An
    /// existing destination must be a regular file that is not read-only. Call it before a long computation whose result is written.
    ///
    /// # Errors
    /// [`Error::Output`] if a file must not be written there, [`Error::Write`] if the system does not allow it.
    pub fn check(path: impl AsRef<Path>) -> Result<PathBuf> {
        Self::create(path).map(|output| output.place.clone())
    }

    /// Begins a file. [`Self::finish`] replaces an existing file, whose permissions are kept.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let named = path.as_ref().to_path_buf();
        let failed = |source| Error::Write { file: named.display().to_string(), source };
        let refused = |problem| Error::Output { file: named.display().to_string(), problem };
        let place = follow(&named).map_err(failed)?.map_err(refused)?;
        let found = match fs::symlink_metadata(&place) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let Some(found) = &found {
            if let Some(problem) = other_than_a_file(found.file_type()) {
                return Err(refused(problem));
            }
            if found.permissions().readonly() {
                return Err(refused("is read-only; make it writable, or name another file"));
            }
            OpenOptions::new().append(true).open(&place).map_err(failed)?;
        }
        if !folder(&place).is_dir() {
            return Err(refused("is in a folder that does not exist; make it first"));
        }
        let mut builder = Builder::new();
        builder.prefix(".ruminate-").suffix(".part");
        // By default, temporary files are private. This mode, reduced by the user's umask, gives the usual permissions.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder(&place)).map_err(failed)?;
        let fresh = || file.as_file().metadata().map(|made| made.permissions());
        let permissions = found.map_or_else(fresh, |found| Ok(found.permissions())).map_err(failed)?;
        Ok(Self { named, place, file, permissions })
    }

    /// Path of the temporary file, for writers that need a file's name.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        self.file.path()
    }

    /// Syncs the content to disk and renames the file to its destination.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish(self) -> Result<()> {
        self.end(true, true)
    }

    /// Renames the file to its destination without syncing: for a file that is rewritten often and must survive a crash of the program, but not a loss of
    /// power.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish_unsynced(self) -> Result<()> {
        self.end(true, false)
    }

    /// Syncs and renames the file like [`Self::finish`], unless the destination exists.
    ///
    /// # Errors
    /// [`Error::Write`]; its source has the kind [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the destination exists.
    pub fn finish_new(self) -> Result<()> {
        self.end(false, true)
    }

    fn end(self, replace: bool, sync: bool) -> Result<()> {
        let Self { named, place, file, permissions } = self;
        let failed = |source| Error::Write { file: named.display().to_string(), source };
        let path = file.into_temp_path();
        // Opened by name, because a writer may have replaced the temporary file by another one.
        let whole = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        let synced = if sync { whole.sync_all() } else { Ok(()) };
        synced.and_then(|()| whole.set_permissions(permissions)).map_err(failed)?;
        drop(whole);
        let moved = if replace { path.persist(&place) } else { path.persist_noclobber(&place) };
        moved.map_err(|error| failed(error.error))?;
        // Syncs the folder, so that the new name is on disk. Some systems cannot open a folder as a file, and do not need this.
        if sync && let Ok(folder) = File::open(folder(&place)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a safetensors file with named tensors, and `about` as its metadata.
pub(crate) fn write_tensors<'t, N: AsRef<str> + Ord + Display>(
    path: &Path,
    tensors: impl Iterator<Item = std::result::Result<(N, TensorView<'t>), SafeTensorError>>,
    about: HashMap<String, String>,
) -> Result<()> {
    let file = OutputFile::create(path)?;
    let failed = |error| {
        let source = match error {
            SafeTensorError::IoError(source) => source,
            error => io::Error::other(error),
        };
        Error::Write { file: path.display().to_string(), source }
    };
    let tensors = tensors.collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
    safetensors::serialize_to_file(tensors, Some(about), file.temporary()).map_err(failed)?;
    file.finish()
}

/// Describes the problem if a file type is not a regular file.
fn other_than_a_file(kind: fs::FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("is a pipe; name a file to write");
        }
        if kind.is_socket() {
            return Some("is a socket; name a file to write");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("is a device; name a file to write");
        }
    }
    if kind.is_dir() {
        return Some("is a folder; name a file to write");
    }
    (!kind.is_file()).then_some("is not a regular file; name a file to write")
}

/// Follows symbolic links to a destination. The inner error describes a destination that must not be written.
fn follow(named: &Path) -> io::Result<std::result::Result<PathBuf, &'static str>> {
    if named.as_os_str().to_string_lossy().ends_with(std::path::is_separator) || named.file_name().is_none() {
        return Ok(Err("is a folder; name a file to write"));
    }
    let mut place = named.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&place) {
            Ok(found) if found.file_type().is_symlink() => {}
            Ok(_) => return Ok(Ok(place)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(place)),
            Err(error) => return Err(error),
        }
        // On Linux, open streams such as /dev/stdout are links into /proc. Their targets have other readers and writers, so they must not be replaced.
        if folder(&place).canonicalize()?.starts_with("/proc") {
            return Ok(Err("is an open stream of a program; name a file to write"));
        }
        place = folder(&place).join(fs::read_link(&place)?);
    }
    Ok(Err("is a link that leads back to itself; name a file to write"))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
