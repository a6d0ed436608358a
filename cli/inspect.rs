//! `ruminate inspect`: what a checkpoint is, from its headers alone, and what of it fits here.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use ruminate::{
    AdapterSummary, Checkpoint, Config, Device, Dtype, Expected, OpenOptions, Source, TensorInfo, adapters,
};
use serde_json::{Value, json};

use crate::exit::Done;
use crate::model::ModelArgument;

/// Flags of `ruminate inspect`.
#[derive(Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    model: ModelArgument,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Depths that are shown beside the model's own.
const DEPTHS: [u32; 6] = [1, 4, 8, 16, 32, 64];

/// Dtypes that weights can be held in.
const HELD: [Dtype; 4] = [Dtype::F32, Dtype::Bf16, Dtype::Q8, Dtype::Q4];

/// What is known of a checkpoint.
struct Survey {
    config: Config,
    tensors: Vec<TensorInfo>,
    /// Files that hold nothing but a tied head, which nobody reads.
    unread: bool,
    depths: Vec<u32>,
    devices: Vec<Place>,
}

/// A device, and the longest context that fits it at the model's mean recurrence, per dtype of [`HELD`].
struct Place {
    name: String,
    available: Option<u64>,
    shared: bool,
    contexts: Vec<Option<u32>>,
}

/// Runs the verb.
pub(crate) fn inspect(options: &Inspect) -> Result<Done> {
    let source = options.model.source()?;
    let survey = Survey::of(&source)?;
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &survey.json())?;
        writeln!(out)?;
    } else {
        survey.print(&mut out, options.tensors)?;
    }
    Ok(Done::Complete)
}

impl Survey {
    fn of(source: &Source) -> Result<Self> {
        let config = Config::open(source)?;
        let tied = config.tie_embeddings;
        let tensors = match source {
            Source::Synthetic(made) => {
                let stored = |tensor: Expected| TensorInfo {
                    bytes: tensor.shape.iter().product::<usize>() as u64 * 4,
                    name: tensor.name,
                    dtype: Dtype::F32,
                    shape: tensor.shape,
                    file: "made on the device".to_owned(),
                };
                let read = made.config().tensors().into_iter().filter(|it| !(tied && it.name == "lm_head.weight"));
                read.map(stored).collect()
            }
            _ => {
                let checkpoint = Checkpoint::open(source, &|name| tied && name == "lm_head.weight")?;
                checkpoint.check(&config.tensors())?;
                checkpoint.tensors().cloned().collect()
            }
        };
        let mut depths = DEPTHS.to_vec();
        depths.push(config.mean_recurrence);
        depths.sort_unstable();
        depths.dedup();
        let cpu = Device::cpu();
        let twins = Place::new(&config, cpu.name(), cpu.caps(), cpu.memory());
        let devices = adapters(OpenOptions::default().backends);
        let place = |it: &AdapterSummary| Place::new(&config, &it.name, it.caps, it.memory);
        let devices = devices.iter().map(place).chain([twins]).collect();
        Ok(Self { unread: tied, config, tensors, depths, devices })
    }

    fn parameters(&self) -> u64 {
        let counted = self.tensors.iter().filter(|tensor| tensor.name != "freqs_cis");
        counted.map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum()
    }

    /// Bytes in the files, by dtype.
    fn stored(&self) -> Vec<(Dtype, u64)> {
        let bytes = |dtype| self.tensors.iter().filter(|tensor| tensor.dtype == dtype).map(|tensor| tensor.bytes).sum();
        Dtype::ALL.into_iter().map(|dtype| (dtype, bytes(dtype))).filter(|(_, bytes)| *bytes > 0).collect()
    }

    /// Bytes of keys and values per position in bf16, by how steps share slots: the strategy, the authors' name for it, bytes.
    fn sharing(&self, steps: u32) -> Vec<(&'static str, &'static str, u64)> {
        let kept = |slots: u32| self.config.kv_bytes_per_token(slots.min(steps), Dtype::Bf16);
        let layers = self.config.n_layers_in_recurrent_block;
        let mut all =
            vec![("every step", "full", kept(steps)), ("first 8 steps and one more", "compress-anchor", kept(9))];
        // The authors count layer slots, so their names hold for cores of four layers.
        all.push(("last 4 steps", if layers == 4 { "compress-s16" } else { "" }, kept(4)));
        all.push(("last step", if layers == 4 { "compress-s4" } else { "" }, kept(1)));
        all
    }

