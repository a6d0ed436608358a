//! Quantized files: they load bit for bit like weights that are rounded during loading, damage is explained, and an incomplete conversion leaves no
//! files.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ruminate::{
    Checkpoint, Device, Dtype, Error, Group, LoadOptions, Model, Precision, QuantizeOptions, Quantized,
    SafetensorsProblem, SessionOptions, Source, State, Synthetic, demo, quantize,
};
use ruminate_tests::demo_files::{Parts, with_weights};
use ruminate_tests::{Folder, golden_folder, safetensors_file, trial};
use serde_json::{Value, json};

const WEIGHTS: &str = "model.safetensors";
const CORE: &str = "transformer.core_block.0.mlp.fc.weight";
const MIXED: &str = "q4,adapter=bf16,embedding=q8,coda=q4_1";

fn precision(text: &str) -> Result<Precision> {
    text.parse().map_err(anyhow::Error::msg)
}

/// Quantizes into a new folder.
fn written(source: &Source, text: &str, shard_bytes: u64) -> Result<(Folder, Quantized)> {
    let folder = Folder::new()?;
    let asked = QuantizeOptions { precision: precision(text)?, shard_bytes, ..QuantizeOptions::default() };
    let done = quantize(source, folder.path(), asked)?;
    Ok((folder, done))
}

fn load(source: &Source, device: &Device, text: &str) -> Result<Model> {
    let Precision { dtype, keep, products } = if text.is_empty() { Precision::default() } else { precision(text)? };
    Ok(Model::open(source, device, LoadOptions { dtype, keep, products, ..LoadOptions::default() })?)
}

/// The bits of the logits of a prompt and of a following row.
fn logits(model: &Model) -> Result<Vec<u32>> {
    let mut session = model.session(SessionOptions { seed: 5, context: Some(32), ..SessionOptions::default() })?;
    let tokens: Vec<u32> = (1..12).collect();
    let mut all = session.forward(&tokens, 3, State::Seeded, true)?;
    all.extend(session.forward(&[7], 2, State::Seeded, true)?);
    ensure!(all.iter().all(|logit| logit.is_finite()));
    Ok(all.into_iter().map(f32::to_bits).collect())
}

#[trial(device, limited, cpu, full)]
fn quantized_files_match_rounding_during_loading(device: &Device) -> Result<()> {
    // The synthetic model: halves of the adapter share blocks, blocks are not full, their number is odd, and rows are shorter than a group.
    let odd = "n_embd=40,heads=2,head_dim=20,hidden=56,vocab=300,layers=1/1/1,block_size=64,tie_embeddings=false";
    let sources = [
        ("tiny", Source::dir(golden_folder("tiny"))?),
        ("odd", Source::dir(golden_folder("odd"))?),
        ("block_bf16", Source::dir(golden_folder("block_bf16"))?),
        ("demo", demo::source()),
        ("synthetic", Synthetic::parse(odd)?.source()),
    ];
    for (name, source) in sources {
        for text in ["q8", "q4", "q4_1", MIXED] {
            let case = || format!("{name} in {text}");
            let (folder, _) = written(&source, text, if text == "q8" { 20_000 } else { u64::MAX })?;
            let shards = folder.path().join("model.safetensors.index.json").exists();
            ensure!(shards == (text == "q8"), "{}: has an index: {shards}", case());
            let rounded = load(&source, device, text).with_context(case)?;
            let stored = load(&folder.source(), device, "").with_context(case)?;
            ensure!(stored.dtypes() == rounded.dtypes(), "{}: {}", case(), stored.dtypes());
            ensure!(stored.weight_bytes() == rounded.weight_bytes(), "{}", case());
            ensure!(stored.bytes_per_token(4) == rounded.bytes_per_token(4), "{}", case());
            ensure!(logits(&stored)? == logits(&rounded)?, "{}: the logits differ", case());
            // Naming the precision of the file is accepted.
            load(&folder.source(), device, text).with_context(case)?;
        }
    }
    Ok(())
}

