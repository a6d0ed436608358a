//! Fuzzing targets: valid files to start from, how to damage and read them, and the memory limit.

use anyhow::{Context, Result};
use clap::ValueEnum;
use fastrand::Rng;
use ruminate::{Checkpoint, Error, GenerationConfig, Source, Spec, Specials, Tokenizer};
use ruminate_tests::{Folder, golden_folder, golden_json, safetensors_file};
use serde_json::{Value, json};

use crate::mutate::{self, once_in, pick};
use crate::{cli, json, template};

/// Kind of target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// config.json and generation_config.json
    Config,
    /// Headers of safetensors files
    Header,
    /// The index of shards
    Index,
    /// tokenizer.json and the files beside it
    Tokenizer,
    /// Chat templates
    Template,
    /// The command: flags, stdin, model folders
    Cli,
}

/// Outcome of a case.
pub(crate) enum Verdict {
    /// The input was read.
    Accepted,
    /// The input was refused with an error.
    Refused,
    /// A guarantee was violated.
    Wrong(String),
}

/// Reader of damaged input.
pub(crate) trait Target {
    /// Prepares the next case.
    fn prepare(&mut self, rng: &mut Rng) -> Result<()>;
    /// Runs the case.
    fn run(&mut self) -> Verdict;
    /// Keeps the files of the case, and returns their folder.
    fn keep(&mut self) -> String;
}

impl Kind {
    /// Name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Cases per ten thousand; slow targets get fewer.
    pub(crate) const fn share(self) -> u64 {
        match self {
            Self::Config | Self::Header => 2900,
            Self::Index => 1740,
            Self::Tokenizer => 650,
            Self::Template => 1800,
            Self::Cli => 10,
        }
    }

    /// Maximum memory of a case in bytes. For the command, which the system limits (`cli.rs`), this covers its output.
    pub(crate) const fn most_bytes(self) -> u64 {
        match self {
            Self::Config => 16 << 20,
            Self::Header | Self::Index => 4 << 20,
            Self::Tokenizer => 32 << 20,
            // Four times the limit on all values of a rendering.
            Self::Template => 512 << 20,
            Self::Cli => 64 << 20,
        }
    }

    /// Creates the target with its files.
    pub(crate) fn target(self) -> Result<Box<dyn Target>> {
        let tiny = |file: &str| golden_json("tiny", file);
        let files = match self {
            Self::Config => vec![
                ("config.json", tiny("config.json")?),
                (
                    "generation_config.json",
                    json!({"do_sample": true, "temperature": 0.7, "top_k": 5, "eos_token_id": [1, 2]}),
                ),
            ],
            Self::Header => vec![("model.safetensors", header())],
            Self::Index => vec![("model.safetensors.index.json", index())],
            Self::Tokenizer => {
                ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"]
                    .into_iter()
                    .map(|file| Ok((file, tiny(file)?)))
                    .collect::<Result<_>>()?
            }
            Self::Template => return Ok(Box::new(template::Templates::new()?)),
            Self::Cli => return Ok(Box::new(cli::Calls::new()?)),
        };
        let folder = Folder::in_memory()?;
        for shard in ["a.safetensors", "b.safetensors"] {
            let header = json!({&shard[..1]: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}});
            folder.write(shard, safetensors_file(&header.to_string(), &[0; 4]))?;
        }
        if self == Self::Tokenizer {
            folder.write("config.json", std::fs::read(golden_folder("tiny").join("config.json"))?)?;
        }
        Ok(Box::new(Files { kind: self, files, folder: Some(folder) }))
    }
}

/// Target that damages one file of a folder.
struct Files {
    kind: Kind,
    files: Vec<(&'static str, Value)>,
    folder: Option<Folder>,
}

impl Target for Files {
    fn prepare(&mut self, rng: &mut Rng) -> Result<()> {
        let folder = self.folder.as_ref().context("the folder was kept")?;
        let damaged = rng.usize(..self.files.len());
        for (at, (name, value)) in self.files.iter().enumerate() {
            let text = if at == damaged { json::damaged(rng, value) } else { value.to_string().into_bytes() };
            let text = if self.kind == Kind::Header { weights(rng, text) } else { text };
            folder.write(name, text)?;
        }
        Ok(())
    }

