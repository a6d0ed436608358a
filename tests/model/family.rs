//! Properties of the model family: the architecture of a checkpoint, refused fields and tensors, and folded norms, which compute the same as plain ones.
//! tests/golden compares outputs with the authors' code.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ruminate::{
    Criterion, Device, Dtype, Error, Exit, GenerateOptions, LoadOptions, Model, Noise, NoiseKind, PostNorm, Sampling,
    Session, SessionOptions, Spec, Specials, State, Synthetic, TensorProblem, architectures,
};
use ruminate_tests::{Folder, compare, golden_folder, golden_json, trial};
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// A fixture for each kind of block.
const CHECKPOINTS: [&str; 5] = ["tiny", "ouro", "nanbeige", "retro_tinyllama", "retro_olmo"];

fn f32_model(name: &str, device: &Device) -> Result<Model> {
    let options = LoadOptions { dtype: Some(Dtype::F32), ..LoadOptions::default() };
    Ok(Model::open(&ruminate::Source::dir(golden_folder(name))?, device, options)?)
}

fn f32_session(model: &Model) -> Result<Session> {
    Ok(model.session(SessionOptions { kv_dtype: Dtype::F32, ..SessionOptions::default() })?)
}

/// A fixture with a changed `config.json`.
fn reconfigured(name: &str, change: impl FnOnce(&mut Value)) -> Result<Folder> {
    let folder = Folder::new()?;
    for entry in std::fs::read_dir(golden_folder(name))? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if !file.starts_with("expected") {
            folder.write(&file, std::fs::read(entry.path())?)?;
        }
    }
    let mut config = golden_json(name, "config.json")?;
    change(&mut config);
    folder.write("config.json", config.to_string())?;
    Ok(folder)
}

/// `ouro` with changed tensors: `keep` renames a tensor or leaves it out.
fn with_tensors(keep: impl Fn(&str) -> Option<String>) -> Result<Folder> {
    let folder = reconfigured("ouro", |_| ())?;
    let bytes = std::fs::read(golden_folder("ouro").join("model.safetensors"))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let kept = file.iter().filter_map(|(name, view)| Some((keep(name)?, view)));
    folder.write("model.safetensors", safetensors::serialize(kept, None)?)?;
    Ok(folder)
}

