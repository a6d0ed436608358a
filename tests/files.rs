//! What a user reads when a model folder is wrong: the demo is written to a folder, one thing in it is broken, and opening it must end
//! in a message that names the file, the thing and the remedy. The tests of the single modules look at the errors as data.

use anyhow::{Context, Result, ensure};
use ruminate::{Checkpoint, Config, Device, Error, LoadOptions, Model, Source, demo};
use ruminate_tests::{Folder, safetensors_file, safetensors_of};
use serde_json::{Value, json};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

/// A safetensors file taken apart: the entries of its header, and the data.
struct Parts {
    header: Value,
    data: Vec<u8>,
}

impl Parts {
    fn demo() -> Result<Self> {
        let file = demo::source().read(WEIGHTS)?;
        let length = usize::try_from(u64::from_le_bytes(file[..8].try_into()?))?;
        Ok(Self { header: serde_json::from_slice(&file[8..8 + length])?, data: file[8 + length..].to_vec() })
    }

    fn file(&self) -> Vec<u8> {
        safetensors_file(&self.header.to_string(), &self.data)
    }

    /// The tensors whose names `keep` accepts, as a file of their own.
    fn only(&self, keep: impl Fn(&str) -> bool) -> Result<Vec<u8>> {
        let mut part = Self { header: json!({}), data: Vec::new() };
        for (name, entry) in self.header.as_object().context("a header is an object")? {
            if name == "__metadata__" || !keep(name) {
                continue;
            }
            let [start, end]: [usize; 2] = serde_json::from_value(entry["data_offsets"].clone())?;
            let at = part.data.len();
            part.data.extend_from_slice(&self.data[start..end]);
            part.header[name] = entry.clone();
            part.header[name]["data_offsets"] = json!([at, part.data.len()]);
        }
        Ok(part.file())
    }
}

/// The demo's files in a folder.
fn folder() -> Result<Folder> {
    let folder = Folder::new()?;
    let Source::Embedded(files) = demo::source() else { anyhow::bail!("the demo is embedded") };
    files.iter().try_for_each(|(name, content)| folder.write(name, content))?;
    Ok(folder)
}

/// The demo with a JSON file changed.
fn with_json(name: &str, change: impl FnOnce(&mut Value)) -> Result<Folder> {
    let folder = folder()?;
    let mut value = serde_json::from_slice(&std::fs::read(folder.path().join(name))?)?;
    change(&mut value);
    folder.write(name, value.to_string())?;
    Ok(folder)
}

/// The demo with other weights.
fn with_weights(file: &[u8]) -> Result<Folder> {
    let folder = folder()?;
    folder.write(WEIGHTS, file)?;
    Ok(folder)
}

/// The demo in two shards, the blocks in the second, and an index.
fn sharded(change: impl FnOnce(&mut Value)) -> Result<Folder> {
    let folder = folder()?;
    std::fs::remove_file(folder.path().join(WEIGHTS))?;
    let parts = Parts::demo()?;
    let in_second = |name: &str| name.contains(".core_block.") || name.contains(".coda.");
    folder.write(FIRST, parts.only(|name| !in_second(name))?)?;
    folder.write(SECOND, parts.only(in_second)?)?;
    let names = parts.header.as_object().context("a header is an object")?.keys();
    let places = names.filter(|name| *name != "__metadata__");
    let map = places.map(|name| (name.clone(), json!(if in_second(name) { SECOND } else { FIRST }))).collect();
    let mut index = json!({"metadata": {}, "weight_map": Value::Object(map)});
    change(&mut index);
    folder.write(INDEX, index.to_string())?;
    Ok(folder)
}

fn open(folder: &Folder) -> Result<Model, Error> {
    Model::open(&Source::dir(folder.path())?, &Device::cpu(), LoadOptions::default())
}

/// Opens a folder that must be refused, with a message that has all of these words.
#[track_caller]
fn refused(folder: &Folder, words: &[&str]) {
    let message = open(folder).err().expect("the folder was accepted").to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in the message: {message}");
    }
}