/// The header and data of a weight file.
fn apart(folder: &Path) -> Result<(Value, Vec<u8>)> {
    let file = std::fs::read(folder.join(WEIGHTS))?;
    let length = usize::try_from(u64::from_le_bytes(file[..8].try_into()?))?;
    Ok((serde_json::from_slice(&file[8..8 + length])?, file[8 + length..].to_vec()))
}

/// Any safetensors reader can read the files and compute the weights by the formula of the format.
#[trial(full)]
fn quantized_files_are_plain_safetensors() -> Result<()> {
    let checkpoint = Checkpoint::open(&demo::source(), &|_| false)?;
    for text in ["q8", "q4", "q4_1"] {
        let (folder, done) = written(&demo::source(), text, u64::MAX)?;
        let bits = match text {
            "q8" => 8.5,
            "q4" => 4.5,
            _ => 5.0,
        };
        ensure!((done.bits_per_weight() - bits).abs() < 1e-9, "{done:?}");
        let file = std::fs::read(folder.path().join(WEIGHTS))?;
        let found = safetensors::SafeTensors::deserialize(&file)?;
        ensure!(!found.names().iter().any(|name| name.starts_with("lm_head")), "a tied head was written");
        let (header, _) = apart(folder.path())?;
        let said = &header["__metadata__"];
        ensure!(said["format"] == "ruminate" && said["version"] == "1", "{said}");
        ensure!(said[CORE].as_str().is_some_and(|it| it.contains(&format!("\"dtype\":\"{text}\""))), "{said}");
        for name in ["freqs_cis", "transformer.ln_f.weight", "transformer.core_block.0.attn.qk_bias"] {
            let (stored, original) = (found.tensor(name)?, checkpoint.required(name)?);
            ensure!(stored.data() == original.bytes()?, "{name} was changed");
        }
        let original = checkpoint.required(CORE)?;
        let [n, k] = original.shape[..] else { anyhow::bail!("{CORE} is not a matrix") };
        let mut values = vec![0.0; n * k];
        original.decode(0, &mut values)?;
        let numbers = found.tensor(&format!("{CORE}.{text}"))?;
        let halves = |suffix: &str| -> Result<Vec<f32>> {
            let tensor = found.tensor(&format!("{CORE}.{suffix}"))?;
            ensure!(tensor.shape() == [n, k / 32]);
            let halves = tensor.data().as_chunks::<2>().0;
            Ok(halves.iter().map(|&half| half::f16::from_le_bytes(half).to_f32() / 4096.0).collect())
        };
        let scales = halves("scale")?;
        let minima = if text == "q4_1" { halves("min")? } else { vec![0.0; scales.len()] };
        for (i, value) in values.iter().enumerate() {
            let nibble = || f32::from(numbers.data()[i / 2] >> (i % 2 * 4) & 15);
            let number = match text {
                "q8" => f32::from(numbers.data()[i].cast_signed()),
                "q4" => nibble() - 8.0,
                _ => nibble(),
            };
            let (scale, minimum) = (scales[i / 32], minima[i / 32]);
            let error = (number * scale + minimum - value).abs();
            // The largest value of a q4 block can be one step beyond 7.
            let most = if text == "q4" { 1.01 } else { 0.51 };
            ensure!(error <= most * scale.abs(), "{text}: value {i} is {value}, found {number} · {scale} + {minimum}");
        }
    }
    Ok(())
}

#[trial(full)]
fn quantized_files_refuse_other_precisions() -> Result<()> {
    let (folder, _) = written(&demo::source(), "q4,adapter=bf16", u64::MAX)?;
    for text in ["bf16", "q8", "q4", "adapter=q4"] {
        let error = load(&folder.source(), &Device::cpu(), text).err().context(text)?;
        let found = error.downcast_ref::<Error>();
        ensure!(matches!(found, Some(Error::Requantize { .. })), "{text}: {error}");
        let message = error.to_string();
        ensure!(message.contains("q4,adapter=bf16") && message.contains("quantize it again"), "{message}");
    }
    let error = load(&demo::source(), &Device::cpu(), "q4,head=q8")
        .err()
        .context("another dtype for a tied head was accepted")?;
    ensure!(error.to_string().contains("embedding"), "{error}");
    Ok(())
}

