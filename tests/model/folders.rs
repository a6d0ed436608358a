//! Allowed variations of model folders. `bad_input` tests the invalid ones.

use anyhow::Result;
use ruminate::{Checkpoint, Device, Dtype, Error, LoadOptions, Model, Source};
use ruminate_tests::demo_files::{Parts, folder, sharded, with_json, with_weights};
use ruminate_tests::{Folder, trial};
use serde_json::{Value, json};

fn open(folder: &Folder) -> Result<Model, Error> {
    Model::open(&Source::dir(folder.path())?, &Device::cpu(), LoadOptions::default())
}

#[trial]
fn weights_can_be_one_file_or_shards() -> Result<()> {
    open(&folder()?)?;
    open(&sharded(|_| {})?)?;
    Ok(())
}

#[trial]
fn either_head_count_field_is_accepted() -> Result<()> {
    for other in ["n_heads", "num_attention_heads"] {
        open(&with_json("config.json", |config| config[other] = Value::Null)?)?;
    }
    Ok(())
}

#[trial]
fn shard_with_only_tied_head_can_be_missing() -> Result<()> {
    let head = |index: &mut Value| index["weight_map"]["lm_head.weight"] = json!("model-00003-of-00003.safetensors");
    open(&sharded(head)?)?;
    Ok(())
}

#[trial]
fn tied_head_can_be_missing() -> Result<()> {
    open(&with_weights(&Parts::demo()?.only(|name| name != "lm_head.weight")?)?)?;
    open(&with_json("config.json", |config| config["tie_embeddings"] = json!(false))?)?;
    Ok(())
}

#[trial]
fn one_file_can_mix_number_formats() -> Result<()> {
    let mut parts = Parts::demo()?;
    // The bytes stay: f16, too, has two per value. They decode to other numbers, because 1 is 3c00 in f16.
    let name = "transformer.prelude.0.norm_1.weight";
    parts.header[name]["dtype"] = json!("F16");
    let folder = with_weights(&parts.file())?;
    let model = open(&folder)?;
    let checkpoint = Checkpoint::open(&folder.source(), &|_| false)?;
    let formats: std::collections::BTreeSet<_> = checkpoint.tensors().map(|info| format!("{:?}", info.dtype)).collect();
    assert_eq!(formats.into_iter().collect::<Vec<_>>(), ["Bf16", "F16", "F32"]);
    assert_eq!(model.dtype(), Dtype::Bf16, "the model does not have the adapter's format");
    Ok(())
}

#[trial]
fn end_tokens_can_be_a_number_or_list() -> Result<()> {
    let with = |value: Value| with_json("generation_config.json", |config| config["eos_token_id"] = value);
    // The tokenizer's own end token 417 and the begin token 416 always end a text.
    assert_eq!(open(&with(json!(420))?)?.tokenizer().eos(), [416, 417, 420]);
    assert_eq!(open(&with(json!([420, 421]))?)?.tokenizer().eos(), [416, 417, 420, 421]);
    Ok(())
}