    fn print(&self, out: &mut impl Write, tensors: bool) -> Result<()> {
        let c = &self.config;
        writeln!(
            out,
            "model      {} layers before, {} in the loop, {} after; {} wide, {} heads of {}, MLP {}, {} tokens, context {}, trained for {} steps",
            c.n_layers_in_prelude,
            c.n_layers_in_recurrent_block,
            c.n_layers_in_coda,
            c.n_embd,
            c.n_heads,
            c.head_dim,
            c.intermediate_size,
            c.vocab_size,
            c.block_size,
            c.mean_recurrence,
        )?;
        let stored =
            self.stored().iter().map(|(dtype, bytes)| format!("{} {}", size(*bytes), dtype.name())).collect::<Vec<_>>();
        let copy = if self.unread { "; the head is the embedding, a stored copy of it is not read" } else { "" };
        writeln!(
            out,
            "weights    {} parameters in {} tensors, {}{copy}",
            grouped(self.parameters()),
            self.tensors.len(),
            stored.join(" and ")
        )?;
        let held = HELD.map(|dtype| format!("{} in {}", size(c.weight_bytes(dtype)), dtype.name()));
        writeln!(out, "on device  {}", held.join(", "))?;
        writeln!(out, "\nsteps  weights read per token                    keys and values per position (bf16)")?;
        let names = HELD.map(|dtype| format!("{:>9}", dtype.name()));
        write!(out, "       {}   ", names.join(" "))?;
        for (name, authors, _) in self.sharing(1) {
            write!(out, "  {name}{}", if authors.is_empty() { String::new() } else { format!(" ({authors})") })?;
        }
        writeln!(out)?;
        for &steps in &self.depths {
            let read = HELD.map(|dtype| format!("{:>9}", size(c.weight_bytes_per_token(dtype, steps))));
            write!(out, "{steps:>5}  {}   ", read.join(" "))?;
            for (name, authors, bytes) in self.sharing(steps) {
                let width = name.len() + if authors.is_empty() { 0 } else { authors.len() + 3 };
                write!(out, "  {:>width$}", size(bytes))?;
            }
            writeln!(out)?;
        }
        writeln!(out, "\nwhat fits here at {} steps, every step's keys and values kept", c.mean_recurrence)?;
        for place in &self.devices {
            let memory = place.available.map_or_else(
                || "memory unknown".to_owned(),
                |bytes| format!("{} free{}", size(bytes), if place.shared { " (the host's)" } else { "" }),
            );
            let fits = HELD.iter().zip(&place.contexts).map(|(dtype, context)| match context {
                Some(context) => format!("{} with a context of {context}", dtype.name()),
                None => format!("{} does not fit", dtype.name()),
            });
            writeln!(out, "  {}: {memory}; {}", place.name, fits.collect::<Vec<_>>().join(", "))?;
        }
        if tensors {
            writeln!(out)?;
            for TensorInfo { name, dtype, shape, bytes, file } in &self.tensors {
                writeln!(
                    out,
                    "{:>10}  {:<5} {:<18} {name}  ({file})",
                    size(*bytes),
                    dtype.name(),
                    format!("{shape:?}")
                )?;
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let by_dtype = |of: &dyn Fn(Dtype) -> Value| -> Value {
            HELD.into_iter().map(|dtype| (dtype.name().to_owned(), of(dtype))).collect::<serde_json::Map<_, _>>().into()
        };
        let tensor = |it: &TensorInfo| json!({"name": it.name, "dtype": it.dtype.name(), "shape": it.shape, "bytes": it.bytes, "file": it.file});
        let depth = |&steps: &u32| {
            let shared: Vec<Value> = self
                .sharing(steps)
                .into_iter()
                .map(|(keeps, authors, bytes)| json!({"keeps": keeps, "authors_name": authors, "bytes": bytes}))
                .collect();
            json!({
                "steps": steps,
                "weight_bytes_per_token": by_dtype(&|dtype| json!(self.config.weight_bytes_per_token(dtype, steps))),
                "kv_bytes_per_position": shared,
            })
        };
        let device = |place: &Place| {
            let context: serde_json::Map<_, _> = HELD
                .iter()
                .zip(&place.contexts)
                .map(|(dtype, context)| (dtype.name().to_owned(), json!(context)))
                .collect();
            json!({
                "name": place.name, "available_bytes": place.available, "shared_with_host": place.shared, "context_that_fits": context,
            })
        };
        json!({
            "config": self.config,
            "parameters": self.parameters(),
            "stored_bytes": self.stored().into_iter().map(|(dtype, bytes)| (dtype.name().to_owned(), json!(bytes))).collect::<serde_json::Map<_, _>>(),
            "device_bytes": by_dtype(&|dtype| json!(self.config.weight_bytes(dtype))),
            "depths": self.depths.iter().map(depth).collect::<Vec<_>>(),
            "devices": self.devices.iter().map(device).collect::<Vec<_>>(),
            "tensors": self.tensors.iter().map(tensor).collect::<Vec<_>>(),
        })
    }
}

impl Place {
    fn new(config: &Config, name: &str, caps: ruminate::Caps, memory: ruminate::Memory) -> Self {
        let context = |&dtype: &Dtype| config.longest_context(dtype, config.mean_recurrence, &caps, memory);
        Self {
            name: name.to_owned(),
            available: memory.available,
            shared: memory.shared,
            contexts: HELD.iter().map(context).collect(),
        }
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}
