//! `ruminate inspect`: sizes of a checkpoint, read from its headers alone, and what fits on each device. The headers of a model that is not in the
//! cache are fetched from the hub.

use std::collections::HashSet;
use std::io::Write;

use anyhow::Result;
use clap::Args;
use ruminate::{
    AdapterSummary, Checkpoint, Device, Dtype, Dtypes, Expected, Extent, KvShare, OpenOptions, Precision, Source, Spec,
    TensorInfo, UnusedTensor, adapters,
};
use serde_json::{Value, json};

use crate::exit_code::Done;
use crate::model::{self, ModelArgument};
use crate::options::{CacheOptions, DTYPES};
use crate::visible;
use crate::words::{counted, size};

/// Flags of `ruminate inspect`.
#[derive(Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    model: ModelArgument,
    /// Show only this dtype of the weights
    #[arg(long, value_name = "DTYPE", long_help = format!("Show only this dtype of the weights: {DTYPES}"))]
    dtype: Option<Precision>,
    #[command(flatten)]
    cache: CacheOptions,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Depths shown in addition to the model's own.
const DEPTHS: [u32; 6] = [1, 4, 8, 16, 32, 64];

/// Weight dtypes shown by default, unless `--dtype` names one or the files are quantized.
const HELD: [Dtype; 4] = [Dtype::F32, Dtype::Bf16, Dtype::Q8, Dtype::Q4];

/// Column heading.
const READ: &str = "weights read per token";

/// Collected facts about a checkpoint.
struct Survey {
    spec: Spec,
    tensors: Vec<TensorInfo>,
    /// Weight dtypes to show.
    held: Vec<Dtypes>,
    /// Dtype of keys and values.
    kv_dtype: Dtype,
    /// Whether the files store a copy of a tied head, which is not read.
    unread: bool,
    /// Tensors that the model does not read.
    unused: Vec<UnusedTensor>,
    depths: Vec<u32>,
    devices: Vec<Place>,
}

/// Whether the model fits on a device, for one choice of weight dtypes.
#[derive(Clone, Copy)]
enum DeviceFit {
    /// Longest context that fits in memory together with the weights, at the model's mean recurrence.
    Context(u32),
    /// The weights do not fit.
    TooLarge,
    /// The device does not support the arithmetic mode.
    Refused,
}

/// Device, and whether the model fits on it for each choice of weight dtypes.
struct Place {
    name: String,
    available: Option<u64>,
    shared: bool,
    fits: Vec<DeviceFit>,
}

