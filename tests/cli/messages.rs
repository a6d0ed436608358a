//! Wording of messages: file formats, devices, flags, singular and plural.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use ruminate_tests::{Folder, trial};

use crate::call::{output, ruminate, text};

/// Runs a call that must fail with an exit code and a message that contains `words`.
#[track_caller]
fn refused(arguments: &[&str], code: i32, words: &[&str]) -> String {
    let done = output(arguments);
    let errors = text(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {errors}");
    for word in words {
        assert!(errors.contains(word), "{arguments:?}: {word:?} is not in {errors}");
    }
    errors
}

#[trial]
fn missing_backend_or_adapter_is_named() {
    let (backend, name) = if cfg!(target_os = "macos") { ("dx12", "DX12") } else { ("metal", "Metal") };
    refused(&["run", "--backend", backend, "x"], 3, &[&format!("no adapter for {name}; found: ")]);
    refused(&["run", "--backend", backend, "--gpu", "abc", "x"], 3, &[&format!("no adapter for name `abc` on {name}")]);
    refused(&["run", "--gpu", "77", "x"], 3, &["no adapter for index 77; found: "]);
}

#[trial]
fn every_subcommand_prints_program_version() {
    let version = text(&output(&["--version"]).stdout);
    for verb in ["run", "chat", "sweep", "inspect", "devices"] {
        assert_eq!(text(&output(&[verb, "--version"]).stdout), version, "{verb}");
    }
}

#[trial]
fn closed_stdout_is_not_an_error() {
    // More output than a pipe holds, for each way of writing it.
    for arguments in [
        &["inspect", "--json", "--tensors"][..],
        &["inspect", "-m", "synthetic:huginn-0125", "--json"],
        &["bench", "--cpu", "--only=kernels", "--kernel=argmax", "--rows=1", "-r=1", "-o=json"],
        &["bench", "--cpu", "--only=kernels", "--kernel=argmax", "--rows=1", "-r=1", "-o=csv"],
        &["sweep", "--cpu", "-n=1", "--steps=1", "--csv"],
        &["completions", "bash"],
    ] {
        let mut child = ruminate(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let done = child.wait_with_output().expect("it ends");
        assert!(done.status.success() && !text(&done.stderr).contains("error"), "{arguments:?}: {done:?}");
    }
    let mut child = ruminate(&["inspect", "--json"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("a line");
    assert!(line == "{\n" && child.wait().expect("it ends").success());
}

#[trial]
fn counts_of_one_are_singular() {
    let shown = text(&output(&["score", "--cpu", "--steps=1", "-n=2", "The ball is under cup A."]).stdout);
    assert!(shown.contains(" in 1 window, "), "{shown}");
    let done = output(&["run", "--cpu", "--steps=1", "-n=1", "The ball is under cup "]);
    let errors = text(&done.stderr);
    assert!(errors.contains("generated 1 token, ") && errors.contains(" 1 step per token"), "{errors}");
    let shown = text(&output(&["sweep", "--cpu", "-n=1", "--tasks=cups", "--steps=1"]).stdout);
    assert!(shown.contains("1 problem ·"), "{shown}");
    let shown = text(&output(&["trace", "--cpu", "--steps=1", "-n=1", "The ball is under cup "]).stdout);
    assert!(shown.contains(" at 1 step ·"), "{shown}");
}

#[trial]
fn small_model_sizes_are_in_kilobytes() {
    let line = ["bench", "--cpu", "--only=tokens", "--steps=1", "--prefill=0", "--decode=1", "-r=1"];
    let shown = text(&output(&line).stdout);
    assert!(shown.contains("(bf16, 860.2 kB)"), "{shown}");
}

#[trial]
fn unsupported_file_formats_are_named() {
    let folder = Folder::new().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("the path is UTF-8").to_owned();
    let files: [(&str, &[u8], &str); 6] = [
        ("a.gguf", b"GGUF\x03\0\0\0", "a llama.cpp GGUF file"),
        // The content determines the format, not the extension.
        ("b.bin", b"GGUF\x03\0\0\0", "a llama.cpp GGUF file"),
        ("c.bin", b"PK\x03\x04rest", "a PyTorch pickle"),
        ("d.pth", b"", "a PyTorch pickle"),
        ("e.h5", b"x", "a Keras HDF5 file"),
        ("f.onnx", b"x", "an ONNX graph"),
    ];
    for (name, content, format) in files {
        folder.write(name, content).expect("it is written");
        refused(&["run", "--cpu", "-m", &path(name), "x"], 4, &[name, format, "only safetensors are read"]);
    }
    // A folder with such files, and a missing file.
    let words = ["it has no config.json; found a.gguf, a llama.cpp GGUF file, but only safetensors are supported"];
    refused(&["run", "--cpu", "-m", &path(""), "x"], 4, &words);
    refused(
        &["run", "--cpu", "-m", &path("none.gguf"), "x"],
        4,
        &["none.gguf is not a model folder: it does not exist"],
    );
}

#[trial]
fn impossible_comparison_names_flag_against() {
    let folder = Folder::new().expect("a folder");
    let path = folder.path().join("small");
    let small = path.to_str().expect("the path is UTF-8");
    assert!(output(&["quantize", "--dtype=q8", "-o", small]).status.success());
    let words = ["--against bf16", "hold the weights in q8", "--against MODEL"];
    let errors = refused(&["score", "--cpu", "--steps=1", "-m", small, "--against", "bf16", "The ball"], 2, &words);
    assert!(!errors.contains("--dtype") && !errors.contains("leave the dtype out"), "{errors}");
    let done = output(&["score", "--cpu", "--steps=1", "-m", small, "--against", "q8", "The ball"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
}

#[trial]
fn commands_that_need_a_gpu_refuse_cpu_flag() {
    for call in [&["doctor"][..], &["bench", "--only=ceilings"], &["tune"]] {
        refused(&[call, &["--cpu"]].concat(), 2, &["the CPU reference", "leave out --cpu"]);
    }
}

#[trial]
fn limits_of_the_model_are_numbers() {
    for (flags, words) in [
        (&["-c", "100000"][..], "--ctx-size is 100000; it must be from 1 to 512, "),
        (&["--speculate=100", "--steps=32"], "--speculate is 100; it must be from 1 to 32, "),
        (&["--logit-bias", "99999+1"], "--logit-bias is set for token id 99999, but the model has "),
        (&["-m", "synthetic:heads=7"], "`n_heads` is 7; supported: a number that divides n_embd (5280)"),
    ] {
        let code = if flags[0] == "-m" { 4 } else { 2 };
        refused(&[&["run", "--cpu"][..], flags, &["x"]].concat(), code, &[words]);
    }
}

#[trial]
fn refused_flags_have_no_note_on_their_effect() -> anyhow::Result<()> {
    let folder = ruminate_tests::demo_files::folder()?;
    folder.write("generation_config.json", br#"{"do_sample": false}"#)?;
    let path = folder.path().display().to_string();
    let model = ["run", "--cpu", "-m", path.as_str()];
    for flags in
        [&["--top-p=0"][..], &["--top-k=5", "--logit-bias=99999+1"], &["--top-k=5", "--speculate=9", "--steps=8"]]
    {
        let errors = refused(&[&model[..], flags, &["x"]].concat(), 2, &["error: "]);
        assert!(!errors.contains("no effect"), "{flags:?}: {errors}");
    }
    Ok(())
}

#[trial]
fn conversation_variables_cannot_be_replaced() {
    for variables in ["{\"messages\": []}", "{\"add_generation_prompt\": false}"] {
        refused(&["chat", "--cpu", "--chat-template-kwargs", variables], 2, &["is set by the conversation"]);
    }
}

/// Two outputs in one file would leave only the second.
#[trial]
fn one_file_for_two_outputs_is_refused() {
    let folder = Folder::new().expect("a folder");
    let path = folder.path().join("trace.out");
    let path = path.to_str().expect("a path in UTF-8");
    for flags in [["--html", "--svg"], ["--svg", "--safetensors"]] {
        let line = ["trace", "--cpu", "--steps=1", "-n=1", flags[0], path, flags[1], path];
        refused(&line, 2, &["is named for two outputs"]);
    }
    refused(&["sweep", "--cpu", "-n=1", "--steps=1", "--html", path, "--png", path], 2, &["for two outputs"]);
}

#[trial]
fn trace_without_limit_is_bounded_by_the_context() {
    let done = output(&["trace", "--cpu", "--steps=1", "-n", "-1", "-c", "64", "The ball is under cup "]);
    assert!(done.status.success(), "{}", text(&done.stderr));
}

/// Files of keys: endless, empty, or a pipe without a writer.
#[trial]
#[cfg(unix)]
fn unusable_key_files_are_refused() {
    let folder = Folder::new().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo starts").success());
    let pipe = pipe.to_str().expect("a path in UTF-8");
    for (file, words) in [("/dev/zero", "longer than 1 MiB"), ("/dev/null", "no key"), (pipe, "no key")] {
        refused(&["serve", "--cpu", "--port=0", "--api-key-file", file], 2, &[words]);
        refused(&["chat", "--server=http://127.0.0.1:9", "--api-key-file", file], 2, &[words]);
    }
}

/// A pass that takes minutes: the first Ctrl-C prints a note, the second ends the program.
#[trial]
#[cfg(unix)]
fn interrupt_of_long_pass_is_answered() {
    let long = "The ball is under cup A. ".repeat(60);
    // The program must be past loading when it gets the signal; a slow machine takes longer.
    for seconds in [1, 3, 9, 27] {
        let mut child = ruminate(&["score", "--cpu", "--steps=20000", "--overcommit", &long])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let interrupt = || {
            let done = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
            assert!(done.expect("kill starts").success());
        };
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        interrupt();
        let mut line = String::new();
        let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
        while errors.read_line(&mut line).expect("text") > 0 && !line.contains("stopping after this part") {}
        if line.contains("stopping after this part") {
            let begin = std::time::Instant::now();
            let done = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
            assert!(done.expect("kill starts").success());
            assert_eq!(child.wait().expect("it ends").code(), Some(130));
            assert!(begin.elapsed().as_secs() < 20);
            return;
        }
        assert_eq!(child.wait().expect("it ends").code(), Some(130), "{line}");
    }
    panic!("the first Ctrl-C was never answered");
}

#[trial]
fn too_little_memory_for_keys_and_values_names_the_flag() {
    refused(&["serve", "--cpu", "--port=0", "--kv-memory=1"], 2, &["--kv-memory is 1, but"]);
}

#[trial]
fn stored_head_is_mentioned_only_if_there_is_one() {
    let shown = text(&output(&["inspect", "-m", "synthetic:huginn-0125"]).stdout);
    assert!(shown.contains("the head is the embedding") && !shown.contains("stored copy"), "{shown}");
}

#[trial]
fn problem_longer_than_the_context_is_named() {
    let folder = Folder::new().expect("a folder");
    let problems = format!(
        "{}\n{}\n",
        serde_json::json!({"task": "short", "prompt": "1+1", "answer": " 2"}),
        serde_json::json!({"task": "long", "prompt": format!("Begin {}", "1+1 ".repeat(3000)), "answer": " 2"})
    );
    folder.write("problems.jsonl", problems).expect("it is written");
    let path = folder.path().join("problems.jsonl");
    let path = path.to_str().expect("a path in UTF-8");
    let done = output(&["sweep", "--cpu", "--steps=1", "-p", path]);
    let errors = text(&done.stderr);
    assert!(!done.status.success() && errors.contains("\"Begin 1+1 ") && errors.contains("\"long\""), "{errors}");
}

/// A pipe in place of the hub's reference to a commit would never answer.
#[trial]
#[cfg(unix)]
fn pipe_in_place_of_a_reference_is_not_waited_for() {
    let folder = Folder::new().expect("a folder");
    let refs = folder.path().join("models--me--it/refs");
    std::fs::create_dir_all(&refs).expect("it is made");
    assert!(std::process::Command::new("mkfifo").arg(refs.join("main")).status().expect("mkfifo starts").success());
    let done =
        ruminate(&["run", "--cpu", "-m", "me/it", "x"]).env("HF_HUB_CACHE", folder.path()).output().expect("it starts");
    let errors = text(&done.stderr);
    assert_eq!(done.status.code(), Some(4), "{errors}");
    assert!(errors.contains("no complete copy of revision main"), "{errors}");
}
