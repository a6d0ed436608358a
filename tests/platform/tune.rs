//! Tuning: it times a model's launches, stores and applies the choices, and refuses files of another device or version.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ruminate::tune::tune_model;
use ruminate::{
    Device, Dtype, LoadOptions, Model, OpenOptions, SessionOptions, Source, State, Synthetic, Tuning, TuningFrom,
};
use ruminate_engine::{Error, LOOPS, LoopWay, tune, tune_loops};
use ruminate_shaders::matmul::{Matmul, matmul_variants};
use ruminate_shaders::{Caps, Trial, trials};
use ruminate_tests::{Folder, golden_folder, options, trial};

fn synthetic() -> Result<Synthetic> {
    Ok(Synthetic::parse("n_embd=96,heads=3,hidden=192,vocab=300,layers=1/2/1,block_size=128,seed=4")?)
}

/// Options for opening the device under test with a tuning.
fn with(tuning: TuningFrom) -> Result<OpenOptions> {
    Ok(OpenOptions { tuning, ..options().context("the CPU reference has no variants")? })
}

fn logits(device: &Device) -> Result<Vec<f32>> {
    let model = Model::open(&synthetic()?.source(), device, LoadOptions::default())?;
    let mut session = model.session(SessionOptions { seed: 5, ..SessionOptions::default() })?;
    let prompt: Vec<u32> = (0..40).map(|i| i * 7 % 300).collect();
    let mut all = session.forward(&prompt, 4, State::Seeded, true)?;
    all.extend(session.forward(&[11], 4, State::Seeded, true)?);
    Ok(all)
}

/// The matmuls that `tune`, `doctor` and `bench` time belong to the same classes as those that plans record, for every architecture, at decoding and prefill.
#[trial(device, cpu, full)]
fn workload_has_the_matmuls_that_models_record(device: &Device) -> Result<()> {
    for fixture in ["tiny", "ouro", "nanbeige", "retro_olmo", "retro_tinyllama"] {
        let device =
            if device.summary().is_some() { Device::open(&with(TuningFrom::Defaults)?)? } else { Device::cpu() };
        let model = Model::open(&Source::dir(golden_folder(fixture))?, &device, LoadOptions::default())?;
        let mut session = model.session(SessionOptions::default())?;
        for tokens in [1, 40] {
            let prompt: Vec<u32> = (0..tokens).map(|i| 3 + i).collect();
            session.forward(&prompt, 2, State::Seeded, true)?;
        }
        let matmuls = |classes: Vec<String>| -> BTreeSet<String> {
            classes.into_iter().filter(|class| class.starts_with("matmul ")).collect()
        };
        let of = |rows| trials(&model.spec().workload(model.dtypes(), rows, 512, u32::MAX, device.caps()));
        let timed = [1, 64].into_iter().flat_map(of).map(|trial| trial.variants.class).collect();
        let (timed, recorded) = (matmuls(timed), matmuls(device.picked()));
        ensure!(timed == recorded, "{fixture}: timed are {timed:#?}, recorded {recorded:#?}");
    }
    Ok(())
}

#[trial(device, full)]
fn tuned_variants_are_used(device: &Device) -> Result<()> {
    let config = synthetic()?.spec().clone();
    let all = |caps| trials(&config.workload(Dtype::Bf16, 1, 512, 2048, caps));
    // A subset suffices: each variant is compiled, which is slow on software drivers.
    let some = |trial: &Trial| !trial.variants.class.starts_with("matmul") || trial.variants.class.contains("Concat");
    let mut tuning = Tuning::with_textures(device.caps().lanes.is_some());
    for trial in all(device.caps()).iter().filter(|trial| some(trial)) {
        let tuned = tune(device, trial, &|| true)?.context("it was not ended")?;
        ensure!(tuned.tried > 0 && tuned.best.median() <= tuned.first.median(), "{tuned:?}");
        ensure!(trial.variants.named(&tuned.chosen).is_some(), "{} is not a variant", tuned.chosen);
        tuning.choose(&tuned.class, &tuned.chosen);
    }
    ensure!(tuning.choices().count() > 3, "{tuning:?}");
    let tuned = Device::open(&with(TuningFrom::Given(tuning.clone()))?)?;
    ensure!(tuned.caps() == device.caps(), "{:?} instead of {:?}", tuned.caps(), device.caps());
    for trial in all(tuned.caps()).into_iter().filter(some) {
        let wanted = tuning.choices().find(|(class, _)| *class == trial.variants.class);
        let (_, wanted) = wanted.with_context(|| format!("{} was not tuned", trial.variants.class))?;
        let picked = tuned.pick(trial.variants).name();
        ensure!(picked == wanted, "{picked} instead of {wanted}");
    }
    // Devices with equal choices give bitwise equal results.
    ensure!(
        logits(&tuned)? == logits(&Device::open(&with(TuningFrom::Given(tuning))?)?)?,
        "results vary with fixed choices"
    );
    Ok(())
}

