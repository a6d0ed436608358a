//! Quantised files: a model read once, rounded, and written in the layout that it came in.
//!
//! What a device does while it loads (see [`weight`](ruminate_shaders::weight)) is done here once and for all, with the same numbers to the bit. The
//! tensors of a file and their places follow from the shapes, so its header is written first, and then blocks of rows as a few threads finish
//! them: no more of the model than that is ever in memory. Files have a temporary name until all of them are whole, and `config.json`, without which
//! a folder is no model, gets its name last. A model that is overwritten can be loaded until the new one takes its place as a whole.

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

/// Files of a model beside its weights; those that are there are taken over as they are. The first one comes last.
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

/// Bytes of a file of weights, at most, unless a single matrix has more: as the published files have it.
const SHARD: u64 = 5_000_000_000;

/// Hears of bytes done and bytes in all; says whether to go on.
type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// How a model is quantised.
pub struct QuantizeOptions<'a> {
    /// The dtype of every group; q8, q4 or q4_1 of one at least.
    pub precision: Precision,
    /// Overwrite a model in a folder that is not empty.
    pub force: bool,
    /// Bytes of a file of weights, at most, unless a single matrix has more.
    pub shard_bytes: u64,
    /// Hears of the bytes written and of all that will be; says whether to go on.
    pub progress: Option<Progress<'a>>,
}

impl Default for QuantizeOptions<'_> {
    fn default() -> Self {
        Self { precision: Dtype::Q8.into(), force: false, shard_bytes: SHARD, progress: None }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Quantized {
    /// Name and bytes of every file.
    pub files: Vec<(String, u64)>,
    /// How every group is held.
    pub dtypes: Dtypes,
    /// Weights in matrices.
    pub weights: u64,
    /// Bytes of matrices, scales and padding included.
    pub weight_bytes: u64,
}

impl Quantized {
    /// Bits that a weight takes, on average.
    #[must_use]
    pub fn bits_per_weight(&self) -> f64 {
        self.weight_bytes as f64 * 8.0 / self.weights as f64
    }
}

/// Reads a model and writes it, quantised, into a folder that is new or empty.
///
/// # Errors
/// As [`Model::open`](crate::Model::open) for a model that is damaged; [`Error::Quantised`] for one that is quantised already; [`Error::Option`]
/// if nothing is to be quantised; [`Error::Folder`] if the folder holds something; [`Error::Output`] if it
/// holds what must not be overwritten; [`Error::Write`] if the disk is full; [`Error::Cancelled`].
/// Whatever it is, nothing is left that could be taken for a model.
pub fn quantize(source: &Source, folder: &Path, options: QuantizeOptions<'_>) -> Result<Quantized> {
    let products = options.precision.products;
    if products != Arithmetic::F32 {
        let allowed = "a dtype alone: what products are made of is said where a model is loaded";
        return Err(Error::Option { name: "dtype", value: format!("products={}", products.name()), allowed });
    }
    let spec = Spec::open(source)?;
    // What is wrong beside the weights should be said before they are read.
    let tokenizer = Tokenizer::open(source, &spec, &GenerationConfig::open(source)?)?;
    drop((tokenizer, ChatTemplate::open(source)?));
    let opened;
    let (weights, dtypes) = match source {
        Source::Synthetic(made) => (Weights::Synthetic(made), options.precision.dtypes(&spec)?),
        _ => {
            opened = Checkpoint::for_config(source, &spec)?;
            if opened.is_quantised() {
                return Err(Error::Quantised { stored: opened.dtypes(&spec, &Precision::default())? });
            }
            (Weights::Stored(&opened), opened.dtypes(&spec, &options.precision)?)
        }
    };
    if !Group::ALL.iter().any(|&group| dtypes.of(group).in_blocks()) {
        let allowed = "q8, q4 or q4_1, for one group of matrices at least";
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
