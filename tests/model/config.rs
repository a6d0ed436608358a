//! Reading of published `config.json` and `generation_config.json` files. Unsupported values are refused with the file, the field, the value and the
//! supported ones.

use anyhow::{Context, Result, bail};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use ruminate::{
    Error, GenerationConfig, Layers, Norms, OuterNorms, Pairs, PostNorm, Rotary, Source, Spec, SpecialIds, Start, Steps,
};
use ruminate_tests::{Folder, golden_folder, golden_json, trial};
use serde_json::{Value, json};

/// The published config of `tiny` with one field changed; `None` removes it.
fn changed(field: &str, value: Option<Value>) -> Result<Value> {
    let mut config = golden_json("tiny", "config.json")?;
    let object = config.as_object_mut().context("config.json is not an object")?;
    match value {
        Some(value) => object.insert(field.to_owned(), value),
        None => object.remove(field),
    };
    Ok(config)
}

fn open(config: &Value) -> Result<Result<Spec, Error>> {
    let folder = Folder::new()?;
    folder.write("config.json", config.to_string())?;
    Ok(Spec::open(&folder.source()))
}

fn open_generation(config: &Value) -> Result<Result<GenerationConfig, Error>> {
    let folder = Folder::new()?;
    folder.write("generation_config.json", config.to_string())?;
    Ok(GenerationConfig::open(&folder.source()))
}

/// Asserts that the error names the field, with the value from the file.
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, name: &str, wrong: &Value) -> Result<()> {
    match result {
        Err(error @ Error::Unsupported { .. }) => {
            let message = error.to_string();
            for part in ["config.json", &format!("`{name}`"), &wrong.to_string(), "supported: "] {
                assert!(message.contains(part), "{part} is missing in: {message}");
            }
            Ok(())
        }
        other => bail!("{name} = {wrong}: {other:?}"),
    }
}

#[trial]
fn published_configs_are_read_completely() -> Result<()> {
    let tiny = Spec::open(&Source::dir(golden_folder("tiny"))?)?;
    let expected = Spec {
        architecture: "huginn",
        width: 64,
        heads: 4,
        kv_heads: 4,
        head_dim: 16,
        hidden: 96,
        vocab: 512,
        padded_vocab: 512,
        context: 256,
        layers: Layers { before: 1, core: 2, after: 1 },
        steps: Steps { default: 8, most_useful: None },
        start: Start::Drawn { std: 0.079_056_941_504_209_49 },
        adapter: true,
        norms: Norms { pre: true, post: PostNorm::Sum },
        outer_norms: OuterNorms { step: false, loop_end: true, head: true },
        norm_eps: 1e-6,
        qk_bias: true,
        qk_norm: false,
        rotary: Rotary { base: 50_000.0, pairs: Pairs::Adjacent, scaling: None },
        gate: false,
        tied_head: true,
        embed_scale: 8.0,
        special_ids: SpecialIds::Files,
        stops: &[],
        bos: None,
        eos: Vec::new(),
        pad: None,
        torch_dtype: Some("float32".to_owned()),
        notes: Vec::new(),
    };
    assert_eq!(tiny, expected);
    let odd = Spec::open(&Source::dir(golden_folder("odd"))?)?;
    assert_eq!((odd.width, odd.heads, odd.head_dim, odd.hidden), (130, 5, 26, 77));
    assert_eq!((odd.rotary.base, odd.norm_eps, odd.tied_head), (10_000.0, 1e-5, false));
    Ok(())
}

#[trial]
fn absent_fields_have_reference_defaults() -> Result<()> {
    let without = |field| open(&changed(field, None)?)?.with_context(|| format!("without {field}"));
    assert_eq!(without("num_key_value_heads")?.kv_heads, 4);
    assert_eq!(without("head_dim")?.head_dim, 16);
    assert_eq!(without("padded_vocab_size")?.padded_vocab, 512);
    let plain = without("init_values")?;
    assert_eq!(plain.start, Start::Drawn { std: (2.0_f64 / (5.0 * 64.0)).sqrt() });
    assert_eq!(plain.embed_scale, 8.0);
    Ok(())
}

