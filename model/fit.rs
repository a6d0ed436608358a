//! What a model and a session will take of a device's memory, known from the configuration alone; and whether it is there.

use std::fmt;

use ruminate_engine::{Device, Memory};
use ruminate_shaders::attention::cache::{CacheShape, KvShare, Lookup};
use ruminate_shaders::attention::partial_bytes;
use ruminate_shaders::matmul::{Arithmetic, rounded_bytes, staged_bytes, stages};
use ruminate_shaders::weight::{self, Form};
use ruminate_shaders::{Caps, Dtype, Place, activation_bytes};

use crate::arch::{matrix_bytes_of, raven_tensors};
use crate::config::Config;
use crate::error::Error;
use crate::options::SessionOptions;
use crate::precision::Dtypes;
use crate::session::{MAX_ROWS, check_steps};

/// Positions that a session gets unless more or fewer are asked for, where model and memory allow it.
const USUAL_CONTEXT: u32 = 4096;

/// A context below this is not worth a session that did not ask for it.
const LEAST_CONTEXT: u32 = 256;

/// Dtypes of weights that are suggested, the most exact first.
const SMALLER: [Dtype; 3] = [Dtype::Bf16, Dtype::Q8, Dtype::Q4];

/// How keys and values are stored where they take too much otherwise.
const SMALL_KV: Dtype = Dtype::Q8;

/// Steps that suggested sharing is apart.
const SHARED: u32 = 4;

/// Contexts are suggested in multiples of this: a page of the cache.
const GRAIN: u32 = ruminate_shaders::attention::cache::PAGE;

/// Bytes on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Matrices and vectors.
    pub weights: u64,
    /// Keys and values when the context is full.
    pub kv: u64,
    /// Activations and tables of the passes: an upper bound.
    pub scratch: u64,
}

impl Need {
    /// All of it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.weights + self.kv + self.scratch
    }
}

/// What a session is laid out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Positions.
    pub context: u32,
    /// Recurrence steps.
    pub steps: u32,
    /// How keys and values are stored.
    pub kv_dtype: Dtype,
    /// Which steps share them.
    pub share: KvShare,
}

/// What would fit where something else did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fits {
    /// Keys and values in this dtype.
    KvDtype(Dtype),
    /// Keys and values that steps so far apart share.
    Share(u32),
    /// A shorter context.
    Context(u32),
    /// Fewer steps, with the context as it is.
    Steps(u32),
    /// Weights in this dtype.
    Dtype(Dtype),
    /// Nothing that can be set.
    Nothing,
}

impl fmt::Display for Fits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KvDtype(dtype) => write!(f, "keys and values in {0} fit (--kv-dtype {0})", dtype.name()),
            Self::Share(apart) => write!(f, "steps that share keys and values fit (--kv-share {apart})"),
            Self::Context(context) => write!(f, "a context of {context} fits"),
            Self::Steps(steps) => write!(f, "{steps} steps per token fit"),
            Self::Dtype(dtype) => write!(f, "weights in {} fit", dtype.name()),
            Self::Nothing => f.write_str("choose another device or a smaller model, or free memory"),
        }
    }
}

impl Config {
    /// Positions that a session gets where none are asked for and memory allows it.
    #[must_use]
    pub fn usual_context(&self) -> u32 {
        self.block_size.min(USUAL_CONTEXT)
    }

    /// Bytes of the weights on most devices, padding included.
    #[must_use]
    pub fn weight_bytes(&self, dtypes: impl Into<Dtypes>) -> u64 {
        let dtypes = dtypes.into();
        self.weight_bytes_in(|name| dtypes.of_matrix(name).into())
    }

    /// Bytes of the weights on a device, in the form that it prefers.
    pub(crate) fn weight_bytes_on(&self, dtypes: Dtypes, caps: &Caps) -> u64 {
        self.weight_bytes_in(|name| dtypes.form_of(caps, name))
    }

    fn weight_bytes_in(&self, form: impl Fn(&str) -> Form) -> u64 {
        let tensors = raven_tensors(self).into_iter().filter(|tensor| tensor.required || tensor.name == "freqs_cis");
        let bytes = tensors.map(|tensor| match tensor.shape[..] {
            [n, k] => matrix_bytes_of(&tensor.name, [n as u32, k as u32], form(&tensor.name)),
            _ => activation_bytes(1, tensor.shape.iter().product::<usize>() as u32),
        });
        // The products of norms that records ask for: three vectors for each of a block's two sums.
        let blocks = self.n_layers_in_prelude + self.n_layers_in_recurrent_block + self.n_layers_in_coda;
        bytes.sum::<u64>() + u64::from(blocks) * activation_bytes(6, self.n_embd)
    }

