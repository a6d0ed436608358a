//! Models by name, `owner/name[@revision]`, in the cache of Python's `huggingface_hub`, which all programs on the machine share.

mod cache;
pub(crate) mod environment;
pub(crate) mod known;
mod name;

pub(crate) use cache::find;
#[cfg(feature = "pull")]
pub(crate) use cache::lookup;
pub(crate) use name::ModelName;
#[cfg(feature = "pull")]
pub(crate) use name::is_commit;