/// Both ways are timed, a choice is restored from a file, and an unknown name falls back to the default.
#[trial(device, full)]
fn tuned_loop_way_is_used(device: &Device) -> Result<()> {
    let tuned = tune_loops(device)?.context("a GPU has two ways of launching loops")?;
    ensure!(tuned.class == LOOPS && tuned.tried == 2 && tuned.first.least() > 0.0, "{tuned:?}");
    let (folder, summary) = (Folder::new()?, device.summary().context("the CPU reference is not tuned")?);
    let path = folder.path().join("tuning.json");
    let usual = Device::open(&with(TuningFrom::Defaults)?)?.loops();
    let names = LoopWay::ALL.map(|way| (way.name(), way));
    let chosen = LoopWay::ALL.into_iter().find(|way| way.name() == tuned.chosen);
    let chosen = chosen.with_context(|| format!("{} is not a way of launching loops", tuned.chosen))?;
    for (name, expected) in names.into_iter().chain([(tuned.chosen.as_str(), chosen), ("sideways", usual)]) {
        let mut tuning = Tuning::default();
        tuning.choose(&tuned.class, name);
        tuning.write(&path, summary)?;
        let found = Device::open(&with(TuningFrom::File(path.clone()))?)?.loops();
        ensure!(found == expected, "{found:?} instead of {expected:?} by {name}");
    }
    ensure!(
        Device::cpu().loops() == LoopWay::Direct && tune_loops(&Device::cpu())?.is_none(),
        "the CPU reference has one way"
    );
    Ok(())
}

/// Tuning stops as soon as its callback returns false.
#[trial(device, full)]
fn tuning_can_be_interrupted(_: &Device) -> Result<()> {
    let heard = Cell::new(0);
    let (config, going) = (synthetic()?.spec().clone(), || heard.get() == 0);
    let options = with(TuningFrom::Defaults)?;
    let found = tune_model(&options, &config, Dtype::Bf16.into(), &[1, 8], &going, &mut |_, _| {
        heard.set(heard.get() + 1);
    })?;
    let heard = heard.get();
    ensure!(found.is_none() && heard == 1, "{heard} classes, {found:?}");
    Ok(())
}

#[trial(device, full)]
fn all_variants_agree_up_to_rounding(device: &Device) -> Result<()> {
    let expected = logits(device)?;
    for n in 0..8 {
        let other = Device::open(&with(TuningFrom::Given(Tuning::forced(n)))?)?;
        ruminate_tests::compare(&logits(&other)?, &expected, 1e-5).with_context(|| format!("variant {n}"))?;
    }
    Ok(())
}

#[trial(device, full)]
fn tuning_round_trips_through_its_file(device: &Device) -> Result<()> {
    let (folder, summary) = (Folder::new()?, device.summary().context("the CPU reference is not tuned")?);
    let mut tuning = Tuning::with_textures(false);
    tuning.choose("rms_norm n=96 rows=1", "rms_norm.workgroup WG=64");
    let path = folder.path().join("new").join(Tuning::file_name(summary));
    tuning.write(&path, summary)?;
    ensure!(Tuning::read(&path, summary)? == tuning);
    for from in [TuningFrom::File(path.clone()), TuningFrom::Folder(folder.path().join("new"))] {
        let device = Device::open(&with(from)?)?;
        ensure!(*device.tuning() == tuning && device.caps().lanes.is_none(), "{:?}", device.tuning());
    }
    Ok(())
}

#[trial(device, full)]
fn mismatched_tuning_file_is_refused_or_ignored_in_folder(device: &Device) -> Result<()> {
    let (folder, summary) = (Folder::new()?, device.summary().context("the CPU reference is not tuned")?);
    let path = folder.path().join(Tuning::file_name(summary));
    let refused = |path: &Path, word: &str| -> Result<()> {
        match Device::open(&with(TuningFrom::File(path.to_owned()))?) {
            Err(error @ Error::Tuning { .. }) => {
                let text = error.to_string();
                ensure!(text.contains(word) && text.contains("tuning "), "{text}");
            }
            other => anyhow::bail!("{other:?}"),
        }
        let ignored = Device::open(&with(TuningFrom::Folder(folder.path().to_owned()))?)?;
        ensure!(*ignored.tuning() == Tuning::default());
        Ok(())
    };
    refused(&path, "No such file")?;
    std::fs::write(&path, "{\"choices\": 3}")?;
    refused(&path, "not a tuning")?;
    let mut elsewhere = summary.clone();
    elsewhere.driver = "another driver".to_owned();
    Tuning::default().write(&path, &elsewhere)?;
    refused(&path, "made for driver another driver")?;
    let text = std::fs::read_to_string(&path)?.replace("another driver", &summary.driver);
    std::fs::write(&path, text.replace(env!("CARGO_PKG_VERSION"), "0.0.0"))?;
    refused(&path, "made for version of the engine 0.0.0")?;
    Ok(())
}

#[trial(device, full)]
fn unknown_class_or_variant_falls_back_to_default(device: &Device) -> Result<()> {
    let shape = Matmul::whole(1, 96, 96, Dtype::F32.into());
    let variants = matmul_variants(&device.caps(), shape);
    let mut tuning = Tuning::default();
    tuning.choose(&variants.class, "a kernel of last year");
    tuning.choose("another class", &variants.launches[1].name());
    ensure!(tuning.pick(variants.clone()).name() == variants.launches[0].name());
    Ok(())
}

#[trial]
fn variants_have_distinct_names() -> Result<()> {
    let mut several = false;
    for caps in [Caps::WEBGPU, Caps { subgroups: Some((8, 8)), lanes: Some(8), max_invocations: 1024, ..Caps::WEBGPU }]
    {
        for rows in [1, 4, 8, 64, 512] {
            let config = synthetic()?.spec().clone();
            for trial in trials(&config.workload(Dtype::Bf16, rows, 512, 2048, caps)) {
                let mut names: Vec<_> = trial.variants.launches.iter().map(ruminate_shaders::Launch::name).collect();
                let count = names.len();
                names.sort();
                names.dedup();
                ensure!(names.len() == count, "{}: {names:?}", trial.variants.class);
                several |= count > 1;
                ensure!(trial.case.launch.name() == trial.variants.launches[0].name(), "{}", trial.case.name);
            }
        }
    }
    ensure!(several, "no trial has several variants");
    Ok(())
}
