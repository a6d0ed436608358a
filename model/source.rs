//! Sources of checkpoint files: a folder, the application, the program itself, or a recipe for random weights.

use std::borrow::Cow;
use std::collections::BTreeMap;
#[cfg(feature = "files")]
use std::fs::File;
use std::io::ErrorKind;
#[cfg(feature = "files")]
use std::io::Read;
#[cfg(feature = "files")]
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::assets::{Asset, Assets, copy_from};
use crate::error::{ContentProblem, Error, Result};
#[cfg(feature = "files")]
use crate::format;
use crate::json;
use crate::synthetic::Synthetic;

/// Maximum bytes of a text file: about four times the largest published tokenizer.
const MOST_TEXT: u64 = 128 << 20;

/// First bytes of a Git LFS pointer, a text in place of a large file.
const LFS_POINTERS: [&[u8]; 2] =
    [b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"];

/// Files of a checkpoint in the Hugging Face layout.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// A folder.
    #[cfg(feature = "files")]
    Dir(PathBuf),
    /// Files that the application provides: in memory, or through readers of byte ranges.
    Assets(Arc<Assets>),
    /// Files that are part of the program: names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
    /// A shape with random weights, which are drawn on the device when the model is opened.
    Synthetic(Arc<Synthetic>),
    /// The beginnings of remote files: enough to describe a model, not to load it.
    Headers(Arc<Headers>),
}

/// Headers of a model with remote weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Name in messages, such as `owner/name`.
    pub origin: String,
    /// Whole text files, by name: `config.json`, and the index if there is one.
    pub texts: BTreeMap<String, Vec<u8>>,
    /// The beginnings of safetensors files, by name.
    pub weights: BTreeMap<String, FileStart>,
}

/// The beginning of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStart {
    /// First bytes, up to the end of the header.
    pub bytes: Vec<u8>,
    /// Length of the whole file in bytes.
    pub len: u64,
}

impl Headers {
    /// Number of bytes that were fetched.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let all = self.texts.values().chain(self.weights.values().map(|start| &start.bytes));
        all.map(|bytes| bytes.len() as u64).sum()
    }
}

impl From<Assets> for Source {
    fn from(assets: Assets) -> Self {
        Self::Assets(Arc::new(assets))
    }
}

/// Contents of an open file, or of a file that is part of the program.
///
/// Files are read, not mapped: if another process truncates a file, that is an error and not a signal, and reading takes no memory besides the reader's.
#[derive(Debug)]
#[non_exhaustive]
pub enum Bytes {
    /// A file and its size when it was opened.
    #[cfg(feature = "files")]
    File(File, u64),
    /// A file that the application provides, and its size when it was opened.
    Asset(Asset, u64),
    /// Part of the program.
    Static(&'static [u8]),
    /// The beginning of a remote file.
    Start(FileStart),
}

impl Bytes {
    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            #[cfg(feature = "files")]
            Self::File(_, bytes) => *bytes,
            Self::Asset(_, bytes) => *bytes,
            Self::Static(bytes) => bytes.len() as u64,
            Self::Start(start) => start.len,
        }
    }

    /// Fills `out` from a byte offset.
    ///
    /// # Errors
    /// Errors of the system or the reader.
    pub(crate) fn read_at(&self, offset: usize, out: &mut [u8]) -> std::io::Result<()> {
        match self {
            #[cfg(feature = "files")]
            Self::File(file, _) => read_exact_at(file, out, offset as u64).map_err(|error| match error.kind() {
                // The file was long enough when its header was checked.
                ErrorKind::UnexpectedEof => {
                    std::io::Error::new(error.kind(), "the file was truncated after it was opened; fetch it again")
                }
                _ => error,
            }),
            Self::Asset(asset, _) => asset.read_at(offset as u64, out),
            Self::Static(bytes) => copy_from(bytes, offset as u64, out),
            Self::Start(start) => copy_from(&start.bytes, offset as u64, out)
                .map_err(|error| std::io::Error::new(error.kind(), "only the header of this file was fetched")),
        }
    }
}

#[cfg(all(unix, feature = "files"))]
fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(all(windows, feature = "files"))]
fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !out.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, out, offset)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        (out, offset) = (&mut out[count..], offset + count as u64);
    }
    Ok(())
}

