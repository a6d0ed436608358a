//! `ruminate serve`: serves a model over HTTP.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use ruminate::{BatchOptions, Error, INVARIANT_ROWS, MAX_STEPS, SessionOptions, Source, Spec};
use ruminate_serve::{Failure, Options, Ready, Server};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::device::DeviceOptions;
use crate::exit_code::{Done, LostDevice, Usage};
use crate::flags::told_of_server;
use crate::interrupt;
use crate::model::ModelOptions;
use crate::options::CacheOptions;
use crate::prompt;

/// Environment variable with an API key.
const KEY: &str = "RUMINATE_API_KEY";

/// Default size of the prefix cache, in bytes.
const PREFIX_CACHE: u64 = 256 << 20;

/// Flags of `ruminate serve`.
#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    model: ModelOptions,
    /// Name of the model in requests [default: the value of -m]
    #[arg(long, value_name = "NAME", help_heading = "Input", hide_short_help = true)]
    model_name: Option<String>,

    /// Address to listen on
    ///
    /// Addresses other than 127.0.0.1 and ::1 can be reached from other machines.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", help_heading = "Network")]
    host: String,
    /// Port to listen on; 0 takes a free one, which is printed
    #[arg(long, value_name = "N", default_value_t = 8080, help_heading = "Common", display_order = 3)]
    port: u16,
    /// API key for requests, sent as Authorization: Bearer KEY; may be repeated
    ///
    /// Other users of the machine can see it in the process list; --api-key-file or the environment variable RUMINATE_API_KEY hides it.
    #[arg(long, value_name = "KEY", help_heading = "Network")]
    api_key: Vec<String>,
    /// File with API keys, one per line
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    api_key_file: Option<PathBuf>,
    /// Host name that requests may be addressed to, or * for all; may be repeated
    ///
    /// IP addresses and localhost are always allowed. Other names are refused, because a page of another site could resolve its name to this machine
    /// (DNS rebinding).
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    allowed_host: Vec<String>,
    /// Origin whose pages may use the server, or *; may be repeated
    ///
    /// For example https://example.org.
    #[arg(long, value_name = "ORIGIN", help_heading = "Network")]
    cors_origin: Vec<String>,
    /// Seconds for running requests to finish after SIGTERM or Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 30, help_heading = "Network")]
    drain: u64,
    /// Seconds for a client to send the head of a request, or its body
    ///
    /// Idle connections are closed after the same time.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Network")]
    receive_timeout: u64,
    /// Seconds that a client may leave an answer unread
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Network", hide_short_help = true)]
    send_timeout: u64,

    /// Steps per token of requests that name none [default: the model's own number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STEPS)), help_heading = "Common", display_order = 5)]
    steps: Option<u32>,
    /// Maximum steps per token of a request [default: 65536]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STEPS)), help_heading = "Common", display_order = 6)]
    max_steps: Option<u32>,
    /// Maximum tokens that a request may generate [default: the context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    max_tokens: Option<u32>,
    /// Maximum tokens of a prompt [default: the context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    max_prompt: Option<u32>,
    /// Sequences computed at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256), help_heading = "Common", display_order = 7)]
    sequences: u32,
    /// Sequences that may wait in the queue; further requests get status 429
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(..=1_000_000), help_heading = "Limits")]
    queue: u32,
    /// Bytes of keys and values on the device [default: its free memory]
    ///
    /// Includes the prefix cache.
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    kv_memory: Option<u64>,
    /// Bytes of keys and values cached for prompts with a common prefix [default: 268435456]
    ///
    /// 0 disables the cache, which is the default with --invariant.
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    prefix_cache: Option<u64>,
    /// Maximum rows of a pass while sequences decode [default: what takes 100 ms]
    ///
    /// A longer prompt is split into several passes, so that other sequences do not wait for it.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=256), help_heading = "Limits")]
    prefill_chunk: Option<u32>,
    /// Maximum bytes of a request body
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, help_heading = "Limits", hide_short_help = true)]
    max_body: usize,
    /// Maximum bytes of a request head, at least 8192
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 10, help_heading = "Limits", hide_short_help = true)]
    max_header: usize,
    /// Maximum number of open connections
    #[arg(long, value_name = "N", default_value_t = 1024, help_heading = "Limits", hide_short_help = true)]
    max_connections: usize,

    /// Positions of a sequence [default: the model's, up to 4096]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Common", display_order = 8)]
    ctx_size: Option<u32>,
    /// Seed of the initial states [default: 0]
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true, help_heading = "Generation")]
    seed: u64,
    #[command(flatten)]
    cache: CacheOptions,
    /// Compute bitwise equal answers, regardless of the other requests in a batch
    ///
    /// Every sum is computed in a fixed order. Limits --sequences to 8.
    #[arg(long, help_heading = "Device")]
    invariant: bool,
    #[command(flatten)]
    device: DeviceOptions,

    /// Format of log lines on stderr: text or json
    #[arg(long, value_enum, default_value_t = LogFormat::Text, help_heading = "Output", hide_short_help = true, hide_possible_values = true)]
    log_format: LogFormat,
    /// Log level: error, warn, info or debug
    #[arg(long, value_enum, default_value_t = LogLevel::Info, help_heading = "Output", hide_short_help = true, hide_possible_values = true)]
    log_level: LogLevel,
    /// Write prompts and answers to the log
    #[arg(long, help_heading = "Output", hide_short_help = true)]
    log_prompts: bool,
    /// Serve at once, and compile kernels in the first requests
    ///
    /// By default they are compiled first, so that no request waits for it.
    #[arg(long, help_heading = "Limits", hide_short_help = true)]
    no_warmup: bool,
}

