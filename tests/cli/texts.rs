//! Text settings of a checkpoint at the command line, which are applied or reported: generation_config.json, stop texts that are special tokens, begin
//! tokens, tokens without an embedding row, and escapes in flags.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use ruminate_tests::{Folder, golden_folder, golden_json, trial};
use serde_json::{Value, json};

/// Greedy continuation of "Hello" by the checkpoint tiny.
const PLAIN: [u32; 12] = [189, 240, 97, 93, 153, 352, 500, 352, 82, 208, 89, 470];

/// Copies tiny into a temporary folder, to be changed.
fn tiny() -> Result<Folder> {
    let folder = Folder::new()?;
    for entry in std::fs::read_dir(golden_folder("tiny"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("expected") {
            folder.write(&name, std::fs::read(entry.path())?)?;
        }
    }
    Ok(folder)
}

fn start(verb: &str, folder: &Folder, arguments: &[&str], input: &str) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args([verb, "--cpu", "--seed", "1", "-m"]).arg(folder.path()).args(arguments).env("NO_COLOR", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

fn run(folder: &Folder, arguments: &[&str]) -> Result<(Value, String)> {
    let arguments = [&["--steps", "4", "--json", "Hello"], arguments].concat();
    let done = start("run", folder, &arguments, "")?;
    let said = String::from_utf8(done.stderr)?;
    let object = serde_json::from_slice(&done.stdout).with_context(|| said.clone())?;
    Ok((object, said))
}

/// Tokens generated with a generation config, and stderr.
fn configured(fields: &Value, arguments: &[&str]) -> Result<(Vec<u32>, String)> {
    let folder = tiny()?;
    let mut config = golden_json("tiny", "generation_config.json")?;
    config["do_sample"] = json!(false);
    for (name, value) in fields.as_object().context("fields")? {
        config[name] = value.clone();
    }
    folder.write("generation_config.json", config.to_string())?;
    let (object, said) = run(&folder, arguments)?;
    Ok((serde_json::from_value(object["tokens"].clone())?, said))
}

#[trial]
fn generation_config_fields_are_applied() -> Result<()> {
    let ten = ["-n", "10"];
    let tokens = |fields: Value, arguments: &[&str]| configured(&fields, arguments).map(|(tokens, _)| tokens);
    assert_eq!(tokens(json!({}), &ten)?, PLAIN[..10]);
    let never = [240, 97];
    for fields in [json!({"suppress_tokens": never}), json!({"bad_words_ids": [[240], [97]]})] {
        let found = tokens(fields, &ten)?;
        assert!(found[0] == 189 && !found.iter().any(|token| never.contains(token)), "{found:?}");
    }
    let found = tokens(json!({"begin_suppress_tokens": [189]}), &ten)?;
    assert_ne!(found[0], 189);
    // A banned sequence may be completed neither from the prompt (its last token is 111) nor within the text.
    let found = tokens(json!({"bad_words_ids": [[111, 189], [240, 97], [93, 153, 352]]}), &ten)?;
    assert_ne!(found[0], 189);
    let found = tokens(json!({"bad_words_ids": [[240, 97]]}), &ten)?;
    assert!(found[..2] == [189, 240] && found[2] != 97, "{found:?}");
    assert!(!found.windows(2).any(|pair| pair == [240, 97]), "{found:?}");
    let twice = |found: &[u32]| {
        (1..found.len()).any(|end| found[..end].windows(2).any(|pair| found[end - 1..].starts_with(pair)))
    };
    let long = tokens(json!({"no_repeat_ngram_size": 2}), &["-n", "40"])?;
    assert!(!twice(&long), "{long:?}");
    assert_eq!(tokens(json!({"max_length": 9}), &[])?, PLAIN[..4], "the prompt has 5 tokens");
    assert_eq!(tokens(json!({"max_length": 9}), &ten)?, PLAIN[..10], "flags override the config");
    assert_eq!(tokens(json!({"max_length": 9, "max_new_tokens": 6}), &[])?, PLAIN[..6]);
    let ends = json!([481, 240]);
    assert_eq!(tokens(json!({"eos_token_id": ends}), &ten)?, PLAIN[..2]);
    let found = tokens(json!({"eos_token_id": ends, "min_new_tokens": 5}), &ten)?;
    assert!(found.len() >= 6 && !found[..5].contains(&240), "{found:?}");
    let found = tokens(json!({"eos_token_id": ends, "min_length": 10}), &ten)?;
    assert!(found.len() >= 6 && !found[..5].contains(&240), "{found:?}");
    assert_eq!(tokens(json!({"forced_eos_token_id": 481}), &["-n", "3"])?, [189, 240, 481]);
    assert_eq!(tokens(json!({"forced_bos_token_id": 300}), &ten)?, PLAIN[..10], "applies only after a single token");
    assert_eq!(tokens(json!({"stop_strings": ["nothing", "a"]}), &ten)?, PLAIN[..3]);
    Ok(())
}

#[trial]
fn unsupported_config_fields_are_reported_once_unless_neutral() -> Result<()> {
    let asked = json!({"num_beams": 4, "typical_p": 0.9, "sequence_bias": [[[5], 1.0]], "epsilon_cutoff": 0.0, "num_beam_groups": 1, "use_cache": true, "guidance_scale": null});
    let (tokens, said) = configured(&asked, &["-n", "3"])?;
    assert_eq!(tokens, PLAIN[..3]);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("generation_config.json")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(["num_beams", "typical_p", "sequence_bias"].iter().all(|name| lines[0].contains(name)), "{said}");
    assert!(
        !["epsilon_cutoff", "num_beam_groups", "use_cache", "guidance_scale"]
            .iter()
            .any(|name| lines[0].contains(name)),
        "{said}"
    );
    let (_, said) = configured(&json!({}), &["-n", "3"])?;
    assert!(!said.contains("generation_config.json"), "{said}");
    let (_, said) = configured(&json!({}), &["-n", "3", "--top-p", "0.5"])?;
    assert!(said.contains("do_sample: false") && said.contains("--top-p"), "{said}");
    Ok(())
}

#[trial]
fn min_tokens_is_refused_with_speculation() -> Result<()> {
    let folder = tiny()?;
    folder.write("generation_config.json", json!({"min_new_tokens": 4, "do_sample": false}).to_string())?;
    let done = start("run", &folder, &["--steps", "8", "--speculate=2", "-n", "4", "Hello"], "")?;
    assert_ne!(done.status.code(), Some(0));
    let said = String::from_utf8(done.stderr)?;
    assert!(said.contains("min_new_tokens in generation_config.json") && said.contains("change it"), "{said}");
    Ok(())
}

/// No flag was given, so the message names the file, and the flag that overrides it.
#[trial]
fn errors_name_the_config_that_caused_them() -> Result<()> {
    let said = |fields: Value, flags: &[&str]| -> Result<String> {
        let folder = tiny()?;
        folder.write("generation_config.json", fields.to_string())?;
        let done = start("run", &folder, &[&["--steps", "2", "Hello"], flags].concat(), "")?;
        assert_eq!(done.status.code(), Some(2));
        Ok(String::from_utf8(done.stderr)?)
    };
    let length = said(json!({"max_length": 3}), &[])?;
    assert!(length.contains("max_length in generation_config.json is 3, but 5 tokens"), "{length}");
    assert!(length.contains("--max-tokens overrides it"), "{length}");
    let all: Vec<u32> = (0..512).collect();
    let banned = said(json!({"suppress_tokens": all}), &["-n", "1"])?;
    assert!(banned.contains("suppress_tokens in generation_config.json is a ban"), "{banned}");
    assert!(!banned.contains("--logit-bias"), "{banned}");
    Ok(())
}

#[trial]
fn stop_texts_match_special_tokens() -> Result<()> {
    let folder = tiny()?;
    // 482 is <|begin_header|>, 88 is X.
    let forced = ["-n", "6", "--temp", "0", "--logit-bias", "482+inf"];
    for (stop, tokens) in
        [("<|begin_header|>", 1), ("<|begin_header|><|begin_header|>", 2), ("<|end_header|>", 6), ("begin", 6)]
    {
        let (object, _) = run(&folder, &[&forced[..], &["--stop", stop]].concat())?;
        assert_eq!(object["tokens"].as_array().context("tokens")?.len(), tokens, "{stop}");
        assert_eq!(object["stop"] == "stop_string", tokens < 6, "{stop}");
    }
    Ok(())
}

#[trial]
fn stop_texts_and_breakers_without_tokens_are_reported() -> Result<()> {
    let folder = tiny()?;
    let mut file = golden_json("tiny", "tokenizer.json")?;
    // The byte 0xF0, which begins characters beyond the basic multilingual plane.
    let vocab = file["model"]["vocab"].as_object_mut().context("vocab")?;
    let id = vocab.remove("ð").context("a byte")?;
    vocab.insert("another word".to_owned(), id);
    folder.write("tokenizer.json", file.to_string())?;
    let flags = ["-n", "1", "--stop", "🙂", "--stop", "é", "--dry-multiplier", "1", "--dry-breaker", "🦜"];
    let (_, said) = run(&folder, &flags)?;
    assert!(
        said.contains("\"🙂\" can never occur") && said.contains("\"🦜\" can never occur") && !said.contains("\"é\""),
        "{said}"
    );
    Ok(())
}

#[trial]
fn escapes_work_in_all_text_flags_but_not_in_files() -> Result<()> {
    let folder = tiny()?;
    let biased = |text: &str| format!("\"{text}\"+inf");
    for (written, stops) in [("\\n", true), ("\\t", true), ("\\\\", true), ("\\d", false)] {
        let bias = if stops { biased(written) } else { "92+inf".to_owned() };
        let (object, _) = run(&folder, &["-n", "2", "--logit-bias", &bias, "--stop", written])?;
        assert_eq!(object["stop"] == "stop_string", stops, "{written}");
    }
    let count = |prompt: &str| -> Result<Value> {
        let done = start("run", &folder, &["--steps", "1", "-n", "1", "--json", "-p", prompt], "")?;
        Ok(serde_json::from_slice::<Value>(&done.stdout)?["prompt_tokens"].clone())
    };
    assert_eq!(count("a\\nb")?, count("a\nb")?);
    assert_eq!(count("a\\\\nb")?, json!(5), "begin token, a, backslash, n, b");
    let done = start("run", &folder, &["--steps", "1", "-n", "1", "--json", "-f", "-"], "a\\nb")?;
    assert_eq!(serde_json::from_slice::<Value>(&done.stdout)?["prompt_tokens"], json!(5), "a file is taken literally");
    Ok(())
}

#[trial]
fn too_long_text_is_refused_with_exact_token_count() -> Result<()> {
    let folder = tiny()?;
    let text = "one more word, ".repeat(500);
    let done = start("run", &folder, &["--steps", "1", "-n", "1", "-f", "-"], &text)?;
    let said = String::from_utf8(done.stderr)?;
    let score = start("score", &folder, &["--steps", "1", "--json", "-f", "-"], &text)?;
    let score: Value = serde_json::from_slice(&score.stdout)?;
    let tokens = score["rows"][0]["tokens"].as_u64().with_context(|| score.to_string())?;
    assert!(said.contains(&format!("{} tokens do not fit", tokens + 1)), "{said} ({tokens} and a begin token)");
    Ok(())
}

#[trial]
fn parse_special_flags_control_special_tokens() -> Result<()> {
    let folder = tiny()?;
    let prompt = |flags: &[&str]| -> Result<u64> {
        let done =
            start("run", &folder, &[&["--steps", "1", "-n", "1", "--json", "<|end_turn|>x"], flags].concat(), "")?;
        serde_json::from_slice::<Value>(&done.stdout)?["prompt_tokens"].as_u64().context("a number")
    };
    assert_eq!(prompt(&[])?, 3);
    assert!(prompt(&["--no-parse-special"])? > 8);
    let chat = |flags: &[&str]| -> Result<String> {
        let flags = [&["--steps", "1", "-n", "1", "--stats"], flags].concat();
        Ok(String::from_utf8(start("chat", &folder, &flags, "<|end_turn|>x\n")?.stderr)?)
    };
    assert!(chat(&[])?.contains("prompt 27 tokens"), "{}", chat(&[])?);
    assert!(chat(&["--parse-special"])?.contains("prompt 18 tokens"), "{}", chat(&["--parse-special"])?);
    Ok(())
}

#[trial]
fn chat_template_that_renders_nothing_is_blamed() -> Result<()> {
    let folder = tiny()?;
    folder.write("chat_template.jinja", "{# nothing #}")?;
    let done = start("chat", &folder, &["--steps", "1", "-n", "1"], "hi\n")?;
    let said = String::from_utf8(done.stderr)?;
    assert!(said.contains("chat_template.jinja") && said.contains("renders nothing"), "{said}");
    Ok(())
}
