//! Output of `ruminate sweep`.

use anyhow::{Context, Result, ensure};
use ruminate::demo;
use ruminate::sweep::Problem;
use ruminate_tests::{Folder, trial};

use super::browser::Browser;
use super::pixels::Pixels;
use super::{ended, ruminate};

const CALL: [&str; 6] = ["sweep", "--cpu", "-n=3", "--steps=1,4,16", "--exit=none,latent-diff", "--split"];

#[trial(full)]
fn json_has_a_row_for_each_task_depth_and_rule() -> Result<()> {
    let arguments = [&CALL[..5], &["--json"]].concat();
    let (out, said) = ruminate(&arguments)?;
    ensure!(said.is_empty(), "{said}");
    let report: serde_json::Value = serde_json::from_str(&out)?;
    let rows = report["rows"].as_array().context("rows")?;
    let tasks = rows.iter().filter(|row| row["steps"] == 4 && row["exit"] == "none").count();
    ensure!(tasks > 2 && rows.len() == tasks * 6, "{} rows, {tasks} tasks", rows.len());
    let all = rows.iter().filter(|row| row["task"] == "all").count();
    ensure!(all == 6, "{all} rows of all tasks");
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
        ensure!(0.0 <= number("ci_low") && number("ci_low") <= number("accuracy"), "{row}");
        ensure!(number("accuracy") <= number("ci_high") && number("ci_high") <= 1.0, "{row}");
        ensure!(number("n") >= 3.0 && number("tokens_per_s") > 0.0 && number("perplexity") >= 1.0, "{row}");
        let fixed = row["exit"] == "none";
        ensure!(if fixed { number("mean_steps") == number("steps") } else { number("mean_steps") <= number("steps") });
        ensure!(fixed || row["exit"] == "latent-diff=0.03", "{row}");
    }
    let at = |steps: u64| {
        let found = rows.iter().find(|row| row["task"] == "all" && row["steps"] == steps && row["exit"] == "none");
        found.and_then(|row| row["accuracy"].as_f64()).unwrap_or(f64::NAN)
    };
    ensure!(at(16) > at(1) && at(16) > 0.7, "{} at 1 step, {} at 16", at(1), at(16));
    // The same seed gives the same answers.
    let again: serde_json::Value = serde_json::from_str(&ruminate(&arguments)?.0)?;
    let sums = |report: &serde_json::Value| {
        report["rows"].as_array().map(|rows| rows.iter().map(|row| row["perplexity"].clone()).collect::<Vec<_>>())
    };
    ensure!(sums(&again) == sums(&report));
    Ok(())
}

#[trial(full)]
fn table_and_csv_have_the_same_rows() -> Result<()> {
    let (shown, _) = ruminate(&CALL)?;
    ensure!(shown.contains("| task ") && shown.contains("hard") && shown.contains("right at steps"), "{shown}");
    ensure!(shown.contains('█') && !shown.contains('\u{1b}'), "{shown}");
    let (lines, _) = ruminate(&[&CALL[..], &["--csv"]].concat())?;
    ensure!(
        lines.starts_with(
            "task,steps,exit,n,accuracy,ci_low,ci_high,mean_steps,tokens_per_s,perplexity,seed,dtype,device,version\n"
        ),
        "{lines}"
    );
    let rows = shown.lines().filter(|line| line.starts_with("| ") && !line.contains("task")).count();
    ensure!(rows == lines.lines().count() - 1, "{rows} rows in the table:\n{shown}\n{lines}");
    Ok(())
}

#[trial(full)]
fn svg_and_png_show_the_chart() -> Result<()> {
    let folder = Folder::new()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [svg, png] = ["svg", "png"].map(|kind| format!("--{kind}={}", path(&format!("t.{kind}"))));
    let (_, said) = ruminate(&[&CALL[..], &[&svg, &png]].concat())?;
    ensure!(said.matches("wrote ").count() == 2, "{said}");
    let svg = std::fs::read_to_string(path("t.svg"))?;
    let line = format!("{}, hard, exit latent-diff=0.03", task()?);
    for part in ["Right answers by recurrence steps", &line, "100 %", "95 % intervals"] {
        ensure!(svg.contains(part), "the picture lacks {part:?}");
    }
    let pixels = Pixels::of(&std::fs::read(path("t.png"))?)?;
    ensure!(pixels.width == 2000 && pixels.colors() > 20 && pixels.covered() > 0.02, "{}", pixels.covered());
    Ok(())
}

/// Task of the demo's first problem.
fn task() -> Result<String> {
    let problems = Problem::read(demo::PROBLEMS, "the demo's problems")?;
    Ok(problems.first().context("no problem")?.task.clone())
}

