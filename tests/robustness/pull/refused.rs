//! Refusals of the hub, unsupported models, and names that try to escape the cache.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::bed::{Bed, Done, INDEX, SHARD, UNNEEDED, content};
use super::server::{Fault, REPO};
use ruminate_tests::trial;

#[trial(full)]
fn missing_model_or_revision_is_reported() {
    let bed = Bed::new();
    bed.run(&["pull", "maker/no-such"])
        .expect(4, &["has no model `maker/no-such`", "check owner and name", "HF_TOKEN"]);
    bed.run(&["pull", "maker/small-loop@v2"]).expect(4, &["no revision `v2`", "tree/main"]);
    assert!(!bed.cache().exists());
}

#[trial(full)]
fn refusal_without_token_explains_how_to_set_one() {
    let bed = Bed::new();
    bed.server.faults(|_| Some(Fault::Status(401, &[])));
    bed.pull().expect(1, &["requires authentication", "HF_TOKEN", "hf auth login"]);
    bed.server.faults(|_| Some(Fault::Status(401, &[("X-Error-Code", "RepoNotFound")])));
    bed.pull().expect(4, &["has no model", "HF_TOKEN"]);
}

#[trial(full)]
fn rejected_token_is_named_but_not_shown() {
    let bed = Bed::new();
    let words = "Invalid credentials in Authorization header";
    bed.server
        .faults(|_| Some(Fault::Status(401, &[("X-Error-Message", "Invalid credentials in Authorization header")])));
    let output = bed.command(&["pull", REPO]).env("HF_TOKEN", "hf_secret").output().expect("the program starts");
    let done = Done::from(output).expect(1, &["does not accept the token in HF_TOKEN", words]);
    assert!(!done.errors.contains("hf_secret"));
    std::fs::write(bed.home.path().join("token"), "hf_secret").expect("a file");
    let done = bed.pull().expect(1, &[&bed.home.path().join("token").display().to_string()]);
    assert!(!done.errors.contains("hf_secret"));
}

#[trial(full)]
fn gated_model_names_license_page() {
    let bed = Bed::new();
    // The file list of a gated model is public, its files are not.
    bed.server.faults(|request| {
        let file = !request.path.starts_with("/api/");
        file.then_some(Fault::Status(403, &[("X-Error-Code", "GatedRepo"), ("X-Error-Message", "Ask for access")]))
    });
    bed.pull().expect(1, &["accept its license at http://127.0.0.1", "Ask for access", "HF_TOKEN"]);
}

#[trial(full)]
fn unreachable_endpoint_is_reported() {
    let bed = Bed::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address");
    for (endpoint, code, words) in [
        (format!("http://{free}"), 1, "cannot reach"),
        ("http://no-such-host.invalid".to_owned(), 1, "no-such-host.invalid"),
        ("not an address".to_owned(), 1, "HF_ENDPOINT"),
    ] {
        let output = bed.command(&["pull", REPO]).env("HF_ENDPOINT", endpoint).output().expect("the program starts");
        Done::from(output).expect(code, &[words, "HF_ENDPOINT"]);
    }
}

#[trial(full)]
fn certificate_file_from_environment_is_used() {
    let bed = Bed::new();
    let none = bed.home.path().join("none.pem");
    std::fs::write(&none, "no certificate").expect("a file");
    for (name, path, words) in [
        ("SSL_CERT_FILE", bed.home.path().join("missing.pem"), "missing.pem"),
        ("REQUESTS_CA_BUNDLE", none, "contains no certificate"),
    ] {
        let output = bed.command(&["pull", REPO]).env(name, path).output().expect("the program starts");
        Done::from(output).expect(1, &[name, words]);
    }
}

#[trial(full)]
fn offline_mode_sends_no_request() {
    let bed = Bed::new();
    let output = bed.command(&["pull", REPO]).env("HF_HUB_OFFLINE", "1").output().expect("the program starts");
    Done::from(output).expect(1, &["HF_HUB_OFFLINE"]);
    assert!(bed.server.requests().is_empty());
}

#[trial(full)]
fn unsupported_models_are_not_downloaded() {
    let bed = Bed::new();
    let mut config: Value = serde_json::from_slice(&content("config.json")).expect("JSON");
    config["model_type"] = json!("llama");
    bed.server.set("config.json", config.to_string());
    bed.pull().expect(4, &["config.json of maker/small-loop", "model_type", "llama"]);
    bed.server.set("config.json", "{");
    bed.pull().expect(4, &["config.json of maker/small-loop", "does not parse"]);
    bed.server.remove(INDEX);
    let asked = bed.server.requests();
    assert!(!asked.iter().any(|request| request.cdn), "weights were requested: {asked:?}");
    let done = bed.pull().expect(4, &["is not a checkpoint", "it has"]);
    assert!(UNNEEDED.iter().all(|name| done.errors.contains(name)), "{}", done.errors);
    assert!(!bed.snapshot().exists());
}

#[trial(full)]
fn names_from_server_cannot_escape_the_cache() {
    let bed = Bed::new();
    let evil = "../../../../evil.safetensors";
    let index: Value = serde_json::from_slice(&content(INDEX)).expect("JSON");
    let mut other = index.clone();
    other["weight_map"]["transformer.ln_f.weight"] = json!(evil);
    bed.server.set(INDEX, other.to_string());
    bed.server.set(evil, "evil");
    bed.server.set("tokenizer/../../evil.json", "evil");
    bed.pull().expect(4, &["not a valid file name", "evil"]);
    bed.server.set(INDEX, index.to_string());
    bed.server.set_commit("../../../../evil");
    bed.pull().expect(1, &["is not a commit"]);
    bed.server.set_commit(super::server::COMMIT);
    let asked = bed.server.requests();
    assert!(!asked.iter().any(|request| request.path.contains("evil")), "{asked:?}");
    assert!(!bed.snapshot().exists());
    for etag in ["\"../../../evil\"", "W/\"abc\"", ""] {
        bed.server.faults(move |request| {
            let file = request.path.ends_with(SHARD);
            file.then(|| Fault::Header("X-Linked-Etag", etag.to_owned()))
        });
        bed.pull().expect(0, &["sends no hashes"]);
        let blobs = std::fs::read_dir(bed.model().join("blobs")).expect("blobs");
        let names: Vec<_> = blobs.map(|blob| blob.expect("a blob").file_name()).collect();
        assert!(names.iter().any(|name| name.to_string_lossy().starts_with("unchecked-")), "{names:?}");
        assert!(!bed.home.path().join("evil").exists() && !bed.cache().join("evil").exists());
    }
}

#[trial(full)]
fn index_with_missing_shards_is_refused() {
    let bed = Bed::new();
    bed.server.remove(SHARD);
    bed.pull().expect(4, &[SHARD, "which the hub does not have"]);
    bed.server.set(INDEX, "[]");
    bed.pull().expect(4, &[INDEX, "does not parse"]);
}

#[trial(full)]
fn server_other_than_a_hub_is_refused() {
    let bed = Bed::new();
    bed.server.faults(|_| Some(Fault::Status(200, &[("Content-Type", "text/html")])));
    bed.pull().expect(1, &["does not answer like a hub"]);
    bed.server.faults(|_| Some(Fault::Status(302, &[("Location", "/again")])));
    bed.pull().expect(1, &[]);
}
