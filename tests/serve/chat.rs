//! Tests of `POST /v1/chat/completions`.

use ruminate_tests::trial;
use serde_json::{Value, json};

use crate::http::{Client, PUZZLE, Reply, Running, options};

fn ask(client: &Client, messages: &Value, more: &Value) -> Reply {
    let mut body = json!({ "messages": messages, "max_tokens": 6, "temperature": 0, "steps": 8 });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    client.post("/v1/chat/completions", &body)
}

fn user(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}

#[trial]
fn chat_answer_equals_completion_of_rendered_template() {
    let server = Running::start(options());
    let client = &server.client;
    let answer = ask(client, &user(PUZZLE.0), &json!({})).good();
    assert_eq!(
        (&answer["object"], &answer["choices"][0]["message"]["role"]),
        (&json!("chat.completion"), &json!("assistant"))
    );
    // The rendered prompt.
    let written = format!(
        "<|begin_text|><|begin_header|>user<|end_header|>\n\n{}<|end_turn|><|begin_header|>Huginn<|end_header|>\n\n",
        PUZZLE.0
    );
    let more = json!({ "add_bos": false, "max_tokens": 6, "steps": 8, "stop": "<|end_turn|>" });
    let same = client.complete(&written, &more).good();
    assert_eq!(answer["choices"][0]["message"]["content"], same["choices"][0]["text"]);
    assert_eq!(answer["usage"]["prompt_tokens"], same["usage"]["prompt_tokens"]);
    server.stop().expect("drained");
}

#[trial]
fn content_parts_and_newer_names_are_accepted() {
    let server = Running::start(options());
    let client = &server.client;
    let parts = json!([{ "role": "developer", "content": "Be brief." }, { "role": "user", "content": [
        { "type": "text", "text": "The ball " }, { "type": "text", "text": "is" }] }]);
    let whole = json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "The ball is" }]);
    let usage = |messages: &Value| ask(client, messages, &json!({})).good()["usage"].clone();
    assert_eq!(usage(&parts)["prompt_tokens"], usage(&whole)["prompt_tokens"]);
    let mut body = json!({ "messages": whole, "max_completion_tokens": 2, "ignore_eos": true, "steps": 1 });
    assert_eq!(client.post("/v1/chat/completions", &body).good()["usage"]["completion_tokens"], 2);
    body["max_tokens"] = json!(3);
    assert_eq!(client.post("/v1/chat/completions", &body).refused(400).1, "max_completion_tokens");
    server.stop().expect("drained");
}

/// A message cannot forge a turn by spelling out special tokens.
#[trial]
fn special_tokens_in_messages_are_plain_text() {
    let server = Running::start(options());
    let client = &server.client;
    let tokens = |text: &str| ask(client, &user(text), &json!({})).good()["usage"]["prompt_tokens"].as_u64();
    assert!(tokens("a<|end_turn|>b") > tokens("a b").map(|tokens| tokens + 4));
    server.stop().expect("drained");
}

#[trial]
fn streamed_answers_begin_with_role_and_equal_unstreamed() {
    let server = Running::start(options());
    let client = &server.client;
    let more = json!({ "ignore_eos": true, "logprobs": true, "top_logprobs": 2 });
    let whole = ask(client, &user("The dial"), &more).good();
    let mut streamed = more.clone();
    streamed["stream"] = json!(true);
    let (chunks, done) = ask(client, &user("The dial"), &streamed).chunks();
    assert!(done);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    let logprobs = chunks.iter().filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array()).flatten();
    let logprobs: Vec<Value> = logprobs.cloned().collect();
    assert_eq!(whole["choices"][0]["logprobs"]["content"], json!(logprobs));
    for entry in &logprobs {
        let bytes: Vec<u8> = serde_json::from_value(entry["bytes"].clone()).expect("bytes");
        assert_eq!(String::from_utf8(bytes).ok().as_deref(), entry["token"].as_str());
        assert_eq!(entry["top_logprobs"].as_array().map(Vec::len), Some(2));
        assert!(entry["top_logprobs"][0]["logprob"].as_f64() >= entry["top_logprobs"][1]["logprob"].as_f64());
    }
    server.stop().expect("drained");
}

#[trial]
fn invalid_messages_are_refused_with_field() {
    let server = Running::start(options());
    let client = &server.client;
    let image = json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "x" } }] }]);
    let cases = [
        (json!([]), "messages"),
        (json!(["hello"]), "messages[0]"),
        (json!([{ "content": "x" }]), "messages[0].role"),
        (json!([{ "role": "king", "content": "x" }]), "messages[0].role"),
        (json!([{ "role": "user" }]), "messages[0].content"),
        (json!([{ "role": "user", "content": 3 }]), "messages[0].content"),
        (image, "messages[0].content"),
        (json!([{ "role": "user", "content": "x", "images": [] }]), "messages[0].images"),
    ];
    for (messages, field) in cases {
        assert_eq!(ask(client, &messages, &json!({})).refused(400).1, field, "{messages}");
    }
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": {} } });
    let tools = |more: &Value| ask(client, &user("x"), more).refused(400);
    // The demo's template does not support tools.
    assert!(tools(&json!({ "tools": [tool] })).0.contains("does not support tools"));
    assert_eq!(tools(&json!({ "tools": [{ "type": "other" }] })).1, "tools[0]");
    assert_eq!(tools(&json!({ "tools": [tool], "tool_choice": "required" })).1, "tool_choice");
    ask(client, &user("x"), &json!({ "tools": [tool], "tool_choice": "none" })).good();
    assert_eq!(tools(&json!({ "top_logprobs": 2 })).1, "top_logprobs");
    assert_eq!(tools(&json!({ "chat_template_kwargs": { "messages": [] } })).1, "chat_template_kwargs");
    server.stop().expect("drained");
}
