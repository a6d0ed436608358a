//! Rounds: every peer in turn, each in a process of its own, then all of them again.
//!
//! A process per peer and round keeps the peers' threads, memory and shader caches apart, and makes the medians forget a process that the
//! system placed badly: lavapipe sometimes runs both of its workers on one core for as long as it lives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::quiet;

/// One figure of a process: a line of JSON on its standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured: `1536/qkv/8`, `decode`, `prefill/128`.
    pub work: String,
    /// Time of one matmul, one token, or one prompt.
    pub seconds: f64,
    /// Bytes of the weights that it reads, each counted as often as the algorithm needs it.
    pub bytes: u64,
    /// Its multiplications and additions.
    pub flops: f64,
    /// Why there is no time, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Figure {
    /// Of a matmul.
    pub fn matmul(cell: crate::cell::Cell, seconds: f64, bytes: u64) -> Self {
        let flops = cell.flops().unwrap_or_default();
        Self { work: cell.to_string(), seconds, bytes, flops, error: None }
    }

    /// Of what could not be measured.
    pub fn failed(work: &str, error: &str) -> Self {
        Self { work: work.to_owned(), seconds: 0.0, bytes: 0, flops: 0.0, error: Some(error.to_owned()) }
    }

    /// Writes it where [`rounds`] reads it.
    pub fn print(&self) {
        println!("{}", serde_json::json!(self));
    }
}

/// What is compared.
#[derive(Clone, Debug)]
pub struct Peer {
    /// First column of a table.
    pub name: String,
    /// The program: this one or a Python file, its arguments before the work, and its environment.
    pub program: Program,
    /// What it is asked to do.
    pub work: Vec<String>,
}

/// A process that measures.
#[derive(Clone, Debug)]
pub enum Program {
    /// `peers measure`, with an engine, a dtype and what else comes before the work.
    Own(Vec<String>),
    /// A Python file of this folder, with arguments.
    Python(&'static str, Vec<String>),
}

/// The figures of one kind of work by one peer, in all rounds.
pub type Figures = BTreeMap<(String, String), Vec<Figure>>;

/// A figure that took longer is not taken again: what differs by a hundredth from round to round need not be waited for.
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

/// The figure of the median time.
pub fn median(figures: &Figures, peer: &str, work: &str) -> Option<Figure> {
    let mut all = figures.get(&(peer.to_owned(), work.to_owned()))?.clone();
    all.retain(|figure| figure.error.is_none());
    all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    all.get(all.len() / 2).cloned()
}

/// Measures once, or again if others were at work meanwhile.
fn undisturbed(peer: &Peer, work: &[String], label: &str) -> Result<Vec<Figure>> {
    let mut best: Option<(f64, Vec<Figure>)> = None;
    for _ in 0..quiet::ATTEMPTS {
        quiet::wait();
        let watch = quiet::Watch::start();
        let figures = run(peer, work)?;
        let others = watch.others();
        eprintln!("{label}, {}: others took {:.0} % of the processors", peer.name, others * 100.0);
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
            // A Vulkan device that is a CPU is hidden by default.
            command.env("GGML_VK_VISIBLE_DEVICES", "0");
            command
        }
    };
    command.args(work).stdin(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().with_context(|| format!("{command:?} cannot be started; see README.md for `./setup`"))?;
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

/// The folder that `./setup` filled: Python, llama.cpp, PyTorch.
fn environment() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/env");
    std::env::var_os("PEERS_ENV").map_or_else(default, PathBuf::from)
}