    fn run(&mut self) -> Verdict {
        let Some(folder) = &self.folder else { return Verdict::Refused };
        let source = folder.source();
        let outcome = match self.kind {
            Kind::Config => config(&source),
            Kind::Tokenizer => tokenizer(&source),
            _ => checkpoint(&source),
        };
        match outcome {
            Ok(None) => Verdict::Accepted,
            Ok(Some(problem)) => Verdict::Wrong(problem),
            Err(error) if error.to_string().is_empty() => Verdict::Wrong("an error without a message".to_owned()),
            Err(_) => Verdict::Refused,
        }
    }

    fn keep(&mut self) -> String {
        self.folder.take().map_or_else(String::new, |folder| folder.keep().display().to_string())
    }
}

/// Opens a configuration, and checks its guarantees.
fn config(source: &Source) -> Result<Option<String>, Error> {
    let config = Spec::open(source)?;
    let generation = GenerationConfig::open(source)?;
    let kept = config.heads.is_multiple_of(config.kv_heads)
        && config.head_dim.is_multiple_of(2)
        && (2..=128).contains(&config.head_dim)
        && config.padded_vocab >= config.vocab
        && config.norm_eps.is_finite()
        && config.rotary.base > 0.0
        && generation.temperature.is_none_or(|value| value >= 0.0);
    // Overflowing products of sizes would show here.
    let need = config.weight_bytes(ruminate::Dtype::F32);
    let shapes = config.tensors();
    Ok((!kept || need == 0 || shapes.is_empty()).then(|| format!("accepted {config:?}")))
}

/// Opens a checkpoint and reads all tensors.
fn checkpoint(source: &Source) -> Result<Option<String>, Error> {
    let checkpoint = Checkpoint::open(source, &|name| name == "ignored")?;
    let _ = checkpoint.check(&[]);
    for info in checkpoint.tensors() {
        let Some(view) = checkpoint.tensor(&info.name) else { return Ok(Some(format!("{} is missing", info.name))) };
        let values: usize = view.shape.iter().product();
        if values as u64 * view.dtype.bytes() != info.bytes {
            return Ok(Some(format!("{} has {:?} in {} bytes", info.name, view.shape, info.bytes)));
        }
    }
    Ok(None)
}

/// Opens a tokenizer and uses it.
fn tokenizer(source: &Source) -> Result<Option<String>, Error> {
    let tokenizer = Tokenizer::open(source, &Spec::open(source)?, &GenerationConfig::open(source)?)?;
    for text in ["", "Hello world 12st\n\t 🙂", "<|begin_text|>x<|end_text|>", "\u{feff}\0don't"] {
        for specials in [Specials::None, Specials::Prompt, Specials::Bos, Specials::PostProcessor] {
            // Texts that cannot be encoded give an error.
            let Ok(ids) = tokenizer.encode(text, specials) else { continue };
            let _ = (tokenizer.decode(&ids, true), tokenizer.encode_plain(text, specials));
        }
    }
    let _ = tokenizer.decode(&[0, u32::MAX, 511, 512], false);
    Ok(None)
}

/// Header of several consecutive tensors.
fn header() -> Value {
    json!({
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
        "c": {"dtype": "F16", "shape": [1, 1, 2], "data_offsets": [32, 36]},
        "empty": {"dtype": "F32", "shape": [0, 5], "data_offsets": [36, 36]},
        "ignored": {"dtype": "F32", "shape": [], "data_offsets": [36, 40]},
    })
}

/// Safetensors file with a header, possibly with a wrong length or damaged data.
fn weights(rng: &mut Rng, header: Vec<u8>) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend([0; 40]);
    if once_in(rng, 8) {
        let lengths = [
            0,
            1,
            8,
            100_000_000,
            100_000_001,
            1 << 40,
            u64::MAX - 7,
            u64::MAX,
            file.len() as u64,
            file.len() as u64 - 8,
        ];
        let length = pick(rng, &lengths);
        file[..8].copy_from_slice(&length.to_le_bytes());
    }
    if once_in(rng, 4) {
        mutate::bytes(rng, &mut file);
    }
    file
}

fn index() -> Value {
    json!({
        "metadata": {"total_size": 8},
        "weight_map": {"a": "a.safetensors", "b": "b.safetensors", "ignored": "c.safetensors"},
    })
}
