//! Tests of refused requests, whose errors name the field, and of neutral values, which are accepted.

use ruminate_tests::trial;
use serde_json::{Value, json};

use crate::http::{LONG, PUZZLE, Running, options};

#[trial]
fn unsupported_fields_are_refused_unless_neutral() {
    let server = Running::start(options());
    let client = &server.client;
    let harmless = json!({ "user": "me", "metadata": { "a": 1 }, "store": false, "service_tier": "auto", "cache_prompt": true,
        "frequency_penalty": 0, "presence_penalty": 0.0, "best_of": 1, "suffix": null, "n_predict": -1, "typical_p": 1, "mirostat": 0,
        "reasoning_effort": null, "response_format": { "type": "text" }, "logit_bias": {}, "stop": null, "seed": null, "steps": null });
    client.complete(LONG, &harmless).good();
    let changing = [
        ("frequency_penalty", json!(0.5)),
        ("presence_penalty", json!(-1)),
        ("suffix", json!("end")),
        ("best_of", json!(3)),
        ("mirostat", json!(2)),
        ("typical_p", json!(0.5)),
        ("grammar", json!("root ::= \"a\"")),
        ("samplers", json!(["top_k"])),
        ("reasoning_effort", json!("high")),
        ("n_probs", json!(3)),
        ("stop_token_ids", json!([3])),
    ];
    for (field, value) in changing {
        let (message, param, code) = client.complete(LONG, &json!({ field: value })).refused(400);
        assert!(param == field && code == "unsupported_parameter" && message.contains(field), "{field}: {message}");
    }
    let (message, param, code) = client.complete(LONG, &json!({ "temprature": 1 })).refused(400);
    assert_eq!((param, code), (json!("temprature"), json!("unknown_parameter")));
    assert!(message.contains("did you mean `temperature`?"), "{message}");
    server.stop().expect("drained");
}

#[trial]
fn out_of_range_values_are_refused_with_field() {
    let server = Running::start(options());
    let client = &server.client;
    let cases: [(&str, Value, &str); 28] = [
        ("prompt", json!(null), "prompt"),
        ("prompt", json!(3), "prompt"),
        ("prompt", json!([]), "prompt"),
        ("prompt", json!([[]]), "prompt"),
        ("prompt", json!([1, "a"]), "prompt"),
        ("prompt", json!([1, 99999]), "prompt"),
        ("prompt", json!([-1]), "prompt"),
        ("max_tokens", json!(-1), "max_tokens"),
        ("max_tokens", json!("many"), "max_tokens"),
        ("max_tokens", json!(1.5), "max_tokens"),
        ("n", json!(0), "n"),
        ("n", json!(1000), "n"),
        ("steps", json!(0), "steps"),
        ("steps", json!(65537), "steps"),
        ("temperature", json!(-0.1), "temperature"),
        ("top_p", json!(0), "top_p"),
        ("top_p", json!(1.1), "top_p"),
        ("top_k", json!(-2), "top_k"),
        ("min_p", json!(2), "min_p"),
        ("repeat_penalty", json!(0), "repeat_penalty"),
        ("dry_base", json!(0), "dry_base"),
        ("logprobs", json!(21), "logprobs"),
        ("logprobs", json!(true), "logprobs"),
        ("stop", json!([""]), "stop"),
        ("logit_bias", json!({ "x": 1 }), "logit_bias"),
        ("logit_bias", json!({ "1": 101 }), "logit_bias"),
        ("logit_bias", json!({ "99999": 1 }), "logit_bias"),
        ("stream_options", json!({ "include_usage": true }), "stream_options"),
    ];
    for (field, value, blamed) in cases {
        let (message, param, _) = client.complete(LONG, &json!({ field: value })).refused(400);
        assert!(param == blamed && !message.is_empty(), "{field} {value}: {param} {message}");
    }
    let (_, param, code) = client.complete(LONG, &json!({ "model": "gpt-4" })).refused(404);
    assert_eq!((param, code), (json!("model"), json!("model_not_found")));
    // Integers may be written as floats, as some programs do.
    client.complete(LONG, &json!({ "max_tokens": 2.0, "steps": 3.0, "n": 1.0 })).good();
    server.stop().expect("drained");
}

#[trial]
fn prompts_longer_than_the_context_are_refused() {
    let server = Running::start(options());
    let (message, param, code) = server.client.complete(&PUZZLE.0.repeat(60), &json!({})).refused(400);
    assert_eq!((param, code), (json!("prompt"), json!("context_length_exceeded")), "{message}");
    server.stop().expect("drained");
}

