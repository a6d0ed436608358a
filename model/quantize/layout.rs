//! Layout of the output: the files, their tensors and offsets, known before any weight is read.

use ruminate_shaders::Dtype;
use serde_json::{Map, Value, json};

use crate::arch::{Entry, Spec, Weights};
use crate::checkpoint::{Expected, FORMAT, Quantized, VERSION};
use crate::precision::Dtypes;

/// A tensor to write.
pub(super) struct Item {
    /// Name in the checkpoint.
    pub(super) name: String,
    /// Shape.
    pub(super) shape: Vec<usize>,
    /// Form in which it is written.
    pub(super) form: Form,
}

/// Form in which a tensor is written.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// A matrix in blocks.
    Blocks(Quantized),
    /// A matrix in a dtype without blocks.
    Plain(Dtype),
    /// Not a matrix: written in its stored dtype, in one piece.
    Whole(Dtype),
}

/// A tensor of a file, in rows of equal size.
pub(super) struct Part {
    pub(super) suffix: &'static str,
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    pub(super) row_bytes: usize,
}

/// A weight file to write.
pub(super) struct Shard {
    /// File name.
    pub(super) name: String,
    /// Bytes before the data: the length of the header and the header.
    pub(super) header: Vec<u8>,
    /// Items with the file offset of each of their parts.
    pub(super) items: Vec<(Item, Vec<u64>)>,
}

/// All weight files to write.
pub(super) struct Layout {
    /// Files in the order in which they are written.
    pub(super) shards: Vec<Shard>,
}

impl Item {
    /// Number of rows that are written one at a time.
    pub(super) fn rows(&self) -> u32 {
        if self.is_matrix() { self.shape[0] as u32 } else { 1 }
    }

    /// Number of values per row.
    pub(super) fn width(&self) -> usize {
        if self.is_matrix() { self.shape[1] } else { self.shape.iter().product() }
    }

    /// Whether the item is a matrix.
    pub(super) const fn is_matrix(&self) -> bool {
        !matches!(self.form, Form::Whole(_))
    }

    /// Number of values.
    pub(super) fn values(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }

    /// Size in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.parts().iter().map(|part| part.row_bytes as u64 * u64::from(self.rows())).sum()
    }

    /// Tensors that the item is written as.
    pub(super) fn parts(&self) -> Vec<Part> {
        match self.form {
            Form::Blocks(matrix) => {
                let part = |it: crate::checkpoint::Part| Part {
                    suffix: it.suffix,
                    dtype: it.dtype,
                    shape: it.shape.to_vec(),
                    row_bytes: it.row_bytes,
                };
                matrix.parts().into_iter().map(part).collect()
            }
            Form::Plain(dtype) | Form::Whole(dtype) => {
                let stored = match dtype {
                    Dtype::F16 => safetensors::Dtype::F16,
                    Dtype::Bf16 => safetensors::Dtype::BF16,
                    _ => safetensors::Dtype::F32,
                };
                let row_bytes = self.width() * dtype.bytes() as usize;
                vec![Part { suffix: "", dtype: stored, shape: self.shape.clone(), row_bytes }]
            }
        }
    }
}

impl Shard {
    fn new(name: String, items: Vec<Item>) -> Self {
        let mut parts: Vec<(String, usize, usize, Part)> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let named = item.parts().into_iter().enumerate();
            parts.extend(named.map(|(i, part)| (format!("{}{}", item.name, part.suffix), at, i, part)));
        }
        // Same order as the safetensors crate: wide dtypes first, so that every tensor is aligned to its element size.
        let width = |part: &Part| std::cmp::Reverse(part.dtype.bitsize());
        parts.sort_by(|(a, .., x), (b, .., y)| width(x).cmp(&width(y)).then_with(|| a.cmp(b)));
        let mut said = Map::new();
        said.insert("format".to_owned(), FORMAT.into());
        said.insert("version".to_owned(), VERSION.into());
        for item in &items {
            if let Form::Blocks(matrix) = item.form {
                said.insert(item.name.clone(), matrix.describe().into());
            }
        }
        let mut entries = Map::new();
        entries.insert("__metadata__".to_owned(), Value::Object(said));
        let mut starts: Vec<Vec<u64>> = items.iter().map(|item| vec![0; item.parts().len()]).collect();
        let mut end = 0;
        for (name, at, i, part) in parts {
            let start = end;
            end += part.row_bytes as u64 * u64::from(items[at].rows());
            starts[at][i] = start;
            let dtype = part.dtype.to_string();
            entries.insert(name, json!({"dtype": dtype, "shape": part.shape, "data_offsets": [start, end]}));
        }
        let mut text = Value::Object(entries).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        let header = [(text.len() as u64).to_le_bytes().as_slice(), &text].concat();
        let data = header.len() as u64;
        starts.iter_mut().flatten().for_each(|start| *start += data);
        Self { name, header, items: items.into_iter().zip(starts).collect() }
    }

    /// Size of the file in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.header.len() as u64 + self.items.iter().map(|(item, _)| item.bytes()).sum::<u64>()
    }
}

impl Layout {
    /// Distributes tensors over files in the order of the published ones; a file ends before the tensor that would make it larger than `most` bytes.
    pub(super) fn of(spec: &Spec, weights: Weights<'_>, dtypes: Dtypes, most: u64) -> Self {
        let mut files: Vec<Vec<Item>> = vec![Vec::new()];
        let mut filled = 0;
        for item in items(spec, weights, dtypes) {
            let bytes = item.bytes();
            if filled > 0 && filled + bytes > most {
                files.push(Vec::new());
                filled = 0;
            }
            filled += bytes;
            if let Some(file) = files.last_mut() {
                file.push(item);
            }
        }
        let count = files.len();
        let name = |i: usize| match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        let shards = files.into_iter().enumerate().map(|(i, items)| Shard::new(name(i), items)).collect();
        Self { shards }
    }

    /// Contents of the index, if there are several files.
    pub(super) fn index(&self) -> Option<String> {
        let mut map = Map::new();
        let mut total = 0;
        for shard in &self.shards {
            for (item, _) in &shard.items {
                total += item.bytes();
                let names = item.parts().into_iter().map(|part| format!("{}{}", item.name, part.suffix));
                names.for_each(|name| drop(map.insert(name, shard.name.clone().into())));
            }
        }
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        (self.shards.len() > 1).then(|| format!("{index:#}\n"))
    }
}

/// Tensors of a model in the form in which they are written.
fn items(spec: &Spec, weights: Weights<'_>, dtypes: Dtypes) -> Vec<Item> {
    let manifest = spec.manifest();
    let sources = manifest.entries.iter().flat_map(|entry| entry.sources.iter().map(move |source| (entry, source)));
    let item = |(entry, source): (&Entry, &Expected)| {
        let stored = match weights {
            // Tensors that can be computed are not written.
            Weights::Synthetic(_) => source.required.then_some(Dtype::F32),
            Weights::Stored(checkpoint) => checkpoint.tensor(&source.name).map(|tensor| tensor.dtype),
        };
        let form = match (source.shape.as_slice(), entry.group()) {
            (&[n, k], Some(group)) => {
                let (dtype, shape) = (dtypes.of(group), [n as u32, k as u32]);
                let matrix = Quantized { dtype, shape, halves: entry.layout.halves };
                if dtype.in_blocks() { Form::Blocks(matrix) } else { Form::Plain(dtype) }
            }
            _ => Form::Whole(stored?),
        };
        stored.map(|_| Item { name: source.name.clone(), shape: source.shape.clone(), form })
    };
    sources.filter_map(item).collect()
}
