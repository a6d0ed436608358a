//! Tests of API keys, hosts and origins.

use std::io::{Read, Write};

use ruminate_tests::trial;
use serde_json::json;

use crate::http::{Client, Running, options};

#[trial]
fn requests_need_a_configured_key() {
    let mut locked = options();
    locked.api_keys = vec!["first-key".to_owned(), "second-key".to_owned()];
    let server = Running::start(locked);
    let client = &server.client;
    let with = |key: Option<&str>| Client { key: key.map(str::to_owned), ..client.clone() };
    for key in ["first-key", "second-key"] {
        with(Some(key)).get("/v1/models").good();
        with(Some(key)).complete("a", &json!({})).good();
    }
    for key in [None, Some(""), Some("first-ke"), Some("first-key2"), Some("FIRST-KEY"), Some("first-key second-key")] {
        for path in ["/v1/models", "/metrics", "/nothing"] {
            let reply = with(key).get(path);
            assert_eq!(reply.refused(401).2, "invalid_api_key", "{key:?} {path}");
            assert_eq!(reply.headers["www-authenticate"], "Bearer");
        }
        with(key).complete("a", &json!({})).refused(401);
    }
    let basic = [("authorization", "Basic first-key")];
    with(None).send("GET", "/v1/models", &basic, b"").refused(401);
    // Probes and the API description need no key, and reveal no secrets.
    for path in ["/health", "/openapi.json"] {
        assert_eq!(with(None).get(path).status, 200);
    }
    server.stop().expect("drained");
}

/// With DNS rebinding, requests of another site arrive with that site's name as host.
#[trial]
fn unknown_host_names_are_refused() {
    let mut named = options();
    named.hosts = vec!["model.example".to_owned()];
    let server = Running::start(named);
    let client = &server.client;
    let host = |host: &str| client.send("GET", "/v1/models", &[("host", host)], b"");
    for good in [
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]:8080",
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "model.example",
        "Model.Example:443",
    ] {
        assert_eq!(host(good).status, 200, "{good}");
    }
    for bad in ["evil.example", "model.example.evil", "127.0.0.1.evil", "localhost.evil", "0x7f.1"] {
        assert_eq!(host(bad).refused(403).2, "host_not_allowed", "{bad}");
    }
    for bad in ["", "a b", "http://127.0.0.1"] {
        assert_eq!(host(bad).status, 400, "{bad:?}");
    }
    // Host in the request line, duplicate Host, and missing Host.
    let raw = |text: &str| {
        let mut stream = client.connect();
        stream.write_all(text.as_bytes()).expect("sent");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let absolute = "GET http://evil.example/v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    assert_eq!(raw(absolute), "403");
    assert_eq!(raw("GET /health HTTP/1.1\r\nhost: a\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"), "400");
    assert_eq!(raw("GET /health HTTP/1.1\r\nconnection: close\r\n\r\n"), "400");
    assert_eq!(raw("GET /health HTTP/1.0\r\n\r\n"), "200");
    server.stop().expect("drained");
}

#[trial]
fn foreign_origins_are_refused_unless_allowed() {
    let server = Running::start(options());
    let own = format!("http://{}", server.client.address);
    let from = |client: &Client, origin: &str| {
        client.send("POST", "/v1/completions", &[("origin", origin)], b"{\"prompt\":\"a\",\"max_tokens\":1}")
    };
    from(&server.client, &own).good();
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"] {
        assert_eq!(from(&server.client, origin).refused(403).2, "origin_not_allowed", "{origin}");
    }
    let preflight = [("origin", "http://evil.example"), ("access-control-request-method", "POST")];
    let reply = server.client.send("OPTIONS", "/v1/completions", &preflight, b"");
    assert!(!reply.headers.contains_key("access-control-allow-origin"), "{reply:?}");
    server.stop().expect("drained");

    let mut shared = options();
    shared.origins = vec!["https://app.example".to_owned()];
    shared.api_keys = vec!["key".to_owned()];
    let server = Running::start(shared);
    let reply = from(&server.client, "https://app.example");
    assert_eq!((reply.status, reply.headers["access-control-allow-origin"].as_str()), (200, "https://app.example"));
    // Browsers send preflight requests without a key.
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization"),
    ];
    let keyless = Client { key: None, ..server.client.clone() };
    let reply = keyless.send("OPTIONS", "/v1/completions", &preflight, b"");
    assert_eq!((reply.status, reply.headers["access-control-allow-origin"].as_str()), (200, "https://app.example"));
    from(&server.client, "https://other.example").refused(403);
    // An allowed page can read the error.
    let reply = from(&keyless, "https://app.example");
    reply.refused(401);
    assert_eq!(reply.headers["access-control-allow-origin"], "https://app.example");
    server.stop().expect("drained");
}
