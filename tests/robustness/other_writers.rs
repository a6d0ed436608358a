//! Model folders written by other programs: duplicate tensors, extra files, JSON as written by Python, and files with misleading names.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ruminate::{
    ContentProblem, Device, Dtype, Error, GenerateOptions, GenerationConfig, LoadOptions, Model, Prompt,
    QuantizeOptions, Sampling, SessionOptions, ShardIndex, Source, Spec, parse_json, quantize,
};
use ruminate_tests::demo_files::{FIRST, INDEX, Parts, SECOND, WEIGHTS, folder, sharded, with_json, with_weights};
use ruminate_tests::{Folder, safetensors_of, trial};
use serde_json::{Value, json};

const WTE: &str = "transformer.wte.weight";
const HEAD: &str = "lm_head.weight";
const THIRD: &str = "model-00003-of-00003.safetensors";

fn open(source: &Source) -> Result<Model, Error> {
    Model::open(source, &Device::cpu(), LoadOptions::default())
}

/// Tokens that a model generates for a text.
fn tokens(model: &Model) -> Result<Vec<u32>> {
    let mut session = model.session(SessionOptions { seed: 5, ..SessionOptions::default() })?;
    let asked = GenerateOptions {
        steps: Some(2),
        max_tokens: Some(5),
        sampling: Sampling::GREEDY,
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    };
    let generation = session.generate(Prompt::Text("Ball in C. Swap CE"), &asked)?;
    Ok(generation.map(|piece| Ok(piece?.token)).collect::<Result<_, Error>>()?)
}

fn is_demo(folder: &Folder) -> Result<Model> {
    let model = open(&Source::dir(folder.path())?)?;
    let demo = open(&ruminate::demo::source())?;
    ensure!(tokens(&model)? == tokens(&demo)?, "another model was computed");
    Ok(model)
}

fn message<T>(outcome: Result<T, Error>) -> Result<String> {
    Ok(outcome.err().context("it was accepted")?.to_string())
}

/// The demo with its embedding stored only under the head's name.
fn head_only() -> Result<Folder> {
    let mut parts = Parts::demo()?;
    let header = parts.header.as_object_mut().context("an object")?;
    header.remove(HEAD);
    let file = Parts { header: parts.header.clone(), data: parts.data }.only(|_| true)?;
    let length = usize::try_from(u64::from_le_bytes(file[..8].try_into()?))?;
    let mut header: Value = serde_json::from_slice(&file[8..8 + length])?;
    let entry = header.as_object_mut().and_then(|header| header.remove(WTE)).context("an embedding")?;
    header[HEAD] = entry;
    with_weights(&Parts { header, data: file[8 + length..].to_vec() }.file())
}

#[trial]
fn tied_matrix_can_be_stored_under_either_name() -> Result<()> {
    let folder = head_only()?;
    is_demo(&folder)?;
    let small = Folder::new()?;
    quantize(&folder.source(), &small.path().join("q8"), QuantizeOptions::default())?;
    let model = open(&Source::dir(small.path().join("q8"))?)?;
    ensure!(model.dtype() == Dtype::Q8);
    Ok(())
}

#[trial]
fn index_determines_which_shards_are_read() -> Result<()> {
    let config = Spec::open(&ruminate::demo::source())?;
    let shards = |map: Value| -> Result<_> {
        Ok(ShardIndex::parse("index", json!({ "weight_map": map }).to_string().as_bytes())?.shards(&config))
    };
    let (one, two) = (vec!["one".to_owned()], vec!["two".to_owned()]);
    ensure!(shards(json!({WTE: "one", HEAD: "two"}))? == (one.clone(), two.clone()));
    ensure!(shards(json!({"transformer.ln_f.weight": "one", HEAD: "two"}))?.0 == ["one", "two"]);
    ensure!(shards(json!({WTE: "one", "model.rotary_emb.inv_freq": "two"}))? == (one, two));
    ensure!(shards(json!({"transformer.wte.weight.q8": "one", HEAD: "two"}))?.0 == ["one"]);
    Ok(())
}

