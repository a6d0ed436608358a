//! Compares Ruminate with other engines, on the same device, in one run.
//!
//! `peers kernels`, `peers model` and `peers torch` measure in rounds: in each, every peer runs once, in a process of its own. Such a process measures one peer
//! and prints a line of JSON per figure; medians are taken here and put into tables. `peers measure` and the Python files in this folder are such processes.

#[cfg(feature = "burn")]
mod burn;
mod cell;
mod compare;
mod kernels;
mod pool;
mod quiet;
mod ruminate_kernels;
mod ruminate_model;
mod table;
mod whole;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use cell::Cell;

#[derive(Parser)]
#[command(about = "Ruminate compared with other engines, on the same device, in one run")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The matmuls of a block, by Ruminate, burn and llama.cpp.
    Kernels(kernels::Options),
    /// A whole model of 1536 width and eight layer applications, by Ruminate and llama.cpp.
    Model(whole::ModelOptions),
    /// A recurrent model of 768 width at 32 steps, by Ruminate and plain PyTorch.
    Torch(whole::TorchOptions),
    /// Measures one peer in this process, and prints a line of JSON per figure. The other commands call it.
    #[command(hide = true)]
    Measure {
        /// `ruminate`, `burn` or `ruminate-model`.
        engine: String,
        /// Dtype of the weights.
        dtype: String,
        /// Matmuls such as `1536/qkv/8`, or the work of a model.
        work: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Kernels(options) => kernels::compare(&options),
        Verb::Model(options) => whole::model(&options),
        Verb::Torch(options) => whole::torch(&options),
        Verb::Measure { engine, dtype, work } => measure(&engine, &dtype, &work),
    }
}

fn measure(engine: &str, dtype: &str, work: &[String]) -> Result<()> {
    if engine == "ruminate-model" {
        return ruminate_model::measure(dtype, work);
    }
    let cells = work.iter().map(|text| text.parse()).collect::<Result<Vec<Cell>>>()?;
    match engine {
        "ruminate" => ruminate_kernels::measure(dtype, &cells),
        #[cfg(feature = "burn")]
        "burn" => burn::measure(dtype, &cells),
        _ => bail!("unknown engine `{engine}` (expected ruminate, ruminate-model or, if built with it, burn)"),
    }
}