/// Format of log lines.
#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Readable text
    Text,
    /// One JSON object per line
    Json,
}

/// Minimum severity of log lines.
#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    /// Errors
    Error,
    /// Warnings
    Warn,
    /// Requests
    Info,
    /// Connections
    Debug,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
        }
    }
}

impl Serve {
    /// Address to listen on.
    fn address(&self) -> Result<SocketAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let found = (host, self.port).to_socket_addrs().with_context(|| format!("unknown host {host:?} in --host"))?;
        found.into_iter().next().with_context(|| format!("{host:?} in --host has no address"))
    }

    /// API keys from flags, file and environment.
    fn keys(&self) -> Result<Vec<String>> {
        let mut keys = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            keys.extend(prompt::keys(path)?);
        }
        match std::env::var(KEY) {
            Ok(key) => keys.push(key),
            Err(std::env::VarError::NotPresent) => {}
            Err(_) => return Err(Usage(format!("{KEY} is not UTF-8")).into()),
        }
        Ok(keys)
    }

    fn options(&self) -> Result<Options> {
        let mut options = Options::default();
        options.address = self.address()?;
        options.api_keys = self.keys()?;
        options.hosts.clone_from(&self.allowed_host);
        options.origins.clone_from(&self.cors_origin);
        options.steps = self.steps;
        options.max_steps = self.max_steps;
        options.max_tokens = self.max_tokens;
        options.max_prompt = self.max_prompt;
        options.queue = self.queue;
        options.max_body = self.max_body;
        options.max_header = self.max_header;
        options.connections = self.max_connections;
        options.receive_timeout = Duration::from_secs(self.receive_timeout);
        options.send_timeout = Duration::from_secs(self.send_timeout);
        options.drain = Duration::from_secs(self.drain);
        options.log_prompts = self.log_prompts;
        options.warm_up = !self.no_warmup;
        options.validate().map_err(|error| Usage(told_of_server(&error)))?;
        if self.invariant && self.sequences > INVARIANT_ROWS {
            let problem = format!(
                "--sequences is {}; with --invariant it must be from 1 to {INVARIANT_ROWS}, the rows of each pass",
                self.sequences
            );
            return Err(Usage(problem).into());
        }
        Ok(options)
    }

    /// Session options of each sequence.
    fn session(&self, spec: &Spec) -> Result<SessionOptions, Error> {
        let (context, steps, state_seed) = (self.ctx_size, self.steps, Some(self.seed));
        Ok(SessionOptions { context, steps, state_seed, invariant: self.invariant, ..self.cache.session(spec)? })
    }

    /// Files of the model, and session options that fit it, so that wrong ones are reported before the server listens.
    fn source(&self) -> Result<(Source, SessionOptions)> {
        let source = self.model.argument.source()?;
        let spec = Spec::open(&source)?;
        let session = self.session(&spec)?;
        if let Some(value) = self.ctx_size.filter(|&asked| asked > spec.context) {
            let (most, limit) = (spec.context, "the longest context of the model");
            return Err(Error::Range { name: "context", value, least: 1, most, limit }.into());
        }
        Ok((source, session))
    }

    fn load(&self, source: &Source, session: SessionOptions) -> Result<Ready> {
        let device = self.device.open(self.model.products(), false)?;
        let model = self.model.load(source, &device, session.clone(), false)?;
        let name = self.model_name.clone().unwrap_or_else(|| self.model.argument.name());
        let batch = BatchOptions {
            sequences: self.sequences,
            session,
            prefill_chunk: self.prefill_chunk,
            prefix_cache: self.prefix_cache.unwrap_or(if self.invariant { 0 } else { PREFIX_CACHE }),
            kv_memory: self.kv_memory,
        };
        Ok(Ready { model, name, batch })
    }
}

/// Runs `ruminate serve`.
pub(crate) fn serve(options: &Serve) -> Result<Done> {
    let asked = options.options()?;
    let (source, session) = options.source()?;
    log(options);
    let (address, open) = (asked.address, asked.api_keys.is_empty());
    let server =
        Server::bind(asked).with_context(|| format!("cannot listen on {address} (choose with --host and --port)"))?;
    let handle = server.handle();
    let asked_before = AtomicBool::new(false);
    interrupt::on_signal(move |signal| {
        // The second signal exits immediately, and so does the first one while the model is loading.
        if asked_before.swap(true, Ordering::SeqCst) {
            interrupt::leave_by(signal);
        }
        if !handle.is_loaded() {
            std::process::exit(0);
        }
        handle.drain();
    })?;
    let address = server.address();
    let mut out = std::io::stdout();
    writeln!(out, "http://{address}")?;
    out.flush()?;
    tracing::info!(%address, "listening");
    if open && !address.ip().is_loopback() {
        tracing::warn!("no --api-key is set: anyone who can reach {address} can use this server");
    }
    match server.run(|| options.load(&source, session)) {
        Ok(()) => Ok(Done::Complete),
        Err(Failure::Load(error)) => Err(error),
        Err(Failure::Start(error)) => Err(error.into()),
        Err(error @ Failure::Device(_)) => Err(LostDevice(error.to_string()).into()),
        Err(error) => Err(anyhow::Error::msg(error.to_string())),
    }
}

/// Sends log lines to stderr. Dependencies log only warnings and errors.
fn log(options: &Serve) {
    let level = options.log_level.filter();
    let ours = ["ruminate_serve", "ruminate"].map(|target| (target, level));
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_targets(ours);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let colored = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    // If a caller has installed another subscriber, that one receives the lines.
    let _ = match options.log_format {
        LogFormat::Text => registry.with(lines.with_ansi(colored)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
}
