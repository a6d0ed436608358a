//! Soak test: hundreds of concurrent requests of various depths and lengths, some of them aborted. No request is lost or answered twice, and greedy answers
//! are reproducible.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use ruminate_tests::trial;
use serde_json::{Value, json};

use crate::http::{Client, Running, options};

/// Number of concurrent clients.
const CLIENTS: usize = 12;

/// Total number of requests.
const REQUESTS: usize = 360;

const PROMPTS: [&str; 4] =
    ["The ball is under cup E. Swap AE", "The dial is at the 3rd of 5. Turn 2 1", "A clock with", "x"];

/// Random request; equal requests have equal answers.
fn body(random: &mut fastrand::Rng) -> Value {
    let steps = [1, 2, 3, 5, 8, 13][random.usize(..6)];
    let tokens = [1, 2, 7, 20][random.usize(..4)];
    json!({ "prompt": PROMPTS[random.usize(..4)], "steps": steps, "max_tokens": tokens, "temperature": 0, "ignore_eos": true })
}

/// Sends a request, streamed or not, and returns the text.
fn ask(client: &Client, body: &Value, streams: bool) -> String {
    let mut body = body.clone();
    body["stream"] = json!(streams);
    let reply = client.post("/v1/completions", &body);
    if !streams {
        let answer = reply.good();
        assert_eq!(answer["usage"]["steps_per_token"].as_f64(), body["steps"].as_f64());
        return answer["choices"][0]["text"].as_str().expect("a text").to_owned();
    }
    let (chunks, done) = reply.chunks();
    let ends = chunks.iter().filter(|chunk| !chunk["choices"][0]["finish_reason"].is_null()).count();
    assert!(done && ends == 1, "{reply:?}");
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect()
}

/// Sends a request, reads part of the answer, and disconnects.
fn give_up(client: &Client, body: &Value, random: &mut fastrand::Rng) {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let json = [("content-type", "application/json")];
    let mut stream = client.open("POST", "/v1/completions", &json, body.to_string().as_bytes());
    let mut part = vec![0; random.usize(1..400)];
    if random.bool() {
        let _ = stream.read(&mut part);
    }
}

#[trial]
fn concurrent_requests_get_their_own_answers() {
    let server = Running::start(options());
    let client = &server.client;
    let next = AtomicUsize::new(0);
    let (answered, given_up) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let texts: Vec<HashMap<String, String>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut texts = HashMap::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= REQUESTS {
                            return texts;
                        }
                        let mut random = fastrand::Rng::with_seed(number as u64);
                        let body = body(&mut random);
                        if number % 4 == 3 {
                            give_up(client, &body, &mut random);
                            given_up.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        let text = ask(client, &body, number.is_multiple_of(2));
                        answered.fetch_add(1, Ordering::Relaxed);
                        let before = texts.insert(body.to_string(), text.clone());
                        assert!(before.is_none_or(|before| before == text), "{body}: answers differ");
                    }
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("no client fails")).collect()
    });
    assert_eq!((answered.into_inner(), given_up.into_inner()), (REQUESTS * 3 / 4, REQUESTS / 4));
    // Cancelled requests may leave after the last answer.
    for gauge in ["ruminate_sequences_running", "ruminate_sequences_waiting"] {
        client.wait_for(gauge, |sequences| sequences == 0.0);
    }
    // Sequential requests give the same answers.
    let mut all: HashMap<String, String> = HashMap::new();
    for (body, text) in texts.into_iter().flatten() {
        let same =
            all.entry(body.clone()).or_insert_with(|| ask(client, &serde_json::from_str(&body).expect("JSON"), false));
        assert_eq!(*same, text, "{body}");
    }
    server.stop().expect("drained");
}
