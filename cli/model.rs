//! Model selection flags, loading, and opening sessions.

use std::io::IsTerminal;

use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ruminate::{
    Arithmetic, Checkpoint, Device, Dtype, Dtypes, Error, LoadOptions, Model, Need, Precision, Session, SessionOptions,
    Source, Spec, UnusedTensor,
};

use crate::hub;
use crate::model_choice::ModelChoice;
use crate::options::{DTYPE_NAMES, DTYPES};
use crate::progress;
use crate::visible;
use crate::words::size;

/// Memory need from which it is announced before loading, in bytes.
const WORTH_SAYING: u64 = 256 << 20;

/// Note for prompts that the demo was not trained for.
const DEMO: &str = "note: this is the embedded demo, which solves three kinds of puzzles (`ruminate run` shows one) and is no \
                    assistant; -m MODEL runs another model";

/// Maximum number of tensors named in a note.
const NAMED: usize = 8;

/// Flag that chooses a model.
#[derive(Args, Clone)]
pub(crate) struct ModelArgument {
    /// Model: a short name, owner/name, a folder, or synthetic:SHAPE [default: the demo]
    ///
    /// A short name such as ouro-1.4b (`ruminate pull --list`), or owner/name[@revision], is looked up in the Hugging Face cache. A folder holds a
    /// checkpoint in the Hugging Face layout. synthetic:SHAPE makes random weights: synthetic:huginn-0125, or synthetic:n_embd=768,heads=8. Without
    /// this flag, or with `demo`, the embedded demo runs.
    #[arg(short, long, value_name = "MODEL", help_heading = "Common", display_order = 1)]
    model: Option<ModelChoice>,
}

/// Flags that choose a model and the dtype of its weights.
#[derive(Args, Clone)]
pub(crate) struct ModelOptions {
    #[command(flatten)]
    pub(crate) argument: ModelArgument,
    #[arg(long, value_name = "DTYPE", help = format!("Dtype of the weights: {DTYPE_NAMES} [default: as in the file]"), long_help = format!("Dtype of the weights on the device [default: as in the file, F32 rounded to bf16]: {DTYPES}"), help_heading = "Common", display_order = 8)]
    dtype: Option<Precision>,
    /// Arithmetic mode of matrix products: f32, f16, int8 or cooperative
    ///
    /// int8 also quantizes activations and multiplies integers; it needs weights in q8 or q4. f16 computes prompts in f16. cooperative (experimental)
    /// computes prompts with the GPU's matrix units. All three are meant for GPUs and slow on software drivers. Overrides products= in --dtype.
    #[arg(long, value_name = "MODE", value_parser = arithmetic(), help_heading = "Device", hide_short_help = true, hide_possible_values = true)]
    arithmetic: Option<Arithmetic>,
    /// Load even if memory seems too small
    #[arg(long, help_heading = "Device", hide_short_help = true)]
    overcommit: bool,
}

impl ModelArgument {
    /// Whether a model was named.
    pub(crate) fn is_some(&self) -> bool {
        self.model.is_some()
    }

    /// Whether the model is the embedded demo.
    pub(crate) fn is_demo(&self) -> bool {
        matches!(self.model, None | Some(ModelChoice::Demo))
    }

    /// Short name of the model, by which clients of the server request it.
    #[cfg(feature = "serve")]
    pub(crate) fn name(&self) -> String {
        self.model.as_ref().map_or_else(|| ModelChoice::Demo.to_string(), ToString::to_string)
    }

    /// Prints a note on stderr if the model is the embedded demo and none of the texts poses a problem that the demo was trained for.
    pub(crate) fn note_demo<'a>(&self, texts: impl IntoIterator<Item = &'a str>) {
        if self.is_demo() && !texts.into_iter().any(ruminate::demo::poses_problem) {
            remark!("{DEMO}");
        }
    }

    /// Files of the model; by default those of the embedded demo.
    pub(crate) fn source(&self) -> Result<Source> {
        self.model.as_ref().map_or_else(|| Ok(ruminate::demo::source()), ModelChoice::source)
    }

    /// Files of the model for a command that needs no weights. The headers of a hub model that is not in the cache are fetched.
    #[cfg(feature = "pull")]
    pub(crate) fn source_or_headers(&self) -> Result<Source> {
        match &self.model {
            Some(ModelChoice::Hub(name)) if hub::find(name).is_err() => crate::pull::headers(name),
            _ => self.source(),
        }
    }

    /// Files of the model for a command that needs no weights. This build cannot fetch headers.
    #[cfg(not(feature = "pull"))]
    pub(crate) fn source_or_headers(&self) -> Result<Source> {
        self.source()
    }

    /// Files of the model for a command that needs only its shape. A published model that is not in the cache is replaced by random weights of its
    /// shape, with a note.
    pub(crate) fn source_or_shape(&self) -> Result<Source> {
        match &self.model {
            Some(ModelChoice::Hub(name)) if hub::find(name).is_err() => match hub::known::of(name.repo())
                .map(|known| known.name)
            {
                Some(shape) => {
                    remark!("note: {name} is not in the Hugging Face cache, so these are random weights of its shape");
                    ModelChoice::Synthetic(shape.to_owned()).source()
                }
                None => self.source(),
            },
            _ => self.source(),
        }
    }
}

