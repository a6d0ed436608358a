//! Tests of loading, draining and device loss.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ruminate::{Device, Error, LoadOptions, Model};
use ruminate_serve::Failure;
use ruminate_tests::{Folder, golden_folder, trial};
use serde_json::{Value, json};

use crate::http::{Client, LONG, Reply, Running, batch, options, read_reply};

/// Starts a streamed request of `tokens` tokens.
fn begin(client: &Client, tokens: u32) -> std::thread::JoinHandle<Reply> {
    let body = json!({ "prompt": LONG, "max_tokens": tokens, "steps": 48, "ignore_eos": true, "stream": true });
    let json = [("content-type", "application/json")];
    let stream = client.open("POST", "/v1/completions", &json, body.to_string().as_bytes());
    client.wait_for("ruminate_sequences_running", |running| running > 0.0);
    std::thread::spawn(move || read_reply(stream))
}

#[trial]
fn requests_get_503_until_model_is_loaded() {
    let (loaded, wait) = mpsc::channel::<()>();
    let load = move || {
        let _ = wait.recv();
        Model::demo(&Device::cpu(), LoadOptions::default())
    };
    let server = Running::loading(options(), batch(), load);
    let client = server.client.clone();
    let health = client.get("/health");
    assert_eq!((health.status, health.json()), (503, json!({ "status": "loading" })));
    let reply = client.complete("a", &json!({}));
    assert_eq!(reply.refused(503).2, "loading");
    assert!(reply.headers.contains_key("retry-after"));
    client.get("/v1/models").refused(503);
    assert_eq!(client.get("/metrics").status, 200);
    loaded.send(()).expect("it waits");
    let begin = Instant::now();
    while client.get("/health").status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    client.complete("a", &json!({})).good();
    server.stop().expect("drained");
}

/// Length limits for the model's own texts, and fields that cannot be combined, do not keep a server from starting.
#[trial]
fn server_starts_whatever_the_generation_config_says() {
    for fields in
        [json!({ "max_length": 20 }), json!({ "max_length": 1, "suppress_tokens": (0..512).collect::<Vec<_>>() })]
    {
        let folder = Folder::new().expect("a folder");
        for entry in std::fs::read_dir(golden_folder("tiny")).expect("the checkpoint is there") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("expected") {
                folder.write(&name, std::fs::read(entry.path()).expect("it is read")).expect("it is written");
            }
        }
        folder.write("generation_config.json", fields.to_string()).expect("it is written");
        let source = folder.source();
        let mut warm = options();
        warm.warm_up = true;
        let load = move || Model::open(&source, &Device::cpu(), LoadOptions::default());
        let server = Running::loading(warm, batch(), load);
        let begin = Instant::now();
        while server.client.get("/health").status != 200 {
            assert!(begin.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        server.stop().expect("drained");
    }
}

#[trial]
fn failed_load_ends_the_server() {
    let load = || Err(Error::EmptyPrompt);
    let outcome = Running::loading(options(), batch(), load).outcome();
    assert!(matches!(outcome, Err(Failure::Load(Error::EmptyPrompt))), "{outcome:?}");
}

#[trial]
fn drain_finishes_running_requests_and_refuses_new_ones() {
    let server = Running::start(options());
    let client = server.client.clone();
    let running = begin(&client, 60);
    server.handle.drain();
    let health = client.get("/health");
    assert_eq!((health.status, health.json()), (503, json!({ "status": "draining" })));
    assert_eq!(health.headers["connection"], "close");
    assert_eq!(client.complete("a", &json!({})).refused(503).2, "draining");
    let (chunks, done) = running.join().expect("an answer").chunks();
    assert!(done && chunks.last().expect("chunks")["choices"][0]["finish_reason"] == "length");
    server.outcome().expect("drained");
    assert!(std::net::TcpStream::connect(client.address).is_err(), "the port is still open");
}

#[trial]
fn requests_longer_than_drain_get_an_error() {
    let mut hasty = options();
    hasty.drain = Duration::from_millis(200);
    let server = Running::start(hasty);
    let running = begin(&server.client, 480);
    server.stop().expect("drained");
    let (chunks, done) = running.join().expect("an answer").chunks();
    let last = chunks.last().expect("chunks");
    assert!(!done && last["error"]["code"] == "draining", "{last}");
}

#[trial(device)]
fn device_loss_fails_running_requests_and_ends_server(device: &Device) {
    let server = Running::on(device, options(), batch());
    let client = server.client.clone();
    let streamed = begin(&client, 480);
    let whole = {
        let client = client.clone();
        std::thread::spawn(move || {
            client.complete(LONG, &json!({ "max_tokens": 480, "steps": 16, "ignore_eos": true }))
        })
    };
    client.wait_for("ruminate_sequences_running", |running| running == 2.0);
    device.lose_for_test();
    let (chunks, done) = streamed.join().expect("an answer").chunks();
    let last = chunks.last().expect("chunks");
    assert!(!done && last["error"]["code"] == "device_failed", "{last}");
    let (message, _, code) = whole.join().expect("an answer").refused(503);
    assert!(code == "device_failed" && !message.is_empty());
    let health = client.get("/health");
    assert_eq!((health.status, health.json()), (503, json!({ "status": "device failed" })));
    let outcome = server.outcome();
    assert!(matches!(outcome, Err(Failure::Device(_))), "{outcome:?}");
}

/// An idle server polls its device.
#[trial(device, cpu, full)]
fn idle_server_detects_device_loss(device: &Device) {
    let server = Running::on(device, options(), batch());
    if device.is_cpu() {
        // The CPU reference cannot be lost; polling must do no harm.
        std::thread::sleep(Duration::from_secs(6));
        return server.stop().expect("drained");
    }
    device.lose_for_test();
    assert!(matches!(server.outcome(), Err(Failure::Device(_))));
}

/// Starts `ruminate serve`, and connects a client to its printed address.
fn command(arguments: &[&str]) -> (std::process::Child, Client) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(["serve", "--cpu", "--port=0"]).args(arguments).env("NO_COLOR", "1");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("an address");
    let address = line.trim().strip_prefix("http://").and_then(|address| address.parse().ok());
    let client = Client { address: address.unwrap_or_else(|| panic!("no address: {line:?}")), key: None };
    (child, client)
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    let sent =
        Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().expect("kill is there");
    assert!(sent.success());
}

