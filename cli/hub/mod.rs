//! Models by name, `owner/name[@revision]`, in the cache that Python's `huggingface_hub` shares with every program on the machine.

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
