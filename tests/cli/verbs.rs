//! Subcommands: stdout, stderr and exit codes. The tests run on the CPU reference, so that they need no driver.

use std::process::Output;

use ruminate_tests::trial;

use crate::call::{output, piped, text};

const PROMPT: &str = "The ball is under cup C. Swap CE AC AB AD AE";

#[trial]
fn text_goes_to_stdout_and_figures_to_stderr() {
    let done = output(&["run", "--cpu", "--steps", "16", "--seed", "1", "--stats", PROMPT]);
    assert_eq!(text(&done.stdout), " A.\n");
    let errors = text(&done.stderr);
    assert!(
        errors.contains("16 steps per token") && errors.contains("seed 1") && errors.contains("launches"),
        "{errors}"
    );
    assert_eq!(done.status.code(), Some(0));
}

#[trial]
fn quiet_prints_nothing_but_the_text() {
    let done = output(&["run", "--cpu", "--quiet", "--steps", "16", "-p", PROMPT]);
    assert_eq!((text(&done.stdout).as_str(), text(&done.stderr).as_str()), (" A.\n", ""));
}

#[trial]
fn run_without_prompt_shows_demo_at_several_depths() {
    let shown = text(&output(&["run", "--cpu"]).stdout);
    assert!(shown.contains("    1 step: C.  (wrong)") && shown.contains("32 steps: A.  (right)"), "{shown}");
}

#[trial]
fn prompt_is_read_from_stdin_or_file() {
    for arguments in [&["run", "--cpu", "-q", "-"][..], &["run", "--cpu", "-q", "-f", "-"], &["run", "--cpu", "-q"]] {
        let done = piped(arguments, format!("{PROMPT}\n").as_bytes());
        assert_eq!(text(&done.stdout), " A.\n", "{arguments:?}: {}", text(&done.stderr));
    }
}

#[trial]
fn json_is_one_object_or_one_per_token_with_stream() {
    let whole = output(&["run", "--cpu", "-q", "--json", "--seed", "3", PROMPT]);
    let object: serde_json::Value = serde_json::from_slice(&whole.stdout).expect("one JSON object");
    assert_eq!((object["text"].as_str(), object["stop"].as_str()), (Some(" A."), Some("end_token")));
    assert_eq!(object["seed"], 3);
    let lines = text(&output(&["run", "--cpu", "-q", "--json", "--stream", PROMPT]).stdout);
    let objects: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a JSON object per line")).collect();
    let joined: String = objects.iter().filter_map(|object| object["text"].as_str()).collect();
    assert_eq!(joined, " A.");
    assert_eq!(objects.len(), object["tokens"].as_array().expect("a list of tokens").len() + 1);
}

#[trial]
fn steps_are_shown_as_numbers_without_colors() {
    let done = output(&["run", "--cpu", "--seed=1", "--steps=16", "--show-steps", PROMPT]);
    let errors = text(&done.stderr);
    let plain = text(&output(&["run", "--cpu", "--seed=1", "--steps=16", PROMPT]).stdout);
    assert!(text(&done.stdout).contains("¹⁶") && text(&done.stdout).replace("¹⁶", "") == plain, "{errors}");
    assert!(errors.contains("small numbers: recurrence steps of the token before them, 16 of at most 16"), "{errors}");
    let done = output(&["run", "--cpu", "--seed=1", "--steps=32", "--exit=latent-diff", "--show-steps", PROMPT]);
    let (shown, errors) = (text(&done.stdout), text(&done.stderr));
    assert!(!shown.contains("³²") && errors.contains("of at most 32"), "{shown}{errors}");
    assert_eq!(output(&["run", "--cpu", "--show-steps", "--json", PROMPT]).status.code(), Some(2));
}