#[cfg(unix)]
#[trial]
fn sigterm_drains_command_and_log_has_no_secrets() {
    let (mut child, mut client) = command(&["--log-format=json", "--api-key=hidden-key", "--steps=4"]);
    client.key = Some("hidden-key".to_owned());
    let begun = Instant::now();
    while client.get("/health").status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(client.get("/v1/models").good()["data"][0]["meta"]["steps"]["default"] == 4);
    client.complete("a very secret prompt", &json!({})).good();
    let running = begin(&client, 100);
    signal(&child, "TERM");
    assert!(running.join().expect("an answer").chunks().1, "the running request was not finished");
    let mut log = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut log).expect("a log");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{log}");
    assert!(!log.contains("secret") && !log.contains("hidden-key"), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let done = lines.iter().find(|line| line["message"] == "generated").expect("requests are logged");
    assert!(
        done["request_id"].as_str().is_some_and(|id| id.starts_with("req-")) && done["outcome"] == "done",
        "{done}"
    );
    assert!(lines.iter().any(|line| line["message"] == "draining"), "{log}");
}

#[cfg(unix)]
#[trial]
fn second_signal_ends_command_immediately() {
    let (mut child, client) = command(&["--log-prompts"]);
    let begun = Instant::now();
    while client.get("/health").status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    client.complete("a prompt to be logged", &json!({ "max_tokens": 1 })).good();
    let running = begin(&client, 480);
    signal(&child, "TERM");
    // Simultaneous signals would be merged.
    while client.get("/health").status != 503 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, "TERM");
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
    let _ = running.join();
    let mut log = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut log).expect("a log");
    assert!(log.contains("a prompt to be logged"), "{log}");
}

#[trial]
fn invalid_options_of_serve_are_reported() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ruminate")).args(["serve", "--cpu"]).args(arguments).output();
        let output = output.expect("it starts");
        // The address is printed only after all options have been accepted.
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let (code, errors) = run(&["--port", &port]);
    assert!(code == Some(1) && errors.contains("cannot listen on 127.0.0.1") && errors.contains("--port"), "{errors}");
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("keys");
    std::fs::write(&empty, "\n").expect("written");
    let cases: [(&[&str], i32, &str); 10] = [
        (
            &["--api-key", ""],
            2,
            "a key of --api-key, --api-key-file or RUMINATE_API_KEY is not shown; it must be visible",
        ),
        (&["--api-key-file", empty.to_str().expect("UTF-8")], 2, "contains no key"),
        (&["--api-key-file", "/nowhere/keys"], 1, "cannot read the keys in /nowhere/keys (--api-key-file)"),
        (&["--cors-origin", "example.org"], 2, "--cors-origin is example.org"),
        (&["--allowed-host", "http://a"], 2, "--allowed-host is http://a"),
        (&["--port", "0", "-m", "/nowhere/model"], 4, "/nowhere/model"),
        (&["--max-steps", "16", "--steps", "32"], 2, "--steps is 32; it must be from 1 to 16 (--max-steps)"),
        (&["--max-header", "100"], 2, "--max-header is 100; it must be at least 8192 bytes"),
        (&["--invariant", "--sequences", "16"], 2, "--sequences is 16; with --invariant it must be from 1 to 8"),
        (&["-c", "100000"], 2, "--ctx-size is 100000; it must be from 1 to 512"),
    ];
    for (arguments, expected, words) in cases {
        let (code, errors) = run(arguments);
        assert!(code == Some(expected) && errors.contains(words), "{arguments:?}: {code:?} {errors}");
    }
}