    /// Bytes of keys and values that one position takes at a number of steps.
    #[must_use]
    pub fn kv_bytes_per_token(&self, steps: u32, dtype: Dtype, share: KvShare) -> u64 {
        let outside = u64::from(self.n_layers_in_prelude + self.n_layers_in_coda);
        let slots = outside + u64::from(self.n_layers_in_recurrent_block) * u64::from(share.slots(steps));
        slots * self.kv_layer_bytes(dtype)
    }

    /// Bytes of keys and values that one layer stores for one position.
    #[must_use]
    pub fn kv_layer_bytes(&self, dtype: Dtype) -> u64 {
        self.cache(Extent { context: 0, steps: 1, kv_dtype: dtype, share: KvShare::None }, Place::Buffer)
            .position_bytes()
    }

    /// Bytes of matrices that one decoded token reads at a number of steps: prelude, coda and head once, adapter and core at every step. The
    /// embedding's single row does not count.
    #[must_use]
    pub fn weight_bytes_per_token(&self, dtypes: impl Into<Dtypes>, steps: u32) -> u64 {
        let dtypes = dtypes.into();
        self.sum_over_token(steps, true, |name, shape| matrix_bytes_of(name, shape, dtypes.of_matrix(name).into()))
    }

    /// Weights that one token is multiplied with at a number of steps, with or without the head, which most tokens of a prompt do not reach.
    pub(crate) fn weights_per_token(&self, steps: u32, head: bool) -> u64 {
        self.sum_over_token(steps, head, |_, [n, k]| u64::from(n) * u64::from(k))
    }

    fn sum_over_token(&self, steps: u32, head: bool, of: impl Fn(&str, [u32; 2]) -> u64) -> u64 {
        let last = if self.tie_embeddings { "transformer.wte.weight" } else { "lm_head.weight" };
        let tensors = raven_tensors(self).into_iter().filter_map(|tensor| {
            let [n, k] = tensor.shape[..] else { return None };
            let recurrent = tensor.name.contains(".core_block.") || tensor.name.contains(".adapter.");
            let outside = tensor.name.contains(".prelude.") || tensor.name.contains(".coda.");
            let once = outside || (head && tensor.name == last);
            let times = if recurrent { u64::from(steps) } else { u64::from(once) };
            Some(times * of(&tensor.name, [n as u32, k as u32]))
        });
        tensors.sum()
    }

    /// The longest context that fits a device's free memory together with weights in `dtypes`, in a session that is otherwise as `extent` says; `None` if not
    /// even the weights do, and the model's own limit if nobody knows how much memory there is.
    #[must_use]
    pub fn longest_context(
        &self,
        dtypes: impl Into<Dtypes>,
        extent: Extent,
        caps: &Caps,
        memory: Memory,
    ) -> Option<u32> {
        let dtypes = dtypes.into();
        let Some(usable) = usable(memory) else { return Some(self.block_size) };
        let fits = |context| self.need(dtypes, Extent { context, ..extent }, caps).total() <= usable;
        if fits(self.block_size) {
            return Some(self.block_size);
        }
        largest(self.block_size / GRAIN, &|pages| fits(pages * GRAIN)).map(|pages| pages * GRAIN)
    }

    /// What a session takes beside the weights, and the weights.
    #[must_use]
    pub fn need(&self, dtypes: impl Into<Dtypes>, extent: Extent, caps: &Caps) -> Need {
        let Extent { context, steps, kv_dtype, share } = extent;
        let cache = self.cache(extent, CacheShape::preferred(caps, kv_dtype));
        let positions = u64::from(cache.pages_per_slot()) * u64::from(GRAIN);
        let outside = u64::from(self.n_layers_in_prelude + self.n_layers_in_coda);
        let slot = positions * cache.position_bytes();
        let layer = slot * u64::from(share.slots(steps));
        let kv = outside * cache.place.memory(slot)
            + u64::from(self.n_layers_in_recurrent_block) * cache.place.memory(layer)
            + cache.table_words() * 4
            + u64::from(context) * 4;
        let segments = u32::try_from(layer.div_ceil(caps.max_binding)).unwrap_or(u32::MAX).saturating_add(1);
        // A prompt takes whole passes and a smaller one for the rest; then there are rows that are decoded.
        let rows = context.min(MAX_ROWS).next_power_of_two();
        let dtypes = dtypes.into();
        let staged = |rows| if caps.lanes.is_some() && stages(rows) { self.staged_bytes(rows) } else { 0 };
        let rounded = |rows| if dtypes.products() == Arithmetic::Int8 { self.rounded_bytes(rows) } else { 0 };
        let pass = |rows, parts| self.pass_bytes(rows) + partial_bytes(rows, self.n_heads, parts, cache.chunks());
        let prompt = |rows| pass(rows, segments) + staged(rows) + rounded(rows);
        let scratch = prompt(rows) + prompt(rows / 2) + pass(1, 16 * segments) + rounded(1);
        Need { weights: self.weight_bytes_on(dtypes, caps), kv, scratch }
    }

