//! What may vary in a model folder: it opens all the same. What must not is in `bad_input`.

use anyhow::Result;
use ruminate::{Checkpoint, Device, Dtype, Error, LoadOptions, Model, Source};
use ruminate_tests::demo_files::{Parts, folder, sharded, with_json, with_weights};
use ruminate_tests::{Folder, trial};
use serde_json::{Value, json};

fn open(folder: &Folder) -> Result<Model, Error> {
    Model::open(&Source::dir(folder.path())?, &Device::cpu(), LoadOptions::default())
}

#[trial]
fn weights_may_be_in_one_file_or_in_shards() -> Result<()> {
    open(&folder()?)?;
    open(&sharded(|_| {})?)?;
    Ok(())
}

#[trial]
fn either_spelling_of_the_head_count_will_do() -> Result<()> {
    for other in ["n_heads", "num_attention_heads"] {
        open(&with_json("config.json", |config| config[other] = Value::Null)?)?;
    }
    Ok(())
}

#[trial]
fn a_shard_that_holds_only_the_tied_head_need_not_exist() -> Result<()> {
    let head = |index: &mut Value| index["weight_map"]["lm_head.weight"] = json!("model-00003-of-00003.safetensors");
    open(&sharded(head)?)?;
    Ok(())
}

#[trial]
fn a_tied_head_may_be_absent() -> Result<()> {
    open(&with_weights(&Parts::demo()?.only(|name| name != "lm_head.weight")?)?)?;
    open(&with_json("config.json", |config| config["tie_embeddings"] = json!(false))?)?;
    Ok(())
}

#[trial]
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
    assert_eq!(model.dtype(), Dtype::Bf16, "the adapter's format decides");
    Ok(())
}

#[trial]
fn end_tokens_may_be_one_or_a_list() -> Result<()> {
    let with = |value: Value| with_json("generation_config.json", |config| config["eos_token_id"] = value);
    // The tokenizer's own end token 417 and the begin token 416 end a text in any case.
    assert_eq!(open(&with(json!(420))?)?.tokenizer().eos(), [416, 417, 420]);
    assert_eq!(open(&with(json!([420, 421]))?)?.tokenizer().eos(), [416, 417, 420, 421]);
    Ok(())
}
