//! Memory that a model and a session need on a device, computed from the configuration alone, and whether it is available.

use std::fmt;

use ruminate_engine::{Device, Memory};
use ruminate_shaders::attention::cache::{CacheShape, KvShare, Lookup};
use ruminate_shaders::attention::partial_bytes;
use ruminate_shaders::matmul::{Arithmetic, rounded_bytes, staged_bytes, stages};
use ruminate_shaders::weight::{self, Form};
use ruminate_shaders::{Caps, Dtype, Place, activation_bytes};

use crate::arch::{Entry, Role, Spec, entry_bytes, fold_bytes};
use crate::error::Error;
use crate::options::SessionOptions;
use crate::precision::Dtypes;
use crate::session::{MAX_ROWS, check_steps};

/// Default positions of a session, if model and memory allow them.
const USUAL_CONTEXT: u32 = 4096;

/// Smallest context that is chosen by default; below it, creating the session fails.
const LEAST_CONTEXT: u32 = 256;

/// Dtypes suggested for weights, the most exact first.
const SMALLER: [Dtype; 3] = [Dtype::Bf16, Dtype::Q8, Dtype::Q4];

/// Dtype suggested for keys and values that need too much memory.
const SMALL_KV: Dtype = Dtype::Q8;

/// Suggested distance between steps that share keys and values.
const SHARED: u32 = 4;

/// Granularity of suggested contexts: a page of the cache.
const GRAIN: u32 = ruminate_shaders::attention::cache::PAGE;

/// Device memory that a model and a session need, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Need {
    /// Matrices and vectors.
    pub weights: u64,
    /// Keys and values for a full context.
    pub kv: u64,
    /// Activations and tables of passes; an upper bound.
    pub scratch: u64,
}

impl Need {
    /// Sum of all parts.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.weights + self.kv + self.scratch
    }
}

/// Size of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Positions.
    pub context: u32,
    /// Recurrence steps.
    pub steps: u32,
    /// Dtype of keys and values.
    pub kv_dtype: Dtype,
    /// Steps that share keys and values.
    pub share: KvShare,
}

/// Suggestion for a session or model that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fits {
    /// Keys and values in this dtype.
    KvDtype(Dtype),
    /// Keys and values shared by steps this far apart.
    Share(u32),
    /// A shorter context.
    Context(u32),
    /// Fewer steps, with the same context.
    Steps(u32),
    /// Weights in this dtype.
    Dtype(Dtype),
    /// No option helps.
    Nothing,
}

impl fmt::Display for Fits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KvDtype(dtype) => write!(f, "keys and values in {0} fit (kv_dtype {0})", dtype.name()),
            Self::Share(apart) => write!(f, "steps that share keys and values fit (kv_share {apart})"),
            Self::Context(context) => write!(f, "a context of {context} fits"),
            Self::Steps(steps) => write!(f, "{steps} steps per token fit"),
            Self::Dtype(dtype) => write!(f, "weights in {} fit", dtype.name()),
            Self::Nothing => f.write_str("choose another device or a smaller model, or free memory"),
        }
    }
}

impl Spec {
    /// Default number of positions of a session, if memory allows it.
    #[must_use]
    pub fn usual_context(&self) -> u32 {
        self.context.min(USUAL_CONTEXT)
    }

    /// Bytes of the weights on most devices, including padding.
    #[must_use]
    pub fn weight_bytes(&self, dtypes: impl Into<Dtypes>) -> u64 {
        let dtypes = dtypes.into();
        self.weight_bytes_in(|entry| dtypes.of_matrix(entry.group()).into())
    }

    /// Bytes of the weights on a device, in the form that it prefers.
    pub(crate) fn weight_bytes_on(&self, dtypes: Dtypes, caps: &Caps) -> u64 {
        self.weight_bytes_in(|entry| dtypes.form_of(caps, entry.group()))
    }