/// As [`refused`], for a changed field of config.json; a null takes the field away.
#[track_caller]
fn config_refused(field: &str, value: &Value, words: &[&str]) -> Result<()> {
    let folder = with_json("config.json", |config| config[field] = value.clone())?;
    let path = folder.path().join("config.json").display().to_string();
    refused(&folder, &[&path, &format!("`{field}` is ")]);
    refused(&folder, words);
    Ok(())
}

#[test]
fn the_unbroken_demo_opens_from_a_folder_whole_and_in_shards() -> Result<()> {
    open(&folder()?)?;
    open(&sharded(|_| {})?)?;
    Ok(())
}

#[test]
fn a_path_without_a_model_says_what_to_give() -> Result<()> {
    let empty = Folder::new()?;
    let nowhere = empty.path().join("nowhere");
    for path in [empty.path(), &nowhere] {
        let message = Source::dir(path).err().context("accepted")?.to_string();
        let expected = format!("{} is no model folder: it has no config.json; give the folder that", path.display());
        ensure!(message.starts_with(&expected), "{message}");
    }
    Ok(())
}

#[test]
fn a_truncated_config_is_reported_with_line_and_column() -> Result<()> {
    let folder = folder()?;
    folder.write("config.json", "{\n  \"n_embd\": 96,\n  \"n_he")?;
    refused(&folder, &["config.json does not parse", "line 3 column 7"]);
    Ok(())
}

#[test]
fn either_spelling_of_the_head_count_will_do_but_not_two_counts() -> Result<()> {
    for other in ["n_heads", "num_attention_heads"] {
        open(&with_json("config.json", |config| config[other] = Value::Null)?)?;
    }
    config_refused("num_attention_heads", &json!(4), &["supported: the same number as n_heads, 3"])
}

#[test]
fn a_variant_that_is_not_implemented_is_named_with_the_one_that_is() -> Result<()> {
    config_refused("model_type", &json!("llama"), &["\"llama\"; supported: huginn_raven"])?;
    config_refused(
        "architectures",
        &json!(["LlamaForCausalLM"]),
        &["[\"LlamaForCausalLM\"]; supported: RavenForCausalLM"],
    )?;
    config_refused("injection_type", &json!("add"), &["\"add\"; supported: linear"])?;
    config_refused("state_init", &json!("zero"), &["\"zero\"; supported: like-init"])?;
    config_refused("bias", &json!(true), &["true; supported: false"])?;
    config_refused("test_time_noise", &json!(0.5), &["0.5; supported: 0"])
}

#[test]
fn sizes_that_are_no_sensible_whole_number_are_named_with_the_range() -> Result<()> {
    for value in ["0", "-96", "1e300", "4294967296", "\"96\"", "1.5", "[96]", "true"] {
        config_refused("n_embd", &serde_json::from_str(value)?, &["supported: a whole number from 1 to 131072"])?;
    }
    config_refused("head_dim", &json!(33), &["33; supported: an even number from 2 to 128"])?;
    config_refused("head_dim", &json!(130), &["130; supported: a whole number from 2 to 128"])?;
    config_refused("num_key_value_heads", &json!(2), &["2; supported: a divisor of n_heads, 3"])
}

#[test]
fn a_missing_field_is_named_with_what_it_should_be() -> Result<()> {
    for field in ["n_embd", "vocab_size", "intermediate_size", "mean_recurrence", "rope_base", "norm_eps", "block_size"]
    {
        let folder = with_json("config.json", |config| config[field] = Value::Null)?;
        refused(&folder, &["config.json: ", &format!("`{field}` is missing; expected a ")]);
    }
    Ok(())
}

#[test]
fn a_download_that_broke_off_says_how_long_it_should_be() -> Result<()> {
    let whole = Parts::demo()?.file();
    let size = whole.len();
    for (cut, words) in [
        (size - 1, [format!("ends at byte {size}"), format!("has {} bytes", size - 1)]),
        (size / 2, [format!("ends at byte {size}"), format!("has {} bytes", size / 2)]),
        (100, ["announces a header of".to_owned(), "in a file of 100".to_owned()]),
        (7, ["has 7 bytes".to_owned(), "too few for a safetensors header".to_owned()]),
        (0, ["has 0 bytes".to_owned(), "too few for a safetensors header".to_owned()]),
    ] {
        refused(&with_weights(&whole[..cut])?, &[&words[0], &words[1], WEIGHTS, "fetch it again"]);
    }
    let mut longer = whole.clone();
    longer[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&with_weights(&longer)?, &[WEIGHTS, "announces a header of 18446744073709551615 bytes", "fetch it again"]);
    refused(&with_weights(b"<html>404 Not Found</html>")?, &[WEIGHTS, "no safetensors file", "fetch it again"]);
    Ok(())
}