#[trial]
fn index_selects_between_duplicate_tensors() -> Result<()> {
    let width = Spec::open(&ruminate::demo::source())?.width as usize;
    let stale = safetensors_of(&[("transformer.ln_f.weight", "F32", &[width], &vec![0; width * 4])]);
    let folder = sharded(|index| index["weight_map"]["transformer.position_ids"] = json!(THIRD))?;
    folder.write(THIRD, &stale)?;
    is_demo(&folder)?;
    // Without an index, duplicates are ambiguous.
    let folder = sharded(|_| {})?;
    std::fs::remove_file(folder.path().join(INDEX))?;
    is_demo(&folder)?;
    let both = Parts::demo()?
        .only(|name| name.contains(".coda.") || name.contains(".core_block.") || name.contains("ln_f"))?;
    folder.write(SECOND, both)?;
    let said = message(open(&folder.source()))?;
    ensure!(said.contains(&format!("transformer.ln_f.weight is in {FIRST} and in {SECOND}")), "{said}");
    std::fs::remove_file(folder.path().join(SECOND))?;
    let said = message(open(&folder.source()))?;
    ensure!(said.contains(INDEX) && said.contains(SECOND), "{said}");
    Ok(())
}

#[trial]
fn unused_buffers_are_skipped_and_listed() -> Result<()> {
    let buffers: &[(&str, &str, &[usize], &[u8])] = &[
        ("transformer.rotary_emb.cos_cached", "F32", &[2], &[0; 8]),
        ("transformer.core_block.0.attn.masked_bias", "F32", &[], &[0; 4]),
        ("transformer.num_batches_tracked", "I64", &[], &[0; 8]),
        ("transformer.coda.0.attn.bias", "U8", &[1, 1, 2, 2], &[1; 4]),
        ("transformer.levels", "X12", &[3], &[0; 5]),
    ];
    let folder = sharded(|index| {
        // Only the shape of a bias tells whether it is a mask, so its shard would be opened.
        for (name, ..) in buffers.iter().filter(|(name, ..)| !name.ends_with("attn.bias")) {
            index["weight_map"][name] = json!(THIRD);
        }
    })?;
    // A shard with only buffers is not opened and need not exist.
    is_demo(&folder)?;
    let mut names: Vec<&str> = buffers.iter().map(|(name, ..)| *name).collect();
    names.sort_unstable();
    std::fs::remove_file(folder.path().join(INDEX))?;
    for (from, to) in [(FIRST, "model-00001-of-00003.safetensors"), (SECOND, "model-00002-of-00003.safetensors")] {
        std::fs::rename(folder.path().join(from), folder.path().join(to))?;
    }
    folder.write(THIRD, safetensors_of(buffers))?;
    let model = is_demo(&folder)?;
    let unused: Vec<&str> = model.unused_tensors().iter().map(|it| it.name.as_str()).collect();
    ensure!(unused == names, "{unused:?}");
    Ok(())
}

#[trial]
fn unsupported_dtypes_of_needed_tensors_and_unknown_weights_are_errors() -> Result<()> {
    let mut parts = Parts::demo()?;
    parts.header["transformer.ln_f.weight"]["dtype"] = json!("I16");
    parts.header["transformer.adapter.weight"]["dtype"] = json!("Q7");
    let extra: &[(&str, &str, &[usize], &[u8])] = &[
        ("transformer.coda.0.norm_5.weight", "F64", &[1], &[0; 8]),
        ("transformer.coda.0.mlp.lora_A", "F32", &[1], &[0; 4]),
    ];
    let folder = with_weights(&parts.file())?;
    let first = message(open(&folder.source()))?;
    for words in [
        "transformer.ln_f.weight in model.safetensors is stored as I16",
        "transformer.adapter.weight in model.safetensors is stored as Q7",
    ] {
        ensure!(first.contains(words), "{first}");
    }
    for _ in 0..5 {
        ensure!(message(open(&folder.source()))? == first, "the message is not deterministic");
    }
    let folder = sharded(|_| {})?;
    std::fs::remove_file(folder.path().join(INDEX))?;
    for (from, to) in [(FIRST, "model-00001-of-00003.safetensors"), (SECOND, "model-00002-of-00003.safetensors")] {
        std::fs::rename(folder.path().join(from), folder.path().join(to))?;
    }
    folder.write(THIRD, safetensors_of(extra))?;
    let said = message(open(&folder.source()))?;
    for (name, ..) in extra {
        ensure!(said.contains(&format!("{name} in {THIRD} is not part of this architecture")), "{said}");
    }
    Ok(())
}

