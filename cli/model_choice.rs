//! Values of `-m`: a folder, a hub model in the cache, or a shape for random weights.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ruminate::{Error, Source, Synthetic};

use crate::exit_code::NoModel;
use crate::hub::{self, ModelName};

/// Prefix of the shape of a synthetic model.
const SYNTHETIC: &str = "synthetic:";

/// Name of the embedded demo.
const DEMO: &str = "demo";

/// Model named by a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelChoice {
    /// A folder in the Hugging Face layout, or a file in one.
    Folder(PathBuf),
    /// `owner/name[@revision]`, in the Hugging Face cache.
    Hub(ModelName),
    /// Random weights of a shape.
    Synthetic(String),
    /// The embedded demo.
    Demo,
}

impl From<OsString> for ModelChoice {
    /// An existing path is a folder. Any other text that is a valid name is a name. Everything else is also treated as a folder, so that opening it reports the
    /// error.
    fn from(text: OsString) -> Self {
        // A dangling link counts as existing.
        let exists = Path::new(&text).symlink_metadata().is_ok();
        let known = text.to_str().filter(|_| !exists).and_then(|text| {
            let shape = text.strip_prefix(SYNTHETIC).map(|shape| Self::Synthetic(shape.to_owned()));
            let demo = (text == DEMO).then_some(Self::Demo);
            shape.or(demo).or_else(|| text.parse().ok().map(Self::Hub))
        });
        known.unwrap_or_else(|| Self::Folder(text.into()))
    }
}

#[cfg(feature = "serve")]
impl std::fmt::Display for ModelChoice {
    /// Writes the name of the model; for a folder, the last component of its path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => {
                let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
                let folder = if whole.is_file() { whole.parent().unwrap_or(&whole) } else { &whole };
                write!(f, "{}", folder.file_name().unwrap_or(folder.as_os_str()).display())
            }
            Self::Hub(name) => write!(f, "{name}"),
            Self::Synthetic(shape) => write!(f, "{SYNTHETIC}{shape}"),
            Self::Demo => f.write_str(DEMO),
        }
    }
}

impl ModelChoice {
    /// Files of the model.
    ///
    /// # Errors
    /// If the model is not found; the message names the places searched and what to do. The files are checked when the model is opened.
    pub(crate) fn source(&self) -> Result<Source> {
        Ok(match self {
            Self::Folder(path) => match Source::dir(path) {
                // A folder without a model does not hide a cached model of the same name.
                Err(error @ Error::NoModel { .. }) => match path.to_str().map(str::parse::<ModelName>) {
                    Some(Ok(name)) if path.is_dir() => match hub::find(&name) {
                        Ok(found) => {
                            remark!("note: the folder {name} has no model; using {name} from the Hugging Face cache");
                            Source::dir(found)?
                        }
                        Err(_) => return Err(error.into()),
                    },
                    Some(Err(reason)) if looks_like_an_address(path) => return Err(NoModel(reason).into()),
                    _ => return Err(error.into()),
                },
                found => found?,
            },
            Self::Hub(name) => Source::dir(hub::find(name)?)?,
            Self::Synthetic(shape) => Synthetic::parse(shape)?.source(),
            Self::Demo => ruminate::demo::source(),
        })
    }
}

/// Whether a path was meant as a web address.
fn looks_like_an_address(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains("://"))
}
