//! `ruminate pull`: downloads a model from the hub into the cache that Python's `huggingface_hub` also uses.

mod download;
mod failure;
mod forward;
mod hash;
mod headers;
mod patience;
mod progress;
mod proxy;
mod remote;
mod select;
mod settings;
mod store;
mod trust;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use indicatif::DecimalBytes;
use ruminate::Spec;

use crate::exit_code::Done;
use crate::hub::{ModelName, lookup};
use crate::interrupt::Interrupt;
use crate::words::counted;
use download::download;
pub(crate) use headers::headers;
use patience::patiently;
use progress::Progress;
use proxy::Proxies;
use remote::{Remote, RemoteFile};
use settings::Settings;
use store::Store;

/// Flags of `ruminate pull`.
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct Pull {
    /// Model: a short name, or owner/name, or owner/name@revision
    ///
    /// A revision is a branch, a tag or a commit.
    #[arg(value_name = "OWNER/NAME[@REVISION]", required_unless_present = "list")]
    name: Option<ModelName>,
    /// List models with a short name, and whether they are in the cache
    #[arg(long, conflicts_with = "name")]
    list: bool,
    /// Cache to download into [default: the Hugging Face cache]
    ///
    /// By default HF_HUB_CACHE, or hub in HF_HOME, or ~/.cache/huggingface/hub.
    #[arg(long, value_name = "DIR", visible_alias = "cache-dir")]
    cache: Option<PathBuf>,
    /// Print only the model's folder
    #[arg(short, long)]
    quiet: bool,
}

/// Shown below the help.
const HELP: &str = "\
Files go where Python's huggingface_hub keeps them, and are checked by size and hash. Run the same command again to resume an interrupted \
download. HF_TOKEN, or the token that `hf auth login` stores, opens private and gated models; HF_ENDPOINT names a mirror, HTTPS_PROXY a \
proxy, SSL_CERT_FILE its certificate.

Exit codes: 0 done, 1 failed, 2 usage, 4 model missing or invalid, 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP";

/// Runs `ruminate pull`.
pub(crate) fn pull(options: &Pull) -> Result<Done> {
    // Ctrl-C exits immediately: the files on disk can be resumed at any point.
    let _interrupt = Interrupt::watch()?;
    let variables = |name: &str| std::env::var_os(name);
    let settings = Settings::read(&variables, options.cache.clone())?;
    let Some(name) = &options.name else { return list(&settings) };
    if settings.offline {
        return Err(anyhow!("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids downloads: unset it to pull `{name}`"));
    }
    let progress = Progress::new(options.quiet);
    let remote = Remote::new(&settings, name, trust::tls(&variables)?, Proxies::read(&variables))?;
    let listing = patiently(|| remote.list(), |text| progress.say(text))?;
    let small = select::small(name, &listing)?;
    let mut pulling = Pulling {
        store: Store::open(&settings.cache, name)?,
        remote,
        commit: listing.sha.clone(),
        progress,
        files: Vec::new(),
        fetched: 0,
        bytes: 0,
        unchecked: false,
    };
    progress.say(&format!("{name} at commit {}", pulling.commit));
    pulling.bring(&small)?;
    // The configuration is checked first, so that no weights of an unsupported architecture are downloaded.
    let config = config(name, &pulling.read(select::CONFIG)?)?;
    let index = if small.iter().any(|file| file == select::INDEX) { Some(pulling.read(select::INDEX)?) } else { None };
    let weights = select::weights(&listing, &config, index.as_deref())?;
    for shard in &weights.unread {
        progress.say(&format!("{shard:<34} not needed: the model uses none of its tensors"));
    }
    pulling.bring(&weights.needed)?;
    let folder = pulling.store.link(&pulling.commit, &pulling.files)?;
    pulling.store.point(&pulling.commit)?;
    let (fetched, all) = (pulling.fetched, pulling.files.len());
    let elsewhere =
        if options.cache.is_some() { format!("HF_HUB_CACHE={} ", settings.cache.display()) } else { String::new() };
    progress.say(&format!(
        "{fetched} of {} downloaded ({}); run it with: {elsewhere}ruminate run -m {name}",
        counted(all, "file"),
        DecimalBytes(pulling.bytes)
    ));
    writeln!(std::io::stdout().lock(), "{}", folder.display())?;
    Ok(Done::Complete)
}

/// Lists the published models that are supported.
fn list(settings: &Settings) -> Result<Done> {
    let mut out = std::io::stdout().lock();
    for known in ruminate::published() {
        let name: ModelName = known.repo.parse().map_err(|problem: String| anyhow!(problem))?;
        let state = if lookup(&settings.cache, &name).is_some() { "in the cache" } else { "not in the cache" };
        writeln!(out, "{:<24}  {:<51}  {}  {state}", known.name, known.repo, known.about)?;
    }
    Ok(Done::Complete)
}

/// Parses the configuration, if the model is supported.
fn config(name: &ModelName, text: &[u8]) -> Result<Spec, ruminate::Error> {
    let file = format!("{} of {name}", select::CONFIG);
    Spec::from_value(&file, ruminate::parse_json(&file, text)?)
}

/// Model being downloaded.
struct Pulling<'a> {
    store: Store,
    remote: Remote<'a>,
    commit: String,
    progress: Progress,
    files: Vec<RemoteFile>,
    fetched: usize,
    bytes: u64,
    /// Whether the note about unverified files was printed.
    unchecked: bool,
}

impl Pulling<'_> {
    /// Downloads the missing files, if the disk has room for them.
    fn bring(&mut self, names: &[String]) -> Result<()> {
        let mut files = Vec::new();
        for name in names {
            files.push(self.head(name)?);
        }
        if !self.unchecked && files.iter().any(|file| !file.hashed) {
            self.unchecked = true;
            self.progress.say("note: this server sends no hashes, so files are checked by size alone");
        }
        let rests = files.iter().map(|file| self.store.rest(&self.commit, file));
        let missing = rests.fold(0_u64, u64::saturating_add);
        if let Some(room) = self.store.room().filter(|room| *room < missing) {
            return Err(anyhow!(
                "not enough room: {} are still missing, but the disk of {} has {} left; make room there, or choose another disk with \
                 --cache or HF_HOME",
                DecimalBytes(missing),
                self.store.path().display(),
                DecimalBytes(room)
            ));
        }
        for file in files {
            if download(&self.remote, &self.store, &self.commit, &file, self.progress)? {
                self.fetched += 1;
                self.bytes += file.size;
            }
            self.files.push(file);
        }
        Ok(())
    }

    /// Requests size and hash of a file, with retries.
    fn head(&self, name: &str) -> Result<RemoteFile> {
        let head = patiently(|| self.remote.head(&self.commit, name), |text| self.progress.say(text));
        Ok(head?)
    }

    /// Reads a downloaded small file.
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.files.iter().find(|file| file.name == name);
        self.store.read(&self.commit, file.ok_or_else(|| anyhow!("{name} has not been downloaded"))?)
    }
}