impl ModelOptions {
    /// Returns the options with another weight dtype.
    pub(crate) fn held(&self, dtype: &Precision) -> Self {
        Self { dtype: Some(dtype.clone()), arithmetic: None, ..self.clone() }
    }

    /// Requested dtypes and arithmetic mode.
    fn precision(&self) -> Precision {
        let asked = self.dtype.clone().unwrap_or_default();
        Precision { products: self.arithmetic.unwrap_or(asked.products), ..asked }
    }

    /// Requested arithmetic mode.
    pub(crate) fn products(&self) -> Arithmetic {
        self.precision().products
    }

    /// Returns the options for another model. A quantized model is loaded with its stored dtypes.
    pub(crate) fn for_other(&self, source: &Source) -> Result<Self> {
        Ok(if is_quantized(source)? { Self { dtype: None, ..self.clone() } } else { self.clone() })
    }

    /// Requested dtypes for random weights of a model of this configuration.
    pub(crate) fn dtypes(&self, spec: &Spec) -> std::result::Result<Dtypes, Error> {
        self.precision().dtypes(spec)
    }

    /// Loads the model, with a progress bar on a terminal. Memory is checked for the weights and for a session with the options `session`.
    pub(crate) fn load(&self, source: &Source, device: &Device, session: SessionOptions, quiet: bool) -> Result<Model> {
        let shown = !quiet && std::io::stderr().is_terminal();
        let bar = progress::bar(shown, 0, "loading {bar:30} {bytes}/{total_bytes} {bytes_per_sec}{left}")?;
        let mut progress = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let Precision { dtype, keep, products } = self.precision();
        let mut announce = |need: &Need| {
            if !quiet && need.total() >= WORTH_SAYING {
                let [weights, kv, scratch, all] = [need.weights, need.kv, need.scratch, need.total()].map(size);
                let free = device.memory().available.map_or(String::new(), |free| format!(" of {} free", size(free)));
                remark!("memory: weights {weights}, keys and values {kv}, scratch {scratch}: {all}{free}");
            }
        };
        let loading = LoadOptions {
            dtype,
            keep,
            products,
            session,
            overcommit: self.overcommit,
            announce: Some(&mut announce),
            progress: Some(&mut progress),
            ..LoadOptions::default()
        };
        let model = Model::open(source, device, loading)?;
        bar.finish_and_clear();
        if !quiet {
            model.spec().notes.iter().for_each(|note| remark!("{note}"));
        }
        if !quiet && let Some(note) = unused(model.unused_tensors()) {
            remark!("{note}");
        }
        Ok(model)
    }
}

/// Parser of `--arithmetic`.
fn arithmetic() -> impl TypedValueParser<Value = Arithmetic> {
    let named = |name: String| Arithmetic::ALL.into_iter().find(|known| known.name() == name).unwrap_or_default();
    PossibleValuesParser::new(Arithmetic::ALL.map(Arithmetic::name)).map(named)
}

/// Note about tensors that a model does not read, if there are any.
pub(crate) fn unused(tensors: &[UnusedTensor]) -> Option<String> {
    let named: Vec<String> = tensors
        .iter()
        .take(NAMED)
        .map(|it| format!("{} ({})", visible::name(&it.name), visible::name(&it.file)))
        .collect();
    let more = tensors.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let plural = if tensors.len() == 1 { "tensor is" } else { "tensors are" };
    let note =
        || format!("note: {} {plural} not part of the model and not used: {}{more}", tensors.len(), named.join(", "));
    (!tensors.is_empty()).then(note)
}

/// Whether the files of a model are quantized.
fn is_quantized(source: &Source) -> Result<bool> {
    if matches!(source, Source::Synthetic(_)) {
        return Ok(false);
    }
    Ok(Checkpoint::for_config(source, &Spec::open(source)?)?.is_quantized())
}

/// Opens a session, with a note if memory limits the context to less than the model allows.
pub(crate) fn open_session(model: &Model, options: SessionOptions, quiet: bool) -> Result<Session> {
    let (asked, kv_dtype) = (options.context, options.kv_dtype);
    let session = model.session(options)?;
    let usual = model.spec().usual_context();
    if asked.is_none() && session.context() < usual && !quiet {
        let more = if kv_dtype == Dtype::Q8 { "" } else { "; --kv-dtype q8 allows more" };
        remark!(
            "note: memory allows a context of {} positions at this depth; the model supports {usual}{more}",
            session.context()
        );
    }
    Ok(session)
}