#[trial]
fn both_head_count_fields_are_read_and_must_agree() -> Result<()> {
    let mut older = changed("n_heads", None)?;
    older["num_attention_heads"] = json!(4);
    assert_eq!(open(&older)??.heads, 4);
    assert_refused(open(&changed("num_attention_heads", Some(json!(2)))?)?, "num_attention_heads", &json!(2))?;
    assert_refused(open(&changed("tie_word_embeddings", Some(json!(false)))?)?, "tie_word_embeddings", &json!(false))
}

#[trial]
fn unsupported_values_are_refused_by_field() -> Result<()> {
    let cases = [
        ("model_type", json!("llama")),
        ("architectures", json!(["LlamaForCausalLM"])),
        ("injection_type", json!("add")),
        ("state_init", json!("zero")),
        ("nonlin_name", json!("GELU")),
        ("norm_class_name", json!("LayerNorm")),
        ("mlp_class_name", json!("BaseMLP")),
        ("block_class_name", json!("TransformerPreNormBlock")),
        ("bias", json!(true)),
        ("test_time_noise", json!(0.1)),
        ("rope_scaling", json!({"type": "linear"})),
        ("head_dim", json!(15)),
        ("head_dim", json!(256)),
        ("num_key_value_heads", json!(3)),
        // With grouped queries the stored bias has one row of heads for both q and k.
        ("num_key_value_heads", json!(2)),
        ("padded_vocab_size", json!(511)),
        ("init_values", json!([0.1])),
    ];
    for (field, wrong) in cases {
        assert_refused(open(&changed(field, Some(wrong.clone()))?)?, field, &wrong)?;
    }
    Ok(())
}

#[trial]
fn grouped_queries_without_bias_are_accepted() -> Result<()> {
    let mut grouped = changed("num_key_value_heads", Some(json!(2)))?;
    grouped["qk_bias"] = json!(false);
    assert_eq!(open(&grouped)??.kv_heads, 2);
    Ok(())
}

#[trial]
fn head_width_must_divide_the_model_width_unless_given() -> Result<()> {
    let mut uneven = changed("head_dim", None)?;
    uneven["n_embd"] = json!(66);
    let Err(refused) = open(&uneven)? else { bail!("a width of 66 is accepted") };
    assert!(matches!(refused, Error::Unsupported { field: "n_heads", .. }), "{refused:?}");
    assert!(refused.to_string().contains("a number that divides n_embd (66)"), "{refused}");
    Ok(())
}

#[trial]
fn missing_fields_are_named() -> Result<()> {
    let required = [
        "n_embd",
        "n_heads",
        "intermediate_size",
        "vocab_size",
        "n_layers_in_prelude",
        "n_layers_in_recurrent_block",
        "n_layers_in_coda",
        "mean_recurrence",
        "rope_base",
        "block_size",
        "norm_eps",
    ];
    for name in required {
        match open(&changed(name, None)?)? {
            Err(Error::Missing { field, .. }) => assert_eq!(field, name),
            other => bail!("without {name}: {other:?}"),
        }
    }
    Ok(())
}

#[trial]
fn invalid_sizes_are_refused() -> Result<()> {
    let sizes = [
        "n_embd",
        "n_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
        "vocab_size",
        "padded_vocab_size",
        "n_layers_in_recurrent_block",
        "mean_recurrence",
        "block_size",
    ];
    let wrong = [
        json!(0),
        json!(-4),
        json!(4.5),
        json!(1e30),
        json!(u64::MAX),
        json!(1_u64 << 32),
        json!("4"),
        json!([4]),
        json!(true),
    ];
    for field in sizes {
        for wrong in &wrong {
            assert_refused(open(&changed(field, Some(wrong.clone()))?)?, field, wrong)?;
        }
    }
    Ok(())
}

#[trial]
fn factors_beyond_f32_are_refused() -> Result<()> {
    for field in ["rope_base", "norm_eps"] {
        for wrong in [json!(0), json!(-1.0), json!(1e-60), json!(1e60), json!("1")] {
            assert_refused(open(&changed(field, Some(wrong.clone()))?)?, field, &wrong)?;
        }
    }
    assert_refused(open(&changed("init_values", Some(json!({"std": -1})))?)?, "std", &json!(-1))
}

