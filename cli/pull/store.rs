//! Layout of the cache: a file lies in `blobs` under its hash, and every commit that contains it links to it. Paths and locks are those of Python's
//! `huggingface_hub`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use hf_hub::{Cache, CacheRepo};

use super::remote::RemoteFile;
use crate::hub::ModelName;

/// Part of the cache that belongs to one model.
pub(super) struct Store {
    cache: PathBuf,
    layout: CacheRepo,
    locks: PathBuf,
    blobs: PathBuf,
    refs: PathBuf,
    name: ModelName,
}

impl Store {
    /// Creates the folders.
    pub(super) fn open(cache: &Path, name: &ModelName) -> Result<Self> {
        let folder = name.to_repo().folder_name();
        let cache = std::path::absolute(cache).unwrap_or_else(|_| cache.to_path_buf());
        let store = Self {
            layout: Cache::new(cache.clone()).repo(name.to_repo()),
            locks: cache.join(".locks").join(&folder),
            blobs: cache.join(&folder).join("blobs"),
            refs: cache.join(&folder).join("refs"),
            cache,
            name: name.clone(),
        };
        for path in [store.blob("").as_path(), &store.locks] {
            std::fs::create_dir_all(path).map_err(|error| store.wrong("create the folder", path, &error))?;
        }
        Ok(store)
    }

    /// Path of a complete file.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.blobs.join(etag)
    }

    /// Path of a partially downloaded file.
    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.blob(&format!("{etag}.incomplete"))
    }

    /// Opens a partially downloaded file. Anything else of that name is removed: a link would be written through, and a pipe would wait for a reader.
    pub(super) fn open_partial(&self, blob: &str) -> Result<File> {
        let path = self.partial(blob);
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            std::fs::remove_file(&path).map_err(|error| self.wrong("replace", &path, &error))?;
        }
        let out = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        out.map_err(|error| self.wrong("open", &path, &error))
    }

    /// Folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    /// Path of the complete file, if present: under its hash, or, on systems without links, only in the commit's folder.
    pub(super) fn find(&self, commit: &str, file: &RemoteFile) -> Option<PathBuf> {
        let places = [self.blob(&file.blob), self.snapshot(commit).join(&file.name)];
        places.into_iter().find(|path| path.metadata().is_ok_and(|found| found.is_file() && found.len() == file.size))
    }

    /// Missing bytes of a file.
    pub(super) fn rest(&self, commit: &str, file: &RemoteFile) -> u64 {
        if self.find(commit, file).is_some() {
            return 0;
        }
        let there = self
            .partial(&file.blob)
            .symlink_metadata()
            .map_or(0, |found| if found.is_file() { found.len() } else { 0 });
        file.size.saturating_sub(there)
    }

    /// Free bytes of the file system, if it reports them.
    pub(super) fn room(&self) -> Option<u64> {
        fs4::available_space(&self.cache).ok()
    }

    /// Folder of the cache.
    pub(super) fn path(&self) -> &Path {
        &self.cache
    }

    /// Locks a file against other downloads until the returned value is dropped. `busy` is called before waiting for another process.
    pub(super) fn lock(&self, etag: &str, busy: impl FnOnce()) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        // Opening a pipe would wait for its other end.
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return Err(anyhow!("{} is not a regular file, so it cannot be a lock; remove it", path.display()));
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| self.wrong("open", &path, &error))?;
        let outcome = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                busy();
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        match outcome {
            // Some network file systems do not support locks. Two downloads at once could then damage a file, which its hash would reveal.
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(self.wrong("lock", &path, &error)),
            _ => Ok(file),
        }
    }

    /// Links complete files into a commit's folder. `config.json` comes last, because it marks a folder as a model.
    pub(super) fn link(&self, commit: &str, files: &[RemoteFile]) -> Result<PathBuf> {
        let folder = self.snapshot(commit);
        std::fs::create_dir_all(&folder).map_err(|error| self.wrong("create the folder", &folder, &error))?;
        let (last, first): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.name == super::select::CONFIG);
        for file in first.into_iter().chain(last) {
            let path = folder.join(&file.name);
            if path.metadata().is_ok_and(|found| found.len() == file.size) {
                continue;
            }
            // A dangling link or a file of another size, left by another program.
            if path.symlink_metadata().is_ok() {
                std::fs::remove_file(&path).map_err(|error| self.wrong("replace", &path, &error))?;
            }
            let blob = self.blob(&file.blob);
            let relative = Path::new("..").join("..").join("blobs").join(&file.blob);
            // Windows allows symbolic links only in developer mode. A hard link takes no room either; a copy always works.
            symlink(&relative, &path)
                .or_else(|error| if path.exists() { Ok(()) } else { Err(error) })
                .or_else(|_| std::fs::hard_link(&blob, &path))
                .or_else(|_| std::fs::copy(&blob, &path).map(drop))
                .map_err(|error| self.wrong("write", &path, &error))?;
        }
        Ok(folder)
    }

    /// Records the commit of the branch or tag. Done last, because it makes the files visible.
    pub(super) fn point(&self, commit: &str) -> Result<()> {
        let path = self.refs.join(self.name.revision());
        // A pipe in its place would be waited for.
        if path.metadata().is_ok_and(|file| !file.is_file()) {
            let error = std::io::Error::new(ErrorKind::InvalidInput, "it exists, but is not a file");
            return Err(self.wrong("write", &path, &error));
        }
        let same = std::fs::read_to_string(&path).is_ok_and(|known| known == commit);
        if self.name.is_commit() || same {
            return Ok(());
        }
        self.layout.create_ref(commit).map_err(|error| self.wrong("write", &path, &error))
    }

    /// Error of the file system, with advice.
    pub(super) fn wrong(&self, doing: &str, path: &Path, error: &std::io::Error) -> anyhow::Error {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => anyhow!(
                "the disk of {} is full ({error}); what has been downloaded is kept: make room and run the same command again to continue",
                self.cache.display()
            ),
            _ => anyhow!("cannot {doing} {}: {error}", path.display()),
        }
    }

    /// Reads a whole small file.
    pub(super) fn read(&self, commit: &str, file: &RemoteFile) -> Result<Vec<u8>> {
        let path = self.find(commit, file).with_context(|| format!("{} is missing from the cache", file.name))?;
        std::fs::read(&path).map_err(|error| self.wrong("read", &path, &error))
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}
