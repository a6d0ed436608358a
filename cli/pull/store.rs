//! Files in the cache: a file lies in `blobs` under its hash, and every commit that has it links to it. Those are the places where
//! Python's `huggingface_hub` looks, and the locks that it heeds.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use hf_hub::{Cache, CacheRepo};

use super::remote::RemoteFile;
use crate::hub::ModelName;

/// A model's part of the cache.
pub(super) struct Store {
    cache: PathBuf,
    layout: CacheRepo,
    locks: PathBuf,
    blobs: PathBuf,
    refs: PathBuf,
    name: ModelName,
}

impl Store {
    /// Makes the folders.
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
            std::fs::create_dir_all(path).map_err(|error| store.wrong("make the folder", path, &error))?;
        }
        Ok(store)
    }

    /// Where a whole file is.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.blobs.join(etag)
    }

    /// Where a file is that is still being downloaded.
    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.blob(&format!("{etag}.incomplete"))
    }

    /// Opens a file that is still being downloaded. Whatever else has its name goes: a link would be written through, a pipe waits for a reader.
    pub(super) fn open_partial(&self, blob: &str) -> Result<File> {
        let path = self.partial(blob);
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            std::fs::remove_file(&path).map_err(|error| self.wrong("replace", &path, &error))?;
        }
        let out = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        out.map_err(|error| self.wrong("open", &path, &error))
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    /// The whole file, if it is there: under its hash, or, where links are not possible, in the commit's folder alone.
    pub(super) fn find(&self, commit: &str, file: &RemoteFile) -> Option<PathBuf> {
        let places = [self.blob(&file.blob), self.snapshot(commit).join(&file.name)];
        places.into_iter().find(|path| path.metadata().is_ok_and(|found| found.is_file() && found.len() == file.size))
    }

    /// Bytes of a file that are still to come.
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

    /// Bytes that the file system would still take, if it says so.
    pub(super) fn room(&self) -> Option<u64> {
        fs4::available_space(&self.cache).ok()
    }

    /// Where the cache is.
    pub(super) fn path(&self) -> &Path {
        &self.cache
    }

    /// Waits until nobody else downloads a file, and keeps others from it as long as the value lives. `busy` is called before a wait.
    pub(super) fn lock(&self, etag: &str, busy: impl FnOnce()) -> Result<File> {
        let path = self.locks.join(format!("{etag}.lock"));
        // To open a pipe would be to wait for somebody at its other end.
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
            // Some network file systems have no locks. Two downloads at once could then spoil a file, which its hash would tell.
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(self.wrong("lock", &path, &error)),
            _ => Ok(file),
        }
    }

    /// Makes whole files show up in a commit's folder. `config.json`, by which a folder is known as a model's, comes last.
    pub(super) fn link(&self, commit: &str, files: &[RemoteFile]) -> Result<PathBuf> {
        let folder = self.snapshot(commit);
        std::fs::create_dir_all(&folder).map_err(|error| self.wrong("make the folder", &folder, &error))?;
        let (last, first): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.name == super::select::CONFIG);
        for file in first.into_iter().chain(last) {
            let path = folder.join(&file.name);
            if path.metadata().is_ok_and(|found| found.len() == file.size) {
                continue;
            }
            // A link to nowhere, or a file of another size: what something else has left.
            if path.symlink_metadata().is_ok() {
                std::fs::remove_file(&path).map_err(|error| self.wrong("replace", &path, &error))?;
            }
            let blob = self.blob(&file.blob);
            let relative = Path::new("..").join("..").join("blobs").join(&file.blob);
            // Windows allows links to everyone only in developer mode. A hard link takes no room either; a copy always works.
            symlink(&relative, &path)
                .or_else(|error| if path.exists() { Ok(()) } else { Err(error) })
                .or_else(|_| std::fs::hard_link(&blob, &path))
                .or_else(|_| std::fs::copy(&blob, &path).map(drop))
                .map_err(|error| self.wrong("write", &path, &error))?;
        }
        Ok(folder)
    }

    /// Says which commit the branch or tag means. Done last, since this is what makes the files be found.
    pub(super) fn point(&self, commit: &str) -> Result<()> {
        let path = self.refs.join(self.name.revision());
        let same = std::fs::read_to_string(&path).is_ok_and(|known| known == commit);
        if self.name.is_commit() || same {
            return Ok(());
        }
        self.layout.create_ref(commit).map_err(|error| self.wrong("write", &path, &error))
    }

    /// An error of the file system, with what to do.
    pub(super) fn wrong(&self, doing: &str, path: &Path, error: &std::io::Error) -> anyhow::Error {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => anyhow!(
                "the disk of {} is full ({error}); what has been downloaded is kept: make room and run the same command again to go on",
                self.cache.display()
            ),
            _ => anyhow!("cannot {doing} {}: {error}", path.display()),
        }
    }

    /// Reads a whole small file.
    pub(super) fn read(&self, commit: &str, file: &RemoteFile) -> Result<Vec<u8>> {
        let path = self.find(commit, file).with_context(|| format!("{} has gone from the cache", file.name))?;
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