/// The tensor problems of a folder.
fn problems(folder: &Folder) -> Result<String> {
    match Model::open(&folder.source(), &Device::cpu(), LoadOptions::default()) {
        Err(Error::Tensors(problems)) => Ok(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        Err(other) => bail!("another error: {other}"),
        Ok(_) => bail!("the model was loaded"),
    }
}

#[trial]
fn fixtures_have_blocks_of_their_architecture() -> Result<()> {
    let found: Vec<_> = CHECKPOINTS
        .into_iter()
        .map(|name| {
            let spec = Spec::open(&ruminate::Source::dir(golden_folder(name))?)?;
            Ok((spec.architecture, spec.norms.pre, spec.norms.post, spec.qk_norm, spec.gate))
        })
        .collect::<Result<_>>()?;
    let expected = [
        ("huginn", true, PostNorm::Sum, false, false),
        ("ouro", true, PostNorm::Output, false, true),
        ("nanbeige", true, PostNorm::None, false, false),
        ("huginn", true, PostNorm::None, false, false),
        ("huginn", false, PostNorm::Output, true, false),
    ];
    assert_eq!(found, expected);
    assert_eq!(architectures(), ["huginn", "ouro", "nanbeige"]);
    Ok(())
}

/// Passes of few rows fold norms into matmuls, passes of many do not; compares the same tokens one by one and together.
#[trial(device, cpu)]
fn folded_norms_match_plain_norms(device: &Device) -> Result<()> {
    for name in CHECKPOINTS {
        let model = f32_model(name, device)?;
        let tokens: Vec<u32> = (1..=20).map(|i| i * 17 % model.spec().vocab).collect();
        let steps = model.spec().steps.default.min(4);
        let together = f32_session(&model)?.forward(&tokens, steps, State::Seeded, true)?;
        let mut session = f32_session(&model)?;
        let mut alone = Vec::new();
        for token in tokens.chunks(1) {
            alone.extend(session.forward(token, steps, State::Seeded, true)?);
        }
        compare(&alone, &together, 1e-4).with_context(|| name.to_owned())?;
    }
    Ok(())
}

#[trial]
fn unsupported_values_are_refused_by_field() -> Result<()> {
    let cases: [(&str, &str, Value); 30] = [
        ("ouro", "model_type", json!("looped_llama")),
        ("ouro", "layer_types", json!(["full_attention", "sliding_attention", "full_attention"])),
        ("ouro", "use_sliding_window", json!(true)),
        ("ouro", "hidden_act", json!("gelu")),
        ("ouro", "num_key_value_heads", json!(3)),
        ("ouro", "head_dim", json!(15)),
        ("ouro", "total_ut_steps", json!(0)),
        ("ouro", "rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
        ("ouro", "attention_bias", json!(true)),
        ("ouro", "partial_rotary_factor", json!(0.5)),
        ("ouro", "quantization_config", json!({"quant_method": "gptq"})),
        ("ouro", "rope_parameters", json!({"rope_theta": 1e6, "partial_rotary_factor": 0.5})),
        ("nanbeige", "architectures", json!(["LlamaForCausalLM"])),
        ("nanbeige", "mlp_bias", json!(true)),
        ("nanbeige", "num_loops", json!("two")),
        ("nanbeige", "loop_loss_weights", json!([0.5])),
        ("nanbeige", "enable_double_loop_split", json!(true)),
        ("nanbeige", "loop_share_kv", json!(true)),
        ("nanbeige", "enable_mhc", json!(true)),
        ("nanbeige", "enable_depth_attention", json!(true)),
        ("nanbeige", "emb_neighbor_num", json!(2)),
        ("nanbeige", "qk_layernorm", json!(true)),
        ("nanbeige", "sliding_window", json!(4096)),
        ("retro_tinyllama", "injection_type", json!("add")),
        ("retro_tinyllama", "rope_scaling", json!({"type": "linear", "factor": 2.0})),
        ("retro_tinyllama", "max_position_embeddings", json!(-1)),
        ("retro_tinyllama", "sliding_window", json!(128)),
        ("retro_tinyllama", "layer_types", json!(["sliding_attention"])),
        ("retro_tinyllama", "quantization_config", json!({"quant_method": "awq"})),
        ("retro_tinyllama", "rope_scaling", json!({"rope_type": "default", "partial_rotary_factor": 0.5})),
    ];
    for (name, field, value) in cases {
        let folder = reconfigured(name, |config| config[field] = value.clone())?;
        let error = Spec::open(&folder.source()).err().with_context(|| format!("{field} = {value} was accepted"))?;
        let message = error.to_string();
        ensure!(message.contains("config.json") && message.contains("supported"), "{message}");
        let named = match field {
            "rope_scaling" | "rope_parameters" if value.get("partial_rotary_factor").is_some() => {
                "partial_rotary_factor"
            }
            "rope_scaling" => "type",
            _ => field,
        };
        ensure!(message.contains(named), "the error does not name {field}: {message}");
    }
    Ok(())
}

/// `use_sliding_window` is false in Ouro's configuration.
#[trial]
fn unused_sliding_window_is_accepted() -> Result<()> {
    let folder = reconfigured("ouro", |config| config["sliding_window"] = json!(4096))?;
    Spec::open(&folder.source())?;
    Ok(())
}

#[trial]
fn missing_or_swapped_tensors_are_named() -> Result<()> {
    let second = "model.layers.1.input_layernorm_2.weight";
    let swapped = with_tensors(|name| {
        Some(if name == second { name.replace("layernorm_2", "layernorm_b") } else { name.to_owned() })
    })?;
    let found = problems(&swapped)?;
    ensure!(found.contains(second) && found.contains("input_layernorm_b"), "{found}");
    let half = with_tensors(|name| {
        (!name.ends_with("k_proj.weight") && !name.contains("0.self_attn.v_proj")).then(|| name.to_owned())
    })?;
    let found = problems(&half)?;
    ensure!(found.contains("model.layers.0.self_attn.k_proj.weight"), "{found}");
    ensure!(found.contains("model.layers.0.self_attn.v_proj.weight"), "{found}");
    let narrow = reconfigured("ouro", |config| config["num_key_value_heads"] = json!(2))?;
    let found = problems(&narrow)?;
    ensure!(found.contains("k_proj.weight") && found.contains("[32, 64]"), "{found}");
    Ok(())
}

#[trial]
fn model_without_gate_refuses_only_gate_exits() -> Result<()> {
    let folder = with_tensors(|name| (!name.contains("early_exit_gate")).then(|| name.to_owned()))?;
    let model = Model::open(&folder.source(), &Device::cpu(), LoadOptions::default())?;
    let mut session = model.session(SessionOptions::default())?;
    ensure!(!session.forward(&[5, 6], 4, State::Seeded, false)?.is_empty());
    let gate = GenerateOptions { exit: Some(Exit::new(Criterion::Gate)), ..GenerateOptions::default() };
    let error = session.generate(&[5, 6][..], &gate).err().context("a gate exit was accepted")?;
    ensure!(error.to_string().contains("gate"), "{error}");
    Ok(())
}

/// Ouro's chat format ends turns with a token that its configuration does not name, and retrofitted configurations name Huginn's end tokens.
#[trial]
fn end_tokens_come_from_tokenizer() -> Result<()> {
    let eos = |name: &str| -> Result<Vec<u32>> { Ok(f32_model(name, &Device::cpu())?.tokenizer().eos().to_vec()) };
    assert_eq!(eos("ouro")?, [0, 2]);
    assert_eq!(eos("retro_tinyllama")?, [1, 2]);
    ensure!(!eos("retro_olmo")?.contains(&65_505));
    Ok(())
}

/// Text that continues other text does not get SentencePiece's leading blank.
#[trial]
fn continued_text_gets_no_leading_blank() -> Result<()> {
    let model = f32_model("nanbeige", &Device::cpu())?;
    let tokenizer = model.tokenizer();
    let ids = |text: &str, specials| tokenizer.encode(text, specials);
    let (blank, plain) = (ids(" the", Specials::Continue)?, ids("the", Specials::Continue)?);
    ensure!(blank.len() == 1 && plain.len() == 1 && blank != plain, "{blank:?}, {plain:?}");
    assert_eq!(ids("the", Specials::None)?, blank);
    assert_eq!(tokenizer.stream(true).push(blank[0]), " the");
    Ok(())
}

#[trial]
fn exit_rules_roundtrip_as_text() -> Result<()> {
    for text in ["gate", "gate=0.5", "gate,posthoc", "gate+posthoc", "gate=0.5,posthoc"] {
        let exit: Exit = text.parse().map_err(anyhow::Error::msg)?;
        ensure!(exit.posthoc == text.ends_with("posthoc") && exit.criterion == Criterion::Gate, "{text}");
        assert_eq!(exit.to_string().parse::<Exit>().map_err(anyhow::Error::msg)?, exit);
    }
    let wrong: Exit = "kl,posthoc".parse().map_err(anyhow::Error::msg)?;
    ensure!(
        wrong.validate(f32_model("ouro", &Device::cpu())?.spec()).is_err(),
        "`posthoc` was accepted without the gate"
    );
    Ok(())
}

/// The notes of a config name fields that have no effect without an option.
#[trial]
fn early_exits_in_config_are_noted() -> Result<()> {
    let folder = reconfigured("ouro", |config| config["early_exit_threshold"] = json!(0.5))?;
    let notes = Spec::open(&folder.source())?.notes;
    ensure!(
        notes.len() == 1 && notes[0].contains("early_exit_threshold to 0.5") && notes[0].contains("`gate`"),
        "{notes:?}"
    );
    let folder = reconfigured("ouro", |config| config["early_exit_step"] = json!(2))?;
    let notes = Spec::open(&folder.source())?.notes;
    ensure!(
        notes.len() == 1 && notes[0].contains("early_exit_step to 2") && notes[0].contains("steps to 3"),
        "{notes:?}"
    );
    ensure!(Spec::open(&reconfigured("ouro", |_| ())?.source())?.notes.is_empty());
    Ok(())
}

#[trial]
fn noise_and_diffusion_need_random_initial_states() -> Result<()> {
    let model = f32_model("ouro", &Device::cpu())?;
    let mut session = f32_session(&model)?;
    let noisy = GenerateOptions { noise: Some(Noise::new(NoiseKind::Fixed, 0.1)), ..GenerateOptions::default() };
    let error = session.generate(&[5][..], &noisy).err().context("noise was accepted")?;
    ensure!(error.to_string().contains("noise"), "{error}");
    let diffusion = GenerateOptions { diffusion: Some(ruminate::Diffusion::default()), ..GenerateOptions::default() };
    ensure!(session.generate(&[5][..], &diffusion).is_err(), "diffusion was accepted");
    Ok(())
}

/// Speculation, pipelining and batches generate the tokens of plain decoding.
#[trial(device, cpu, full)]
fn policies_generate_same_tokens_as_plain_decoding(device: &Device) -> Result<()> {
    for name in CHECKPOINTS {
        let model = f32_model(name, device)?;
        let steps = model.spec().steps.default;
        let prompt: Vec<u32> = (3..12).map(|i| i * 29 % model.spec().vocab).collect();
        let options = GenerateOptions {
            steps: Some(steps),
            max_tokens: Some(12),
            sampling: Sampling::GREEDY,
            end_tokens: Some(Vec::new()),
            ..GenerateOptions::default()
        };
        let invariant = SessionOptions { invariant: true, kv_dtype: Dtype::F32, ..SessionOptions::default() };
        let tokens = |options: &GenerateOptions| -> Result<Vec<u32>> {
            let mut session = model.session(invariant.clone())?;
            Ok(session.generate(&prompt[..], options)?.map(|piece| Ok(piece?.token)).collect::<Result<_, Error>>()?)
        };
        let plain = tokens(&options)?;
        let drafts = GenerateOptions { speculate: Some(ruminate::Speculate::default()), ..options.clone() };
        assert_eq!(tokens(&drafts)?, plain, "{name}: speculation");
        let pipelined = GenerateOptions { pipeline: Some(ruminate::Pipeline::default()), ..options.clone() };
        assert_eq!(tokens(&pipelined)?, plain, "{name}: pipelining");
    }
    Ok(())
}

/// Parameter counts of the published models, and for Ouro the number of tensors in its published files.
#[trial]
fn published_shapes_have_published_sizes() -> Result<()> {
    for (name, billions, tensors) in [
        ("huginn-0125", 3.91, None),
        ("ouro-1.4b", 1.43, Some(269)),
        ("ouro-2.6b", 2.67, Some(533)),
        ("nanbeige4.2-3b", 4.18, None),
        ("recurrent-llama-3.2-1b", 1.39, None),
    ] {
        let model = Synthetic::parse(name)?;
        let parameters: usize = model.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        let found = parameters as f64 / 1e9;
        ensure!((found - billions).abs() < 0.02, "{name} has {found:.3} billion parameters");
        if let Some(tensors) = tensors {
            assert_eq!(model.tensors().len(), tensors, "{name}");
        }
    }
    Ok(())
}

/// Only the architecture files name tensors and architectures.
#[trial]
fn only_architecture_files_name_tensors() -> Result<()> {
    let words = [
        "transformer.",
        "lm_head",
        "core_block",
        "wte.",
        "model.layers",
        "embed_tokens",
        "self_attn",
        "huginn_raven",
        "RavenFor",
        "OuroFor",
        "NanbeigeFor",
        "freqs_cis",
        "early_exit_gate",
        "\"ouro",
        "\"nanbeige",
        "\"huginn\"",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("tests is not in the workspace")?;
    let mut found = Vec::new();
    let mut folders: Vec<_> = ["shaders", "engine", "model", "cli"].map(|name| root.join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("model/arch") && !path.ends_with("model/examples") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)?;
                let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
                let named = code.filter(|(_, line)| words.iter().any(|word| line.contains(word)));
                found.extend(named.map(|(at, line)| format!("{}:{}: {}", path.display(), at + 1, line.trim())));
            }
        }
    }
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

/// The error for a missing tensor names it.
#[trial]
fn missing_head_is_named() -> Result<()> {
    let folder = with_tensors(|name| (name != "lm_head.weight").then(|| name.to_owned()))?;
    match Model::open(&folder.source(), &Device::cpu(), LoadOptions::default()).err() {
        Some(Error::Tensors(problems)) => {
            let missing =
                |it: &TensorProblem| matches!(it, TensorProblem::Missing { name, .. } if name == "lm_head.weight");
            ensure!(problems.iter().any(missing), "{problems:?}");
            Ok(())
        }
        other => bail!("{other:?}"),
    }
}
