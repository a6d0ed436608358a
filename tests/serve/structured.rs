//! `response_format`.

use ruminate_tests::trial;
use serde_json::{Value, json};

use crate::http::{PUZZLE, Running, options};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": { "cup": { "enum": ["A", "B", "C"] }, "sure": { "type": "boolean" } },
        "required": ["cup", "sure"],
        "additionalProperties": false,
    })
}

#[trial]
fn answers_follow_schema_expression_and_grammar() {
    let server = Running::start(options());
    let client = &server.client;
    let format = json!({ "type": "json_schema", "json_schema": { "name": "cup", "strict": true, "schema": schema() } });
    for seed in 0..3 {
        let body = json!({
            "messages": [{ "role": "user", "content": PUZZLE.0 }], "response_format": format, "temperature": 2, "seed": seed, "steps": 2,
        });
        let answer = client.post("/v1/chat/completions", &body).good();
        let text = answer["choices"][0]["message"]["content"].as_str().expect("text");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert!(
            ["A", "B", "C"].contains(&value["cup"].as_str().expect("a cup")) && value["sure"].is_boolean(),
            "{value}"
        );
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
    let said = |format: Value| {
        let more = json!({ "response_format": format, "temperature": 2, "max_tokens": 40, "steps": 2 });
        client.complete(PUZZLE.0, &more).good()["choices"][0]["text"].as_str().expect("text").to_owned()
    };
    let matched = said(json!({ "type": "regex", "pattern": "(left|right)!" }));
    assert!(["left!", "right!"].contains(&matched.as_str()), "{matched:?}");
    let followed = said(json!({ "type": "grammar", "grammar": "start: \"yes\" | \"no\"" }));
    assert!(["yes", "no"].contains(&followed.as_str()), "{followed:?}");
    let object = said(json!({ "type": "json_object" }));
    assert!(object.starts_with('{'), "{object:?}");
    server.stop().expect("drained");
}

#[trial]
fn formats_that_cannot_be_followed_are_refused() {
    let server = Running::start(options());
    let client = &server.client;
    for (format, word) in [
        (json!({ "type": "xml" }), "json_schema"),
        (json!({ "type": "json_schema" }), "schema"),
        (
            json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "nonsense" } } }),
            "nonsense",
        ),
        (json!({ "type": "regex", "pattern": "(" }), "unclosed group"),
        (json!({ "type": "regex" }), "pattern"),
        (json!({ "type": "grammar", "grammar": "start: missing" }), "missing"),
    ] {
        let (message, field, _) = client.complete("a", &json!({ "response_format": format })).refused(400);
        assert!(message.contains(word) && field == "response_format", "{message}, {field}");
    }
    let both = json!({ "response_format": { "type": "json_object" }, "speculate": true, "steps": 8 });
    assert!(client.complete("a", &both).refused(400).0.contains("response_format"));
    client.complete("a", &json!({ "response_format": { "type": "text" }, "steps": 1 })).good();
    server.stop().expect("drained");
}