/// Damages a quantized demo and returns the error of loading it.
fn damaged(change: impl FnOnce(&mut Value, &mut Vec<u8>)) -> Result<Error> {
    let (folder, _) = written(&demo::source(), "q4", u64::MAX)?;
    let (mut header, mut data) = apart(folder.path())?;
    change(&mut header, &mut data);
    folder.write(WEIGHTS, safetensors_file(&header.to_string(), &data))?;
    let error = load(&folder.source(), &Device::cpu(), "").err().context("the file was accepted")?;
    let error = error.downcast::<Error>()?;
    ensure!(error.to_string().contains(WEIGHTS), "the error names no file: {error}");
    Ok(error)
}

fn problem(error: Error) -> Result<SafetensorsProblem> {
    match error {
        Error::Safetensors { problem, .. } => Ok(problem),
        other => Err(other.into()),
    }
}

#[trial(full)]
fn damaged_quantized_files_are_explained() -> Result<()> {
    let found = problem(damaged(|_, data| data.truncate(data.len() - 9))?)?;
    ensure!(matches!(found, SafetensorsProblem::Truncated { .. }), "{found:?}");
    let found = problem(damaged(|header, _| header["__metadata__"]["version"] = json!("2"))?)?;
    ensure!(found == SafetensorsProblem::Version { found: "2".to_owned() });
    let descriptions = [
        "no JSON",
        "{}",
        r#"{"dtype":"q5","shape":[384,96],"halves":1}"#,
        r#"{"dtype":"bf16","shape":[384,96],"halves":1}"#,
        r#"{"dtype":"q4","shape":[384,0],"halves":1}"#,
        r#"{"dtype":"q4","shape":[4294967295,4294967295],"halves":2}"#,
        r#"{"dtype":"q4","shape":[384,96],"halves":0}"#,
        r#"{"dtype":"q4","shape":[384,97],"halves":2}"#,
        r#"{"dtype":"q4","shape":[-1,96],"halves":1}"#,
    ];
    for text in descriptions {
        let found = problem(damaged(|header, _| header["__metadata__"][CORE] = json!(text))?)?;
        ensure!(matches!(&found, SafetensorsProblem::Described { tensor, .. } if tensor == CORE), "{text}: {found:?}");
    }
    // A part with another shape (the error names both), with another format, and a missing one.
    let part = format!("{CORE}.q4");
    let error = damaged(|header, _| header[&part]["shape"] = json!([48, 384]))?.to_string();
    ensure!(error.contains(&part) && error.contains("[48, 384]") && error.contains("[384, 48]"), "{error}");
    let found = problem(damaged(|header, _| header[&part]["dtype"] = json!("I8"))?)?;
    ensure!(matches!(found, SafetensorsProblem::Part { .. }), "{found:?}");
    let renamed = |header: &mut Value, _: &mut Vec<u8>| {
        let scale = format!("{CORE}.scale");
        header["other"] = header[&scale].take();
        header.as_object_mut().map(|header| header.remove(&scale));
    };
    let error = damaged(renamed)?.to_string();
    ensure!(error.contains("scale") && error.contains("missing"), "{error}");
    // A matrix without description, a file without metadata, and a shape that differs from the config's.
    let undescribed = damaged(|header, _| drop(header["__metadata__"].as_object_mut().map(|it| it.remove(CORE))))?;
    let without_metadata = damaged(|header, _| drop(header["__metadata__"].take()))?;
    for error in [undescribed, without_metadata] {
        let missing = format!("{CORE} is missing");
        ensure!(matches!(error, Error::Tensors(_)) && error.to_string().contains(&missing), "{error}");
    }
    let shape = r#"{"dtype":"q4","shape":[384,95],"halves":1}"#;
    let error = damaged(|header, _| header["__metadata__"][CORE] = json!(shape))?;
    ensure!(matches!(error, Error::Tensors(_)) && error.to_string().contains("[384, 96]"), "{error}");
    // A description with one half for the adapter, which has two.
    let adapter = "transformer.adapter.weight";
    let halves = r#"{"dtype":"q4","shape":[96,192],"halves":1}"#;
    let (folder, _) = written(&demo::source(), "q4", u64::MAX)?;
    let (mut header, data) = apart(folder.path())?;
    header["__metadata__"][adapter] = json!(halves);
    folder.write(WEIGHTS, safetensors_file(&header.to_string(), &data))?;
    // A half of 96 values is whole blocks, so both descriptions have the same layout.
    load(&folder.source(), &Device::cpu(), "")?;
    Ok(())
}

