//! Tests of `POST /tokenize` and `POST /detokenize`.

use ruminate_tests::trial;
use serde_json::json;

use crate::http::{Running, options};

#[trial]
fn texts_round_trip_through_tokens() {
    let server = Running::start(options());
    let client = &server.client;
    for text in ["The ball is under cup B.", "", "Grüße, 世界 🙂", "<|end_turn|>", " two  blanks\n"] {
        let answer = client.post("/tokenize", &json!({ "content": text, "add_special": false })).good();
        assert_eq!(answer["count"], answer["tokens"].as_array().expect("tokens").len());
        let back = client.post("/detokenize", &json!({ "tokens": answer["tokens"] })).good();
        assert_eq!(back["content"], text);
        // vLLM's names.
        assert_eq!(client.post("/tokenize", &json!({ "prompt": text, "add_special_tokens": false })).good(), answer);
    }
    let count = |body| client.post("/tokenize", &body).good()["count"].as_u64().expect("a number");
    assert_eq!(count(json!({ "content": "a" })), count(json!({ "content": "a", "add_special": false })) + 1);
    let plain = json!({ "content": "<|end_turn|>", "parse_special": false });
    assert!(count(plain) > count(json!({ "content": "<|end_turn|>" })));
    let pieces = client.post("/tokenize", &json!({ "content": "ü", "add_special": false, "with_pieces": true })).good();
    assert_eq!(pieces["tokens"].as_array().map(Vec::len), Some(2), "two bytes, each a token: {pieces}");
    assert_eq!(pieces["tokens"][0]["piece"], json!([0xc3]));
    let info = client.get("/tokenizer_info").good();
    let named = ["bos_token", "eos_token", "pad_token"].map(|name| info[name].as_str().map(str::to_owned));
    assert_eq!(named, ["<|begin_text|>", "<|end_text|>", "<|pad|>"].map(|text| Some(text.to_owned())));
    server.stop().expect("drained");
}

#[trial]
fn invalid_tokenize_requests_are_refused() {
    let server = Running::start(options());
    let client = &server.client;
    assert_eq!(client.post("/tokenize", &json!({})).refused(400).1, "content");
    assert_eq!(client.post("/tokenize", &json!({ "content": "a", "prompt": "a" })).refused(400).1, "prompt");
    assert_eq!(client.post("/detokenize", &json!({})).refused(400).1, "tokens");
    assert_eq!(client.post("/detokenize", &json!({ "tokens": [448] })).refused(400).1, "tokens");
    assert_eq!(client.post("/detokenize", &json!({ "tokens": [-1] })).refused(400).1, "tokens[0]");
    server.stop().expect("drained");
}