    fn weight_bytes_in(&self, form: impl Fn(&Entry) -> Form) -> u64 {
        let manifest = self.manifest();
        // The rotary table belongs to a session and is as long as its context.
        let loaded = manifest.entries.iter().filter(|entry| entry.role != Role::RotaryTable);
        let bytes = loaded.map(|entry| entry_bytes(entry, form(entry)));
        bytes.sum::<u64>() + u64::from(self.layers.all()) * fold_bytes(self)
    }

    /// Bytes of keys and values for one position at `steps` steps.
    #[must_use]
    pub fn kv_bytes_per_token(&self, steps: u32, dtype: Dtype, share: KvShare) -> u64 {
        let outside = u64::from(self.layers.outside());
        let slots = outside + u64::from(self.layers.core) * u64::from(share.slots(steps));
        slots * self.kv_layer_bytes(dtype)
    }

    /// Bytes of keys and values that one layer stores for one position.
    #[must_use]
    pub fn kv_layer_bytes(&self, dtype: Dtype) -> u64 {
        self.cache(Extent { context: 0, steps: 1, kv_dtype: dtype, share: KvShare::None }, Place::Buffer)
            .position_bytes()
    }

    /// Bytes of matrices that one decoded token reads at `steps` steps: matrices outside the loop and the head once, those of the core at every step. The
    /// embedding's single row is not counted.
    #[must_use]
    pub fn weight_bytes_per_token(&self, dtypes: impl Into<Dtypes>, steps: u32) -> u64 {
        let dtypes = dtypes.into();
        self.sum_over_token(steps, true, |entry, _| entry_bytes(entry, dtypes.of_matrix(entry.group()).into()))
    }

    /// Number of weights that one token is multiplied with at `steps` steps, with or without the head, which most tokens of a prompt do not reach.
    pub(crate) fn weights_per_token(&self, steps: u32, head: bool) -> u64 {
        self.sum_over_token(steps, head, |_, [n, k]| u64::from(n) * u64::from(k))
    }

    fn sum_over_token(&self, steps: u32, head: bool, of: impl Fn(&Entry, [u32; 2]) -> u64) -> u64 {
        let manifest = self.manifest();
        let read =
            manifest.matrices().filter(|(entry, ..)| head || !matches!(entry.role, Role::Head | Role::Embedding));
        read.map(|(entry, _, shape)| u64::from(entry.reads(steps, self.tied_head)) * of(entry, shape)).sum()
    }

    /// Longest context that fits a device's free memory together with weights in `dtypes`, in a session that otherwise has the size `extent`. `None` if not
    /// even the weights fit; the model's own limit if the amount of memory is unknown.
    #[must_use]
    pub fn longest_context(
        &self,
        dtypes: impl Into<Dtypes>,
        extent: Extent,
        caps: &Caps,
        memory: Memory,
    ) -> Option<u32> {
        let dtypes = dtypes.into();
        let Some(usable) = usable(memory) else { return Some(self.context) };
        let fits = |context| self.need(dtypes, Extent { context, ..extent }, caps).total() <= usable;
        if fits(self.context) {
            return Some(self.context);
        }
        largest(self.context / GRAIN, &|pages| fits(pages * GRAIN)).map(|pages| pages * GRAIN)
    }

    /// Memory for the weights and a session.
    #[must_use]
    pub fn need(&self, dtypes: impl Into<Dtypes>, extent: Extent, caps: &Caps) -> Need {
        let Extent { context, steps, kv_dtype, share } = extent;
        let cache = self.cache(extent, CacheShape::preferred(caps, kv_dtype));
        let positions = u64::from(cache.pages_per_slot()) * u64::from(GRAIN);
        let outside = u64::from(self.layers.outside());
        let slot = positions * cache.position_bytes();
        let layer = slot * u64::from(share.slots(steps));
        let kv = outside * cache.place.memory(slot)
            + u64::from(self.layers.core) * cache.place.memory(layer)
            + cache.table_words() * 4
            + u64::from(context) * 4;
        let segments = u32::try_from(layer.div_ceil(caps.max_binding)).unwrap_or(u32::MAX).saturating_add(1);
        // A prompt takes full passes and a smaller one for the rest; decoded rows follow.
        let rows = context.min(MAX_ROWS).next_power_of_two();
        let dtypes = dtypes.into();
        let staged = |rows| {
            if caps.lanes.is_some() && stages(rows, self.widest_input() * 8) { self.staged_bytes(rows) } else { 0 }
        };
        let rounded = |rows| if dtypes.products() == Arithmetic::Int8 { self.rounded_bytes(rows) } else { 0 };
        let pass = |rows, parts| self.pass_bytes(rows) + partial_bytes(rows, self.heads, parts, cache.chunks());
        let prompt = |rows| pass(rows, segments) + staged(rows) + rounded(rows);
        let rotary = u64::from(context) * u64::from(self.head_dim) * 4;
        let scratch = prompt(rows) + prompt(rows / 2) + pass(1, 16 * segments) + rounded(1) + rotary;
        Need { weights: self.weight_bytes_on(dtypes, caps), kv, scratch }
    }

