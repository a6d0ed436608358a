//! Downloads one file from the hub into the cache. An interrupted download keeps its bytes, and the next attempt resumes there.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::time::Instant;

use anyhow::{Result, anyhow};
use ureq::http::{HeaderMap, StatusCode, header};

use super::failure::Failure;
use super::hash::Hasher;
use super::patience::Patience;
use super::progress::{Bar, Progress};
use super::remote::{Remote, RemoteFile};
use super::store::Store;

/// Minimum bytes per span; the connection to a slower server is closed and opened again.
const SLOWEST: u64 = 64 << 10;
/// Length of the span, in multiples of the read timeout.
const SPAN: u32 = 6;

/// Read size, in bytes.
const CHUNK: usize = 1 << 18;

/// File being downloaded, with its progress.
struct Coming<'a> {
    file: &'a RemoteFile,
    store: &'a Store,
    out: File,
    at: u64,
    hash: Hasher,
    bar: Bar,
}

/// Error of a download.
enum Trouble {
    /// On the network or at the server.
    Remote(Failure),
    /// On this machine.
    Local(anyhow::Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Remote(failure)
    }
}

/// Downloads a file unless it is cached, and returns whether it was downloaded. The file is verified before it gets its name.
pub(super) fn download(
    remote: &Remote<'_>,
    store: &Store,
    commit: &str,
    file: &RemoteFile,
    progress: Progress,
) -> Result<bool> {
    if store.find(commit, file).is_some() {
        return Ok(false);
    }
    let busy = || progress.say(&format!("{}: waiting for another download of it", file.name));
    let _lock = store.lock(&file.blob, busy)?;
    // Another process may have downloaded the file while it held the lock.
    if store.find(commit, file).is_some() {
        return Ok(false);
    }
    let path = store.partial(&file.blob);
    let out = store.open_partial(&file.blob)?;
    let hash = Hasher::new(file);
    let mut coming = Coming { file, store, out, at: 0, hash, bar: progress.file(&file.name, file.size)? };
    coming.take_up()?;
    coming.patiently(remote, commit)?;
    let Coming { out, hash, bar, .. } = coming;
    let found = hash.finish();
    if let Some(found) = found.filter(|found| *found != file.blob) {
        drop(out);
        std::fs::remove_file(&path).map_err(|error| store.wrong("remove", &path, &error))?;
        return Err(anyhow!(
            "{} was damaged during the download: its hash is {found}, expected {}; it has been deleted, run the same command again",
            file.name,
            file.blob
        ));
    }
    // The content must reach the disk before the name does.
    out.sync_all().map_err(|error| store.wrong("write", &path, &error))?;
    drop(out);
    std::fs::rename(&path, store.blob(&file.blob)).map_err(|error| store.wrong("rename", &path, &error))?;
    bar.done(file.size);
    Ok(true)
}