    /// The cache of one sequence.
    const fn cache(&self, Extent { context, steps, kv_dtype, share }: Extent, place: Place) -> CacheShape {
        CacheShape {
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            dtype: kv_dtype,
            place,
            sequences: 1,
            context,
            steps,
            slots: 1 + share.slots(steps),
            lookup: Lookup::Latest,
            recurrent: true,
            page_base: 0,
            page_count: 0,
        }
    }

    /// Bytes of the widest input of a matrix as it is laid out for many rows.
    fn staged_bytes(&self, rows: u32) -> u64 {
        staged_bytes(rows, self.widest_input())
    }

    /// The same as whole numbers and factors.
    fn rounded_bytes(&self, rows: u32) -> u64 {
        rounded_bytes(rows, self.widest_input()).into_iter().sum()
    }

    /// Its chunks of eight.
    fn widest_input(&self) -> u32 {
        weight::chunks((2 * self.n_embd).max(self.intermediate_size))
    }

    /// Bytes of the activations of a pass, without the sums that attention leaves for its parts of the keys.
    fn pass_bytes(&self, rows: u32) -> u64 {
        let wide = [8 * self.n_embd, 2 * self.qkv_rows(), self.intermediate_size];
        let activations: u64 = wide.into_iter().map(|width| activation_bytes(rows, width)).sum();
        let logits = 2 * activation_bytes(1, self.padded_vocab_size);
        activations + logits
    }
}

/// Share of a device's free memory that is left to other programs and to the driver: one part of so many.
const RESERVE: u64 = 20;

/// Bytes of a device's free memory that are not taken.
const fn reserve(available: u64) -> u64 {
    available / RESERVE
}

/// The part of a device's free memory that may be taken; none if nobody knows how much there is.
fn usable(memory: Memory) -> Option<u64> {
    memory.available.map(|bytes| bytes - reserve(bytes))
}

/// The session that `options` will get, as far as it is known before.
fn extent(config: &Config, options: &SessionOptions, context: u32) -> Extent {
    let steps = options.steps.unwrap_or(config.mean_recurrence);
    Extent { context, steps, kv_dtype: options.kv_dtype, share: options.share }
}

/// Fails if a model with such a session does not fit the memory that is free. Another dtype is suggested where the weights are `free` to have one.
pub(crate) fn check_model(
    config: &Config,
    (dtypes, free): (Dtypes, bool),
    options: &SessionOptions,
    device: &Device,
) -> Result<(), Error> {
    let Some(usable) = usable(device.memory()) else { return Ok(()) };
    let caps = device.caps();
    let (wanted, need) = wanted(config, dtypes, options, &caps);
    if need.total() <= usable {
        return Ok(());
    }
    let fits = |dtypes: Dtypes, extent| config.need(dtypes, extent, &caps).total() <= usable;
    let held = |extent| fits(dtypes, extent);
    let advice = smaller_kv(wanted, &held).or_else(|| shorter(config, wanted, &held)).or_else(|| {
        let smaller = |other: &Dtype| free && config.weight_bytes(*other) < config.weight_bytes(dtypes);
        SMALLER.into_iter().filter(smaller).find(|&other| fits(other.into(), wanted)).map(Fits::Dtype)
    });
    Err(refusal(need, wanted, device, advice))
}

/// The session that a model is loaded for, as far as it is known, and what both will take.
pub(crate) fn wanted(config: &Config, dtypes: Dtypes, options: &SessionOptions, caps: &Caps) -> (Extent, Need) {
    let context = options.context.unwrap_or(LEAST_CONTEXT).min(config.block_size);
    let wanted = extent(config, options, context);
    (wanted, config.need(dtypes, wanted, caps))
}

