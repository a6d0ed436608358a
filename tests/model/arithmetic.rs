//! The number formats of products: int8 and f16 stay close to f32, and formats that cannot apply are refused.

use anyhow::{Context, Result, ensure};
use ruminate::{
    Device, Error, GenerateOptions, LoadOptions, Model, Precision, QuantizeOptions, Sampling, SessionOptions, Source,
    State, Synthetic, demo, quantize,
};
use ruminate_shaders::Cooperative;
use ruminate_tests::{Folder, trial};

/// Row counts of a pass that uses tiles, and of one that does not.
const MANY: u32 = 40;
const FEW: u32 = 5;

fn load(source: &Source, device: &Device, text: &str) -> Result<Model> {
    let Precision { dtype, keep, products } = text.parse().map_err(anyhow::Error::msg)?;
    Ok(Model::open(source, device, LoadOptions { dtype, keep, products, ..LoadOptions::default() })?)
}

/// A model with rows shorter than a block, halves of the adapter that share a block, and an odd number of blocks.
fn odd() -> Result<Source> {
    let shape = "n_embd=40,heads=2,head_dim=20,hidden=56,vocab=300,layers=1/1/1,block_size=64,tie_embeddings=false";
    Ok(Synthetic::parse(shape)?.source())
}

/// Logits of `rows` rows in one pass of three steps.
fn logits(model: &Model, rows: u32) -> Result<Vec<f32>> {
    let mut session = model.session(SessionOptions { seed: 5, context: Some(64), ..SessionOptions::default() })?;
    let tokens: Vec<u32> = (1..=rows).collect();
    let all = session.forward(&tokens, 3, State::Seeded, true)?;
    ensure!(all.iter().all(|logit| logit.is_finite()));
    Ok(all)
}

/// Mean square error, relative to the mean square of the expected values.
fn error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let difference: f64 = found.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    difference / expected.iter().map(|&b| square(f64::from(b))).sum::<f64>()
}

#[trial(device, limited, cpu, full)]
fn int8_products_approximate_float_products(device: &Device) -> Result<()> {
    for (name, source) in [("demo", demo::source()), ("odd", odd()?)] {
        for dtype in ["q8", "q4", "q4_1", "q4,adapter=bf16,coda=q8"] {
            let text = format!("{dtype},products=int8");
            let (floats, ints) = (load(&source, device, dtype)?, load(&source, device, &text)?);
            ensure!(ints.dtypes().to_string() == text && ints.bytes_per_token(4) == floats.bytes_per_token(4));
            let reference = load(&source, &Device::cpu(), &text)?;
            for rows in [1, FEW, MANY] {
                let (found, case) = (logits(&ints, rows)?, format!("{name}, {text}, {rows} rows"));
                // With 127 steps up to the largest value of a block, rounding errs by about 0.4 % of a value. A value near the middle of two steps can round
                // either way.
                let from_floats = error(&found, &logits(&floats, rows)?);
                ensure!(from_floats > 1e-7 && from_floats < 3e-3, "{case}: {from_floats:e} from products of floats");
                let from_reference = error(&found, &logits(&reference, rows)?);
                ensure!(from_reference < 3e-4, "{case}: {from_reference:e} from the CPU reference");
            }
        }
    }
    Ok(())
}

#[trial(device, limited, cpu, full)]
fn invariant_int8_logits_do_not_depend_on_row_count(device: &Device) -> Result<()> {
    let model = load(&demo::source(), device, "q8,products=int8")?;
    let session = || model.session(SessionOptions { invariant: true, context: Some(32), ..SessionOptions::default() });
    let tokens = [3, 40, 5, 61, 7, 200, 9];
    let together = session()?.forward(&tokens, 4, State::Seeded, true)?;
    let (mut one_by_one, mut alone) = (Vec::new(), session()?);
    for token in tokens {
        one_by_one.extend(alone.forward(&[token], 4, State::Seeded, true)?);
    }
    let differing = together.iter().zip(&one_by_one).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    ensure!(together.len() == one_by_one.len() && differing == 0, "{differing} of {} logits", together.len());
    Ok(())
}

