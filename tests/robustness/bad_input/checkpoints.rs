//! Damaged or unsupported model folders.

use anyhow::{Context, Result};
use ruminate_tests::demo_files::{FIRST, INDEX, Parts, SECOND, WEIGHTS, folder, sharded, with_json, with_weights};
use ruminate_tests::{Folder, safetensors_file, safetensors_of, trial};
use serde_json::{Value, json};

use crate::bad_input::call::{model_refused, model_refused_with, refused};

const NORM: &str = "transformer.ln_f.weight";

#[trial(full)]
fn truncated_shard_is_refused() -> Result<()> {
    let folder = sharded(|_| {})?;
    let path = folder.path().join(SECOND);
    let whole = std::fs::read(&path)?;
    std::fs::write(&path, &whole[..whole.len() - 1])?;
    let sizes = [format!("ends at byte {}", whole.len()), format!("has {} bytes", whole.len() - 1)];
    model_refused(&folder, &[SECOND, &sizes[0], &sizes[1], "fetch it again"])?;
    let whole = Parts::demo()?.file();
    let middle = format!("has {} bytes", whole.len() / 2);
    for (cut, words) in [
        (whole.len() / 2, ["ends at byte", middle.as_str()]),
        (7, ["has 7 bytes", "too few for a safetensors header"]),
        (0, ["has 0 bytes", "too few for a safetensors header"]),
    ] {
        model_refused(&with_weights(&whole[..cut])?, &[WEIGHTS, words[0], words[1], "fetch it again"])?;
    }
    Ok(())
}

#[trial(full)]
fn header_longer_than_file_is_refused() -> Result<()> {
    let whole = Parts::demo()?.file();
    model_refused(&with_weights(&whole[..100])?, &[WEIGHTS, "declares a header of", "in a file of 100"])?;
    let mut longer = whole;
    longer[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    model_refused(&with_weights(&longer)?, &["declares a header of 18446744073709551615 bytes", "fetch it again"])?;
    model_refused(&with_weights(b"<html>404 Not Found</html>")?, &[WEIGHTS, "not a safetensors file", "fetch it again"])
}

#[trial(full)]
fn overlapping_offsets_are_refused() -> Result<()> {
    let mut parts = Parts::demo()?;
    // In the valid file, lm_head begins at the end of freqs_cis, byte 65536.
    parts.header["lm_head.weight"]["data_offsets"] = json!([65532, 151_552]);
    model_refused(&with_weights(&parts.file())?, &["overlap, freqs_cis and lm_head.weight", "fetch it again"])?;
    let far = r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 18446744073709551615]}}"#;
    let folder = with_weights(&safetensors_file(far, &[0; 8]))?;
    model_refused(&folder, &[WEIGHTS, "but a ends at byte", "fetch it again"])
}

