//! Rounds of measurement: in each, every peer runs once, in a process of its own.
//!
//! A process per peer and round keeps the peers' threads, memory and shader caches apart, and keeps out of the medians a process that the system placed badly:
//! lavapipe sometimes runs both of its workers on one core for as long as it lives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::quiet;

/// One figure of a process: a line of JSON on its standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Work that was measured: `1536/qkv/8`, `decode`, `prefill/128`.
    pub work: String,
    /// Time of one matmul, one token, or one prompt.
    pub seconds: f64,
    /// Bytes of the weights that are read, each counted as often as the algorithm needs it.
    pub bytes: u64,
    /// Multiplications and additions.
    pub flops: f64,
    /// Reason, if there is no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Figure {
    /// The figure of a matmul.
    pub fn matmul(cell: crate::cell::Cell, seconds: f64, bytes: u64) -> Self {
        let flops = cell.flops().unwrap_or_default();
        Self { work: cell.to_string(), seconds, bytes, flops, error: None }
    }

    /// The figure of work that could not be measured.
    pub fn failed(work: &str, error: &str) -> Self {
        Self { work: work.to_owned(), seconds: 0.0, bytes: 0, flops: 0.0, error: Some(error.to_owned()) }
    }

    /// Prints the line that [`rounds`] reads.
    pub fn print(&self) {
        println!("{}", serde_json::json!(self));
    }
}

/// An engine and a dtype to compare.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Name, in the first column of a table.
    pub name: String,
    /// Program that measures it, with the arguments that precede the work.
    pub program: Program,
    /// Work to measure.
    pub work: Vec<String>,
}

/// A process that measures.
#[derive(Clone, Debug)]
pub enum Program {
    /// `peers measure`, with an engine, a dtype and whatever else precedes the work.
    Own(Vec<String>),
    /// A Python file in this folder, with arguments.
    Python(&'static str, Vec<String>),
}

/// Figures of all rounds, by name of the peer and by work.
pub type Figures = BTreeMap<(String, String), Vec<Figure>>;

/// Work that takes longer is not measured again: waiting does not pay if rounds differ by a hundredth.
const SLOW_SECONDS: f64 = 4.0;

/// Measures all peers in turn, `rounds` times. Progress goes to standard error.
pub fn rounds(peers: &[Peer], rounds: u32) -> Result<Figures> {
    let mut figures = Figures::new();
    for round in 1..=rounds {
        for peer in peers {
            let slow = |work: &String| {
                let known = figures.get(&(peer.name.clone(), work.clone()));
                known.is_some_and(|known| known.iter().any(|it| it.error.is_some() || it.seconds > SLOW_SECONDS))
            };
            let work: Vec<String> = peer.work.iter().filter(|work| !slow(work)).cloned().collect();
            if work.is_empty() {
                continue;
            }
            for figure in undisturbed(peer, &work, &format!("round {round} of {rounds}"))? {
                if let Some(error) = &figure.error {
                    eprintln!("  {}: {error}", figure.work);
                }
                figures.entry((peer.name.clone(), figure.work.clone())).or_default().push(figure);
            }
        }
    }
    Ok(figures)
}

/// The figure with the median time.
pub fn median(figures: &Figures, peer: &str, work: &str) -> Option<Figure> {
    let mut all = figures.get(&(peer.to_owned(), work.to_owned()))?.clone();
    all.retain(|figure| figure.error.is_none());
    all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    all.get(all.len() / 2).cloned()
}

/// Measures once, or again if other programs ran meanwhile.
fn undisturbed(peer: &Peer, work: &[String], label: &str) -> Result<Vec<Figure>> {
    let mut best: Option<(f64, Vec<Figure>)> = None;
    for _ in 0..quiet::ATTEMPTS {
        quiet::wait();
        let watch = quiet::Watch::start();
        let figures = run(peer, work)?;
        let others = watch.others();
        eprintln!("{label}, {}: other programs used {:.0} % of the processors", peer.name, others * 100.0);
        if best.as_ref().is_none_or(|(least, _)| others < *least) {
            best = Some((others, figures));
        }
        if !watch.disturbed() {
            break;
        }
    }
    Ok(best.map(|(_, figures)| figures).unwrap_or_default())
}

fn run(peer: &Peer, work: &[String]) -> Result<Vec<Figure>> {
    let mut command = match &peer.program {
        Program::Own(arguments) => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("measure").args(arguments);
            command
        }
        Program::Python(file, arguments) => {
            let mut command = Command::new(environment().join("bin/python"));
            command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)).args(arguments);
            // Vulkan devices that are CPUs are hidden by default.
            command.env("GGML_VK_VISIBLE_DEVICES", "0");
            command
        }
    };
    command.args(work).stdin(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().with_context(|| format!("cannot start {command:?}; see README.md about `./setup`"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let mut figures = lines.map(serde_json::from_str).collect::<Result<Vec<Figure>, _>>()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = errors.lines().rev().take(3).collect();
        if figures.is_empty() {
            bail!("{} ended with {}: {}", peer.name, output.status, last.join(" | "));
        }
        eprintln!("  ended with {} after {} figures: {}", output.status, figures.len(), last.join(" | "));
        let missing = work.iter().filter(|work| figures.iter().all(|figure| figure.work != **work));
        let failed: Vec<Figure> = missing.map(|work| Figure::failed(work, "the process ended before")).collect();
        figures.extend(failed);
    }
    Ok(figures)
}

/// The folder that `./setup` fills: Python, llama.cpp, PyTorch.
fn environment() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/env");
    std::env::var_os("PEERS_ENV").map_or_else(default, PathBuf::from)
}
