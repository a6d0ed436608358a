//! Quantized files: a model is read once, rounded, and written in the layout of its source.
//!
//! Rounding while loading (see [`weight`](ruminate_shaders::weight)) gives the same numbers, bit for bit; here it is done once and for all. The tensors of a
//! file and their offsets follow from the shapes, so the header is written first, then blocks of rows as a few threads finish them; only those blocks are in
//! memory. Files have temporary names until all of them are complete. `config.json`, without which a folder is not a model, gets its name last. A model that is
//! overwritten can be loaded until the new one replaces it as a whole.

mod files;
mod layout;
mod leftovers;
mod rows;

use std::path::Path;

use ruminate_shaders::Dtype;
use ruminate_shaders::matmul::Arithmetic;

use crate::arch::Spec;
use crate::arch::{Weights, pipeline};
use crate::chat::ChatTemplate;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
use crate::precision::{Dtypes, Group, Precision};
use crate::source::Source;
use crate::tokenizer::Tokenizer;
use files::Folder;
use layout::{Item, Layout, Shard};
use rows::{Maker, jobs};

/// Files of a model beside its weights, copied unchanged if they exist. The first one is written last.
const BESIDE: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// Default maximum bytes of a weight file, as in published checkpoints; a single matrix may exceed it.
const SHARD: u64 = 5_000_000_000;

/// Called with bytes done and total bytes; returns whether to continue.
type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Options of [`quantize`].
pub struct QuantizeOptions<'a> {
    /// Dtype of every group; at least one must be q8, q4 or q4_1.
    pub precision: Precision,
    /// Whether to overwrite a model in a folder that is not empty.
    pub force: bool,
    /// Maximum bytes of a weight file; a single matrix may exceed it.
    pub shard_bytes: u64,
    /// Called with bytes written and total bytes; returns whether to continue.
    pub progress: Option<Progress<'a>>,
}

impl Default for QuantizeOptions<'_> {
    fn default() -> Self {
        Self { precision: Dtype::Q8.into(), force: false, shard_bytes: SHARD, progress: None }
    }
}

/// Result of [`quantize`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Quantized {
    /// Name and size in bytes of every file.
    pub files: Vec<(String, u64)>,
    /// Dtype of every group.
    pub dtypes: Dtypes,
    /// Number of weights in matrices.
    pub weights: u64,
    /// Bytes of matrices, scales and padding included.
    pub weight_bytes: u64,
}

impl Quantized {
    /// Average bits per weight.
    #[must_use]
    pub fn bits_per_weight(&self) -> f64 {
        self.weight_bytes as f64 * 8.0 / self.weights as f64
    }
}

/// Reads a model and writes it, quantized, into a new or empty folder.
///
/// # Errors
/// Errors of [`Model::open`](crate::Model::open) for a damaged model; [`Error::Quantized`] for a model that is already quantized; [`Error::Option`] if no group
/// would be quantized; [`Error::Folder`] if the folder is not empty; [`Error::Output`] if it holds files that must not be overwritten; [`Error::Write`] if
/// writing fails, for example on a full disk; [`Error::Cancelled`].
/// After an error the folder contains nothing that looks like a model, or still the old model.
pub fn quantize(source: &Source, folder: &Path, options: QuantizeOptions<'_>) -> Result<Quantized> {
    let products = options.precision.products;
    if products != Arithmetic::F32 {
        let allowed = "a dtype without an arithmetic mode, which is chosen when the model is loaded";
        return Err(Error::Option { name: "dtype", value: format!("products={}", products.name()), allowed });
    }
    let spec = Spec::open(source)?;
    // Reads the other files first, so that their errors are reported before the weights are read.
    let tokenizer = Tokenizer::open(source, &spec, &GenerationConfig::open(source)?)?;
    drop((tokenizer, ChatTemplate::open(source)?));
    let opened;
    let (weights, dtypes) = match source {
        Source::Synthetic(made) => (Weights::Synthetic(made), options.precision.dtypes(&spec)?),
        _ => {
            opened = Checkpoint::for_config(source, &spec)?;
            if opened.is_quantized() {
                return Err(Error::Quantized { stored: opened.dtypes(&spec, &Precision::default())? });
            }
            (Weights::Stored(&opened), opened.dtypes(&spec, &options.precision)?)
        }
    };
    if !Group::ALL.iter().any(|&group| dtypes.of(group).in_blocks()) {
        let allowed = "a quantized one, such as q8 or q4, for at least one group of matrices";
        return Err(Error::Option { name: "dtype", value: dtypes.to_string(), allowed });
    }
    let layout = Layout::of(&spec, weights, dtypes, options.shard_bytes);
    let mut folder = Folder::open(folder, source, options.force)?;
    let total = layout.shards.iter().map(Shard::bytes).sum();
    let (mut done, mut progress) = (0, options.progress);
    let mut go_on = |bytes| {
        done += bytes;
        let go_on = progress.as_mut().is_none_or(|progress| progress(done, total));
        if go_on { Ok(()) } else { Err(Error::Cancelled) }
    };
    for shard in &layout.shards {
        let mut file = folder.file(&shard.name)?;
        file.write(0, &shard.header)?;
        go_on(shard.header.len() as u64)?;
        for (item, starts) in &shard.items {
            let maker = Maker { weights, item };
            pipeline(
                &jobs(item),
                |read, rows| maker.make(read, rows.clone()),
                |rows, made| {
                    for ((part, bytes), start) in item.parts().iter().zip(&made).zip(starts) {
                        file.write(start + u64::from(rows.start) * part.row_bytes as u64, bytes)?;
                    }
                    go_on(made.iter().map(|bytes| bytes.len() as u64).sum())
                },
            )?;
        }
        folder.finish(file)?;
    }
    if let Some(index) = layout.index() {
        folder.whole("model.safetensors.index.json", index.as_bytes())?;
    }
    for name in BESIDE.into_iter().rev().filter(|name| source.exists(name)) {
        folder.whole(name, &source.read(name)?)?;
    }
    let files = folder.commit()?;
    let matrices =
        || layout.shards.iter().flat_map(|shard| &shard.items).map(|(item, _)| item).filter(|it| it.is_matrix());
    Ok(Quantized {
        files,
        dtypes,
        weights: matrices().map(Item::values).sum(),
        weight_bytes: matrices().map(Item::bytes).sum(),
    })
}
