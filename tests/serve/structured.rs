//! Tests of `response_format`, and of the page.

use ruminate_tests::trial;
use serde_json::{Value, json};

use crate::http::{PUZZLE, Running, options};

#[trial]
fn answers_match_the_response_format() {
    let server = Running::start(options());
    let schema = json!({
        "type": "object",
        "properties": { "cup": { "enum": ["A", "B", "C"] }, "sure": { "type": "boolean" } },
        "required": ["cup", "sure"],
        "additionalProperties": false,
    });
    let ask = |format: &Value, more: &Value| {
        let mut body = json!({ "max_tokens": 200, "temperature": 1.0, "steps": 2, "response_format": format });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let answer = server.client.complete(PUZZLE.0, &body).good();
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
        answer["choices"][0]["text"].as_str().expect("a text").to_owned()
    };
    for seed in 0..4 {
        let form =
            json!({ "type": "json_schema", "json_schema": { "name": "answer", "strict": true, "schema": schema } });
        // Also with early exit, where the row that waits for the host has exited the loop by itself.
        let exit = json!({ "criterion": "latent-diff", "threshold": 0.3 });
        let more = [json!({ "seed": seed }), json!({ "seed": seed, "steps": 8, "exit": exit })];
        for more in more {
            let text = ask(&form, &more);
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(["A", "B", "C"].contains(&value["cup"].as_str().expect("a cup")), "{text}");
            assert!(value["sure"].is_boolean() && value.as_object().is_some_and(|it| it.len() == 2), "{text}");
        }
        let text = ask(&json!({ "type": "regex", "pattern": "[a-c]{3}-[0-9]{2}" }), &json!({ "seed": seed }));
        let bytes = text.as_bytes();
        assert!(
            bytes.len() == 6 && bytes[3] == b'-' && bytes[..3].iter().all(|byte| (b'a'..=b'c').contains(byte)),
            "{text}"
        );
    }
    let grammar = json!({ "type": "grammar", "grammar": "start: \"yes\" | \"no\"" });
    let text = ask(&grammar, &json!({}));
    assert!(text == "yes" || text == "no", "{text}");
    for (form, word) in [
        (json!({ "type": "json_schema", "json_schema": { "schema": { "type": "nonsense" } } }), "response_format"),
        (json!({ "type": "json_schema" }), "schema"),
        (json!({ "type": "regex", "pattern": "(" }), "response_format"),
        (json!({ "type": "grammar", "grammar": "nothing" }), "response_format"),
        (json!({ "type": "yaml" }), "type"),
        (json!("json"), "type"),
    ] {
        let (message, ..) = server.client.complete(PUZZLE.0, &json!({ "response_format": form })).refused(400);
        assert!(message.contains(word), "{message}");
    }
    let ahead = json!({ "response_format": { "type": "json_object" }, "speculate": true });
    server.client.complete(PUZZLE.0, &ahead).refused(400);
    server.stop().expect("drained");
}

#[trial]
fn page_is_served_with_content_security_policy() {
    let server = Running::start(options());
    let page = server.client.get("/");
    assert_eq!(page.status, 200);
    assert!(page.headers.get("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    assert!(page.body.contains("<title>"));
    server.stop().expect("drained");
}