#[trial(full)]
fn duplicate_tensor_names_are_refused() -> Result<()> {
    let entry = |range: &str| format!(r#"{{"dtype": "F32", "shape": [1], "data_offsets": {range}}}"#);
    let twice = format!(r#"{{"a": {}, "a": {}}}"#, entry("[0, 4]"), entry("[4, 8]"));
    let folder = with_weights(&safetensors_file(&twice, &[0; 8]))?;
    model_refused(&folder, &[WEIGHTS, "two tensors named a", "keep one"])?;
    let folder = sharded(|_| {})?;
    folder.write(SECOND, Parts::demo()?.only(|name| name != "freqs_cis")?)?;
    std::fs::remove_file(folder.path().join(INDEX))?;
    model_refused(&folder, &[&format!("is in {FIRST} and in {SECOND}"), "do not belong together"])
}

#[trial(full)]
fn index_with_missing_file_is_refused() -> Result<()> {
    let folder = sharded(|_| {})?;
    let name = folder.path().file_name().and_then(|name| name.to_str()).context("a folder has a name")?;
    // The second path points to an existing file, but outside of the folder.
    for shard in ["model-00003-of-00002.safetensors", &format!("../{name}/{FIRST}"), "/etc/passwd", "..", ""] {
        folder.write(INDEX, json!({"weight_map": {NORM: shard}}).to_string())?;
        let words = format!("assigns {NORM} to {shard}, ");
        model_refused(&folder, &[INDEX, &words, "fetch that file or the matching index"])?;
    }
    std::fs::remove_file(folder.path().join(INDEX))?;
    std::fs::remove_file(folder.path().join(FIRST))?;
    model_refused(&folder, &[INDEX, "does not exist, nor does", FIRST])?;
    std::fs::remove_file(folder.path().join(SECOND))?;
    model_refused(&folder, &[WEIGHTS, "neither it nor", INDEX])
}

#[trial(full)]
fn index_that_does_not_match_shards_is_refused() -> Result<()> {
    let folder = sharded(|index| index["weight_map"][NORM] = json!(SECOND))?;
    let words = format!("assigns {NORM} to {SECOND}, which does not contain it");
    model_refused(&folder, &[INDEX, &words, "do not belong together"])?;
    let folder = sharded(|index| index["weight_map"] = json!("none"))?;
    model_refused(&folder, &[INDEX, "does not parse", "line 1 column"])
}

#[trial(full)]
fn non_finite_weights_are_refused() -> Result<()> {
    // A row of the adapter has 192 two-byte values.
    for (tensor, at, value, words) in [
        ("transformer.adapter.weight", (3 * 192 + 5) * 2, [0xc0, 0x7f], "is NaN at [3, 5]"),
        ("transformer.core_block.1.mlp.proj.weight", 0, [0x80, 0x7f], "is inf at [0, 0]"),
        (NORM, 2 * 95, [0x80, 0xff], "is -inf at [0, 95]"),
    ] {
        let mut parts = Parts::demo()?;
        parts.bytes(tensor)?[at..at + 2].copy_from_slice(&value);
        model_refused(&with_weights(&parts.file())?, &[tensor, words, "the file is damaged", "fetch it again"])?;
    }
    Ok(())
}

#[trial(full)]
fn weights_too_large_for_dtype_are_refused() -> Result<()> {
    let mut parts = Parts::demo()?;
    let tensor = "transformer.adapter.weight";
    // 1e5 as bf16; the largest f16 is 65504.
    parts.bytes(tensor)?[..2].copy_from_slice(&[0xc3, 0x47]);
    let folder = with_weights(&parts.file())?;
    let words = [tensor, "is 99840 at [0, 0]", "too large for this dtype", "bf16"];
    model_refused_with(&folder, &["--dtype", "f16"], &words)
}

#[trial(full)]
fn unsupported_tensor_dtypes_are_refused() -> Result<()> {
    for (dtype, bytes) in [("I64", 8), ("F8_E4M3", 1), ("Q4_K", 8)] {
        let file = safetensors_of(&[(NORM, dtype, &[1], &vec![0; bytes])]);
        let words = format!("{NORM} in {WEIGHTS} is stored as {dtype}; supported: F32, F16, BF16");
        model_refused(&with_weights(&file)?, &[WEIGHTS, &words])?;
    }
    Ok(())
}

#[trial(full)]
fn wrong_tensor_shape_is_refused() -> Result<()> {
    let mut parts = Parts::demo()?;
    parts.header["transformer.adapter.weight"]["shape"] = json!([192, 96]);
    let words = "transformer.adapter.weight in model.safetensors has shape [192, 96]; config.json requires [96, 192]";
    model_refused(&with_weights(&parts.file())?, &["the checkpoint does not fit its config.json", words])
}

#[trial(full)]
fn missing_tensors_are_listed() -> Result<()> {
    let mut parts = Parts::demo()?;
    let header = parts.header.as_object_mut().context("a header is an object")?;
    let norm = header.remove(NORM).context("the demo has it")?;
    header.insert("transformer.ln_g.weight".to_owned(), norm);
    let bias = header.remove("transformer.coda.0.attn.qk_bias").context("the demo has it")?;
    header.insert("transformer.coda.0.attn.bias".to_owned(), bias);
    let lines = [
        "transformer.ln_f.weight is missing; expected shape [96]",
        "transformer.coda.0.attn.qk_bias is missing; expected shape [2, 1, 3, 32]",
        "transformer.ln_g.weight in model.safetensors is not part of this architecture",
        "transformer.coda.0.attn.bias in model.safetensors is not part of this architecture",
    ];
    model_refused(&with_weights(&parts.file())?, &lines)?;
    let folder = with_json("config.json", |config| config["tie_embeddings"] = json!(false))?;
    folder.write(WEIGHTS, Parts::demo()?.only(|name| name != "lm_head.weight")?)?;
    model_refused(&folder, &["lm_head.weight is missing; expected shape [448, 96]"])
}

/// Runs the demo with a changed field in config.json, which must be refused.
fn config_refused(field: &str, value: &Value, words: &[&str]) -> Result<()> {
    let folder = with_json("config.json", |config| config[field] = value.clone())?;
    let place = format!("{}: `{field}` is ", folder.path().join("config.json").display());
    model_refused(&folder, &[&[place.as_str()], words].concat())
}

#[trial(full)]
fn unknown_architecture_is_refused() -> Result<()> {
    config_refused("model_type", &json!("llama"), &["\"llama\"; supported: huginn_raven"])?;
    let words = "[\"LlamaForCausalLM\"]; supported: RavenForCausalLM";
    config_refused("architectures", &json!(["LlamaForCausalLM"]), &[words])
}

#[trial(full)]
fn unsupported_config_values_are_refused() -> Result<()> {
    config_refused("injection_type", &json!("add"), &["\"add\"; supported: linear"])?;
    config_refused("state_init", &json!("zero"), &["\"zero\"; supported: like-init"])?;
    config_refused("bias", &json!(true), &["true; supported: false"])?;
    config_refused("test_time_noise", &json!(0.5), &["0.5; supported: 0"])?;
    config_refused("num_attention_heads", &json!(4), &["4; supported: the same number as n_heads, 3"])?;
    config_refused("head_dim", &json!(33), &["33; supported: an even number from 2 to 128"])?;
    config_refused("num_key_value_heads", &json!(2), &["2; supported: a divisor of n_heads, 3"])
}

#[trial(full)]
fn missing_config_fields_are_refused() -> Result<()> {
    let fields =
        ["n_embd", "vocab_size", "intermediate_size", "mean_recurrence", "rope_base", "norm_eps", "block_size"];
    fields.into_iter().try_for_each(|field| config_refused(field, &Value::Null, &["missing; expected a "]))
}

#[trial(full)]
fn out_of_range_config_sizes_are_refused() -> Result<()> {
    for value in ["4294967296", "18446744073709551616", "1e300", "-96", "0", "1.5", "\"96\"", "[96]", "true"] {
        let value = serde_json::from_str(value)?;
        config_refused("n_embd", &value, &["supported: a whole number from 1 to 131072"])?;
    }
    // Sizes that are valid individually, but with a product too large for any file.
    let folder = with_json("config.json", |config| {
        config["vocab_size"] = json!(1 << 22);
        config["padded_vocab_size"] = json!(1 << 22);
        config["n_embd"] = json!(1 << 17);
    })?;
    model_refused(&folder, &["config.json requires [4194304, 131072]"])
}

#[trial(full)]
fn truncated_config_is_refused() -> Result<()> {
    let folder = folder()?;
    folder.write("config.json", "{\n  \"n_embd\": 96,\n  \"n_he")?;
    model_refused(&folder, &["config.json does not parse", "line 3 column 7"])
}

#[trial(full)]
fn tokenizer_that_does_not_match_model_is_refused() -> Result<()> {
    let folder = with_json("config.json", |config| {
        config["vocab_size"] = json!(300);
        config["padded_vocab_size"] = json!(300);
    })?;
    model_refused(&folder, &["tokenizer.json has token id 447", "only 300 tokens", "different models"])?;
    folder.write("tokenizer.json", "{\"version\": \"1.0\", ")?;
    model_refused(&folder, &["tokenizer.json: ", "line 1 column"])?;
    std::fs::remove_file(folder.path().join("tokenizer.json"))?;
    model_refused(&folder, &["cannot read ", "tokenizer.json"])
}

#[trial(full)]
fn invalid_end_tokens_are_refused() -> Result<()> {
    let with = |value: Value| with_json("generation_config.json", |config| config["eos_token_id"] = value);
    for wrong in [json!([420, "x"]), json!([-2])] {
        let words = ["generation_config.json: `eos_token_id` is ", "supported: a token id or a list of token ids"];
        model_refused(&with(wrong)?, &words)?;
    }
    model_refused(
        &with(json!([420, 448]))?,
        &["generation_config.json: special token id 448", "the model has 448 tokens"],
    )
}

#[trial(full)]
fn invalid_chat_template_is_refused() -> Result<()> {
    let folder = with_json("tokenizer_config.json", |config| config["chat_template"] = json!("{% for %}"))?;
    model_refused(&folder, &["chat template in ", "tokenizer_config.json", "syntax error"])
}

#[trial(full)]
fn path_without_model_is_refused() -> Result<()> {
    let empty = Folder::new()?;
    let nowhere = empty.path().join("nowhere");
    for path in [empty.path(), &nowhere] {
        let name = path.to_str().context("the path is UTF-8")?;
        let words = [name, "config.json"];
        refused(&["run", "--cpu", "-m", name, "x"], None, 4, &words)?;
    }
    Ok(())
}
