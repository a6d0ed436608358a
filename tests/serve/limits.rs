//! Tests of limits: bodies, heads, queue, slow senders and readers, disconnects.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use ruminate_tests::trial;
use serde_json::json;

use crate::http::{Client, LONG, Running, options, read_reply};

/// Request that takes long.
fn slow() -> serde_json::Value {
    json!({ "prompt": LONG, "max_tokens": 400, "steps": 16, "ignore_eos": true, "stream": true })
}

/// Sends a streamed request, and reads the head of the response.
fn begin(client: &Client) -> std::net::TcpStream {
    let json = [("content-type", "application/json")];
    let mut stream = client.open("POST", "/v1/completions", &json, slow().to_string().as_bytes());
    let mut first = [0; 12];
    stream.read_exact(&mut first).expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

#[trial]
fn large_bodies_and_heads_are_refused() {
    let mut small = options();
    small.max_body = 10_000;
    let server = Running::start(small);
    let client = &server.client;
    let json = [("content-type", "application/json")];
    let large = json!({ "prompt": "a".repeat(10_000) }).to_string();
    assert_eq!(client.send("POST", "/v1/completions", &json, large.as_bytes()).refused(413).2, "body_too_large");
    // Without Content-Length.
    let mut stream = client.connect();
    let head =
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    for _ in 0..11 {
        let _ = stream.write_all(format!("3e8\r\n{}\r\n", "a".repeat(1000)).as_bytes());
    }
    read_reply(stream).refused(413);
    let reply = client.send("GET", "/health", &[("x-long", &"a".repeat(20_000))], b"");
    assert_eq!(reply.status, 431);
    assert_eq!(client.get("/health").status, 200);
    server.stop().expect("drained");
}

/// Answers must not exhaust the server's memory.
#[trial]
fn requests_for_too_large_answers_are_refused() {
    let server = Running::start(options());
    let client = &server.client;
    let more = json!({ "n": 200, "max_tokens": 480, "logprobs": 20 });
    assert_eq!(client.complete(LONG, &more).refused(400).1, "logprobs");
    let breakers = vec!["x"; 1100];
    let more = json!({ "dry_multiplier": 1, "dry_sequence_breakers": breakers });
    assert_eq!(client.complete(LONG, &more).refused(400).1, "dry_sequence_breakers");
    server.stop().expect("drained");
}

#[trial]
fn full_queue_returns_429_with_retry_after() {
    let mut short = options();
    short.queue = 1;
    let server = Running::start(short);
    let client = &server.client;
    // Four requests run and one waits.
    let streams: Vec<_> = (0..5).map(|_| begin(client)).collect();
    let reply = client.complete(LONG, &json!({}));
    assert_eq!(reply.refused(429).2, "queue_full");
    let seconds: u64 = reply.headers["retry-after"].parse().expect("seconds");
    assert!((1..=60).contains(&seconds));
    assert_eq!(client.get("/health").status, 200);
    assert_eq!(client.metric("ruminate_refused_total"), 1.0);
    // A request that can never fit is refused for good.
    assert_eq!(client.complete(LONG, &json!({ "n": 6 })).refused(400).1, "n");
    drop(streams);
    // The one that waits is cancelled on its own, perhaps after those that run.
    client.wait_for("ruminate_cancelled_total", |cancelled| cancelled == 5.0);
    client.complete(LONG, &json!({ "n": 5, "max_tokens": 1, "steps": 1 })).good();
    server.stop().expect("drained");
}

/// By the time a client is told that a sequence has ended, its place is free, although the request's other sequence still runs.
#[trial]
fn finished_sequences_leave_room_at_once() {
    let mut none = options();
    none.queue = 0;
    let server = Running::start(none);
    let client = &server.client;
    let context = client.get("/v1/models").json()["data"][0]["max_model_len"].as_u64().expect("a length");
    // The first prompt leaves room for a few tokens, so its sequence ends long before the other one.
    let full = vec![1; context as usize - 4];
    let body = json!({ "prompt": [full, [1, 2]], "max_tokens": 400, "steps": 16, "ignore_eos": true, "stream": true });
    let json = [("content-type", "application/json")];
    let stream = client.open("POST", "/v1/completions", &json, body.to_string().as_bytes());
    let ended =
        BufReader::new(&stream).lines().any(|line| line.expect("a stream").contains("\"finish_reason\":\"length\""));
    assert!(ended, "no sequence ended");
    client.complete("1+1=", &json!({ "n": 3, "max_tokens": 1, "steps": 1 })).good();
    assert_eq!(client.metric("ruminate_sequences_running"), 1.0, "the other sequence runs");
    drop(stream);
    server.stop().expect("drained");
}

#[trial]
fn disconnected_clients_free_their_sequences() {
    let server = Running::start(options());
    let client = &server.client;
    let stream = begin(client);
    drop(stream);
    client.wait_for("ruminate_cancelled_total", |cancelled| cancelled == 1.0);
    // A client that disconnects before its answer begins frees its sequences, too.
    let json = [("content-type", "application/json")];
    let mut whole = slow();
    whole["stream"] = json!(false);
    whole["n"] = json!(3);
    let stream = client.open("POST", "/v1/completions", &json, whole.to_string().as_bytes());
    client.wait_for("ruminate_sequences_running", |running| running == 3.0);
    stream.shutdown(Shutdown::Both).expect("closed");
    drop(stream);
    client.wait_for("ruminate_cancelled_total", |cancelled| cancelled == 4.0);
    client.wait_for("ruminate_sequences_running", |running| running == 0.0);
    let tokens = client.metric("ruminate_tokens_total");
    assert!(tokens < 400.0, "{tokens} tokens were computed after the client disconnected");
    server.stop().expect("drained");
}

#[trial]
fn slow_senders_are_disconnected() {
    let mut impatient = options();
    impatient.receive_timeout = Duration::from_millis(300);
    let server = Running::start(impatient);
    let client = &server.client;
    // An unfinished head.
    let mut stream = client.connect();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: local").expect("sent");
    let mut rest = Vec::new();
    let begin = Instant::now();
    let _ = stream.read_to_end(&mut rest);
    assert!(begin.elapsed() < Duration::from_secs(20) && !rest.starts_with(b"HTTP/1.1 200"));
    // A body sent byte by byte.
    let head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n{";
    let mut stream = client.connect();
    stream.write_all(head.as_bytes()).expect("sent");
    let mut trickle = stream.try_clone().expect("a copy");
    let sender = std::thread::spawn(move || {
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(100));
            if trickle.write_all(b" ").is_err() {
                return;
            }
        }
    });
    read_reply(stream).refused(408);
    sender.join().expect("the sender ends");
    // An idle connection.
    let mut idle = client.connect();
    let _ = idle.read_to_end(&mut rest);
    server.stop().expect("drained");
}

