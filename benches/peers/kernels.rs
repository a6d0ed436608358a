//! The matmuls of a block, by every peer.

use anyhow::Result;
use clap::Args;

use crate::cell::{Cell, SITES, WIDTHS};
use crate::compare::{self, Figure, Figures, Peer, Program};
use crate::table::{Table, digits, median};

/// Options of the comparison.
#[derive(Args)]
pub struct Options {
    /// Rounds in which every peer is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Skip matmuls of more than this many GFLOP.
    #[arg(long, default_value_t = 100.0)]
    most: f64,
    /// Rows of x.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 512])]
    rows: Vec<u32>,
    /// Widths of the model.
    #[arg(long, value_delimiter = ',', default_values_t = WIDTHS.map(|(n_embd, _)| n_embd))]
    widths: Vec<u32>,
    /// Only peers whose name contains one of these, as in `--peers "Ruminate bf16",burn`.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
}

/// Every engine with the dtypes that are compared; add a line to add an engine.
const ENGINES: [(Engine, &[&str]); 4] = [
    (Engine::Ruminate, &["f32", "f16", "bf16", "q8", "q4"]),
    (Engine::Burn, &["f32", "f16"]),
    (Engine::LlamaVulkan, &["f16", "bf16", "q8", "q4"]),
    (Engine::LlamaCpu, &["f16", "bf16", "q8", "q4"]),
];

/// Peer with which the others are compared.
const FIRST: &str = "Ruminate bf16";

#[derive(Clone, Copy)]
enum Engine {
    Ruminate,
    Burn,
    LlamaVulkan,
    LlamaCpu,
}

impl Engine {
    fn peer(self, dtype: &str, work: &[String]) -> Peer {
        let (name, program) = match self {
            Self::Ruminate => ("Ruminate", own("ruminate", dtype)),
            Self::Burn => ("burn", own("burn", dtype)),
            Self::LlamaVulkan => ("llama.cpp Vulkan", ggml("vulkan", dtype)),
            Self::LlamaCpu => ("llama.cpp CPU", ggml("cpu", dtype)),
        };
        Peer { name: format!("{name} {dtype}"), program, work: work.to_vec() }
    }
}

fn own(engine: &str, dtype: &str) -> Program {
    Program::Own(vec![engine.to_owned(), dtype.to_owned()])
}

fn ggml(backend: &str, dtype: &str) -> Program {
    Program::Python("ggml_kernels.py", vec![backend.to_owned(), dtype.to_owned()])
}

/// Measures and prints tables.
pub fn compare(options: &Options) -> Result<()> {
    let mut work = Vec::new();
    for &n_embd in &options.widths {
        for site in SITES {
            for &rows in &options.rows {
                let cell = Cell { n_embd, site, rows };
                if cell.flops()? <= options.most * 1e9 {
                    work.push(cell.to_string());
                }
            }
        }
    }
    let chosen = |peer: &Peer| options.peers.is_empty() || options.peers.iter().any(|name| peer.name.contains(name));
    let all = ENGINES.into_iter().flat_map(|(engine, dtypes)| dtypes.iter().map(move |dtype| (engine, dtype)));
    let peers: Vec<Peer> = all.map(|(engine, dtype)| engine.peer(dtype, &work)).filter(chosen).collect();
    let figures = compare::rounds(&peers, options.rounds)?;
    for &rows in &options.rows {
        print(&figures, &peers, &work, rows, options);
    }
    Ok(())
}

/// Few rows are bound by the bytes of the weights, many rows by arithmetic.
fn rate(figure: &Figure, rows: u32) -> f64 {
    if rows <= 8 { figure.bytes as f64 / figure.seconds / 1e9 } else { figure.flops / figure.seconds / 1e9 }
}

fn print(figures: &Figures, peers: &[Peer], work: &[String], rows: u32, options: &Options) {
    let end = format!("/{rows}");
    let columns: Vec<&String> = work.iter().filter(|work| work.ends_with(&end)).collect();
    let unit = if rows <= 8 { "GB/s of weights" } else { "GFLOP/s" };
    let cell = |name: &str, work: &str| compare::median(figures, name, work).map(|figure| rate(&figure, rows));
    println!("**{rows} row{}, {unit}, medians of {} rounds**\n", if rows == 1 { "" } else { "s" }, options.rounds);
    let heading = columns.iter().map(|work| work.trim_end_matches(&end).replacen('/', " ", 1));
    let mut table = Table::new(std::iter::once(String::new()).chain(heading).chain([format!("{FIRST} is")]));
    for peer in peers {
        let rates: Vec<Option<f64>> = columns.iter().map(|work| cell(&peer.name, work)).collect();
        let ratios = columns.iter().zip(&rates).filter_map(|(work, rate)| Some(cell(FIRST, work)? / (*rate)?)).collect();
        let mut line = vec![peer.name.clone()];
        line.extend(rates.into_iter().map(|rate| rate.map_or("–".to_owned(), digits)));
        line.push(median(ratios).map_or("–".to_owned(), |ratio| format!("{} ×", digits(ratio))));
        table.line(line);
    }
    table.print();
}