#[test]
fn tensors_that_share_bytes_or_a_name_are_both_named() -> Result<()> {
    let mut parts = Parts::demo()?;
    // lm_head begins where freqs_cis ends, at byte 65536.
    parts.header["lm_head.weight"]["data_offsets"] = json!([65532, 151_552]);
    refused(&with_weights(&parts.file())?, &[WEIGHTS, "overlap, freqs_cis and lm_head.weight", "fetch it again"]);
    let entry = |range: &str| format!(r#"{{"dtype": "F32", "shape": [1], "data_offsets": {range}}}"#);
    let twice = format!(r#"{{"a": {}, "a": {}}}"#, entry("[0, 4]"), entry("[4, 8]"));
    refused(&with_weights(&safetensors_file(&twice, &[0; 8]))?, &[WEIGHTS, "two tensors named a", "keep one"]);
    let far = format!(r#"{{"a": {}}}"#, entry("[0, 18446744073709551615]"));
    refused(&with_weights(&safetensors_file(&far, &[0; 8]))?, &[WEIGHTS, "but a ends at byte", "fetch it again"]);
    Ok(())
}

#[test]
fn an_index_and_shards_that_do_not_belong_together_are_named() -> Result<()> {
    let tensor = "transformer.ln_f.weight";
    let together = "do not belong together";
    let folder = sharded(|_| {})?;
    let name = folder.path().file_name().and_then(|name| name.to_str()).context("a folder has a name")?;
    // The second path leads to a file that exists: it is refused for where it leads.
    for shard in ["model-00003-of-00002.safetensors", &format!("../{name}/{FIRST}"), "/etc/passwd", "..", ""] {
        let index = json!({"weight_map": {tensor: shard}});
        folder.write(INDEX, index.to_string())?;
        refused(&folder, &[INDEX, &format!("puts {tensor} into {shard}, "), "fetch that file or the matching index"]);
    }
    let folder = sharded(|index| index["weight_map"][tensor] = json!(SECOND))?;
    refused(&folder, &[INDEX, &format!("puts {tensor} into {SECOND}, which does not hold it"), together]);
    let folder = sharded(|_| {})?;
    folder.write(SECOND, Parts::demo()?.only(|name| name != "freqs_cis")?)?;
    refused(&folder, &[SECOND, &format!("which {FIRST} holds too"), together]);
    let folder = sharded(|index| index["weight_map"] = json!("none"))?;
    refused(&folder, &[INDEX, "does not parse", "line 1 column"]);
    std::fs::remove_file(folder.path().join(INDEX))?;
    refused(&folder, &[WEIGHTS, "neither it nor", INDEX]);
    Ok(())
}

#[test]
fn a_shard_that_holds_only_the_tied_head_need_not_exist() -> Result<()> {
    let head = |index: &mut Value| index["weight_map"]["lm_head.weight"] = json!("model-00003-of-00003.safetensors");
    open(&sharded(head)?)?;
    Ok(())
}

#[test]
fn a_tied_head_may_be_absent_and_one_of_its_own_may_not() -> Result<()> {
    let weights = Parts::demo()?.only(|name| name != "lm_head.weight")?;
    open(&with_weights(&weights)?)?;
    let folder = with_json("config.json", |config| config["tie_embeddings"] = json!(false))?;
    open(&folder)?;
    folder.write(WEIGHTS, weights)?;
    refused(&folder, &["lm_head.weight is missing; expected shape [448, 96]"]);
    Ok(())
}

#[test]
fn a_number_format_that_is_not_read_is_named_with_those_that_are() -> Result<()> {
    for (dtype, bytes) in [("I64", 8), ("F8_E4M3", 1), ("Q4_K", 8)] {
        let file = safetensors_of(&[("transformer.ln_f.weight", dtype, &[1], &vec![0; bytes])]);
        let words = format!("stores transformer.ln_f.weight as {dtype}; supported: F32, F16, BF16");
        refused(&with_weights(&file)?, &[WEIGHTS, &words]);
    }
    Ok(())
}

#[test]
fn one_file_may_mix_number_formats() -> Result<()> {
    let mut parts = Parts::demo()?;
    // 1 is 3c00 as f16: the same two bytes per value, read in another way.
    let name = "transformer.prelude.0.norm_1.weight";
    parts.header[name]["dtype"] = json!("F16");
    let folder = with_weights(&parts.file())?;
    let model = open(&folder)?;
    let checkpoint = Checkpoint::open(&folder.source(), &|_| false)?;
    let formats: std::collections::BTreeSet<_> = checkpoint.tensors().map(|info| format!("{:?}", info.dtype)).collect();
    assert_eq!(formats.into_iter().collect::<Vec<_>>(), ["Bf16", "F16", "F32"]);
    assert_eq!(model.dtype(), ruminate::Dtype::Bf16, "the adapter's format decides");
    Ok(())
}

#[test]
fn everything_wrong_with_the_tensors_is_in_one_message() -> Result<()> {
    let mut parts = Parts::demo()?;
    let header = parts.header.as_object_mut().context("a header is an object")?;
    let norm = header.remove("transformer.ln_f.weight").context("the demo has it")?;
    header.insert("transformer.ln_g.weight".to_owned(), norm);
    let bias = header.remove("transformer.coda.0.attn.qk_bias").context("the demo has it")?;
    header.insert("transformer.coda.0.attn.bias".to_owned(), bias);
    parts.header["transformer.adapter.weight"]["shape"] = json!([192, 96]);
    let folder = with_weights(&parts.file())?;
    let lines = [
        "the checkpoint does not fit its config.json",
        "transformer.ln_f.weight is missing; expected shape [96]",
        "transformer.coda.0.attn.qk_bias is missing; expected shape [2, 1, 3, 32]",
        "transformer.ln_g.weight in model.safetensors is not part of this architecture",
        "transformer.coda.0.attn.bias in model.safetensors is not part of this architecture",
        "transformer.adapter.weight in model.safetensors has shape [192, 96]; config.json asks for [96, 192]",
    ];
    refused(&folder, &lines);
    let checkpoint = Checkpoint::open(&folder.source(), &|_| false)?;
    let tensors = Config::open(&folder.source())?.tensors();
    let message = checkpoint.check(&tensors).err().context("accepted")?.to_string();
    assert_eq!(message.lines().count(), lines.len(), "{message}");
    Ok(())
}

#[test]
fn a_tokenizer_of_another_vocabulary_is_refused_with_both_sizes() -> Result<()> {
    let folder = with_json("config.json", |config| {
        config["vocab_size"] = json!(400);
        config["padded_vocab_size"] = json!(400);
    })?;
    refused(&folder, &["tokenizer.json has token id 447", "only 400 tokens", "different models"]);
    folder.write("tokenizer.json", "{\"version\": \"1.0\", ")?;
    refused(&folder, &["tokenizer.json: ", "line 1 column"]);
    std::fs::remove_file(folder.path().join("tokenizer.json"))?;
    refused(&folder, &["cannot read ", "tokenizer.json"]);
    Ok(())
}

#[test]
fn end_tokens_may_be_one_or_a_list_and_nothing_else() -> Result<()> {
    let with = |value: Value| with_json("generation_config.json", |config| config["eos_token_id"] = value);
    // The tokenizer's own end token 417 and the begin token 416 end a text in any case.
    assert_eq!(open(&with(json!(420))?)?.tokenizer().eos(), [416, 417, 420]);
    assert_eq!(open(&with(json!([420, 421]))?)?.tokenizer().eos(), [416, 417, 420, 421]);
    for wrong in [json!([420, "x"]), json!([-1])] {
        let words = ["generation_config.json: `eos_token_id` is ", "supported: a token id or a list of token ids"];
        refused(&with(wrong)?, &words);
    }
    refused(&with(json!([420, 448]))?, &["tokenizer.json: special token id 448", "the model has 448 tokens"]);
    Ok(())
}