#[trial]
fn logprobs_are_printed_per_token_or_in_json() {
    let line = ["run", "--cpu", "-q", "--steps=16", "--seed=1", "--temp=0", "--logprobs=3", PROMPT];
    let shown = text(&output(&line).stdout);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("token") && lines[0].contains("the 3 most likely"), "{shown}");
    assert!(lines[1].starts_with("\" A\"") && lines[1].contains("*\" A\" 9") && lines.len() >= 3, "{shown}");
    let object: serde_json::Value =
        serde_json::from_slice(&output(&[&line[..7], &["--json", PROMPT]].concat()).stdout).expect("one JSON object");
    let first = &object["logprobs"][0];
    assert_eq!((object["text"].as_str(), first["text"].as_str()), (Some(" A."), Some(" A")), "{object}");
    assert_eq!(first["top"].as_array().map(Vec::len), Some(3), "{first}");
    assert_eq!((&first["top"][0]["token"], &first["top"][0]["logprob"]), (&first["token"], &first["logprob"]));
    let lines = text(&output(&[&line[..7], &["--json", "--stream", PROMPT]].concat()).stdout);
    let object: serde_json::Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(&object, first);
    let done = output(&["run", "--cpu", "--logprobs", "21", PROMPT]);
    assert!(done.status.code() == Some(2) && text(&done.stderr).contains("0..=20"), "{}", text(&done.stderr));
}

#[trial]
fn logit_bias_bans_and_forces_tokens_and_dry_penalizes_repetition() {
    let run = |flags: &[&str]| {
        let done = output(&[&["run", "--cpu", "-q", "--steps=16", "--temp=0", "-n=6"], flags, &[PROMPT]].concat());
        (text(&done.stdout), text(&done.stderr), done.status.code())
    };
    let banned = run(&["--logit-bias", "\" A\"=false"]).0;
    assert!(!banned.contains('A'), "{banned}");
    let forced = run(&["--logit-bias=\" A\"+inf"]).0;
    assert_eq!(forced, " A A A A A A\n");
    let left = run(&["--logit-bias=\" A\"+15", "--dry-multiplier=50", "--dry-allowed-length=1"]).0;
    assert!(left.starts_with(" A") && left != forced, "{left}");
    for (flags, says) in [
        (&["--logit-bias", "x+1"][..], "is not a token and a value"),
        (&["--logit-bias", "\" A B\"+1"], "is not one token but"),
        (&["--logit-bias", "99999+1"], "--logit-bias is set for token id 99999, but the model has "),
        (&["--dry-base", "2"], "--dry-multiplier"),
        (&["--dry-multiplier=-1"], "--dry-multiplier is -1"),
        (&["--dry-multiplier=1", "--dry-base=0"], "--dry-base is 0"),
    ] {
        let (_, errors, code) = run(flags);
        assert!(matches!(code, Some(1 | 2)) && errors.contains(says), "{flags:?}: {code:?} {errors}");
    }
}

#[trial]
fn noise_is_reproducible_and_refused_by_trace() {
    let line = ["run", "--cpu", "-q", "--steps=16", "--seed=5", "--json", "--logprobs=2", PROMPT];
    let run = |noise: &str| {
        let done = output(&[&line[..7], &[noise, PROMPT]].concat());
        let object: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one JSON object");
        object["logprobs"].clone()
    };
    let found = run("--noise=geom=0.3");
    assert_eq!(found, run("--noise=geom=0.3,renorm"));
    assert!(found != run("--noise=geom=0.3,raw") && found != run("--noise=chi=0.3"), "{found}");
    let done = output(&["trace", "--cpu", "--noise=geom=0.1", PROMPT]);
    let errors = text(&done.stderr);
    assert!(done.status.code() == Some(2) && errors.contains("leave out --noise"), "{errors}");
}

#[trial]
fn trace_refuses_parallel_decoding() {
    for flag in ["--speculate", "--pipeline", "--diffusion"] {
        let done = output(&["trace", "--cpu", flag, PROMPT]);
        let errors = text(&done.stderr);
        assert!(done.status.code() == Some(2) && errors.contains("leave out --speculate"), "{flag}: {errors}");
    }
}

#[trial]
fn completions_contain_subcommands_and_flags() {
    let script = text(&output(&["completions", "bash"]).stdout);
    assert!(script.contains("devices") && script.contains("--steps"), "no subcommands or flags in the script");
}