/// An unread answer fills the system's buffers; then the client is disconnected, while other clients are served.
#[trial]
fn slow_readers_are_disconnected() {
    let mut impatient = options();
    impatient.send_timeout = Duration::from_millis(300);
    let server = Running::start(impatient);
    let client = &server.client;
    let body = json!({ "prompt": LONG, "max_tokens": 480, "steps": 1, "ignore_eos": true, "stream": true, "n": 64, "logprobs": 20 });
    let json = [("content-type", "application/json")];
    let mut stream = client.open("POST", "/v1/completions", &json, body.to_string().as_bytes());
    client.complete(LONG, &json!({ "steps": 1 })).good();
    // Only the connection of this request is left.
    client.wait_for("ruminate_connections", |connections| connections == 1.0);
    client.wait_for("ruminate_sequences_running", |running| running == 0.0);
    let mut rest = Vec::new();
    let outcome = stream.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"data: [DONE]\n\n\r\n0\r\n\r\n"), "the answer was complete");
    assert!(outcome.is_ok() || outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    server.stop().expect("drained");
}

#[trial]
fn connections_over_the_limit_wait() {
    let mut few = options();
    few.connections = 2;
    let server = Running::start(few);
    let client = server.client.clone();
    let (first, second) = (begin(&client), begin(&client));
    let third = std::thread::spawn(move || client.get("/health").status);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!third.is_finished(), "a third connection was served");
    drop((first, second));
    assert_eq!(third.join().expect("it is served now"), 200);
    server.stop().expect("drained");
}

/// A client that sends all of its body before it reads sees why it was refused.
#[trial]
fn refusal_of_large_body_reaches_its_sender() {
    let mut small = options();
    (small.max_body, small.api_keys) = (10_000, vec!["key".to_owned()]);
    let server = Running::start(small);
    let json = [("content-type", "application/json")];
    let large = json!({ "prompt": "a".repeat(12 << 20) }).to_string();
    let ask = |client: &Client, path| client.send("POST", path, &json, large.as_bytes());
    assert_eq!(ask(&server.client, "/v1/completions").refused(413).2, "body_too_large");
    assert_eq!(ask(&server.client, "/nowhere").status, 404);
    let stranger = Client { key: None, ..server.client.clone() };
    assert_eq!(ask(&stranger, "/v1/completions").refused(401).2, "invalid_api_key");
    // A client that sends no more is not waited for.
    let mut stream = server.client.connect();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer key\r\ncontent-length: 9999999\r\nconnection: close\r\n\r\n{";
    stream.write_all(head.as_bytes()).expect("sent");
    read_reply(stream).refused(413);
    server.stop().expect("drained");
}

#[trial]
fn more_messages_than_positions_are_refused_at_once() {
    let server = Running::start(options());
    let messages = vec![json!({ "role": "user", "content": "a" }); 20_000];
    let begin = Instant::now();
    let reply = server.client.post("/v1/chat/completions", &json!({ "messages": messages }));
    let (message, field, code) = reply.refused(400);
    assert_eq!((field, code), (json!("messages"), json!("context_length_exceeded")));
    assert!(message.contains("20000 messages"), "{message}");
    eprintln!("20,000 messages: {:?}", begin.elapsed());
    server.stop().expect("drained");
}
