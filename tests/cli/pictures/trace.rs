//! Output of `ruminate trace`.

use anyhow::{Context, Result, ensure};
use ruminate::demo;
use ruminate_tests::{Folder, trial};

use super::browser::Browser;
use super::pixels::Pixels;
use super::{ended, ruminate};

const PROMPT: &str = demo::PROMPTS[1].0;
const CALL: [&str; 7] = ["trace", "--cpu", "--seed=1", "--steps=12", "--temp=0", "-n=3", PROMPT];

fn call(more: &[&str]) -> Vec<String> {
    [&CALL[..6], more, &CALL[6..]].concat().into_iter().map(str::to_owned).collect()
}

#[trial(full)]
fn terminal_view_has_a_line_per_token_without_color() -> Result<()> {
    let (shown, _) = ruminate(&CALL)?;
    let rows: Vec<&str> = shown.lines().filter(|line| line.contains(" %")).collect();
    ensure!(rows.len() >= 11 && !shown.contains('\u{1b}'), "{shown}");
    // Thirteen digits that decrease to 0 as the state converges.
    for row in rows {
        let cells = row.split_whitespace().find(|word| word.len() == 13 && word.bytes().all(|b| b.is_ascii_digit()));
        ensure!(cells.is_some_and(|cells| cells.ends_with('0') && !cells.starts_with('0')), "{row}");
    }
    ensure!(shown.contains("9 is") && shown.contains("stays"), "{shown}");
    Ok(())
}

#[trial(full)]
fn html_svg_png_and_safetensors_contain_the_trace() -> Result<()> {
    let folder = Folder::new()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let flags: Vec<String> =
        ["html", "svg", "png", "safetensors"].map(|kind| format!("--{kind}={}", path(&format!("t.{kind}")))).to_vec();
    let arguments = call(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (out, said) = ruminate(&arguments)?;
    ensure!(out.is_empty() && said.matches("wrote ").count() == 4, "{out}{said}");
    let svg = std::fs::read_to_string(path("t.svg"))?;
    for part in ["<svg", "recurrence step i", "PC 1 (", "PC 6 (", "from the final state", "seed 1", PROMPT] {
        ensure!(svg.contains(part), "the picture lacks {part:?}");
    }
    let light = Pixels::of(&std::fs::read(path("t.png"))?)?;
    ensure!(light.width > 2000 && light.height > 1000 && light.paper() == [255; 3], "{:?}", light.paper());
    ensure!(light.colors() > 60 && light.covered() > 0.15, "{} colors, {}", light.colors(), light.covered());
    let dark = call(&[&flags[2], "--theme=dark"]);
    ruminate(&dark.iter().map(String::as_str).collect::<Vec<_>>())?;
    let dark = Pixels::of(&std::fs::read(path("t.png"))?)?;
    ensure!(dark.paper().iter().all(|&part| part < 40), "{:?}", dark.paper());
    let page = std::fs::read_to_string(path("t.html"))?;
    // The page is self-contained.
    ensure!(
        !page.contains("http:") && !page.contains("https:") && page.contains("\"settled\""),
        "the page is not self-contained"
    );
    let (_, header) = safetensors::SafeTensors::read_metadata(&std::fs::read(path("t.safetensors"))?)?;
    ensure!(header.metadata().as_ref().is_some_and(|about| about["seed"] == "1" && about["text"].starts_with(PROMPT)));
    Ok(())
}

#[trial(full)]
fn early_exits_show_their_step() -> Result<()> {
    let arguments = call(&["--exit=latent-diff"]);
    let (shown, _) = ruminate(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    let rows = shown.lines().filter(|line| line.contains(" %"));
    let used: Vec<u32> = rows.filter_map(|row| row.split_whitespace().nth(2)?.parse().ok()).collect();
    ensure!(
        used.len() >= 11 && used.iter().any(|&steps| steps < 12) && used.iter().all(|&steps| steps > 1),
        "{used:?}"
    );
    Ok(())
}

#[trial(full)]
fn invalid_input_is_refused_before_computing() -> Result<()> {
    let folder = Folder::new()?;
    let here = folder.path().display().to_string();
    let html = format!("--html={here}");
    let nowhere = "--svg=/proc/nowhere/t.svg".to_owned();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["trace", "--cpu", &html, PROMPT], 2, "is a folder; name a file"),
        (&["trace", "--cpu", &nowhere, PROMPT], 1, "cannot write /proc/nowhere/t.svg"),
        (&["trace", "--cpu", "--steps=60000", "-n=100", PROMPT], 1, "at most"),
        (&["trace", "--cpu", "--token=99", PROMPT], 2, "is not a position of the prompt; its positions are 0 to"),
        (&["trace", "--cpu", "--continuous", PROMPT], 2, "leave out --continuous"),
        (&["trace", "--cpu", "--theme=pink", PROMPT], 2, "light, dark"),
    ];
    for (arguments, code, words) in cases {
        let (found, _, said) = ended(arguments)?;
        ensure!(found == Some(code) && said.contains(words), "{arguments:?} ends with {found:?}: {said}");
    }
    Ok(())
}