impl Source {
    /// Opens the checkpoint in a folder, or the one that a given file belongs to: its `config.json`, its index, or a weight file.
    ///
    /// # Errors
    /// [`Error::NoModel`] if there is no `config.json`; [`Error::NotOfModel`] for any other file.
    #[cfg(feature = "files")]
    pub fn dir(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let is_dir = path.is_dir();
        if let Ok(target) = std::fs::read_link(path)
            && !path.exists()
        {
            let problem = ContentProblem::BrokenLink { target: target.display().to_string() };
            return Err(Error::Content { file: path.display().to_string(), problem });
        }
        let folder = if is_dir || !path.exists() { Some(path) } else { path.parent() };
        // A file in the working directory has an empty parent.
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let source = Self::Dir(folder.to_path_buf());
        let file = path.file_name().and_then(|name| name.to_str()).filter(|_| !is_dir && path.exists());
        let of_model = source.exists("config.json");
        if let Some(file) = file
            && file != "config.json"
            && !(of_model && crate::checkpoint::is_weights(&source, file)?)
        {
            let mut start = [0; 8];
            // A file that cannot be read is named by its extension.
            let read = File::open(path).and_then(|file| file.take(8).read(&mut start)).unwrap_or(0);
            let format = format::of(file, &start[..read]);
            return Err(Error::NotOfModel { file: path.display().to_string(), format });
        }
        if of_model {
            return Ok(source);
        }
        let problem = match source.other_format() {
            _ if !path.exists() => "it does not exist".to_owned(),
            Ok(Some(found)) => format!("it has no config.json; {found}"),
            _ => "it has no config.json".to_owned(),
        };
        Err(Error::NoModel { path: path.display().to_string(), problem })
    }

    /// Describes a weight file of an unsupported format in the folder, if there is one.
    ///
    /// # Errors
    /// See [`Self::names`].
    pub(crate) fn other_format(&self) -> Result<Option<String>> {
        #[cfg(not(feature = "files"))]
        let found: Option<(&str, String)> = None;
        #[cfg(feature = "files")]
        let found = self.names()?.into_iter().find_map(|name| Some((format::by_name(&name)?, name)));
        Ok(found.map(|(format, name)| format!("found {name}, {format}, but only safetensors are supported")))
    }

