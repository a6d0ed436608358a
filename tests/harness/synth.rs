//! Writes checkpoints of synthetic models, in the layout of published ones.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ruminate::{Synthetic, SyntheticTensor, Values};
use ruminate_shaders::weight::RandomWeight;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, View};
use serde_json::json;

/// Distribution of a model's tensors over files.
#[derive(Debug)]
pub struct Layout {
    /// Files in order.
    pub shards: Vec<Shard>,
    rotary: Vec<f32>,
}

/// File with weights.
#[derive(Debug)]
pub struct Shard {
    /// File name.
    pub name: String,
    /// Size in bytes, including the header.
    pub bytes: u64,
    tensors: Vec<SyntheticTensor>,
}

impl Layout {
    /// Fills files with tensors in order, like published checkpoints: a file ends before the tensor that would make it larger than `most` bytes. 0 puts all
    /// tensors into one file.
    ///
    /// # Errors
    /// If a header cannot be created.
    pub fn of(model: &Synthetic, most: u64) -> Result<Self> {
        let bytes = |tensor: &SyntheticTensor| tensor.shape.iter().product::<usize>() as u64 * 4;
        let mut parts: Vec<Vec<SyntheticTensor>> = vec![Vec::new()];
        let mut filled = 0;
        for tensor in model.tensors() {
            if most > 0 && filled > 0 && filled + bytes(&tensor) > most {
                parts.push(Vec::new());
                filled = 0;
            }
            filled += bytes(&tensor);
            parts.last_mut().context("there is always a part")?.push(tensor);
        }
        let count = parts.len();
        let name = |i: usize| match most {
            0 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        let shards = parts.into_iter().enumerate().map(|(i, tensors)| {
            let bytes = header_bytes(&tensors)? + tensors.iter().map(bytes).sum::<u64>();
            Ok(Shard { name: name(i), bytes, tensors })
        });
        let shards = shards.collect::<Result<_>>()?;
        Ok(Self {
            shards,
            rotary: {
                let spec = model.spec();
                spec.rotary.table(spec.head_dim, spec.context)
            },
        })
    }
}

/// Writes a model into a new or empty folder. `done` is called with the name and size of every file.
///
/// # Errors
/// If the folder is not empty, or a file cannot be written; an incomplete file is removed.
pub fn write(model: &Synthetic, layout: &Layout, folder: &Path, done: &mut dyn FnMut(&str, u64)) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let empty = std::fs::read_dir(folder)?.next().is_none();
    ensure!(empty, "{} is not empty; give a new folder", folder.display());
    let mut put = |name: &str, write: &dyn Fn(&Path) -> Result<()>| -> Result<()> {
        let path = folder.join(name);
        write(&path).with_context(|| format!("cannot write {}", path.display())).inspect_err(|_| {
            // An incomplete file must not look like a checkpoint.
            let _ = std::fs::remove_file(&path);
        })?;
        done(name, std::fs::metadata(&path)?.len());
        Ok(())
    };
    for shard in &layout.shards {
        put(&shard.name, &|path| {
            let tensors = shard.tensors.iter();
            let views = tensors.map(|tensor| (tensor.name.clone(), Lazy { tensor, rotary: &layout.rotary }));
            Ok(safetensors::serialize_to_file(views, Some(metadata()), path)?)
        })?;
    }
    if layout.shards.len() > 1 || layout.shards.iter().any(|shard| shard.name.contains("-of-")) {
        let entries =
            layout.shards.iter().flat_map(|shard| shard.tensors.iter().map(move |it| (&it.name, &shard.name)));
        let map: serde_json::Map<_, _> = entries.map(|(tensor, file)| (tensor.clone(), file.clone().into())).collect();
        let total: usize = layout
            .shards
            .iter()
            .flat_map(|shard| &shard.tensors)
            .map(|it| it.shape.iter().product::<usize>() * 4)
            .sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        put("model.safetensors.index.json", &|path| Ok(std::fs::write(path, serde_json::to_vec_pretty(&index)?)?))?;
    }
    model.files().iter().try_for_each(|(name, text)| put(name, &|path| Ok(std::fs::write(path, text)?)))
}

/// Size of the header of a file with these tensors, in bytes.
fn header_bytes(tensors: &[SyntheticTensor]) -> Result<u64> {
    let mut sorted: Vec<&SyntheticTensor> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut offset = 0;
    let infos = sorted.iter().map(|tensor| {
        let start = offset;
        offset += tensor.shape.iter().product::<usize>() * 4;
        (
            tensor.name.clone(),
            TensorInfo { dtype: Dtype::F32, shape: tensor.shape.clone(), data_offsets: (start, offset) },
        )
    });
    let header = Metadata::new(Some(metadata()), infos.collect())?;
    // The length field, then the text, padded to a multiple of 8.
    Ok(8 + serde_json::to_vec(&header)?.len().next_multiple_of(8) as u64)
}

fn metadata() -> HashMap<String, String> {
    HashMap::from([("format".to_owned(), "pt".to_owned())])
}

/// Tensor whose values are generated when it is written.
struct Lazy<'a> {
    tensor: &'a SyntheticTensor,
    rotary: &'a [f32],
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let count = self.tensor.shape.iter().product();
        let constant = |value: f32| value.to_le_bytes().repeat(count);
        Cow::Owned(match self.tensor.values {
            Values::Rotary => bytemuck::cast_slice(self.rotary).to_vec(),
            Values::Ones => constant(1.0),
            Values::Zeros => constant(0.0),
            Values::Random(weight, first) => random(weight, first, count),
        })
    }

    fn data_len(&self) -> usize {
        self.tensor.shape.iter().product::<usize>() * 4
    }
}

fn random(weight: RandomWeight, first: u32, count: usize) -> Vec<u8> {
    let width = weight.k as usize;
    let mut bytes = vec![0; count * 4];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = (count / width).div_ceil(threads);
    std::thread::scope(|scope| {
        for (part, bytes) in bytes.chunks_mut(share * width * 4).enumerate() {
            scope.spawn(move || {
                let mut values = vec![0.0; width];
                for (row, bytes) in (part * share..).zip(bytes.chunks_mut(width * 4)) {
                    weight.row(first + row as u32, &mut values);
                    bytes.copy_from_slice(bytemuck::cast_slice(&values));
                }
            });
        }
    });
    bytes
}
