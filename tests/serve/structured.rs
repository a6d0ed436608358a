//! Tests of `response_format`, and of the page.

use std::time::{Duration, Instant};

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

/// Schemas and grammars whose compilation would take exponential time or exceeds the compiler's numbers.
#[trial]
fn expensive_formats_are_refused_quickly() {
    let server = Running::start(options());
    let schema = |schema: Value| json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    let strings = |count: usize| -> Vec<Value> {
        (0..count).map(|i| json!({ "type": "string", "pattern": format!(".*a.{{{i}}}b.*") })).collect()
    };
    let chain = {
        let link = |i: usize| json!({ "pattern": format!(".*a.{{{i}}}b.*"), "$ref": format!("#/$defs/p{}", i + 1) });
        let mut links: serde_json::Map<String, Value> = (0..20).map(|i| (format!("p{i}"), link(i))).collect();
        links.insert("p20".to_owned(), json!({ "type": "string" }));
        json!({ "$ref": "#/$defs/p0", "$defs": links })
    };
    let lark = (0..20).map(|i| format!("/(.|\\n)*a.{{{i}}}b(.|\\n)*/")).collect::<Vec<_>>().join(" & ");
    for (name, format, word) in [
        ("14 patterns", schema(json!({ "allOf": strings(14) })), "patterns"),
        ("20 patterns", schema(json!({ "allOf": strings(20) })), "patterns"),
        ("60 patterns", schema(json!({ "allOf": strings(60) })), "patterns"),
        ("a chain", schema(chain), "patterns"),
        (
            "json in lark",
            json!({ "type": "grammar", "grammar": format!("start: %json {}", json!({ "allOf": strings(30) })) }),
            "patterns",
        ),
        ("lark", json!({ "type": "grammar", "grammar": format!("start: T\nT: {lark}") }), "patterns"),
        ("a small step", schema(json!({ "type": "number", "multipleOf": 1e-9 })), "multipleOf"),
        ("a bound", schema(json!({ "type": "integer", "minimum": -1e300 })), "number"),
        ("many stars", json!({ "type": "regex", "pattern": ".*".repeat(200) }), "regular expression"),
    ] {
        let begin = Instant::now();
        let reply = server.client.complete(PUZZLE.0, &json!({ "response_format": format }));
        eprintln!("{name}: {:?}", begin.elapsed());
        let (message, field, _) = reply.refused(400);
        assert!(message.contains(word) && !message.contains("panic"), "{name}: {message}");
        assert_eq!(field, "response_format", "{name}");
    }
    for (name, value) in [
        ("steps", json!({ "type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 5 })),
        ("int64", json!({ "type": "integer", "minimum": -9007199254740991_i64, "maximum": 9007199254740991_i64 })),
        (
            "2 patterns",
            json!({ "type": "string", "maxLength": 9, "allOf": [{ "pattern": "^[a-c]" }, { "pattern": "[0-9]$" }] }),
        ),
        ("a date", json!({ "type": "string", "format": "date-time", "pattern": "^20[0-9]{2}-", "minLength": 3 })),
        ("a name", json!({ "type": "object", "properties": { "multipleOf": { "const": { "multipleOf": 1e-9 } } } })),
    ] {
        let begin = Instant::now();
        let reply = server.client.complete(PUZZLE.0, &json!({ "response_format": schema(value) }));
        eprintln!("{name}: {:?}", begin.elapsed());
        reply.good();
    }
    server.stop().expect("drained");
}

/// Requests whose format compiles too slowly get their own errors; others are answered.
#[trial]
fn slow_formats_keep_no_other_request_waiting() {
    let mut options = options();
    options.constraint_timeout = Duration::from_millis(1);
    let server = Running::start(options);
    let fields: serde_json::Map<String, Value> =
        (0..2000).map(|i| (format!("field{i}"), json!({ "type": "string" }))).collect();
    let names: Vec<&String> = fields.keys().collect();
    let form =
        json!({ "type": "json_schema", "schema": { "type": "object", "required": names, "properties": fields } });
    std::thread::scope(|scope| {
        let ask = || server.client.complete(PUZZLE.0, &json!({ "response_format": form }));
        let slow: Vec<_> = (0..6).map(|_| scope.spawn(ask)).collect();
        server.client.complete(PUZZLE.0, &json!({})).good();
        for reply in slow {
            let reply = reply.join().expect("an answer");
            let (message, field, _) = reply.refused(if reply.status == 429 { 429 } else { 400 });
            assert_eq!(field, "response_format", "{message}");
            assert!(message.contains("compil"), "{message}");
        }
    });
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