#[trial]
fn broken_json_is_reported_with_file_line_and_column() -> Result<()> {
    for (text, place) in [
        ("{\n  \"n_embd\": 64,\n  oops\n}", "line 3 column 3"),
        ("", "line 1"),
        ("{\"rope_base\": 1e}", "line 1"),
        ("{\"norm_eps\": nan}", "line 1"),
    ] {
        let folder = Folder::new()?;
        folder.write("config.json", text)?;
        let error = Spec::open(&folder.source()).err().context(text)?;
        assert!(matches!(error, Error::Json { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("config.json") && message.contains(place), "{message}");
    }
    Ok(())
}

#[trial]
fn file_path_selects_its_folder_and_bad_paths_are_explained() -> Result<()> {
    let Source::Dir(found) = Source::dir(golden_folder("tiny").join("config.json"))? else { bail!("no folder") };
    assert_eq!(found, golden_folder("tiny"));
    let empty = Folder::new()?;
    for path in [empty.path().to_path_buf(), empty.path().join("nowhere")] {
        let error = Source::dir(&path).err().context("a folder without a model was accepted")?;
        assert!(matches!(error, Error::NoModel { .. }));
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    Ok(())
}

#[trial]
fn published_generation_defaults_are_read_and_optional() -> Result<()> {
    let tiny = GenerationConfig::open(&Source::dir(golden_folder("tiny"))?)?;
    let expected = GenerationConfig {
        do_sample: Some(true),
        temperature: Some(0.7),
        bos_token_id: Some(480),
        eos_token_ids: vec![481, 484],
        pad_token_id: Some(485),
        ..GenerationConfig::default()
    };
    assert_eq!(tiny, expected);
    assert_eq!(GenerationConfig::open(&Folder::new()?.source())?, GenerationConfig::default());
    let one =
        open_generation(&json!({"eos_token_id": 7, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "max_new_tokens": 10}))??;
    assert_eq!((one.eos_token_ids, one.top_k, one.max_new_tokens), (vec![7], Some(40), Some(10)));
    assert_eq!((one.top_p, one.min_p), (Some(0.9), Some(0.05)));
    Ok(())
}

#[trial]
fn out_of_range_generation_defaults_are_refused() -> Result<()> {
    let cases = [
        ("temperature", json!(-0.1)),
        ("temperature", json!("hot")),
        ("top_k", json!(-2)),
        ("top_k", json!(1.5)),
        ("top_p", json!(1.5)),
        ("min_p", json!(-0.5)),
        ("repetition_penalty", json!(0)),
        ("max_new_tokens", json!(0)),
        ("eos_token_id", json!("end")),
        ("eos_token_id", json!([1, -2])),
        ("do_sample", json!(1)),
    ];
    for (field, wrong) in cases {
        // Token ids are always used and so checked at once; other fields are checked where they are used.
        let opened = open_generation(&json!({ field: wrong }))?;
        let checked = opened.and_then(|config| config.check(field).map(|()| config));
        assert_refused(checked, field, &wrong)?;
    }
    Ok(())
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u32..70).prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        proptest::collection::vec((0_u32..9).prop_map(Value::from), 0..3).prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    /// With any values in two fields, opening returns a valid config or an error, and never panics.
    #[trial]
    fn field_values_never_panic(fields in proptest::collection::vec((0_usize..36, any_value()), 1..3)) {
        let mut config = golden_json("tiny", "config.json").unwrap();
        let object = config.as_object_mut().unwrap();
        let names: Vec<String> = object.keys().cloned().collect();
        for (index, value) in fields {
            object.insert(names[index % names.len()].clone(), value);
        }
        if let Ok(config) = open(&config).unwrap() {
            prop_assert!(config.heads % config.kv_heads == 0);
            prop_assert!(config.head_dim % 2 == 0 && (2..=128).contains(&config.head_dim));
            prop_assert!(config.padded_vocab >= config.vocab);
            prop_assert!(!config.tensors().is_empty());
        }
    }
}
