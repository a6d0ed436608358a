//! What a model on the hub is, without its weights: its configuration, and the headers of its safetensors files, by requests for ranges.

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

/// Bytes that are asked for first: most headers are shorter.
const FIRST: u64 = 64 << 10;
/// Bytes of the number before a header.
const PREFIX: usize = 8;
/// Bytes of a header, at most, as the safetensors crate has it.
const MOST_HEADER: u64 = 100_000_000;
/// Bytes of a text file, at most.
const MOST_TEXT: u64 = 128 << 20;

/// The configuration of a model that is not in the cache, and the headers of its weights. Nothing is stored.
///
/// # Errors
/// If the hub may not be asked or does not answer, and if there is no such model.
pub(crate) fn headers(name: &ModelName) -> Result<Source> {
    let variables = |name: &str| std::env::var_os(name);
    let settings = Settings::read(&variables, None)?;
    let absent = || format!("`{name}` is not in the Hugging Face cache, and its headers cannot be fetched");
    if settings.offline {
        let problem = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids asking the hub; unset it";
        return Err(anyhow!("{}: {problem}", absent()));
    }
    let remote = Remote::new(&settings, name, trust::tls(&variables)?, Proxies::read(&variables))?;
    let fetched = fetch(&remote, name).with_context(absent)?;
    let (files, bytes) = (fetched.texts.len() + fetched.weights.len(), fetched.bytes());
    remark!(
        "note: {name} is not in the Hugging Face cache; this is from {}: {}, {}. Nothing was stored",
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

/// A text file.
fn whole(remote: &Remote<'_>, commit: &str, file: &str) -> Result<Vec<u8>, Failure> {
    let mut response = remote.get(commit, file, 0)?;
    let lost = |error| failure::connection(remote.endpoint(), None, remote.timeout(), error);
    response.body_mut().with_config().limit(MOST_TEXT).read_to_vec().map_err(lost)
}

/// The header of a safetensors file, and the number before it.
fn start(remote: &Remote<'_>, commit: &str, file: &str) -> Result<FileStart, Failure> {
    let len = remote.head(commit, file)?.size;
    let mut bytes = part(remote, commit, file, 0, FIRST.min(len))?;
    let prefix: Option<[u8; PREFIX]> = bytes.get(..PREFIX).and_then(|prefix| prefix.try_into().ok());
    // What is no header is told by those who read it.
    let header = prefix.map_or(0, u64::from_le_bytes).saturating_add(PREFIX as u64);
    let end = header.min(len).min(MOST_HEADER);
    if end > bytes.len() as u64 {
        bytes.extend(part(remote, commit, file, bytes.len() as u64, end)?);
    }
    bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    Ok(FileStart { bytes, len })
}

/// The bytes of a file from `start` up to `end`.
fn part(remote: &Remote<'_>, commit: &str, file: &str, start: u64, end: u64) -> Result<Vec<u8>, Failure> {
    let mut response = remote.part(commit, file, start, end)?;
    // A server that knows no ranges sends the file from its beginning.
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
        Err(passing(format!("only {} of {wanted} bytes came", bytes.len())))
    }
}
