//! Invalid prompts and flags.

use anyhow::Result;
use ruminate_tests::{Folder, trial};

use crate::bad_input::call::refused;

#[trial(full)]
fn empty_prompt_is_refused() -> Result<()> {
    refused(&["run", "--cpu", ""], None, 2, &["the prompt is empty"])?;
    refused(&["run", "--cpu", "-"], Some(b""), 2, &["the prompt is empty"])?;
    refused(&["run", "--cpu", "-"], Some(b"\n"), 2, &["the prompt is empty"])?;
    let model = ruminate_tests::demo_files::folder()?;
    let path = model.path().display().to_string();
    refused(&["run", "--cpu", "-m", &path], None, 2, &["no prompt: give one as argument"])?;
    Ok(())
}

#[trial(full)]
fn too_long_prompt_is_refused() -> Result<()> {
    let prompt = "Ball in C. Swap CE AC AB AD AE";
    let words = ["do not fit the context of 3", "shorten the prompt", "up to 512"];
    refused(&["run", "--cpu", "-c", "3", prompt], None, 1, &words)?;
    refused(
        &["run", "--cpu", "-c", "513", "x"],
        None,
        2,
        &["--ctx-size is 513; it must be from 1 to 512, the longest context of the model"],
    )?;
    // A wavefront that includes the prompt needs a position for the token after it.
    let words = ["3 tokens fill the context of 3", "needs a position of its own", "up to 512"];
    refused(&["run", "--cpu", "-c", "3", "--diffusion", "--no-full-prefill", "3+"], None, 1, &words)?;
    // Refused before tokenization.
    for piece in ["1", "a", " ", "Ball in C. "] {
        refused(
            &["run", "--cpu", "-"],
            Some(&piece.repeat(20_000_000 / piece.len()).into_bytes()),
            1,
            &["at least ", "do not fit"],
        )?;
    }
    Ok(())
}

#[trial(full)]
fn invalid_utf8_in_prompt_is_refused() -> Result<()> {
    let words = ["not valid UTF-8", "byte 2 begins no character", "convert it"];
    refused(&["run", "--cpu", "-"], Some(b"ab\xff"), 2, &words)?;
    let folder = Folder::new()?;
    folder.write("prompt", b"ab\xe2\x82")?;
    let path = folder.path().join("prompt").display().to_string();
    refused(&["run", "--cpu", "-f", &path], None, 2, &words)?;
    Ok(())
}

#[trial(full)]
fn steps_out_of_range_are_refused() -> Result<()> {
    refused(&["run", "--cpu", "--steps", "0", "x"], None, 2, &["--steps", "0 is not in 1..=65536"])?;
    refused(&["run", "--cpu", "--steps", "65537", "x"], None, 2, &["--steps", "65537 is not in 1..=65536"])?;
    Ok(())
}

#[trial(full)]
fn invalid_temperature_is_refused() -> Result<()> {
    for (given, shown) in [("nan", "NaN"), ("inf", "inf"), ("-1", "-1")] {
        let flag = format!("--temp={given}");
        let words = [&format!("--temp is {shown}"), "it must be a number of at least 0"];
        refused(&["run", "--cpu", &flag, "x"], None, 2, &words.map(|word| word as &str))?;
    }
    Ok(())
}

/// A negative number as a separate argument could be taken for a flag.
#[trial(full)]
fn negative_values_are_parsed_as_values() -> Result<()> {
    for (flag, value, words) in [
        ("--temp", "-1", "is -1; it must be a number of at least 0"),
        ("--top-p", "-0.5", "is -0.5; it must be a number above 0"),
        ("--init-scale", "-1", "is -1; it must be a number"),
        ("--steps", "-1", "-1 is not in 1..=65536"),
        ("--seed", "-1", "invalid digit"),
        ("--noise", "-1", "expected a kind and a scale"),
    ] {
        refused(&["run", "--cpu", flag, value, "x"], None, 2, &[flag, words])?;
    }
    Ok(())
}

#[trial(full)]
fn invalid_flag_values_and_combinations_are_refused() -> Result<()> {
    for (flag, words) in [
        ("--top-p=nan", "--top-p is NaN"),
        ("--top-p=0", "--top-p is 0"),
        ("--min-p=2", "--min-p is 2"),
        ("--repeat-penalty=0", "--repeat-penalty is 0"),
        ("--dry-multiplier=inf", "--dry-multiplier is inf"),
        ("--logit-bias=1nan", "is not a token and a value"),
        ("--noise=pink=1", "unknown kind of noise `pink` (expected one of fixed"),
        ("--noise=fixed=9", "--noise is fixed=9"),
        ("--init-scale=1e20", "--init-scale is 100000000000000000000; it must be a number from 0 to 1000000"),
        ("--init-scale=nan", "--init-scale is NaN"),
        ("--stop=", "--stop is empty"),
        ("--max-tokens=0", "at least 1"),
        ("--ctx-size=0", "0 is not in 1.."),
        ("--seed=x", "invalid digit"),
        ("--dtype=f64", "unknown dtype `f64` (expected f32, f16, bf16"),
        ("--stream", "--json"),
        ("--nonsense", "--nonsense"),
        ("--gpu=0", "cannot be used with"),
    ] {
        refused(&["run", "--cpu", flag, "x"], None, 2, &[words])?;
    }
    for (flags, words) in [
        (&["--speculate", "--draft-len=64"][..], "--draft-len is 64; it must be from 1 to 63 tokens"),
        (&["--speculate=9", "--steps=8"], "--speculate is 9; it must be from 1 to 8, the steps of a token"),
        (&["--pipeline=1", "--steps=99"], "--pipeline is 1 at 99 steps; it must be at least 1, and at least a 64th"),
        (&["--pipeline", "--continuous"], "--pipeline and --continuous cannot be combined"),
        (&["--diffusion", "--exit=latent-diff"], "by its own rule (--freeze)"),
        (&["--diffusion", "--noise=fixed=0.1"], "by its own rule (--noise-mix)"),
        (&["--diffusion", "--wavefront=2", "--no-full-prefill", "-p=Ball in C"], "(leave out --no-full-prefill)"),
        (&["--diffusion", "--invariant"], "--diffusion and --invariant cannot be combined"),
        (&["--kv-lookup=latest-m4"], "--kv-lookup is latest-m4, but the core block has 2 layers; it must be -mN"),
        (
            &["--kv-lookup=compress-s3"],
            "--kv-lookup is compress-s3, but the core block has 2 layers; it must be compress-sN",
        ),
    ] {
        let prompt: &[&str] = if flags.iter().any(|flag| flag.starts_with("-p")) { &[] } else { &["x"] };
        refused(&[&["run", "--cpu"], flags, prompt].concat(), None, 2, &[words])?;
    }
    Ok(())
}

#[trial(full)]
fn missing_prompt_file_is_reported() -> Result<()> {
    refused(&["run", "--cpu", "-f", "/no/such/file"], None, 1, &["cannot read the prompt from /no/such/file"])?;
    Ok(())
}
