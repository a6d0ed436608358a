//! Whole models: Ruminate compared with llama.cpp, and with plain PyTorch.

use anyhow::Result;
use clap::Args;

use crate::compare::{self, Figures, Peer, Program};
use crate::table::{Table, digits};

/// The model that is compared with eight layers of a llama: adapter, 2 + 4 + 2 layers applied once, and a tied head.
const RAVEN: &str = "n_embd=1536,heads=16,hidden=5120,vocab=8192,layers=2/4/2,mean_recurrence=1";

/// The model that the authors' PyTorch code was measured with.
const SMALL: &str = "n_embd=768,heads=8,hidden=2560,vocab=8192,layers=2/4/2";

/// Steps of [`SMALL`].
const STEPS: u32 = 32;

/// Options of the comparison with llama.cpp.
#[derive(Args)]
pub struct ModelOptions {
    /// Rounds in which every peer is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Only peers whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
}

/// Options of the comparison with PyTorch.
#[derive(Args)]
pub struct TorchOptions {
    /// Rounds in which every peer is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// Compares Ruminate with llama.cpp.
pub fn model(options: &ModelOptions) -> Result<()> {
    let own = |dtype: &str| ruminate(dtype, RAVEN, 1, &["decode/32", "prefill/128", "prefill/512"]);
    let llama = |backend: &str, label: &str, dtype: &str, tokens: &str| Peer {
        name: format!("llama.cpp {label} {dtype}"),
        program: Program::Python("llama_model.py", vec![backend.to_owned(), dtype.to_owned()]),
        work: [tokens, "prefill/128", "prefill/512"].map(str::to_owned).to_vec(),
    };
    let mut peers: Vec<Peer> = ["f32", "f16", "bf16", "q8", "q4"].map(own).to_vec();
    peers.extend(["f16", "bf16", "q8", "q4"].map(|dtype| llama("vulkan", "Vulkan", dtype, "decode/8")));
    peers.extend(["f16", "bf16", "q8", "q4"].map(|dtype| llama("cpu", "CPU", dtype, "decode/32")));
    peers.retain(|peer| options.peers.is_empty() || options.peers.iter().any(|name| peer.name.contains(name)));
    let figures = compare::rounds(&peers, options.rounds)?;
    println!("Medians of {} rounds\n", options.rounds);
    print(&figures, &peers, "Ruminate bf16", &["128", "512"]);
    Ok(())
}

/// Compares Ruminate with PyTorch.
pub fn torch(options: &TorchOptions) -> Result<()> {
    let own = |dtype: &str| ruminate(dtype, SMALL, STEPS, &["decode/8", "prefill/128"]);
    let torch = |dtype: &str| Peer {
        name: format!("PyTorch {dtype}"),
        program: Program::Python("torch_raven.py", vec![dtype.to_owned(), STEPS.to_string()]),
        work: ["decode/8", "prefill/128"].map(str::to_owned).to_vec(),
    };
    let mut peers: Vec<Peer> = ["f32", "bf16", "q8", "q4"].map(own).to_vec();
    peers.extend(["f32", "bf16"].map(torch));
    let figures = compare::rounds(&peers, options.rounds)?;
    println!("Medians of {} rounds\n", options.rounds);
    print(&figures, &peers, "Ruminate bf16", &["128"]);
    Ok(())
}

fn ruminate(dtype: &str, shape: &str, steps: u32, work: &[&str]) -> Peer {
    Peer {
        name: format!("Ruminate {dtype}"),
        program: Program::Own(["ruminate-model", dtype, shape, &steps.to_string()].map(str::to_owned).to_vec()),
        work: work.iter().map(ToString::to_string).collect(),
    }
}

/// Prints time per token and weight bytes per second; then, for each length of prompt, tokens and operations per second. Each is followed by how many times as
/// fast `first` is.
fn print(figures: &Figures, peers: &[Peer], first: &str, prompts: &[&str]) {
    let mut heading = vec![String::new(), "ms per token".into(), "GB/s of weights".into(), format!("{first} is")];
    for tokens in prompts {
        heading.extend([format!("prefill {tokens}: tokens/s"), "GFLOP/s".into(), format!("{first} is")]);
    }
    let find = |peer: &Peer, kind: &str| {
        let work = peer.work.iter().find(|work| work.starts_with(kind))?;
        compare::median(figures, &peer.name, work)
    };
    let reference = peers.iter().find(|peer| peer.name == first);
    let mut table = Table::new(heading);
    for peer in peers {
        let decode = find(peer, "decode/");
        let rate = |figure: &compare::Figure| figure.bytes as f64 / figure.seconds / 1e9;
        let mut line = vec![peer.name.clone()];
        line.push(show(decode.as_ref().map(|figure| figure.seconds * 1e3)));
        line.push(show(decode.as_ref().map(rate)));
        let best = reference.and_then(|peer| find(peer, "decode/"));
        line.push(times(best.as_ref().map(rate), decode.as_ref().map(rate)));
        for tokens in prompts {
            let work = format!("prefill/{tokens}");
            let prefill = find(peer, &work);
            let rate = |figure: &compare::Figure| figure.flops / figure.seconds / 1e9;
            let count: f64 = tokens.parse().unwrap_or_default();
            line.push(show(prefill.as_ref().map(|figure| count / figure.seconds)));
            line.push(show(prefill.as_ref().map(rate)));
            let best = reference.and_then(|peer| find(peer, &work));
            line.push(times(best.as_ref().map(rate), prefill.as_ref().map(rate)));
        }
        table.line(line);
    }
    table.print();
}

fn show(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), digits)
}

fn times(best: Option<f64>, rate: Option<f64>) -> String {
    best.zip(rate).map_or("–".to_owned(), |(best, rate)| format!("{} ×", digits(best / rate)))
}
