//! Writes checkpoints of any size with seeded random weights, in the published layout: tests of loading need no download.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use ruminate_tests::synth::{Layout, write};

/// Write a checkpoint with random weights in the published layout.
///
/// `ruminate run -m synthetic:SHAPE` makes the same weights straight on the device.
#[derive(Parser)]
struct Arguments {
    /// Shape: `huginn-0125`, or fields of config.json such as `n_embd=768,heads=8,layers=2/4/2,vocab=4096,seed=1`.
    shape: String,
    /// Folder to write, new or empty.
    folder: PathBuf,
    /// Bytes of a shard's tensors, at most; 0 writes one file without an index.
    #[arg(long, value_name = "BYTES", default_value_t = 5_000_000_000)]
    shard: u64,
    /// Print the files and their sizes, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let model = ruminate::Synthetic::parse(&arguments.shape)?;
    let layout = Layout::of(&model, arguments.shard)?;
    if arguments.dry_run {
        layout.shards.iter().for_each(|shard| println!("{:>14} {}", shard.bytes, shard.name));
        return Ok(());
    }
    write(&model, &layout, &arguments.folder, &mut |name, bytes| println!("{bytes:>14} {name}"))
}
