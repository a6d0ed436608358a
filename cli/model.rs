//! Which model a verb works on, loading it, and a session with it.

use std::io::IsTerminal;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ruminate::{Device, Dtype, LoadOptions, Model, Session, SessionOptions, Source};

use crate::options::Precision;
use crate::which::Which;

/// The flag that says which model.
#[derive(Args, Clone)]
pub(crate) struct ModelArgument {
    /// Folder of a checkpoint in the Hugging Face layout, owner/name[@revision] in the Hugging Face cache, or synthetic:SHAPE for random
    /// weights (synthetic:huginn-0125, synthetic:n_embd=768,heads=8); without it the embedded demo
    #[arg(short, long, value_name = "MODEL", help_heading = "Input")]
    model: Option<Which>,
}

/// Flags that say which model, and how it is held.
#[derive(Args, Clone)]
pub(crate) struct ModelOptions {
    #[command(flatten)]
    pub(crate) argument: ModelArgument,
    /// How weights are held on the device [default: as in the file, f32 rounded to bf16]
    #[arg(long, value_enum, help_heading = "Device")]
    dtype: Option<Precision>,
    /// Load even if memory seems too small
    #[arg(long, help_heading = "Device")]
    overcommit: bool,
}

impl ModelArgument {
    /// Whether a model was named.
    pub(crate) fn is_some(&self) -> bool {
        self.model.is_some()
    }

    /// The files of the model: the embedded demo's unless another one was asked for.
    pub(crate) fn source(&self) -> Result<Source> {
        self.model.as_ref().map_or_else(|| Ok(ruminate::demo::source()), Which::source)
    }

    /// The same for a verb that needs a shape more than a model: `huginn-0125` stands for random weights of that shape, `demo` for the demo.
    pub(crate) fn source_or_shape(&self) -> Result<Source> {
        let named = match &self.model {
            Some(Which::Hub(name)) => name.to_string(),
            _ => String::new(),
        };
        match named.as_str() {
            "huginn-0125" => Which::Synthetic(named).source(),
            "demo" => Ok(ruminate::demo::source()),
            _ => self.source(),
        }
    }
}

impl ModelOptions {
    /// The same, with the weights held in another way.
    pub(crate) fn held(&self, dtype: Precision) -> Self {
        Self { dtype: Some(dtype), ..self.clone() }
    }

    /// How the weights are to be held, if that was said.
    pub(crate) fn dtype(&self) -> Option<Dtype> {
        self.dtype.map(Into::into)
    }

    /// Loads the model, with a progress bar on a terminal. `session` is what will be asked for: it has to fit too.
    pub(crate) fn load(&self, source: &Source, device: &Device, session: SessionOptions, quiet: bool) -> Result<Model> {
        let bar = if quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let style = ProgressStyle::with_template("loading {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?;
        bar.set_style(style);
        let mut progress = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let loading =
            LoadOptions { dtype: self.dtype(), session, overcommit: self.overcommit, progress: Some(&mut progress) };
        let model = Model::open(source, device, loading)?;
        bar.finish_and_clear();
        Ok(model)
    }
}

/// A session, with a note if memory makes it shorter than the model allows.
pub(crate) fn open_session(model: &Model, options: SessionOptions, quiet: bool) -> Result<Session> {
    let asked = options.context;
    let session = model.session(options)?;
    let usual = model.config().usual_context();
    if asked.is_none() && session.context() < usual && !quiet {
        remark!(
            "note: memory allows a context of {} positions at this depth; the model could hold {usual}",
            session.context()
        );
    }
    Ok(session)
}