/// Context and planned steps of a session on a device that holds the model already, if its options make sense.
///
/// # Errors
/// [`Error::Option`], or [`Error::Memory`] if it does not fit.
pub(crate) fn checked(config: &Config, options: &SessionOptions, device: &Device) -> Result<(u32, u32), Error> {
    let asked = options.context.unwrap_or(1);
    if asked == 0 || asked > config.block_size {
        let value = format!("{asked} (block_size {})", config.block_size);
        return Err(Error::Option { name: "context", value, allowed: "between 1 and the model's block_size" });
    }
    options.validate()?;
    let steps = options.steps.unwrap_or(config.mean_recurrence);
    check_steps(steps)?;
    Ok((context(config, options, device)?, steps))
}

/// The context of a session on a device that holds the model already: what was asked for, or as much of the usual as memory allows.
///
/// # Errors
/// [`Error::Memory`] if it does not fit.
fn context(config: &Config, options: &SessionOptions, device: &Device) -> Result<u32, Error> {
    let usual = config.usual_context();
    let wanted = extent(config, options, options.context.unwrap_or(usual));
    let Some(usable) = usable(device.memory()) else { return Ok(wanted.context) };
    let caps = device.caps();
    let need = |extent| Need { weights: 0, ..config.need(Dtype::F32, extent, &caps) };
    let fits = |extent| need(extent).total() <= usable;
    if fits(wanted) {
        return Ok(wanted.context);
    }
    match shorter(config, wanted, &fits) {
        Some(Fits::Context(context)) if options.context.is_none() && context >= LEAST_CONTEXT.min(usual) => Ok(context),
        advice => Err(refusal(need(wanted), wanted, device, smaller_kv(wanted, &fits).or(advice))),
    }
}

/// The same session with keys and values in fewer bits, or of fewer steps, if that fits.
fn smaller_kv(wanted: Extent, fits: &dyn Fn(Extent) -> bool) -> Option<Fits> {
    let smaller = Extent { kv_dtype: SMALL_KV, ..wanted };
    let shared = Extent { share: KvShare::Steps(SHARED), ..wanted };
    let fewer_bits = || (wanted.kv_dtype != SMALL_KV && fits(smaller)).then_some(Fits::KvDtype(SMALL_KV));
    let fewer_steps = || (wanted.share == KvShare::None && fits(shared)).then_some(Fits::Share(SHARED));
    fewer_bits().or_else(fewer_steps)
}

/// A shorter context that fits, or fewer steps.
fn shorter(config: &Config, wanted: Extent, fits: &dyn Fn(Extent) -> bool) -> Option<Fits> {
    let pages = wanted.context.min(config.block_size) / GRAIN;
    let context = largest(pages, &|pages| fits(Extent { context: pages * GRAIN, ..wanted }));
    let steps = || largest(wanted.steps - 1, &|steps| fits(Extent { steps, ..wanted }));
    match context {
        Some(pages) if pages * GRAIN < wanted.context => Some(Fits::Context(pages * GRAIN)),
        _ => steps().map(Fits::Steps),
    }
}

/// The largest number from 1 to `most` that passes, where all below it do too.
fn largest(most: u32, passes: &dyn Fn(u32) -> bool) -> Option<u32> {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = high - (high - low) / 2;
        if passes(middle) { low = middle } else { high = middle - 1 }
    }
    (low > 0).then_some(low)
}

fn refusal(need: Need, extent: Extent, device: &Device, advice: Option<Fits>) -> Error {
    let fits = advice.unwrap_or(Fits::Nothing);
    Error::Memory(Box::new(Shortage { need, extent, memory: device.memory(), device: device.name().to_owned(), fits }))
}

/// What is needed, what is there, and what would fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes needed.
    pub need: Need,
    /// The session that was asked for.
    pub extent: Extent,
    /// The device's memory.
    pub memory: Memory,
    /// The device's name.
    pub device: String,
    /// What would fit.
    pub fits: Fits,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gb = |bytes: u64| match bytes {
            ..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
            _ => format!("{:.2} GB", bytes as f64 / 1e9),
        };
        let Self { need, extent, memory, device, fits } = self;
        write!(f, "not enough memory: ")?;
        if need.weights > 0 {
            write!(f, "weights {}, ", gb(need.weights))?;
        }
        write!(
            f,
            "keys and values {} ({} positions at {} steps in {}), scratch {}, together {}; {device} has {} left",
            gb(need.kv),
            extent.context,
            extent.steps,
            extent.kv_dtype.name(),
            gb(need.scratch),
            gb(need.total()),
            gb(memory.available.unwrap_or(0)),
        )?;
        if memory.shared {
            write!(f, " of the host's memory")?;
        }
        write!(f, ", of which {} stay free as a reserve", gb(reserve(memory.available.unwrap_or(0))))?;
        write!(f, ": {fits}")
    }
}