#[trial(full, needs(Browser::missing))]
fn browser_renders_page_without_errors() -> Result<()> {
    let browser = &Browser::find().context("no browser")?;
    let folder = Folder::new()?;
    let path = folder.path().join("trace.html");
    let flag = format!("--html={}", path.display());
    let arguments = call(&[&flag]);
    ruminate(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    for dark in [false, true] {
        let drawn = browser.draw(&path, folder.path(), dark)?;
        ensure!(drawn.dom.contains("data-drawn="), "the script did not finish");
        ensure!(drawn.dom.contains("principal components"), "the script drew nothing");
        let pixels = Pixels::of(&drawn.picture)?;
        ensure!(pixels.colors() > 80 && pixels.covered() > 0.3, "{} colors, {}", pixels.colors(), pixels.covered());
        ensure!((pixels.paper()[0] < 60) == dark, "paper {:?}", pixels.paper());
    }
    let (cut, wide) = browser.narrow(&path, folder.path())?;
    ensure!(
        cut.is_empty() && wide <= 400,
        "at 400 pixels, the page is {wide} wide, and these texts are cut off: {cut}"
    );
    Ok(())
}

/// Largest distance between consecutive states over the last 8 steps of a trace file, its noise floor, and its KV dtype.
fn moves(file: &std::path::Path) -> Result<(f32, f32, String)> {
    let bytes = std::fs::read(file)?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)?;
    let about = header.metadata().clone().context("the file has no metadata")?;
    let view = safetensors::SafeTensors::deserialize(&bytes)?;
    let states = view.tensor("states")?;
    let [tokens, steps, n] = states.shape()[..] else { anyhow::bail!("{:?}", states.shape()) };
    let values: Vec<f32> =
        states.data().chunks_exact(4).map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]])).collect();
    let state = |token: usize, step: usize| &values[(token * steps + step) * n..][..n];
    let mut most = 0_f32;
    for (token, step) in (0..tokens).flat_map(|token| (steps - 8..steps).map(move |step| (token, step))) {
        let apart = state(token, step).iter().zip(state(token, step - 1)).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        most = most.max(apart.sqrt());
    }
    Ok((most, about["noise_floor"].parse()?, about["kv_dtype"].clone()))
}

/// Converged states still move by the rounding of keys and values, but not by more than the reported noise floor.
#[trial(full)]
fn noise_floor_bounds_rounding_and_is_small_by_default() -> Result<()> {
    let folder = Folder::new()?;
    let file = folder.path().join("t.safetensors");
    let flag = format!("--safetensors={}", file.display());
    let line = ["trace", "--cpu", "--seed=1", "--steps=64", "--temp=0", "-n=2", "-q", &flag];
    let mut found = Vec::new();
    for more in [&[][..], &["--kv-dtype=bf16"], &["--kv-dtype=q8"]] {
        ruminate(&[&line[..], more, &[PROMPT]].concat())?;
        let (most, floor, dtype) = moves(&file)?;
        ensure!(most <= floor, "{dtype}: states move by {most:e}, more than {floor:e}");
        found.push((dtype, floor));
    }
    ensure!(found.iter().map(|(dtype, _)| dtype.as_str()).eq(["f32", "bf16", "q8"]), "{found:?}");
    ensure!(found[0].1 < 1e-5 && found[0].1 * 1e3 < found[1].1 && found[1].1 < found[2].1, "{found:?}");
    // Page, picture and terminal also report it.
    let page = folder.path().join("t.html").display().to_string();
    let svg = folder.path().join("t.svg").display().to_string();
    let line = ["trace", "--cpu", "--seed=1", "--steps=8", "-n=2"];
    ruminate(&[&line[..], &[&format!("--html={page}"), &format!("--svg={svg}"), PROMPT]].concat())?;
    let shown =
        [std::fs::read_to_string(page)?, std::fs::read_to_string(svg)?, ruminate(&[&line[..], &[PROMPT]].concat())?.0];
    for text in shown {
        ensure!(text.contains("keys and values in f32 · distances below") && text.contains("are rounding"), "{text}");
    }
    Ok(())
}
