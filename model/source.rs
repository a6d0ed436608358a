//! Where the files of a checkpoint come from: a folder, the program itself, or a recipe for random weights.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::synthetic::Synthetic;

/// Bytes of tokenizer.json, at most; those of the largest vocabularies have some tens of millions.
const MOST_TOKENIZER: u64 = 256 << 20;

/// Bytes of any other file that is read whole, at most.
const MOST_BYTES: u64 = 32 << 20;

/// Files of a checkpoint in the Hugging Face layout.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder.
    Dir(PathBuf),
    /// Files that are part of the program: name and content.
    Embedded(&'static [(&'static str, &'static [u8])]),
    /// A shape with random weights, made on the device when the model is opened.
    Synthetic(Arc<Synthetic>),
}

/// The content of a file, mapped or embedded.
#[derive(Debug)]
pub enum Bytes {
    /// Mapped from disk, pages are read when they are touched; and the file itself.
    Mapped(Mmap, File),
    /// Part of the program.
    Static(&'static [u8]),
}

impl Bytes {
    /// Reads from a byte offset until `out` is full. Unlike the mapped pages, what is read here takes no memory but `out`'s, and a
    /// file that another process cuts short is an error and not a signal.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn read_at(&self, offset: usize, out: &mut [u8]) -> std::io::Result<()> {
        match self {
            Self::Mapped(_, file) => read_exact_at(file, out, offset as u64),
            Self::Static(bytes) => {
                let end = offset.checked_add(out.len()).filter(|&end| end <= bytes.len());
                out.copy_from_slice(&bytes[offset..end.ok_or(std::io::ErrorKind::UnexpectedEof)?]);
                Ok(())
            }
        }
    }
}

/// Opens a file, but no pipe or device, at which opening or reading might wait for ever.
fn open_regular(path: &Path) -> std::io::Result<File> {
    let refused = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file");
    if !path.metadata()?.is_file() {
        return Err(refused());
    }
    let file = File::open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused()) }
}

fn read_regular(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let problem = format!("it is larger than {most} bytes, which no such file is");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !out.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, out, offset)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        (out, offset) = (&mut out[count..], offset + count as u64);
    }
    Ok(())
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, _) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

impl Source {
    /// The checkpoint in a folder, or the one whose folder holds the given file.
    ///
    /// # Errors
    /// [`Error::NoModel`] if there is no `config.json`.
    pub fn dir(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let folder = if path.is_file() { path.parent().unwrap_or(path) } else { path };
        if !folder.join("config.json").is_file() {
            return Err(Error::NoModel { path: path.display().to_string() });
        }
        Ok(Self::Dir(folder.to_path_buf()))
    }

    /// Whether there is a file of this name.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        match self {
            // Whatever it is: a file that cannot be read is an error, not a file that is not there.
            Self::Dir(folder) => folder.join(name).symlink_metadata().is_ok(),
            Self::Embedded(files) => files.iter().any(|(file, _)| *file == name),
            Self::Synthetic(made) => made.file(name).is_some(),
        }
    }

    /// The path of a file, for messages.
    #[must_use]
    pub fn describe(&self, name: &str) -> String {
        match self {
            Self::Dir(folder) => folder.join(name).display().to_string(),
            Self::Embedded(_) => format!("{name} of the embedded model"),
            Self::Synthetic(_) => format!("{name} of the synthetic model"),
        }
    }

    /// Reads a whole file: `tokenizer.json` of at most 256 MiB, others of at most 32 MiB.
    ///
    /// # Errors
    /// [`Error::File`], also if it is larger, or no regular file: a pipe might never end.
    pub fn read(&self, name: &str) -> Result<Cow<'static, [u8]>> {
        match self {
            Self::Dir(folder) => {
                let most = if name == "tokenizer.json" { MOST_TOKENIZER } else { MOST_BYTES };
                read_regular(&folder.join(name), most).map(Cow::Owned).map_err(|error| self.error(name, error))
            }
            Self::Embedded(_) => self.embedded(name).map(Cow::Borrowed),
            Self::Synthetic(made) => {
                let found = made.file(name).map(|text| Cow::Owned(text.into_bytes()));
                found.ok_or_else(|| self.error(name, std::io::ErrorKind::NotFound.into()))
            }
        }
    }

    /// Maps a file.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn map(&self, name: &str) -> Result<Bytes> {
        let Self::Dir(folder) = self else { return self.embedded(name).map(Bytes::Static) };
        let file = open_regular(&folder.join(name)).map_err(|error| self.error(name, error))?;
        // SAFETY: the map is only read. Another process that shortens the file while the model loads can make a read fail with a bus
        // error, as with every memory-mapped loader; nothing else of this program depends on the content staying the same.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| self.error(name, error))?;
        Ok(Bytes::Mapped(map, file))
    }

    /// Reads and parses a JSON file.
    pub(crate) fn json(&self, name: &str) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.read(name)?).map_err(|source| Error::Json { file: self.describe(name), source })
    }

    fn embedded(&self, name: &str) -> Result<&'static [u8]> {
        let Self::Embedded(files) = self else { return Err(self.error(name, std::io::ErrorKind::NotFound.into())) };
        let found = files.iter().find(|(file, _)| *file == name);
        found.map(|(_, bytes)| *bytes).ok_or_else(|| self.error(name, std::io::ErrorKind::NotFound.into()))
    }

    fn error(&self, name: &str, source: std::io::Error) -> Error {
        Error::File { file: self.describe(name), source }
    }
}