#[trial]
fn non_json_numbers_are_errors_only_if_read() -> Result<()> {
    let text = b"\xef\xbb\xbf{\"a\": [NaN, -Infinity, 1e999, 2], \"b\\\"NaN\": \"Infinity\", \"c\": 1E5}";
    let found: Value = parse_json("f", text)?;
    ensure!(found == json!({"a": ["NaN", "-Infinity", "1e999", 2], "b\"NaN": "Infinity", "c": 1e5}), "{found}");
    for wrong in ["{\"a\": nan}", "[NaNs]", "[1,,2]", "[\"open", "[+Infinity]"] {
        ensure!(message(parse_json::<Value>("f.json", wrong.as_bytes()))?.contains("f.json"), "{wrong}");
    }
    let wide: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    ensure!(message(parse_json::<Value>("f", &[b"\xff\xfe".as_slice(), &wide].concat()))?.contains("UTF-16"));
    // The same JSON in the files of a model.
    let folder = folder()?;
    let marked = [b"\xef\xbb\xbf".to_vec(), std::fs::read(folder.path().join("tokenizer.json"))?].concat();
    folder.write("tokenizer.json", marked)?;
    for name in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        let text = String::from_utf8(std::fs::read(folder.path().join(name))?)?;
        let (start, rest) = text.split_once('{').context("an object")?;
        let text = format!("\u{feff}{start}{{\"nobody_reads\": [Infinity, NaN],{rest}");
        // An otherwise empty object must not end in a comma.
        folder.write(name, text.replace(",}", "}"))?;
    }
    is_demo(&folder)?;
    let named = with_json("config.json", |config| config["rope_base"] = json!("RB"))?;
    let text = std::fs::read_to_string(named.path().join("config.json"))?.replace("\"RB\"", "Infinity");
    named.write("config.json", text)?;
    ensure!(message(open(&named.source()))?.contains("`rope_base` is \"Infinity\""));
    Ok(())
}

#[trial]
fn minus_one_means_none_and_integral_floats_are_integers() -> Result<()> {
    let width = Spec::open(&ruminate::demo::source())?.width;
    let folder = with_json("config.json", |config| {
        config["n_embd"] = json!(f64::from(width));
        config["pad_token_id"] = json!(-1.0);
        config["eos_token_id"] = json!([-1, 420.0, null]);
    })?;
    let config = Spec::open(&folder.source())?;
    ensure!((config.width, config.pad, config.eos) == (width, None, vec![420]));
    for wrong in [json!(-2), json!(0.5), json!([1.5])] {
        let folder = with_json("config.json", |config| config["eos_token_id"] = wrong.clone())?;
        ensure!(message(Spec::open(&folder.source()))?.contains("eos_token_id"), "{wrong}");
    }
    Ok(())
}

#[trial]
fn unsupported_defaults_are_errors_only_if_used() -> Result<()> {
    let folder = with_json("generation_config.json", |config| {
        config["top_p"] = json!(7);
        config["top_k"] = json!(-1);
        config["max_new_tokens"] = json!("many");
        config["do_sample"] = json!("yes");
    })?;
    is_demo(&folder)?;
    let found = GenerationConfig::open(&folder.source())?;
    ensure!((found.top_p, found.top_k, found.max_new_tokens) == (None, Some(0), None));
    ensure!(found.invalid.keys().copied().collect::<Vec<_>>() == ["do_sample", "max_new_tokens", "top_p"]);
    found.check("top_k")?;
    ensure!(message(found.check("top_p"))?.contains("generation_config.json: `top_p` is 7"));
    Ok(())
}

#[trial]
fn git_lfs_pointers_are_recognized_in_every_file() -> Result<()> {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    for name in [WEIGHTS, "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        let folder = folder()?;
        folder.write(name, pointer)?;
        let error = open(&folder.source()).err().context("an LFS pointer was accepted")?;
        ensure!(matches!(error, Error::Content { problem: ContentProblem::LfsPointer, .. }), "{name}: {error}");
        let said = error.to_string();
        ensure!(
            said.contains(name) && said.contains("git lfs pull") && said.contains("download the model again"),
            "{said}"
        );
    }
    Ok(())
}

