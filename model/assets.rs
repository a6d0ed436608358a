//! Checkpoint files that the application provides: in memory, in an asset pack, or through a reader of byte ranges.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Reader of a file by byte ranges: a part of an asset pack, an entry of an archive, a cache, a server.
///
/// Loading reads weights in ranges of at most 8 MiB, several threads at once, each byte about once; headers and text files come first.
pub trait ReadAt: Send + Sync {
    /// Size of the file in bytes. It must not change; it is called once per opening.
    fn size(&self) -> u64;

    /// Fills `out` with the bytes from `offset` on. Callers never read beyond [`Self::size`].
    ///
    /// # Errors
    /// Any. Loading ends with [`Error::File`](crate::Error::File), which names the file and carries this error.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()>;
}

/// Owned or shared bytes: a `Vec<u8>`, an `Arc<[u8]>`, a `bytes::Bytes`, a memory map.
trait Held: AsRef<[u8]> + Send + Sync {}
impl<T: AsRef<[u8]> + Send + Sync> Held for T {}

/// Content of one file. Cheap to clone.
#[derive(Clone)]
pub struct Asset(Content);

#[derive(Clone)]
enum Content {
    Memory(Arc<dyn Held>),
    Reader(Arc<dyn ReadAt>),
}

impl Asset {
    /// Creates an asset from a whole file in memory, without copying it.
    pub fn memory(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Content::Memory(Arc::new(bytes)))
    }

    /// Creates an asset from a reader of byte ranges.
    pub fn reader(reader: impl ReadAt + 'static) -> Self {
        Self(Content::Reader(Arc::new(reader)))
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.0 {
            Content::Memory(bytes) => bytes.as_ref().as_ref().len() as u64,
            Content::Reader(reader) => reader.size(),
        }
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] beyond the end; errors of the reader.
    pub(crate) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        match &self.0 {
            Content::Memory(bytes) => copy_from(bytes.as_ref().as_ref(), offset, out),
            Content::Reader(reader) => reader.read_at(offset, out),
        }
    }
}

impl From<Vec<u8>> for Asset {
    fn from(bytes: Vec<u8>) -> Self {
        Self::memory(bytes)
    }
}

impl From<Arc<[u8]>> for Asset {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::memory(bytes)
    }
}

impl From<&'static [u8]> for Asset {
    fn from(bytes: &'static [u8]) -> Self {
        Self::memory(bytes)
    }
}

impl fmt::Debug for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asset({} bytes)", self.size())
    }
}

/// Checkpoint files by name, provided by the application.
///
/// ```
/// use ruminate::{Asset, Assets, Source};
///
/// let mut assets = Assets::new("level1.pak");
/// assets.insert("config.json", br#"{"model_type": "llama"}"#.to_vec());
/// // assets.insert("model.safetensors", Asset::reader(…));
/// let source = Source::from(assets);
/// assert!(source.exists("config.json") && !source.exists("tokenizer.json"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Assets {
    origin: String,
    files: BTreeMap<String, Asset>,
}

impl Assets {
    /// Creates an empty pack; `origin` is its name in messages, such as the path of the asset pack.
    pub fn new(origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), files: BTreeMap::new() }
    }

    /// Adds a file under its name in the Hugging Face layout, such as `config.json`, and returns the file previously stored under the name.
    pub fn insert(&mut self, name: impl Into<String>, asset: impl Into<Asset>) -> Option<Asset> {
        self.files.insert(name.into(), asset.into())
    }

    /// Name of the pack in messages.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Names of the files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Finds a file by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Asset> {
        self.files.get(name)
    }
}

impl<N: Into<String>, A: Into<Asset>> Extend<(N, A)> for Assets {
    fn extend<I: IntoIterator<Item = (N, A)>>(&mut self, files: I) {
        self.files.extend(files.into_iter().map(|(name, asset)| (name.into(), asset.into())));
    }
}

/// Fills `out` with `bytes` from `offset` on.
pub(crate) fn copy_from(bytes: &[u8], offset: u64, out: &mut [u8]) -> Result<()> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = start.checked_add(out.len()).filter(|&end| end <= bytes.len());
    let end = end.ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "the file ends before the requested bytes"))?;
    out.copy_from_slice(&bytes[start..end]);
    Ok(())
}