    /// Cache shape of one sequence.
    const fn cache(&self, Extent { context, steps, kv_dtype, share }: Extent, place: Place) -> CacheShape {
        CacheShape {
            kv_heads: self.kv_heads,
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

    /// Bytes of the widest input of a matrix, laid out for many rows.
    fn staged_bytes(&self, rows: u32) -> u64 {
        staged_bytes(rows, self.widest_input())
    }

    /// Bytes of the widest input of a matrix, rounded to int8 with scales.
    fn rounded_bytes(&self, rows: u32) -> u64 {
        rounded_bytes(rows, self.widest_input()).into_iter().sum()
    }

    /// Chunks of eight values in the widest input of a matrix.
    fn widest_input(&self) -> u32 {
        weight::chunks((2 * self.width).max(self.hidden).max(self.heads * self.head_dim))
    }

    /// Bytes of the activations of a pass, without the partial sums of attention.
    fn pass_bytes(&self, rows: u32) -> u64 {
        let attended = self.heads * self.head_dim;
        let wide = [7 * self.width + attended.max(self.width), 2 * self.qkv_rows(), self.hidden];
        let activations: u64 = wide.into_iter().map(|width| activation_bytes(rows, width)).sum();
        let logits = 2 * activation_bytes(1, self.padded_vocab);
        activations + logits
    }
}

/// Fraction of a device's free memory that is left to other programs and to the driver: one part in `RESERVE`.
const RESERVE: u64 = 20;

/// Bytes of a device's free memory that are left free.
const fn reserve(available: u64) -> u64 {
    available / RESERVE
}

/// Part of a device's free memory that may be used; none if the amount is unknown.
pub(crate) fn usable(memory: Memory) -> Option<u64> {
    memory.available.map(|bytes| bytes - reserve(bytes))
}

/// Size of the session with these options and this context.
fn extent(spec: &Spec, options: &SessionOptions, context: u32) -> Extent {
    let steps = options.steps.unwrap_or(spec.steps.default);
    Extent { context, steps, kv_dtype: options.kv_dtype, share: options.share }
}

/// Checks that a model fits the free memory together with the session. If the weights' dtype is `free` to change, another one may be suggested.
pub(crate) fn check_model(
    spec: &Spec,
    (dtypes, free): (Dtypes, bool),
    options: &SessionOptions,
    device: &Device,
) -> Result<(), Error> {
    let Some(usable) = usable(device.memory()) else { return Ok(()) };
    let caps = device.caps();
    let (wanted, need) = wanted(spec, dtypes, options, &caps);
    if need.total() <= usable {
        return Ok(());
    }
    let fits = |dtypes: Dtypes, extent| spec.need(dtypes, extent, &caps).total() <= usable;
    let held = |extent| fits(dtypes, extent);
    let advice = smaller_kv(wanted, &held).or_else(|| shorter(spec, wanted, &held)).or_else(|| {
        let smaller = |other: &Dtype| free && spec.weight_bytes(*other) < spec.weight_bytes(dtypes);
        SMALLER.into_iter().filter(smaller).find(|&other| fits(other.into(), wanted)).map(Fits::Dtype)
    });
    Err(refusal(need, wanted, device, advice))
}

/// Size of the session that a model is loaded for, as far as known, and the memory for both.
pub(crate) fn wanted(spec: &Spec, dtypes: Dtypes, options: &SessionOptions, caps: &Caps) -> (Extent, Need) {
    let context = options.context.unwrap_or(LEAST_CONTEXT).min(spec.context);
    let wanted = extent(spec, options, context);
    (wanted, spec.need(dtypes, wanted, caps))
}

/// Validates the options of a session for a loaded model. Returns its context and planned steps.
///
/// # Errors
/// [`Error::Option`] or [`Error::Range`]; [`Error::Memory`] if the session does not fit.
pub(crate) fn checked(spec: &Spec, options: &SessionOptions, device: &Device) -> Result<(u32, u32), Error> {
    let asked = options.context.unwrap_or(1);
    if asked == 0 || asked > spec.context {
        return Err(context_out_of_range(asked, spec));
    }
    options.validate()?;
    let steps = options.steps.unwrap_or(spec.steps.default);
    check_steps(steps)?;
    Ok((context(spec, options, device)?, steps))
}

/// Error for a context that the model does not support.
fn context_out_of_range(asked: u32, spec: &Spec) -> Error {
    let (most, limit) = (spec.context, "the longest context of the model");
    Error::Range { name: "context", value: asked, least: 1, most, limit }
}

/// Context of a session for a loaded model: the one set, or as much of the default as memory allows.
///
/// # Errors
/// [`Error::Memory`] if the session does not fit.
fn context(spec: &Spec, options: &SessionOptions, device: &Device) -> Result<u32, Error> {
    let usual = spec.usual_context();
    let wanted = extent(spec, options, options.context.unwrap_or(usual));
    let Some(usable) = usable(device.memory()) else { return Ok(wanted.context) };
    let caps = device.caps();
    let need = |extent| Need { weights: 0, ..spec.need(Dtype::F32, extent, &caps) };
    let fits = |extent| need(extent).total() <= usable;
    if fits(wanted) {
        return Ok(wanted.context);
    }
    match shorter(spec, wanted, &fits) {
        Some(Fits::Context(context)) if options.context.is_none() && context >= LEAST_CONTEXT.min(usual) => Ok(context),
        advice => Err(refusal(need(wanted), wanted, device, smaller_kv(wanted, &fits).or(advice))),
    }
}

/// Suggests a smaller dtype or shared steps for keys and values, if that fits.
fn smaller_kv(wanted: Extent, fits: &dyn Fn(Extent) -> bool) -> Option<Fits> {
    let smaller = Extent { kv_dtype: SMALL_KV, ..wanted };
    let shared = Extent { share: KvShare::Steps(SHARED), ..wanted };
    let fewer_bits = || (wanted.kv_dtype != SMALL_KV && fits(smaller)).then_some(Fits::KvDtype(SMALL_KV));
    let fewer_steps = || (wanted.share == KvShare::None && fits(shared)).then_some(Fits::Share(SHARED));
    fewer_bits().or_else(fewer_steps)
}

/// Suggests a shorter context that fits, or fewer steps.
fn shorter(spec: &Spec, wanted: Extent, fits: &dyn Fn(Extent) -> bool) -> Option<Fits> {
    let pages = wanted.context.min(spec.context) / GRAIN;
    let context = largest(pages, &|pages| fits(Extent { context: pages * GRAIN, ..wanted }));
    let steps = || largest(wanted.steps - 1, &|steps| fits(Extent { steps, ..wanted }));
    match context {
        Some(pages) if pages * GRAIN < wanted.context => Some(Fits::Context(pages * GRAIN)),
        _ => steps().map(Fits::Steps),
    }
}

/// Largest number from 1 to `most` that passes, given that all smaller numbers pass, too.
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

/// Missing memory, with a suggestion that would fit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortage {
    /// Required memory.
    pub need: Need,
    /// Requested session.
    pub extent: Extent,
    /// The device's memory.
    pub memory: Memory,
    /// The device's name.
    pub device: String,
    /// Suggestion that would fit.
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
