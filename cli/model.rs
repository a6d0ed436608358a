//! Which model a verb works on, and loading it.

use std::io::IsTerminal;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use ruminate::{Device, LoadOptions, Model, Source, Synthetic};

use crate::options::ModelOptions;

impl ModelOptions {
    /// The files of the model: the embedded demo's unless another one was asked for.
    pub(crate) fn source(&self) -> Result<Source, ruminate::Error> {
        let Some(path) = &self.model else { return Ok(ruminate::demo::source()) };
        match path.to_str().and_then(|text| text.strip_prefix("synthetic:")) {
            Some(shape) => Ok(Synthetic::parse(shape)?.source()),
            None => Source::dir(path),
        }
    }

    /// Loads the model, with a progress bar on a terminal.
    pub(crate) fn load(&self, source: &Source, device: &Device, quiet: bool) -> Result<Model> {
        let bar = if quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let style = ProgressStyle::with_template("loading {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?;
        bar.set_style(style);
        let mut progress = |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let loading = LoadOptions { dtype: self.dtype.map(Into::into), progress: Some(&mut progress) };
        let model = Model::open(source, device, loading)?;
        bar.finish_and_clear();
        Ok(model)
    }
}
