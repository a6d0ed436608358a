//! Tests of health, models, metrics and OpenAPI endpoints, and of unknown paths.

use ruminate_tests::trial;
use serde_json::json;

use crate::http::{Running, options};

#[trial]
fn health_models_and_openapi_describe_the_server() {
    let server = Running::start(options());
    let client = &server.client;
    assert_eq!(client.get("/health").good(), json!({ "status": "ok" }));
    let models = client.get("/v1/models").good();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("demo")));
    let meta = &models["data"][0]["meta"];
    assert_eq!(meta["steps"], json!({ "default": 32, "most_useful": null, "max": 65536 }));
    assert_eq!((&meta["kv_share"], &meta["chat"]), (&json!("none"), &json!(true)));
    assert!(!meta["exit_criteria"].as_array().expect("a list").contains(&json!("gate")), "the demo has no gate");
    assert_eq!(client.get("/v1/models/demo").good(), models["data"][0]);
    assert_eq!(client.get("/v1/models/owner/name").refused(404).2, "model_not_found");
    let described = client.get("/openapi.json").good();
    assert_eq!(described["openapi"], "3.1.0");
    for (path, methods) in described["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys().filter(|name| *name != "parameters") {
            let reply = client.send(&method.to_uppercase(), &path.replace("{model}", "demo"), &[], b"{}");
            assert!(![404, 405].contains(&reply.status), "{method} {path}: {reply:?}");
        }
    }
    server.stop().expect("drained");
}

#[trial]
fn unknown_paths_and_methods_get_api_errors() {
    let server = Running::start(options());
    let client = &server.client;
    assert!(client.get("/v1/nothing").refused(404).0.contains("/openapi.json"));
    let reply = client.get("/v1/completions");
    reply.refused(405);
    assert_eq!(reply.headers["allow"], "POST");
    assert!(client.post("/health", &json!({})).status == 405);
    server.stop().expect("drained");
}

#[trial]
fn metrics_match_the_work_done() {
    let server = Running::start(options());
    let client = &server.client;
    for _ in 0..3 {
        client.complete("The ball", &json!({ "steps": 3, "max_tokens": 5, "ignore_eos": true })).good();
    }
    client.complete("The ball", &json!({ "steps": 0 })).refused(400);
    client.wait_for("ruminate_tokens_total", |tokens| tokens == 15.0);
    assert_eq!(client.metric("ruminate_steps_total{kind=\"taken\"}"), 45.0);
    assert_eq!(client.metric("ruminate_steps_total{kind=\"saved\"}"), 0.0);
    assert_eq!(client.metric("ruminate_sequences_total"), 3.0);
    assert_eq!(client.metric("ruminate_time_to_first_token_seconds_count"), 3.0);
    assert_eq!(client.metric("ruminate_time_between_tokens_seconds_count"), 12.0);
    assert!(client.metric("ruminate_passes_total") >= 45.0);
    assert!(client.metric("ruminate_pass_rows_total") >= client.metric("ruminate_passes_total"));
    assert!(client.metric("ruminate_device_memory_bytes") > 1e6);
    assert!(client.metric("ruminate_kv_cache_bytes") > 0.0);
    assert_eq!(client.metric("ruminate_sequences_running"), 0.0);
    let answered = |status| format!("ruminate_requests_total{{endpoint=\"/v1/completions\",status=\"{status}\"}}");
    assert_eq!((client.metric(&answered(200)), client.metric(&answered(400))), (3.0, 1.0));
    // Early exits save steps.
    let exit = json!({ "criterion": "latent-diff", "threshold": 1.0 });
    client.complete("The ball", &json!({ "steps": 30, "exit": exit, "max_tokens": 5, "ignore_eos": true })).good();
    client.wait_for("ruminate_steps_total{kind=\"saved\"}", |saved| saved > 0.0);
    server.stop().expect("drained");
}

#[trial]
fn responses_have_request_ids() {
    let server = Running::start(options());
    let client = &server.client;
    let given = client.send("GET", "/health", &[("x-request-id", "abc-1")], b"");
    assert_eq!(given.headers["x-request-id"], "abc-1");
    let made = client.send("GET", "/health", &[("x-request-id", &"long".repeat(40))], b"");
    assert!(made.headers["x-request-id"].starts_with("req-"), "{made:?}");
    server.stop().expect("drained");
}