#[trial]
fn model_can_be_named_only_by_files_that_are_read() -> Result<()> {
    let folder = sharded(|_| {})?;
    for (name, content) in [("other.gguf", "x"), ("adapter.safetensors", "x"), ("pytorch_model.bin", "x")] {
        folder.write(name, content)?;
        let said = message(Source::dir(folder.path().join(name)))?;
        ensure!(said.contains(name) && said.contains("give the folder"), "{said}");
    }
    ensure!(Source::dir(folder.path().join("tokenizer.json")).is_err());
    for name in ["config.json", INDEX, FIRST, SECOND] {
        open(&Source::dir(folder.path().join(name))?)?;
    }
    // With a single weights file, shards are not read.
    std::fs::write(folder.path().join(WEIGHTS), Parts::demo()?.file())?;
    ensure!(Source::dir(folder.path().join(FIRST)).is_err() && Source::dir(folder.path().join(WEIGHTS)).is_ok());
    for name in [WEIGHTS, FIRST, SECOND, INDEX] {
        std::fs::remove_file(folder.path().join(name))?;
    }
    let said = message(open(&folder.source()))?;
    ensure!(said.contains("found other.gguf, a llama.cpp GGUF file, but only safetensors are supported"), "{said}");
    Ok(())
}

#[cfg(unix)]
#[trial]
fn dangling_links_and_pipes_are_reported_without_blocking() -> Result<()> {
    use std::os::unix::fs::symlink;
    for name in ["config.json", "tokenizer.json", "generation_config.json", WEIGHTS] {
        let folder = folder()?;
        let path = folder.path().join(name);
        std::fs::remove_file(&path)?;
        symlink("nowhere", &path)?;
        let said = message(open(&Source::dir(folder.path())?))?;
        ensure!(said.contains(name) && said.contains("is a link to nowhere"), "{said}");
        std::fs::remove_file(&path)?;
        ensure!(std::process::Command::new("mkfifo").arg(&path).status()?.success());
        let said = message(open(&folder.source()))?;
        ensure!(said.contains(name) && said.contains("is not a regular file"), "{said}");
    }
    let folder = folder()?;
    std::fs::File::create(folder.path().join("tokenizer.json"))?.set_len(1 << 40)?;
    let said = message(open(&folder.source()))?;
    ensure!(said.contains("tokenizer.json has 1099511627776 bytes"), "{said}");
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[trial]
fn overwriting_a_model_is_atomic() -> Result<()> {
    let home = Folder::new()?;
    let place = home.path().join("small");
    let write = |dtype: Dtype, most: u64| {
        let mut progress = |done, _| {
            // The old model exists until the new one is complete.
            let old = Source::dir(&place).is_ok() || dtype == Dtype::Q8;
            old && done <= most
        };
        let progress: Option<&mut dyn FnMut(u64, u64) -> bool> = Some(&mut progress);
        let asked = QuantizeOptions { precision: dtype.into(), force: true, progress, ..QuantizeOptions::default() };
        quantize(&ruminate::demo::source(), &place, asked)
    };
    write(Dtype::Q8, u64::MAX)?;
    std::fs::create_dir(place.join("notes"))?;
    std::fs::write(place.join("notes/mine.txt"), "mine")?;
    ensure!(matches!(write(Dtype::Q4, 1000), Err(Error::Cancelled)));
    ensure!(open(&Source::dir(&place)?)?.dtype() == Dtype::Q8);
    ensure!(names(home.path())? == ["small"], "{:?}", names(home.path())?);
    // Files left by a dead process; no system uses process ids as large as this one.
    std::fs::write(place.join(".quantize-2000000000-x.part"), "part")?;
    let left = home.path().join(".small.quantize-2000000000-y");
    std::fs::create_dir(&left)?;
    std::fs::write(left.join("config.json"), "{}")?;
    std::fs::write(left.join("lost.txt"), "mine too")?;
    write(Dtype::Q4, u64::MAX)?;
    ensure!(open(&Source::dir(&place)?)?.dtype() == Dtype::Q4);
    ensure!(names(home.path())? == ["small"], "{:?}", names(home.path())?);
    ensure!(
        std::fs::read(place.join("notes/mine.txt"))? == b"mine"
            && std::fs::read(place.join("lost.txt"))? == b"mine too"
    );
    ensure!(!names(&place)?.iter().any(|name| name.starts_with('.')), "{:?}", names(&place)?);
    Ok(())
}
