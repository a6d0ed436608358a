//! Tests of the depth fields.

use ruminate::{BatchOptions, Device, KvShare};
use ruminate_tests::trial;
use serde_json::json;

use crate::http::{LONG, PUZZLE, Running, batch, options};

#[trial]
fn each_request_has_its_own_depth() {
    let server = Running::start(options());
    let answers =
        [1, 32].map(|steps| server.client.complete(PUZZLE.0, &json!({ "steps": steps, "max_tokens": 2 })).good());
    assert_eq!(answers[1]["choices"][0]["text"], PUZZLE.1);
    assert_ne!(answers[0]["choices"][0]["text"], PUZZLE.1);
    let [shallow, deep] = answers.map(|answer| answer["usage"]["steps_per_token"].as_f64().expect("a number"));
    assert_eq!((shallow, deep), (1.0, 32.0));
    // The default is the model's mean recurrence.
    let usual = server.client.complete(PUZZLE.0, &json!({ "max_tokens": 1 })).good();
    assert_eq!(usual["usage"]["steps_total"], 32);
    server.stop().expect("drained");
}

#[trial]
fn exit_field_saves_steps_and_validates_options() {
    let server = Running::start(options());
    let client = &server.client;
    let steps = |exit| {
        let more = json!({ "steps": 32, "exit": exit, "max_tokens": 4, "ignore_eos": true });
        client.complete(LONG, &more).good()["usage"]["steps_per_token"].as_f64().expect("a number")
    };
    assert_eq!(steps(json!(null)), 32.0);
    assert_eq!(steps(json!({ "criterion": "latent-diff", "threshold": 1e9 })), 1.0);
    assert_eq!(steps(json!({ "criterion": "latent-diff", "threshold": 1e9, "min_steps": 6 })), 7.0);
    assert_eq!(steps(json!({ "criterion": "cosine", "threshold": -1 })), 32.0);
    let refused = |exit| client.complete(LONG, &json!({ "exit": exit })).refused(400);
    assert_eq!(refused(json!({ "criterion": "gate" })).1, "exit.criterion");
    assert!(refused(json!({ "criterion": "none" })).0.contains("latent-diff, cosine"));
    assert_eq!(refused(json!({ "criterion": "kl", "threshold": "low" })).1, "exit.threshold");
    assert_eq!(refused(json!({ "criterion": "latent-diff", "every": 0 })).1, "exit.every");
    assert_eq!(refused(json!({ "criterion": "latent-diff", "prefill": "no" })).1, "exit.prefill");
    assert!(refused(json!({ "criterion": "latent-diff", "stpes": 1 })).0.contains("unknown field `stpes`"));
    server.stop().expect("drained");
}

#[trial]
fn operator_limits_apply_to_depth_and_length() {
    let mut limited = options();
    limited.max_steps = Some(8);
    limited.max_tokens = Some(5);
    limited.max_prompt = Some(20);
    let server = Running::start(limited);
    let client = &server.client;
    let (message, field, _) = client.complete(LONG, &json!({ "steps": 9 })).refused(400);
    assert!(field == "steps" && message.contains("from 1 to 8"), "{message}");
    assert_eq!(client.complete(LONG, &json!({ "max_tokens": 6 })).refused(400).1, "max_tokens");
    // The limits also apply to the model's defaults.
    let usual = client.post("/v1/completions", &json!({ "prompt": LONG, "ignore_eos": true })).good();
    assert_eq!((&usual["usage"]["completion_tokens"], &usual["usage"]["steps_total"]), (&json!(5), &json!(40)));
    let long = client.complete(&PUZZLE.0.repeat(3), &json!({})).refused(400);
    assert!(long.1 == "prompt" && long.2 == "context_length_exceeded", "{long:?}");
    assert_eq!(
        client.get("/openapi.json").good()["components"]["schemas"]["Depth"]["properties"]["steps"]["maximum"],
        8
    );
    server.stop().expect("drained");
}

#[trial]
fn kv_share_must_match_the_server() {
    let server = Running::start(options());
    server.client.complete(LONG, &json!({ "kv_share": "none" })).good();
    let (message, field, _) = server.client.complete(LONG, &json!({ "kv_share": 4 })).refused(400);
    assert!(field == "kv_share" && message.contains("--kv-share"), "{message}");
    server.stop().expect("drained");
    let mut shared: BatchOptions = batch();
    shared.session.share = KvShare::Steps(4);
    let server = Running::on(&Device::cpu(), options(), shared);
    assert_eq!(server.client.get("/v1/models").good()["data"][0]["meta"]["kv_share"], 4);
    server.client.complete(LONG, &json!({ "kv_share": 4 })).good();
    server.client.complete(LONG, &json!({ "kv_share": "none" })).refused(400);
    server.stop().expect("drained");
}