impl Coming<'_> {
    /// Hashes the bytes of an earlier attempt.
    fn take_up(&mut self) -> Result<()> {
        let (store, path) = (self.store, self.store.partial(&self.file.blob));
        let there = self.out.metadata().map_err(|error| store.wrong("read", &path, &error))?.len();
        if there > self.file.size {
            self.restart()?;
        }
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = self.out.read(&mut buffer).map_err(|error| store.wrong("read", &path, &error))?;
            if count == 0 {
                break;
            }
            self.hash.update(&buffer[..count]);
            self.at += count as u64;
            self.bar.at(self.at);
        }
        self.bar.restart();
        Ok(())
    }

    /// Restarts from the beginning.
    fn restart(&mut self) -> Result<()> {
        let path = self.store.partial(&self.file.blob);
        let emptied = self.out.set_len(0).and_then(|()| self.out.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| self.store.wrong("write", &path, &error))?;
        self.hash = Hasher::new(self.file);
        self.at = 0;
        self.bar.at(0);
        Ok(())
    }

    /// Downloads to the end, and reconnects as long as connections make progress.
    fn patiently(&mut self, remote: &Remote<'_>, commit: &str) -> Result<()> {
        let (mut patience, mut furthest) = (Patience::default(), self.at);
        let enough = SLOWEST.min(self.file.size / 16);
        while self.at < self.file.size {
            let failure = match self.attempt(remote, commit) {
                Ok(()) => break,
                Err(Trouble::Local(error)) => return Err(error),
                Err(Trouble::Remote(failure)) => failure,
            };
            // Only bytes beyond the furthest attempt count as progress. Otherwise, a server that cannot resume would be asked forever.
            if self.at > furthest + enough {
                patience.renew();
                furthest = self.at;
            }
            let (name, at, size) = (&self.file.name, self.at, self.file.size);
            let (wait, reason) = match patience.after(failure) {
                Ok(again) => again,
                Err(Failure::Passing(reason)) => {
                    return Err(anyhow!(
                        "{name} broke off at {at} of {size} bytes: {reason}; the bytes so far are kept, run the same command again to continue"
                    ));
                }
                Err(failure) => return Err(failure.into()),
            };
            self.bar.say(&format!("{name}: {reason}; continuing in {:.2} s", wait.as_secs_f32()));
            std::thread::sleep(wait);
        }
        Ok(())
    }

    /// Sends one request and appends as much of its response as arrives.
    fn attempt(&mut self, remote: &Remote<'_>, commit: &str) -> Result<(), Trouble> {
        let response = remote.get(commit, &self.file.name, self.at)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => self.check_range(response.headers())?,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.restart().map_err(Trouble::Local)?;
                return Err(
                    Failure::Passing("the server cannot resume there, so the download restarts".to_owned()).into()
                );
            }
            _ => {
                self.check_length(response.headers())?;
                // Some servers ignore the range and send the file from its beginning.
                if self.at > 0 {
                    self.restart().map_err(Trouble::Local)?;
                }
            }
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; CHUNK];
        let span = remote.timeout().saturating_mul(SPAN);
        let (mut since, mut from) = (Instant::now(), self.at);
        loop {
            if since.elapsed() > span {
                if self.at < from.saturating_add(SLOWEST) {
                    let (came, seconds) = (self.at - from, span.as_secs());
                    return Err(Failure::Passing(format!("only {came} bytes arrived within {seconds} s")).into());
                }
                (since, from) = (Instant::now(), self.at);
            }
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Passing(format!("the connection broke ({error})")).into()),
            };
            self.append(&buffer[..count])?;
        }
        if self.at < self.file.size {
            return Err(Failure::Passing("the connection ended early".to_owned()).into());
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        if self.file.size - self.at < bytes.len() as u64 {
            self.restart().map_err(Trouble::Local)?;
            let (name, size) = (&self.file.name, self.file.size);
            return Err(Failure::Final(format!(
                "{name} is longer than the {size} bytes that the hub lists; it has been deleted"
            ))
            .into());
        }
        // Unbuffered, so that Ctrl-C loses no bytes.
        self.out
            .write_all(bytes)
            .map_err(|error| Trouble::Local(self.store.wrong("write", &self.store.partial(&self.file.blob), &error)))?;
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        self.bar.at(self.at);
        Ok(())
    }

    /// Checks that a full response has the size that the hub lists, if the server sends a length.
    fn check_length(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = length.and_then(|length| length.parse::<u64>().ok());
        match length.filter(|length| *length != self.file.size) {
            None => Ok(()),
            Some(length) => Err(Failure::Final(format!(
                "the server of {} has {length} bytes of it, the hub lists {}",
                self.file.name, self.file.size
            ))),
        }
    }

    /// Checks that `Content-Range: bytes FIRST-LAST/SIZE` matches the request.
    fn check_range(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (first, rest) = range.trim_start_matches("bytes ").split_once('-').unwrap_or_default();
        let size = rest.rsplit('/').next().unwrap_or_default();
        let right = first.parse() == Ok(self.at) && (size == "*" || size.parse() == Ok(self.file.size));
        let (name, at, whole) = (&self.file.name, self.at, self.file.size);
        let wrong =
            || Failure::Final(format!("asked for {name} from byte {at} of {whole}, the server sends `{range}`"));
        if right { Ok(()) } else { Err(wrong()) }
    }
}
