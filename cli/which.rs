//! What `-m` may name: a folder, a model of the hub that is in the cache, or a shape for random weights.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ruminate::{Source, Synthetic};

use crate::hub::{self, ModelName};

/// Before the shape of a synthetic model.
const SYNTHETIC: &str = "synthetic:";

/// A model, as a flag names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// A folder in the Hugging Face layout, or a file in one.
    Folder(PathBuf),
    /// `owner/name[@revision]`, in the Hugging Face cache.
    Hub(ModelName),
    /// Random weights of a shape.
    Synthetic(String),
}

impl From<OsString> for Which {
    /// A path that exists is a path; what else could be a name is one. What is neither stays a path, whose message says what is wrong.
    fn from(text: OsString) -> Self {
        let known = text.to_str().filter(|_| !Path::new(&text).exists()).and_then(|text| {
            let shape = text.strip_prefix(SYNTHETIC).map(|shape| Self::Synthetic(shape.to_owned()));
            shape.or_else(|| text.parse().ok().map(Self::Hub))
        });
        known.unwrap_or_else(|| Self::Folder(text.into()))
    }
}

impl Which {
    /// The files of the model.
    ///
    /// # Errors
    /// Says where was looked and what to do. Whether the files are right is seen when the model is opened.
    pub(crate) fn source(&self) -> Result<Source> {
        Ok(match self {
            Self::Folder(path) => Source::dir(path)?,
            Self::Hub(name) => Source::dir(hub::find(name)?)?,
            Self::Synthetic(shape) => Synthetic::parse(shape)?.source(),
        })
    }
}
