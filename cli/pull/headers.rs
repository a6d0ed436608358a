//! Fetches a model from the hub without its weights: its configuration, and the headers of its safetensors files by range requests.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use indicatif::DecimalBytes;
use ruminate::{FileStart, Headers, Source};

use super::failure::{self, Failure};
use super::patience::patiently;
use super::proxy::Proxies;
use super::remote::Remote;
use super::settings::Settings;
use super::{config, select, trust};
use crate::hub::ModelName;
use crate::words::counted;

/// Bytes of the first request; most headers are shorter.
const FIRST: u64 = 64 << 10;
/// Bytes of the length field before a header.
const PREFIX: usize = 8;
/// Maximum header size in bytes, as in the safetensors crate.
const MOST_HEADER: u64 = 100_000_000;
/// Maximum size of a text file, in bytes.
const MOST_TEXT: u64 = 128 << 20;

/// Fetches the configuration of a model that is not in the cache, and the headers of its weights. Nothing is stored.
///
/// # Errors
/// If offline mode is set, the hub does not answer, or the model does not exist.
pub(crate) fn headers(name: &ModelName) -> Result<Source> {
    let variables = |name: &str| std::env::var_os(name);
    let settings = Settings::read(&variables, None)?;
    let absent = || format!("`{name}` is not in the Hugging Face cache, and its headers cannot be fetched");
    if settings.offline {
        let problem = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids requests to the hub; unset it";
        return Err(anyhow!("{}: {problem}", absent()));
    }
    let remote = Remote::new(&settings, name, trust::tls(&variables)?, Proxies::read(&variables))?;
    let fetched = fetch(&remote, name).with_context(absent)?;
    let (files, bytes) = (fetched.texts.len() + fetched.weights.len(), fetched.bytes());
    remark!(
        "note: {name} is not in the Hugging Face cache; fetched from {}: {}, {}. Nothing was stored",
        settings.endpoint,
        counted(files, "file"),
        DecimalBytes(bytes)
    );
    Ok(Source::Headers(Arc::new(fetched)))
}

fn fetch(remote: &Remote<'_>, name: &ModelName) -> Result<Headers> {
    let again = |text: &str| remark!("{text}");
    let listing = patiently(|| remote.list(), again)?;
    let small = select::small(name, &listing)?;
    let mut found = Headers { origin: name.to_string(), texts: BTreeMap::new(), weights: BTreeMap::new() };
    for file in small.iter().filter(|file| [select::CONFIG, select::INDEX].contains(&file.as_str())) {
        let text = patiently(|| whole(remote, &listing.sha, file), again)?;
        found.texts.insert(file.clone(), text);
    }
    let config = config(name, &found.texts[select::CONFIG])?;
    let weights = select::weights(&listing, &config, found.texts.get(select::INDEX).map(Vec::as_slice))?;
    for file in weights.needed {
        let start = patiently(|| start(remote, &listing.sha, &file), again)?;
        found.weights.insert(file, start);
    }
    Ok(found)
}

/// Fetches a text file.
fn whole(remote: &Remote<'_>, commit: &str, file: &str) -> Result<Vec<u8>, Failure> {
    let mut response = remote.get(commit, file, 0)?;
    let lost = |error| failure::connection(remote.endpoint(), None, remote.timeout(), error);
    response.body_mut().with_config().limit(MOST_TEXT).read_to_vec().map_err(lost)
}

/// Fetches the header of a safetensors file, with its length field.
fn start(remote: &Remote<'_>, commit: &str, file: &str) -> Result<FileStart, Failure> {
    let len = remote.head(commit, file)?.size;
    let mut bytes = part(remote, commit, file, 0, FIRST.min(len))?;
    let prefix: Option<[u8; PREFIX]> = bytes.get(..PREFIX).and_then(|prefix| prefix.try_into().ok());
    // An invalid header is reported by its parser.
    let header = prefix.map_or(0, u64::from_le_bytes).saturating_add(PREFIX as u64);
    let end = header.min(len).min(MOST_HEADER);
    if end > bytes.len() as u64 {
        bytes.extend(part(remote, commit, file, bytes.len() as u64, end)?);
    }
    bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    Ok(FileStart { bytes, len })
}

/// Fetches the bytes of a file from `start` up to `end`.
fn part(remote: &Remote<'_>, commit: &str, file: &str, start: u64, end: u64) -> Result<Vec<u8>, Failure> {
    let mut response = remote.part(commit, file, start, end)?;
    // A server without range support sends the file from its beginning.
    let skipped = if response.status() == 206 { 0 } else { start };
    let mut reader = response.body_mut().as_reader();
    let wanted = end - start;
    let mut bytes = Vec::new();
    let read = std::io::copy(&mut (&mut reader).take(skipped), &mut std::io::sink())
        .and_then(|_| reader.take(wanted).read_to_end(&mut bytes));
    let passing = |problem: String| Failure::Passing(format!("{file} of {}: {problem}", remote.endpoint()));
    read.map_err(|error| passing(format!("the connection broke ({error})")))?;
    if bytes.len() as u64 == wanted {
        Ok(bytes)
    } else {
        Err(passing(format!("only {} of {wanted} bytes arrived", bytes.len())))
    }
}