/// Runs `ruminate inspect`.
pub(crate) fn inspect(options: &Inspect) -> Result<Done> {
    let source = options.model.source_or_headers()?;
    let survey = Survey::of(&source, options.dtype.as_ref(), options.cache.kv_dtype())?;
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
    fn of(source: &Source, asked: Option<&Precision>, kv_dtype: Dtype) -> Result<Self> {
        let spec = Spec::open(source)?;
        let tied = spec.tied_head;
        let usual = || HELD.map(Dtypes::from).to_vec();
        let mut unread = false;
        let mut unused = Vec::new();
        let (tensors, held) = match source {
            Source::Synthetic(made) => {
                let stored = |tensor: Expected| TensorInfo {
                    bytes: tensor.shape.iter().product::<usize>() as u64 * 4,
                    name: tensor.name,
                    dtype: Dtype::F32,
                    shape: tensor.shape,
                    file: "made on the device".to_owned(),
                };
                let read = made.spec().tensors().into_iter().filter(|tensor| made.spec().reads(&tensor.name));
                let held = asked.map(|asked| asked.dtypes(&spec)).transpose()?;
                (read.map(stored).collect(), held.map_or_else(usual, |held| vec![held]))
            }
            _ => {
                let checkpoint = Checkpoint::for_config(source, &spec)?;
                let stored: HashSet<&str> = checkpoint.tensors().map(|tensor| tensor.name.as_str()).collect();
                let (read, copies): (Vec<_>, Vec<_>) =
                    spec.tensors().into_iter().partition(|tensor| spec.reads(&tensor.name));
                // A copy that is stored alone is read in place of the embedding.
                let complete = read.iter().all(|tensor| !tensor.required || stored.contains(tensor.name.as_str()));
                let copied = copies.iter().any(|tensor| stored.contains(tensor.name.as_str()));
                unread = tied && !checkpoint.is_quantized() && complete && copied;
                unused = checkpoint.unused().to_vec();
                let one = asked.is_some() || checkpoint.is_quantized();
                let held = checkpoint.dtypes(&spec, &asked.cloned().unwrap_or_default())?;
                (checkpoint.tensors().cloned().collect(), if one { vec![held] } else { usual() })
            }
        };
        let mut depths = DEPTHS.to_vec();
        depths.push(spec.steps.default);
        depths.sort_unstable();
        depths.dedup();
        let cpu = Device::cpu();
        let reference = Place::new(&spec, (&held, kv_dtype), cpu.name(), cpu.caps(), cpu.memory());
        let devices = adapters(OpenOptions::default().backends);
        let place = |it: &AdapterSummary| Place::new(&spec, (&held, kv_dtype), &it.name, it.caps, it.memory);
        let devices = devices.iter().map(place).chain([reference]).collect();
        Ok(Self { unread, unused, held, kv_dtype, spec, tensors, depths, devices })
    }

    fn parameters(&self) -> u64 {
        let counted = self.tensors.iter().filter(|tensor| self.spec.is_parameter(&tensor.name));
        counted.map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum()
    }

    /// Stored bytes per dtype.
    fn stored(&self) -> Vec<(Dtype, u64)> {
        let bytes = |dtype| self.tensors.iter().filter(|tensor| tensor.dtype == dtype).map(|tensor| tensor.bytes).sum();
        Dtype::ALL.into_iter().map(|dtype| (dtype, bytes(dtype))).filter(|(_, bytes)| *bytes > 0).collect()
    }

    /// Bytes of keys and values per position for each sharing of slots between steps: description, the authors' name, bytes.
    fn sharing(&self, steps: u32) -> Vec<(&'static str, &'static str, u64)> {
        let kept = |share| self.spec.kv_bytes_per_token(steps, self.kv_dtype, share);
        let layers = self.spec.layers.core;
        let mut all = vec![
            ("every step", "full", kept(KvShare::None)),
            ("first 8 steps and one more", "compress-anchor", kept(KvShare::Anchor)),
        ];
        // The authors count layer slots, so their names hold for cores of four layers.
        all.push(("last 4 steps", if layers == 4 { "compress-s16" } else { "" }, kept(KvShare::Steps(4))));
        all.push(("last step", if layers == 4 { "compress-s4" } else { "" }, kept(KvShare::Steps(1))));
        all
    }

    fn print(&self, out: &mut impl Write, tensors: bool) -> Result<()> {
        let c = &self.spec;
        writeln!(
            out,
            "model      {} layers before, {} in the loop, {} after; {} wide, {} heads of {}, MLP {}, {} tokens, context {}, trained for {}",
            c.layers.before,
            c.layers.core,
            c.layers.after,
            c.width,
            c.heads,
            c.head_dim,
            c.hidden,
            c.vocab,
            c.context,
            counted(c.steps.default, "step"),
        )?;
        let stored =
            self.stored().iter().map(|(dtype, bytes)| format!("{} {}", size(*bytes), dtype.name())).collect::<Vec<_>>();
        let copy = match (c.tied_head, self.unread) {
            (true, true) => "; the head is the embedding, a stored copy of it is not read",
            (true, false) => "; the head is the embedding",
            (false, _) => "",
        };
        writeln!(
            out,
            "weights    {} parameters in {}, {}{copy}",
            grouped(self.parameters()),
            counted(self.tensors.len(), "tensor"),
            stored.join(" and ")
        )?;
        let held: Vec<_> = self.held.iter().map(|it| format!("{} in {it}", size(c.weight_bytes(*it)))).collect();
        writeln!(out, "on device  {}", held.join(", "))?;
        if let Some(note) = model::unused(&self.unused) {
            writeln!(out, "{note}")?;
        }
        let row = |cells: &dyn Fn(&Dtypes) -> String| {
            let cells = self.held.iter().map(|it| format!("{:>1$}", cells(it), it.to_string().len().max(9)));
            format!("{:<1$}", cells.collect::<Vec<_>>().join(" "), READ.len())
        };
        let names = row(&Dtypes::to_string);
        writeln!(out, "\nsteps  {READ:<0$}   keys and values per position ({1})", names.len(), self.kv_dtype.name())?;
        write!(out, "       {names}   ")?;
        for (name, authors, _) in self.sharing(1) {
            write!(out, "  {name}{}", if authors.is_empty() { String::new() } else { format!(" ({authors})") })?;
        }
        writeln!(out)?;
        for &steps in &self.depths {
            let read = row(&|it| size(c.weight_bytes_per_token(*it, steps)));
            write!(out, "{steps:>5}  {read}   ")?;
            for (name, authors, bytes) in self.sharing(steps) {
                let width = name.len() + if authors.is_empty() { 0 } else { authors.len() + 3 };
                write!(out, "  {:>width$}", size(bytes))?;
            }
            writeln!(out)?;
        }
        writeln!(
            out,
            "\nwhat fits here at {}, every step's keys and values kept in {}",
            counted(c.steps.default, "step"),
            self.kv_dtype.name()
        )?;
        for place in &self.devices {
            let memory = place.available.map_or_else(
                || "memory unknown".to_owned(),
                |bytes| format!("{} free{}", size(bytes), if place.shared { " (the host's)" } else { "" }),
            );
            let fits = self.held.iter().zip(&place.fits).map(|(dtypes, fit)| match fit {
                DeviceFit::Context(context) => format!("{dtypes} with a context of {context}"),
                DeviceFit::TooLarge => format!("{dtypes} does not fit"),
                DeviceFit::Refused => format!("{dtypes} is not supported on this device"),
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
                    format!("{shape:?}"),
                    name = visible::name(name),
                    file = visible::name(file),
                )?;
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let by_dtype = |of: &dyn Fn(Dtypes) -> Value| -> Value {
            self.held.iter().map(|it| (it.to_string(), of(*it))).collect::<serde_json::Map<_, _>>().into()
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
                "weight_bytes_per_token": by_dtype(&|dtype| json!(self.spec.weight_bytes_per_token(dtype, steps))),
                "kv_bytes_per_position": shared,
            })
        };
        let device = |place: &Place| {
            let context: serde_json::Map<_, _> = self
                .held
                .iter()
                .zip(&place.fits)
                .map(|(dtypes, fit)| {
                    let context = if let DeviceFit::Context(context) = fit { json!(context) } else { json!(null) };
                    (dtypes.to_string(), context)
                })
                .collect();
            json!({
                "name": place.name, "available_bytes": place.available, "shared_with_host": place.shared, "context_that_fits": context,
            })
        };
        json!({
            "config": self.spec,
            "parameters": self.parameters(),
            "stored_bytes": self.stored().into_iter().map(|(dtype, bytes)| (dtype.name().to_owned(), json!(bytes))).collect::<serde_json::Map<_, _>>(),
            "device_bytes": by_dtype(&|dtype| json!(self.spec.weight_bytes(dtype))),
            "kv_dtype": self.kv_dtype.name(),
            "depths": self.depths.iter().map(depth).collect::<Vec<_>>(),
            "devices": self.devices.iter().map(device).collect::<Vec<_>>(),
            "unused_tensors": self.unused.iter().map(|it| json!({"name": it.name, "file": it.file})).collect::<Vec<_>>(),
            "tensors": self.tensors.iter().map(tensor).collect::<Vec<_>>(),
        })
    }
}

impl Place {
    fn new(
        spec: &Spec,
        (held, kv_dtype): (&[Dtypes], Dtype),
        name: &str,
        caps: ruminate::Caps,
        memory: ruminate::Memory,
    ) -> Self {
        let session = Extent { context: 0, steps: spec.steps.default, kv_dtype, share: KvShare::None };
        let fit = |&dtypes: &Dtypes| match dtypes.check(&caps) {
            Ok(()) => {
                spec.longest_context(dtypes, session, &caps, memory).map_or(DeviceFit::TooLarge, DeviceFit::Context)
            }
            Err(_) => DeviceFit::Refused,
        };
        Self {
            name: name.to_owned(),
            available: memory.available,
            shared: memory.shared,
            fits: held.iter().map(fit).collect(),
        }
    }
}

/// Number with commas between groups of thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}