#[trial(full)]
fn nan_scale_is_refused_with_its_place() -> Result<()> {
    let (folder, _) = written(&demo::source(), "q8", u64::MAX)?;
    let (header, mut data) = apart(folder.path())?;
    let start = header[format!("{CORE}.scale")]["data_offsets"][0].as_u64().context("an offset")? as usize;
    // Row 200 of 384, in the `up` half; the second of three blocks.
    let at = start + (200 * 3 + 1) * 2;
    data[at..at + 2].copy_from_slice(&half::f16::NAN.to_le_bytes());
    folder.write(WEIGHTS, safetensors_file(&header.to_string(), &data))?;
    let error = load(&folder.source(), &Device::cpu(), "").err().context("it was accepted")?.downcast::<Error>()?;
    let message = error.to_string();
    ensure!(matches!(error, Error::Weight { row: 200, column: 32, .. }) && message.contains(CORE), "{message}");
    Ok(())
}

#[trial(full)]
fn stopped_quantization_leaves_no_files() -> Result<()> {
    let folder = Folder::new()?;
    let inner = folder.path().join("new");
    for most in [0, 100_000, 300_000] {
        let mut progress = |done, _| done <= most;
        let asked =
            QuantizeOptions { shard_bytes: 100_000, progress: Some(&mut progress), ..QuantizeOptions::default() };
        let error = quantize(&demo::source(), &inner, asked).err().context("the quantization was not cancelled")?;
        ensure!(matches!(error, Error::Cancelled) && !inner.exists(), "{error}");
    }
    // A weight that cannot be rounded, in a folder that exists already.
    let mut parts = Parts::demo()?;
    parts.bytes("transformer.coda.0.mlp.proj.weight")?[..2].copy_from_slice(&half::bf16::INFINITY.to_le_bytes());
    let broken = with_weights(&parts.file())?;
    let error = quantize(&broken.source(), folder.path(), QuantizeOptions::default())
        .err()
        .context("an infinite weight was accepted")?;
    ensure!(matches!(error, Error::Weight { row: 0, column: 0, .. }), "{error}");
    ensure!(std::fs::read_dir(folder.path())?.next().is_none(), "files are left");
    Ok(())
}

