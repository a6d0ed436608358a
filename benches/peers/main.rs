//! Ruminate beside other engines, on the same device, in one run.
//!
//! `peers kernels`, `peers model` and `peers torch` measure in rounds: every peer in turn, each time in a process of its own, then all of them
//! again. A process measures one peer and prints a line of JSON per figure; here medians are taken and put into tables. `peers measure` and
//! the Python files beside this one are such processes.

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
#[command(about = "Ruminate beside other engines, on the same device, in one run")]
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
    /// Measures one peer in this process, and prints a line of JSON per figure: what the other verbs call.
    #[command(hide = true)]
    Measure {
        /// `ruminate`, `burn` or `ruminate-model`.
        engine: String,
        /// How weights are held.
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
        _ => bail!("no engine `{engine}` in this build; ruminate, ruminate-model, and with the feature of that name, burn"),
    }
}