#[trial(device, limited, cpu, full)]
fn demo_answers_with_int8_products(device: &Device) -> Result<()> {
    for text in ["q8,products=int8", "q4,products=int8"] {
        let model = load(&demo::source(), device, text)?;
        let sampling = Sampling::GREEDY;
        let options = GenerateOptions { steps: Some(16), max_tokens: Some(2), sampling, ..GenerateOptions::default() };
        for (prompt, answer) in demo::PROMPTS.iter().take(if device.is_cpu() { 10 } else { 3 }) {
            let mut session = model.session(SessionOptions { context: Some(64), ..SessionOptions::default() })?;
            let pieces: Result<Vec<_>, _> = session.generate(*prompt, &options)?.collect();
            let said: String = pieces?.into_iter().map(|piece| piece.text).collect();
            ensure!(said.contains(answer.trim()), "{text}: {prompt} gives {said}, not {answer}");
        }
    }
    Ok(())
}

#[trial(device, limited, cpu, full)]
fn f16_products_approximate_f32_or_are_refused(device: &Device) -> Result<()> {
    near_in_tiles(device, "bf16,products=f16", device.caps().f16, 1e-12, "f16 is not supported on this device")
}

#[trial(device, limited, cpu, full)]
fn cooperative_matrices_approximate_f32_or_are_refused(device: &Device) -> Result<()> {
    let matrices = device.caps().matrices();
    // In f32 only the order of the sums differs.
    let least = if matrices.is_some_and(Cooperative::rounds) { 1e-12 } else { 0.0 };
    near_in_tiles(
        device,
        "bf16,products=cooperative",
        matrices.is_some(),
        least,
        "cooperative matrices are not supported on this device",
    )
}

/// If the device can compute them, tiles differ from f32 by more than `least` but stay close; otherwise the load fails with `why`.
fn near_in_tiles(device: &Device, text: &str, can: bool, least: f64, why: &str) -> Result<()> {
    let source = odd()?;
    if !can {
        let error = load(&source, device, text).err().context("the model was loaded")?.to_string();
        ensure!(error.contains(why), "{error}");
        return Ok(());
    }
    let (floats, model) = (load(&source, device, "bf16")?, load(&source, device, text)?);
    let many = error(&logits(&model, MANY)?, &logits(&floats, MANY)?);
    ensure!(many > least && many < 1e-5, "an error of {many:e} in tiles");
    // Passes of few rows are bound by the weight reads and keep their f32 products.
    let few = error(&logits(&model, FEW)?, &logits(&floats, FEW)?);
    ensure!(few < 1e-10, "an error of {few:e} with few rows");
    Ok(())
}

#[trial(full)]
fn inapplicable_product_formats_are_refused() -> Result<()> {
    let device = Device::cpu();
    let failure = |text: &str| load(&demo::source(), &device, text).err().context(text.to_owned());
    let found = failure("bf16,products=int8")?.to_string();
    ensure!(found.contains("as q8,products=int8"), "{found}");
    for text in ["q8,products=int8", "products=f16"] {
        let asked =
            QuantizeOptions { precision: text.parse().map_err(anyhow::Error::msg)?, ..QuantizeOptions::default() };
        let kept = quantize(&demo::source(), &Folder::new()?.path().join("small"), asked)
            .err()
            .context("a file with products was written")?;
        ensure!(kept.to_string().contains("when the model is loaded"), "{kept}");
    }
    let model = load(&demo::source(), &device, "q8,products=int8")?;
    let folder = Folder::new()?;
    let file = folder.path().join("session");
    let mut session = model.session(SessionOptions { context: Some(32), ..SessionOptions::default() })?;
    session.forward(&[3, 40, 5], 4, State::Seeded, false)?;
    session.save(&file)?;
    load(&demo::source(), &device, "q8,products=int8")?.resume(&file)?;
    let other = load(&demo::source(), &device, "q8")?
        .resume(&file)
        .err()
        .context("the session was resumed with other products")?;
    ensure!(matches!(other, Error::Snapshot { .. }) && other.to_string().contains("products=int8"), "{other}");
    Ok(())
}