#[trial]
fn missing_fields_are_named() {
    let server = Running::start(options());
    let cases = [
        ("/v1/completions", json!({}), "prompt"),
        ("/v1/chat/completions", json!({}), "messages"),
        ("/detokenize", json!({}), "tokens"),
        ("/tokenize", json!({}), "content"),
        ("/v1/completions", json!({ "prompt": LONG, "exit": {} }), "exit.criterion"),
    ];
    for (path, body, field) in cases {
        let (message, param, _) = server.client.post(path, &body).refused(400);
        assert!(param == field && message.contains(&format!("`{field}` is missing")), "{path}: {param} {message}");
    }
    server.stop().expect("drained");
}

#[trial]
fn refused_chats_blame_fields_of_chats() {
    let server = Running::start(options());
    let ask = |text: &str, more: &Value| {
        let mut body = json!({ "messages": [{ "role": "user", "content": text }], "max_tokens": 1, "steps": 1 });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        server.client.post("/v1/chat/completions", &body).refused(400)
    };
    let (message, param, code) = ask(&PUZZLE.0.repeat(60), &json!({}));
    assert_eq!((param, code), (json!("messages"), json!("context_length_exceeded")), "{message}");
    let (message, param, _) = ask("a", &json!({ "logit_bias": { "99999": 1 } }));
    assert_eq!(param, "logit_bias", "{message}");
    server.stop().expect("drained");
}

#[trial]
fn settings_are_objects_or_switched_off() {
    let server = Running::start(options());
    let client = &server.client;
    let off = json!({ "exit": false, "speculate": false, "pipeline": false, "max_tokens": 1 });
    client.complete(LONG, &off).good();
    // The values of a struct in order are not an object.
    let cases = [
        (
            json!({ "exit": ["latent-diff", 0.03, 1, 1, "each"] }),
            "exit",
            "an object such as {\"criterion\": \"latent-diff\"}",
        ),
        (json!({ "exit": true }), "exit", "`exit` is true; expected false or an object"),
        (json!({ "exit": "latent-diff" }), "exit", "`exit` is a text; expected false or an object"),
        (json!({ "exit": 3 }), "exit", "`exit` is 3; expected false or an object"),
        (json!({ "speculate": [2, 3, 0.5] }), "speculate", "expected true, false or an object"),
        (json!({ "pipeline": [4] }), "pipeline", "expected true, false or an object"),
        (json!({ "stream": true, "stream_options": [true, false] }), "stream_options", "expected an object such as"),
        (json!({ "pipeline": { "every": 0 } }), "pipeline.every", "pipeline.every is 0"),
        (json!({ "steps": 8, "speculate": { "draft_steps": 9 } }), "speculate.draft_steps", "from 1 to 8"),
    ];
    for (fields, field, words) in cases {
        let (message, param, _) = client.complete(LONG, &fields).refused(400);
        assert!(param == field && message.contains(words), "{fields}: {param} {message}");
    }
    server.stop().expect("drained");
}

#[trial]
fn bodies_other_than_json_objects_are_refused() {
    let server = Running::start(options());
    let client = &server.client;
    let json = [("content-type", "application/json")];
    let deep = "[".repeat(100_000);
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{\"prompt\": \"\\ud800\"}",
        b"{\"prompt\": \"a\"} x",
        deep.as_bytes(),
    ];
    for body in bodies {
        client.send("POST", "/v1/completions", &json, body).refused(400);
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    client.send("POST", "/v1/completions", &form, b"{\"prompt\": \"a\"}").refused(415);
    // A body without a content type may be JSON.
    client.send("POST", "/v1/completions", &[], b"{\"prompt\": \"a\", \"max_tokens\": 1, \"steps\": 1}").good();
    server.stop().expect("drained");
}

#[trial]
fn encoded_bodies_are_refused_by_name() {
    let server = Running::start(options());
    let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let reply = server.client.send("POST", "/v1/completions", &gzip, &[0x1f, 0x8b, 8, 0]);
    assert!(reply.refused(415).0.contains("Content-Encoding \"gzip\""), "{reply:?}");
    let json = [("content-type", "application/json")];
    let marked = format!("\u{feff}{}", json!({ "prompt": "a" }));
    let reply = server.client.send("POST", "/v1/completions", &json, marked.as_bytes());
    assert!(reply.refused(400).0.contains("byte order mark"), "{reply:?}");
    server.stop().expect("drained");
}