#[trial]
fn score_has_a_row_per_depth_with_divergence() {
    let line = ["score", "--cpu", "--steps", "1,4", "--dtype", "q8", "--against", "bf16", "--json", PROMPT];
    let done = output(&line);
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let rows = json["rows"].as_array().expect("rows");
    assert_eq!(rows.iter().map(|row| row["steps"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(4)]);
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
        assert!(number("kl") > 0.0 && number("kl") <= number("kl_most"), "{row}");
        assert!((number("perplexity").ln() - number("nll")).abs() < 1e-9 && number("tokens") > 5.0, "{row}");
    }
    let table = text(&output(&line[..8].iter().chain(&[PROMPT]).copied().collect::<Vec<_>>()).stdout);
    assert!(table.contains("weights in q8") && table.contains("in bf16") && table.lines().count() == 4, "{table}");
    for wrong in [["score", "--cpu", ""], ["score", "--ctx-size=1", PROMPT], ["score", "--steps=0", PROMPT]] {
        assert_eq!(output(&wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(output(&["score", "--cpu", "--ctx-size", "9999", PROMPT]).status.code(), Some(2));
    let done = output(&["score", "--cpu", "--steps", "2", "--kv-dtype", "q8", "--against-kv", "f32", "--json", PROMPT]);
    let found: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one JSON object");
    assert_eq!((found["kv_dtype"].as_str(), found["against_kv"].as_str()), (Some("q8"), Some("f32")));
    let kl = found["rows"][0]["kl"].as_f64().expect("a divergence");
    assert!(0.0 < kl && kl < 0.01, "{found}");
}

#[trial]
fn undefined_figures_are_omitted() {
    let shown = text(&output(&["score", "--cpu", "--steps=1,2", "--against=q8", "-n=1", PROMPT]).stdout);
    assert!(shown.lines().count() == 4 && !shown.contains("NaN") && !shown.contains('±'), "{shown}");
    let errors = text(&output(&["run", "--cpu", "--steps=4", "--seed=1", "-n=1", PROMPT]).stderr);
    assert!(errors.contains("generated 1 token, - tokens/s") && errors.contains("- GB/s of weights"), "{errors}");
}

/// Records of one part of a report.
fn records<'a>(report: &'a serde_json::Value, part: &str) -> Vec<&'a serde_json::Value> {
    let all = report["records"].as_array().expect("records");
    all.iter().filter(|record| record["part"] == part).collect()
}

#[trial]
fn bench_times_tokens_per_depth_and_fits_a_line() {
    let line = ["bench", "--cpu", "--only", "tokens", "--steps", "1,2,4", "--prefill", "9", "--decode", "2", "-r", "2"];
    let done = output(&[&line[..], &["-o", "json"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let tokens = records(&report, "tokens");
    let at = |name: &str| {
        let found = tokens.iter().filter(|record| record["name"] == name);
        found.map(|record| record["steps"].as_u64().unwrap_or(0)).collect::<Vec<_>>()
    };
    assert_eq!((at("prefill"), at("decode")), (vec![1, 2, 4], vec![1, 2, 4]), "{report}");
    for record in tokens {
        let number = |key: &str| record[key].as_f64().unwrap_or(f64::NAN);
        assert!(number("seconds_least") > 0.0 && number("seconds_least") <= number("seconds"), "{record}");
        assert!(number("seconds") <= number("seconds_most"), "{record}");
        assert!((number("tokens_per_s") * number("seconds") - 1.0).abs() < 1e-9, "{record}");
    }
    assert!(report["decode_line"]["slope_s_per_step"].as_f64().is_some_and(f64::is_finite), "{report}");
    let table = text(&output(&line).stdout);
    assert!(table.contains("| prefill 9 |") && table.contains("ms per step"), "{table}");
}

#[trial]
fn bench_times_only_named_kernels() {
    let line = ["bench", "--cpu", "--only=kernels", "--kernel=rms_norm,argmax", "--rows=1,3", "-r=2", "-o=csv"];
    let done = output(&line);
    let mut csv = csv::Reader::from_reader(&done.stdout[..]);
    let heads = csv.headers().expect("a line of names").clone();
    let place = |name: &str| heads.iter().position(|head| head == name).expect("a column");
    let mut found = Vec::new();
    for record in csv.records() {
        let record = record.expect("a line of values");
        assert!(record[place("seconds")].parse::<f64>().is_ok_and(|seconds| seconds > 0.0), "{record:?}");
        found.push((record[place("name")].to_owned(), record[place("rows")].to_owned()));
    }
    let expected = [
        ("rms_norm.workgroup", "1"),
        ("argmax.workgroup", "1"),
        ("rms_norm.workgroup", "3"),
        ("argmax.workgroup", "3"),
    ];
    assert_eq!(found, expected.map(|(name, rows)| (name.to_owned(), rows.to_owned())));
}

#[trial]
fn bench_refuses_invalid_requests() {
    for (wrong, says) in [
        (&["bench", "--cpu", "--kernel", "matmull"][..], "unknown kernel `matmull`"),
        (&["bench", "--cpu", "--only", "ceilings"], "no ceilings; leave out --cpu"),
        (&["bench", "--cpu", "--prefill", "511"], "at most 510"),
        (&["bench", "--rows", "0"], "--rows"),
        (&["bench", "-o", "xml"], "xml"),
    ] {
        let done = output(wrong);
        assert_eq!(done.status.code(), Some(2), "{wrong:?}");
        assert!(text(&done.stderr).contains(says), "{wrong:?}: {}", text(&done.stderr));
    }
}

#[trial]
fn quantized_model_runs_from_its_folder() {
    let home = folder();
    let folder = home.path().join("small");
    let path = folder.to_str().expect("the path is UTF-8");
    let done = output(&["quantize", "--dtype", "q4,adapter=bf16", "-o", path]);
    let shown = text(&done.stdout);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(shown.contains("model.safetensors") && shown.contains("q4,adapter=bf16: 430080 weights"), "{shown}");
    assert_eq!(text(&output(&["run", "--cpu", "-q", "--steps", "16", "-m", path, PROMPT]).stdout), " A.\n");
    let shown = text(&output(&["inspect", "-m", path]).stdout);
    assert!(shown.contains("kB q4") && shown.contains("in q4,adapter=bf16"), "{shown}");
    let shown = text(&output(&["inspect", "--dtype", "q8,coda=bf16"]).stdout);
    assert!(shown.contains("in q8,coda=bf16"), "{shown}");
    // The divergence from the original equals that of rounding while loading.
    let score = |arguments: &[&str]| {
        let done = output(&[&["score", "--cpu", "--json", "--steps", "2"], arguments, &[PROMPT]].concat());
        let value: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        value["rows"].clone()
    };
    let original = home.path().join("original");
    std::fs::create_dir(&original).expect("a folder");
    let ruminate::Source::Embedded(files) = ruminate::demo::source() else { panic!("the demo is embedded") };
    files.iter().for_each(|(name, content)| std::fs::write(original.join(name), content).expect("a file"));
    let original = original.to_str().expect("the path is UTF-8");
    let stored = score(&["-m", path, "--against", original]);
    assert_eq!(stored, score(&["--dtype", "q4,adapter=bf16", "--against", "bf16"]));
    // The original, rounded the same way, has no divergence.
    let same = score(&["-m", path, "--dtype", "q4,adapter=bf16", "--against", original]);
    assert_eq!(same[0]["kl_most"], 0.0, "{same}");
}

#[trial]
fn invalid_quantization_requests_are_refused() {
    let home = folder();
    let folder = home.path().join("small");
    let path = folder.to_str().expect("the path is UTF-8");
    let refused = |arguments: &[&str], code, words: &str| {
        let done = output(arguments);
        let message = text(&done.stderr);
        assert!(done.status.code() == Some(code) && message.contains(words), "{arguments:?}: {message}");
    };
    refused(&["quantize", "--dtype", "q5", "-o", path], 2, "unknown dtype `q5`");
    refused(&["quantize", "--dtype", "q4,wte=q8", "-o", path], 2, "unknown group of matrices `wte`");
    refused(&["quantize", "--dtype", "bf16", "-o", path], 2, "a quantized one, such as q8 or q4");
    refused(&["quantize", "-o", path], 2, "--dtype");
    refused(&["quantize", "--dtype", "q8"], 2, "--output");
    refused(&["quantize", "--dtype", "q4,head=q8", "-o", path], 2, "this model's head is its embedding");
    assert!(!folder.exists());
    assert!(output(&["quantize", "--dtype", "q8", "-o", path]).status.success());
    refused(&["quantize", "--dtype", "q8", "-o", path], 2, "is not empty");
    assert!(output(&["quantize", "--dtype", "q8", "-o", path, "--force"]).status.success());
    refused(&["quantize", "-m", path, "--dtype", "q4", "-o", "elsewhere"], 4, "already quantized, in q8");
    refused(&["run", "--cpu", "-m", path, "--dtype", "q4", "x"], 2, "the files hold the weights in q8, not in q4");
}

fn folder() -> ruminate_tests::Folder {
    ruminate_tests::Folder::new().expect("a temporary folder")
}

#[trial]
fn kv_dtype_flag_is_applied() {
    let done = output(&["run", "--cpu", "--quiet", "--steps", "16", "--kv-dtype", "q8", PROMPT]);
    assert_eq!(text(&done.stdout), " A.\n", "{}", text(&done.stderr));
    let done = output(&["run", "--cpu", "--kv-dtype", "q4", PROMPT]);
    let errors = text(&done.stderr);
    assert!(errors.contains("--kv-dtype") && errors.contains("f32, bf16, q8"), "{errors}");
    assert_eq!(done.status.code(), Some(2));
    let shown = text(&output(&["inspect", "--kv-dtype", "q8"]).stdout);
    assert!(shown.contains("keys and values per position (q8)"), "{shown}");
}

#[trial]
fn tune_refuses_a_folder_as_output_before_timing() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let path = folder.path().to_str().expect("its name is text");
    let done = output(&["tune", "--rows", "1", "--output", path]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("is a folder; name a file to write"), "{}", text(&done.stderr));
}

#[trial]
fn saved_session_resumes_with_or_without_prompt() {
    let folder = ruminate_tests::Folder::new().expect("the system gives a folder");
    let path = folder.path().join("session");
    let file = path.to_str().expect("the system's folders have names in UTF-8");
    let run = |more: &[&str]| output(&[&["run", "--cpu", "-q", "--steps", "8", "--temp", "1"], more].concat());
    let whole = run(&["--seed", "3", "-n", "9", "--json", "--stream", PROMPT]);
    let first = run(&["--seed", "3", "-n", "2", "--json", "--stream", "--save-session", file, PROMPT]);
    let second = run(&["-n", "7", "--json", "--stream", "--resume", file]);
    let tokens = |output: &Output| -> Vec<String> {
        let lines = text(&output.stdout);
        let tokens = lines.lines().filter_map(|line| line.split("\"token\":").nth(1)?.split([',', '}']).next());
        tokens.map(str::to_owned).collect()
    };
    assert_eq!([tokens(&first), tokens(&second)].concat(), tokens(&whole), "{}", text(&second.stderr));
    for _ in 0..2 {
        let more = run(&["--resume", file, "--save-session", file, " The ball"]);
        assert!(more.status.success(), "{}", text(&more.stderr));
    }
    // The model has ended its text itself.
    let ended = run(&["--resume", file]);
    assert_eq!(ended.status.code(), Some(2), "{}", text(&ended.stdout));
    assert!(text(&ended.stderr).contains("has ended; give a prompt"), "{}", text(&ended.stderr));
    for (arguments, reason) in [
        (&["--resume", file, "--seed", "4"][..], "--seed"),
        (&["--resume", file, "--kv-dtype", "q8"], "--kv-dtype"),
        (&["--save-session", file], "prompt"),
        (&["--save-session", "/nowhere/at/all", PROMPT], "folder"),
    ] {
        let refused = run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(text(&refused.stderr).contains(reason), "{arguments:?}: {}", text(&refused.stderr));
    }
    std::fs::write(&path, "It was a dark and stormy night.").expect("the folder can be written");
    let refused = run(&["--resume", file, "x"]);
    assert!(text(&refused.stderr).contains("is not a saved session"), "{}", text(&refused.stderr));
}
