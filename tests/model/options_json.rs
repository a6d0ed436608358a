//! Options as JSON: they roundtrip, absent fields have their defaults, and unknown ones are errors.

use anyhow::{Result, ensure};
use ruminate::{
    Arithmetic, Continuous, Criterion, Diffusion, Dry, Dtype, Exit, FreezeRule, GenerateOptions, Group, KvShare,
    Lookup, Noise, NoiseKind, Pipeline, Precision, PrefillExit, Sampling, SessionOptions, Speculate,
};
use ruminate_tests::trial;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Fails unless the field is serialized as expected and the value roundtrips.
fn holds<T: Serialize + DeserializeOwned>(value: &T, field: &str, expected: &Value) -> Result<()> {
    let written = serde_json::to_value(value)?;
    ensure!(written[field] == *expected, "{field} is serialized as {}, not {expected}", written[field]);
    let again = serde_json::to_value(serde_json::from_value::<T>(written.clone())?)?;
    ensure!(again == written, "{written} is deserialized as {again}");
    Ok(())
}

#[trial]
fn options_roundtrip_as_json() -> Result<()> {
    let usual = GenerateOptions::default;
    let exit = Exit { min_steps: 4, prefill: PrefillExit::Together, ..Exit::new(Criterion::MinPKl) };
    let as_json = json!({"criterion": "minp-kl", "threshold": exit.threshold, "min_steps": 4, "every": 1, "prefill": "together", "posthoc": false});
    holds(&GenerateOptions { exit: Some(exit), ..usual() }, "exit", &as_json)?;
    let speculate = Speculate { draft_steps: Some(2), draft_len: 3, threshold: 0.5 };
    let as_json = json!({"draft_steps": 2, "draft_len": 3, "threshold": 0.5});
    holds(&GenerateOptions { speculate: Some(speculate), ..usual() }, "speculate", &as_json)?;
    holds(
        &GenerateOptions { pipeline: Some(Pipeline { every: Some(4) }), ..usual() },
        "pipeline",
        &json!({"every": 4}),
    )?;
    let noise = Some(Noise::new(NoiseKind::Geom, 0.5));
    holds(&GenerateOptions { noise, ..usual() }, "noise", &json!({"kind": "geom", "scale": 0.5, "renorm": true}))?;
    holds(&GenerateOptions { continuous: Some(Continuous::Normed), ..usual() }, "continuous", &json!("normed"))?;
    let logit_bias = vec![(3, 1.5), (4, f32::NEG_INFINITY), (5, f32::INFINITY)];
    let as_json = json!([[3, 1.5], [4, "-inf"], [5, "inf"]]);
    holds(&GenerateOptions { logit_bias, ..usual() }, "logit_bias", &as_json)?;
    let sampling = Sampling { temperature: 0.5, dry: Dry::ON, ..Sampling::default() };
    let written = serde_json::to_value(GenerateOptions { sampling, ..usual() })?;
    ensure!(serde_json::from_value::<GenerateOptions>(written)?.sampling == sampling);
    let diffusion = Diffusion { headway: 2, ..Diffusion::default() };
    let written = serde_json::to_value(GenerateOptions { diffusion: Some(diffusion.clone()), ..usual() })?;
    ensure!(serde_json::from_value::<GenerateOptions>(written)?.diffusion == Some(diffusion));

    let session = || SessionOptions { context: Some(64), ..SessionOptions::default() };
    holds(&SessionOptions { share: KvShare::Steps(4), ..session() }, "kv_share", &json!({"steps": 4}))?;
    holds(&SessionOptions { share: KvShare::Anchor, ..session() }, "kv_share", &json!("anchor"))?;
    holds(&SessionOptions { lookup: Lookup::AlwaysLast, ..session() }, "kv_lookup", &json!("always-last"))?;
    holds(&SessionOptions { seed: u64::MAX, ..session() }, "seed", &json!(u64::MAX))?;
    let precision =
        Precision { dtype: Some(Dtype::Q4Min), keep: vec![(Group::Core, Dtype::Q8)], ..Precision::default() };
    holds(&precision, "dtype", &json!("q4_1"))?;
    holds(&precision, "keep", &json!([["core", "q8"]]))
}

#[trial]
fn absent_fields_have_defaults() -> Result<()> {
    let read: GenerateOptions = serde_json::from_value(json!({}))?;
    ensure!(serde_json::to_value(&read)? == serde_json::to_value(GenerateOptions::default())?);
    let read: SessionOptions = serde_json::from_value(json!({"seed": 5}))?;
    let expected = SessionOptions { seed: 5, ..SessionOptions::default() };
    ensure!(serde_json::to_value(read)? == serde_json::to_value(expected)?);
    for criterion in Criterion::ALL {
        let read: Exit = serde_json::from_value(json!({"criterion": criterion.name()}))?;
        ensure!(read == Exit::new(criterion), "{read:?}");
    }
    ensure!(serde_json::from_value::<Speculate>(json!({}))? == Speculate::default());
    Ok(())
}

/// The names in JSON equal those of `name()`, which the command line uses.
#[trial]
fn json_names_match_name_methods() -> Result<()> {
    fn same<T: Serialize + DeserializeOwned + PartialEq + Copy>(all: &[T], name: fn(T) -> &'static str) -> Result<()> {
        for &value in all {
            ensure!(serde_json::to_value(value)? == json!(name(value)), "{}", name(value));
            ensure!(serde_json::from_value::<T>(json!(name(value)))? == value, "{}", name(value));
        }
        Ok(())
    }
    same(&Criterion::ALL, Criterion::name)?;
    same(&NoiseKind::ALL, NoiseKind::name)?;
    same(&FreezeRule::ALL, FreezeRule::name)?;
    same(&Dtype::ALL, Dtype::name)?;
    same(&Arithmetic::ALL, Arithmetic::name)?;
    same(&Group::ALL, Group::name)
}

#[trial]
fn unknown_fields_and_names_are_refused() -> Result<()> {
    fn refused<T: DeserializeOwned>(value: &Value, word: &str) -> Result<()> {
        let error = serde_json::from_value::<T>(value.clone()).err().map(|error| error.to_string());
        ensure!(error.as_ref().is_some_and(|error| error.contains(word)), "{value}: {error:?}");
        Ok(())
    }
    refused::<GenerateOptions>(&json!({"step": 3}), "step")?;
    refused::<GenerateOptions>(&json!({"steps_of": null}), "steps_of")?;
    refused::<GenerateOptions>(&json!({"exit": {"criterion": "kl", "min_step": 3}}), "min_step")?;
    refused::<GenerateOptions>(&json!({"exit": {"criterion": "klx"}}), "klx")?;
    refused::<GenerateOptions>(&json!({"exit": {}}), "criterion")?;
    refused::<GenerateOptions>(&json!({"sampling": {"temp": 1}}), "temp")?;
    refused::<GenerateOptions>(&json!({"speculate": {"drafts": 1}}), "drafts")?;
    refused::<GenerateOptions>(&json!({"logit_bias": [[3, "much"]]}), "much")?;
    refused::<GenerateOptions>(&json!({"steps": -1}), "-1")?;
    refused::<SessionOptions>(&json!({"share": "none"}), "share")?;
    refused::<SessionOptions>(&json!({"kv_dtype": "int8"}), "int8")?;
    refused::<Noise>(&json!({"kind": "geom", "scale": 1, "norm": true}), "norm")
}