#[trial(full)]
fn problems_are_read_from_a_file() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.path().join("p.jsonl");
    let (prompt, answer) = demo::PROMPTS[1];
    let line =
        |answer: &str| format!("{}\n", serde_json::json!({ "task": "mine", "prompt": prompt, "answer": answer }));
    let text = line(answer) + &line(" none of this");
    std::fs::write(&path, text)?;
    let file = format!("--prompts={}", path.display());
    let (out, _) = ruminate(&["sweep", "--cpu", "--steps=32", &file, "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&out)?;
    let rows = report["rows"].as_array().context("rows")?;
    ensure!(rows.len() == 1 && rows[0]["task"] == "mine" && rows[0]["accuracy"] == 0.5 && rows[0]["n"] == 2, "{out}");
    Ok(())
}

#[trial(full)]
fn invalid_input_is_refused_before_computing() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.path().join("p.jsonl");
    std::fs::write(&path, "{\"task\":\"t\",\"prompt\":\"3+4\"}\n")?;
    let (file, none) = (format!("--prompts={}", path.display()), format!("--prompts={}.none", path.display()));
    let html = format!("--html={}", folder.path().display());
    let cases: [(&[&str], i32, &str); 8] = [
        (&["sweep", "--cpu", &file], 2, "p.jsonl, line 1 does not parse: missing field `answer`"),
        (&["sweep", "--cpu", &none], 1, "cannot read the problems from"),
        (&["sweep", "--cpu", &html], 2, "is a folder; name a file"),
        (&["sweep", "--cpu", "--tasks=chess"], 2, "unknown task \"chess\" (expected "),
        (&["sweep", "--cpu", "--exit=klo"], 2, "unknown exit criterion `klo`"),
        (&["sweep", "--cpu", "--exit=kl=x"], 2, "invalid threshold `x`"),
        (&["sweep", "--cpu", "--steps=0"], 2, "--steps"),
        (
            &["sweep", "--cpu", "-m=synthetic:n_embd=64,heads=2,hidden=64,vocab=512,layers=1/1/1"],
            2,
            "give problems for this model with --prompts",
        ),
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
    let path = folder.path().join("sweep.html");
    ruminate(&[&CALL[..], &[&format!("--html={}", path.display())]].concat())?;
    for dark in [false, true] {
        let drawn = browser.draw(&path, folder.path(), dark)?;
        ensure!(drawn.dom.contains("data-drawn=") && drawn.dom.contains("<td>latent-diff=0.03</td>"), "no table");
        let pixels = Pixels::of(&drawn.picture)?;
        ensure!(pixels.colors() > 30 && pixels.covered() > 0.2, "{} colors, {}", pixels.colors(), pixels.covered());
    }
    let (cut, wide) = browser.narrow(&path, folder.path())?;
    ensure!(
        cut.is_empty() && wide <= 400,
        "at 400 pixels, the page is {wide} wide, and these texts are cut off: {cut}"
    );
    Ok(())
}

/// Data embedded in a page.
fn data(page: &str) -> Result<serde_json::Value> {
    let data = page.split("id=\"data\">").nth(1).and_then(|rest| rest.split("</script>").next());
    Ok(serde_json::from_str(data.context("the page has no data")?)?)
}

/// With several rules for one task, each line has its own color, dashes and points, at its own steps.
#[trial(full)]
fn exit_rules_have_distinct_lines() -> Result<()> {
    let folder = Folder::new()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let files = [format!("--html={}", path("t.html")), format!("--svg={}", path("t.svg"))];
    let line = ["sweep", "--cpu", "-n=2", "--tasks=cups", "--steps=4,16", "--exit=none,latent-diff,kl,cosine"];
    ruminate(&[&line[..], &[&files[0], &files[1]]].concat())?;
    let page = std::fs::read_to_string(path("t.html"))?;
    let data = data(&page)?;
    let lines = data["lines"].as_array().context("lines")?;
    for name in ["color", "rule"] {
        let all: Vec<_> = lines.iter().filter_map(|line| line[name].as_u64()).collect();
        ensure!(all == [0, 1, 2, 3], "{name}: {all:?}");
    }
    // Points are not shifted along the axis: both points of the line without a rule are at powers of two.
    let svg = std::fs::read_to_string(path("t.svg"))?;
    let number = |element: &str, name: &str| -> Option<f64> {
        element.split(&format!("{name}=\"")).nth(1)?.split('"').next()?.parse().ok()
    };
    let circles = svg.split('<').filter(|element| element.starts_with("circle"));
    let mut points: Vec<f64> = circles.filter_map(|circle| number(circle, "cx")).collect();
    let legend = points.pop().context("a legend")?;
    ensure!(points.len() == 2 && points.iter().all(|x| *x < legend), "{points:?}, {legend}");
    // Labels are centered on their values.
    let labels = svg.split("<text").filter_map(|text| {
        let words = text.split('>').nth(1)?.split('<').next()?.trim();
        Some((words.parse::<u32>().ok()?, number(text, "x")?))
    });
    let labels: std::collections::HashMap<u32, f64> = labels.collect();
    for (steps, x) in [(4, points[0]), (16, points[1])] {
        let at = labels.get(&steps).with_context(|| format!("no label {steps} in {labels:?}"))?;
        ensure!((at - x).abs() <= 2.0, "{steps} steps are at {x}, their label at {at}");
    }
    Ok(())
}