    /// Whether something of this name exists, even if it cannot be read as a file; reading it returns the reason.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        match self {
            #[cfg(feature = "files")]
            Self::Dir(folder) => match std::fs::symlink_metadata(folder.join(name)) {
                Ok(_) => true,
                Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
            },
            Self::Assets(assets) => assets.get(name).is_some(),
            Self::Embedded(files) => files.iter().any(|(file, _)| *file == name),
            Self::Synthetic(made) => made.file(name).is_some(),
            Self::Headers(headers) => headers.texts.contains_key(name) || headers.weights.contains_key(name),
        }
    }

    /// Names of the entries of the folder or pack, sorted. Names that are not UTF-8 are omitted.
    ///
    /// # Errors
    /// [`Error::File`] if the folder cannot be read.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        match self {
            #[cfg(feature = "files")]
            Self::Dir(folder) => {
                let failed = |source| Error::File { file: folder.display().to_string(), source };
                let entries = std::fs::read_dir(folder).map_err(failed)?;
                let entries = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
                let mut names: Vec<String> =
                    entries.into_iter().filter_map(|it| it.file_name().into_string().ok()).collect();
                names.sort_unstable();
                Ok(names)
            }
            Self::Assets(assets) => Ok(assets.names().map(str::to_owned).collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// Path of a file, for messages.
    #[must_use]
    pub fn describe(&self, name: &str) -> String {
        match self {
            #[cfg(feature = "files")]
            Self::Dir(folder) => folder.join(name).display().to_string(),
            Self::Assets(assets) => format!("{name} of {}", assets.origin()),
            Self::Embedded(_) => format!("{name} of the embedded model"),
            Self::Synthetic(_) => format!("{name} of the synthetic model"),
            Self::Headers(headers) => format!("{name} of {}", headers.origin),
        }
    }

    /// Reads a whole text file.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read; [`Error::Content`] if it is not a regular file, is a Git LFS pointer, or has more than 128 MiB.
    pub fn read(&self, name: &str) -> Result<Cow<'static, [u8]>> {
        match self {
            #[cfg(feature = "files")]
            Self::Dir(_) => {
                let (file, bytes) = self.regular(name)?;
                let mut content = self.room(name, bytes)?;
                // The file may grow meanwhile, and some file systems report no sizes.
                file.take(MOST_TEXT + 1).read_to_end(&mut content).map_err(|error| self.error(name, error))?;
                if content.len() as u64 > MOST_TEXT {
                    return Err(self.too_large(name, content.len() as u64));
                }
                self.check_pointer(name, &content)?;
                Ok(Cow::Owned(content))
            }
            Self::Assets(_) => {
                let (asset, bytes) = self.asset(name)?;
                let mut content = self.room(name, bytes)?;
                content.resize(bytes as usize, 0);
                asset.read_at(0, &mut content).map_err(|error| self.error(name, error))?;
                self.check_pointer(name, &content)?;
                Ok(Cow::Owned(content))
            }
            Self::Embedded(_) => self.embedded(name).map(Cow::Borrowed),
            Self::Headers(headers) => {
                let found = headers.texts.get(name).cloned().map(Cow::Owned);
                found.ok_or_else(|| self.error(name, ErrorKind::NotFound.into()))
            }
            Self::Synthetic(made) => {
                let found = made.file(name).map(|text| Cow::Owned(text.into_bytes()));
                found.ok_or_else(|| self.error(name, ErrorKind::NotFound.into()))
            }
        }
    }

    /// Reads a JSON file and parses it with [`parse_json`](crate::parse_json).
    ///
    /// # Errors
    /// See [`Self::read`] and [`parse_json`](crate::parse_json).
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        json::parse_json(&self.describe(name), &self.read(name)?)
    }

    /// Reads a JSON file as strict JSON, for another parser.
    pub(crate) fn json_text(&self, name: &str) -> Result<Vec<u8>> {
        json::strict(&self.describe(name), &self.read(name)?).map(Cow::into_owned)
    }

    /// Opens a file of any size.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be opened; [`Error::Content`] if it is not a regular file or is a Git LFS pointer.
    pub fn open(&self, name: &str) -> Result<Bytes> {
        if let Self::Headers(headers) = self {
            let start = headers.weights.get(name).ok_or_else(|| self.error(name, ErrorKind::NotFound.into()))?;
            self.check_pointer(name, &start.bytes)?;
            return Ok(Bytes::Start(start.clone()));
        }
        let opened = match self {
            #[cfg(feature = "files")]
            Self::Dir(_) => self.regular(name).map(|(file, bytes)| Bytes::File(file, bytes))?,
            Self::Assets(_) => self.asset(name).map(|(asset, bytes)| Bytes::Asset(asset.clone(), bytes))?,
            _ => return self.embedded(name).map(Bytes::Static),
        };
        let mut start = [0; 64];
        let start = &mut start[..opened.len().min(64) as usize];
        opened.read_at(0, start).map_err(|error| self.error(name, error))?;
        self.check_pointer(name, start)?;
        Ok(opened)
    }

    /// Allocates memory for a text file of `bytes` bytes, if that is not too large.
    fn room(&self, name: &str, bytes: u64) -> Result<Vec<u8>> {
        if bytes > MOST_TEXT {
            return Err(self.too_large(name, bytes));
        }
        let mut content = Vec::new();
        let reserved = content.try_reserve_exact(bytes as usize + 1);
        reserved.map_err(|_| self.content(name, ContentProblem::Memory { bytes }))?;
        Ok(content)
    }

    fn too_large(&self, name: &str, bytes: u64) -> Error {
        self.content(name, ContentProblem::TooLarge { bytes, most: MOST_TEXT })
    }

    /// Finds a file of a pack, and its size.
    fn asset(&self, name: &str) -> Result<(&Asset, u64)> {
        let Self::Assets(assets) = self else { return Err(self.error(name, ErrorKind::NotFound.into())) };
        let asset = assets.get(name).ok_or_else(|| self.error(name, ErrorKind::NotFound.into()))?;
        Ok((asset, asset.size()))
    }

    /// Opens a regular file of a folder; returns its size too. Other kinds are not opened, because opening a pipe could wait forever.
    #[cfg(feature = "files")]
    fn regular(&self, name: &str) -> Result<(File, u64)> {
        let Self::Dir(folder) = self else { return Err(self.error(name, ErrorKind::NotFound.into())) };
        let path = folder.join(name);
        let found = std::fs::metadata(&path).map_err(|error| match std::fs::read_link(&path) {
            Ok(target) if error.kind() == ErrorKind::NotFound => {
                self.content(name, ContentProblem::BrokenLink { target: target.display().to_string() })
            }
            _ => self.error(name, error),
        })?;
        if !found.is_file() {
            return Err(self.content(name, ContentProblem::NotAFile));
        }
        let file = File::open(&path).map_err(|error| self.error(name, error))?;
        Ok((file, found.len()))
    }

    fn check_pointer(&self, name: &str, content: &[u8]) -> Result<()> {
        let pointer = LFS_POINTERS.iter().any(|start| content.starts_with(start));
        if pointer { Err(self.content(name, ContentProblem::LfsPointer)) } else { Ok(()) }
    }

    fn embedded(&self, name: &str) -> Result<&'static [u8]> {
        let Self::Embedded(files) = self else { return Err(self.error(name, ErrorKind::NotFound.into())) };
        let found = files.iter().find(|(file, _)| *file == name);
        found.map(|(_, bytes)| *bytes).ok_or_else(|| self.error(name, ErrorKind::NotFound.into()))
    }

    fn content(&self, name: &str, problem: ContentProblem) -> Error {
        Error::Content { file: self.describe(name), problem }
    }

    fn error(&self, name: &str, source: std::io::Error) -> Error {
        Error::File { file: self.describe(name), source }
    }
}