#[trial(full)]
fn existing_folder_is_overwritten_only_by_force() -> Result<()> {
    let (folder, _) = written(&demo::source(), "q8", 100_000)?;
    folder.write("notes.txt", "mine")?;
    let again = |force| {
        let asked = QuantizeOptions { precision: Dtype::Q4.into(), force, ..QuantizeOptions::default() };
        quantize(&demo::source(), folder.path(), asked)
    };
    let error = again(false).err().context("the folder was overwritten")?;
    ensure!(matches!(error, Error::Folder { .. }) && error.to_string().contains("(force)"), "{error}");
    again(true)?;
    let mut left: Vec<String> = std::fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    left.retain(|name| name.contains("safetensors") || name.contains("notes") || name.starts_with('.'));
    left.sort();
    ensure!(left == [WEIGHTS, "notes.txt"], "{left:?}");
    ensure!(load(&folder.source(), &Device::cpu(), "")?.dtype() == Dtype::Q4);
    // The source folder and files are never overwritten, even with `force`.
    let tiny = Source::dir(golden_folder("tiny"))?;
    let asked = || QuantizeOptions { force: true, ..QuantizeOptions::default() };
    let error = quantize(&tiny, &golden_folder("tiny"), asked()).err().context("the source folder was overwritten")?;
    ensure!(error.to_string().contains("holds the model that is read"), "{error}");
    let error = quantize(&tiny, &folder.path().join("notes.txt"), asked())
        .err()
        .context("a file was accepted as output folder")?;
    ensure!(error.to_string().contains("is a file"), "{error}");
    Ok(())
}

#[trial(full)]
fn quantized_sources_and_float_targets_are_refused() -> Result<()> {
    let (folder, _) = written(&demo::source(), "q8", u64::MAX)?;
    let error = written(&folder.source(), "q4", u64::MAX).err().context("a quantized source was accepted")?;
    ensure!(error.to_string().contains("already quantized, in q8"), "{error}");
    let error = written(&demo::source(), "bf16", u64::MAX).err().context("bf16 was accepted as target")?;
    ensure!(error.to_string().contains("dtype is bf16"), "{error}");
    Ok(())
}

#[trial(full)]
fn precisions_roundtrip_as_text() -> Result<()> {
    let mixed = precision(" q4 , adapter=bf16,embedding=q8 ")?;
    let keep = vec![(Group::Adapter, Dtype::Bf16), (Group::Embedding, Dtype::Q8)];
    ensure!(mixed == Precision { dtype: Some(Dtype::Q4), keep, ..Precision::default() });
    ensure!(precision("core=q8")?.dtype.is_none());
    for (text, words) in [
        ("q5", "unknown dtype `q5` (expected f32, f16, bf16, q8, q4 or q4_1)"),
        ("", "unknown dtype ``"),
        ("q4,", "unknown dtype ``"),
        ("q4,q8", "two dtypes, q4 and `q8`, for the same groups"),
        (
            "q4,attention=q8",
            "unknown group of matrices `attention` (expected embedding, head, adapter, prelude, core, coda or products)",
        ),
        ("q4,coda=8", "unknown dtype `8`"),
        ("coda=q8,coda=q4", "`coda` is given twice"),
        ("q8,products=int4", "unknown arithmetic mode `int4` (expected f32, f16, int8 or cooperative)"),
        ("products=f16,products=int8", "`products` is given twice"),
    ] {
        let error = precision(text).err().context(text)?.to_string();
        ensure!(error.contains(words), "{text}: {error}");
    }
    let config = ruminate::Spec::open(&demo::source())?;
    for text in ["q4,embedding=q8,adapter=bf16", "bf16,core=q4", "q8", "q8,products=int8", "bf16,products=f16"] {
        let dtypes = precision(text)?.dtypes(&config)?;
        ensure!(dtypes.to_string() == text, "{text}: {dtypes}");
        ensure!(precision(&dtypes.to_string())?.dtypes(&config)? == dtypes);
    }
    let bytes = |text: &str| -> Result<u64> { Ok(config.weight_bytes(precision(text)?.dtypes(&config)?)) };
    ensure!(bytes("q4")? < bytes("q4,coda=q8")? && bytes("q4,coda=q8")? < bytes("q8")?);
    let read = |text: &str| -> Result<u64> {
        Ok(config.weight_bytes_per_token(precision(text)?.dtypes(&config)?, 9)
            - config.weight_bytes_per_token(Dtype::Q4, 9))
    };
    // Every step reads the adapter: 192 bytes instead of 54 for 96 of its weights.
    ensure!(read("q4,adapter=bf16")? == 9 * 2 * 96 * (192 - 54), "{}", read("q4,adapter=bf16")?);
    Ok(())
}
