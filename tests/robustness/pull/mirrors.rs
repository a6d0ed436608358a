//! Mirrors, proxies, redirects, retry requests, and the servers that receive the token.

use std::path::Path;
use std::time::{Duration, Instant};

use ruminate_tests::trial;

use super::bed::{Bed, Done, INDEX, SHARD, content};
use super::server::{Fault, REPO, Request, etag};

const SECRET: &str = "hf_secret";

/// Fault that answers with a redirect.
fn redirect(location: String) -> Fault {
    let header: &'static [(&'static str, &'static str)] =
        Box::leak(Box::new([("Location", &*Box::leak(location.into_boxed_str()))]));
    Fault::Status(308, header)
}

fn with_token(bed: &Bed) -> Done {
    bed.command(&["pull", REPO]).env("HF_TOKEN", SECRET).output().expect("the program starts").into()
}

fn assert_whole(bed: &Bed) {
    for name in ["config.json", INDEX, SHARD] {
        let found = std::fs::read(bed.snapshot().join(name)).expect(name);
        assert!(name == INDEX || found == content(name), "{name} was changed");
    }
}

fn list(request: &Request) -> bool {
    request.path.starts_with("/api/")
}

#[trial(full)]
fn token_is_not_sent_to_redirect_targets() {
    let (bed, other) = (Bed::new(), Bed::new());
    let second = other.server.endpoint();
    bed.server.faults(move |request| Some(redirect(format!("{second}{}", request.path))));
    with_token(&bed).expect(0, &[]);
    let (first, second) = (bed.server.requests(), other.server.requests());
    assert!(!first.is_empty() && first.iter().all(|request| request.token.is_some()), "{first:?}");
    assert!(second.len() >= first.len() && second.iter().all(|request| request.token.is_none()), "{second:?}");
    assert_whole(&bed);
}

#[trial(full)]
fn redirected_head_requests_are_followed() {
    let (bed, other) = (Bed::new(), Bed::new());
    let second = other.server.endpoint();
    bed.server.faults(move |request| {
        let files = request.path.contains("/resolve/") && request.method == "HEAD";
        files.then(|| redirect(format!("{second}{}", request.path)))
    });
    with_token(&bed).expect(0, &[]);
    assert_whole(&bed);
    assert!(other.server.requests().iter().all(|request| request.method == "HEAD" && request.token.is_none()));
}

#[trial(full)]
fn invalid_redirects_are_reported() {
    let bed = Bed::new();
    bed.server.faults(|_| Some(Fault::Status(302, &[])));
    let done = bed.pull().expect(1, &["redirects without saying where to"]);
    assert!(!done.errors.contains("HF_ENDPOINT"), "{done:?}");
    bed.server.faults(|_| Some(Fault::Status(302, &[("Location", "ht tp://x")])));
    bed.pull().expect(1, &["redirects to `ht tp://x`, which is not an address"]);
}

#[trial(full)]
fn token_with_invalid_characters_is_reported() {
    let bed = Bed::new();
    let output = bed.command(&["pull", REPO]).env("HF_TOKEN", "hf_se\ncret").output().expect("the program starts");
    let done = Done::from(output).expect(1, &["the token in HF_TOKEN contains an invalid character"]);
    assert!(!done.errors.contains("HF_ENDPOINT") && bed.server.requests().is_empty(), "{done:?}");
}

#[trial(full)]
fn hashes_are_case_insensitive() {
    let bed = Bed::new();
    bed.server.faults(|request| {
        let name = request.path.rsplit('/').next().unwrap_or_default().to_owned();
        let hash = || etag(&name, &content(&name)).to_uppercase();
        match name.as_str() {
            "config.json" => Some(Fault::Header("ETag", format!("\"{}\"", hash()))),
            SHARD if !request.cdn => Some(Fault::Header("X-Linked-Etag", format!("W/\"{}\"", hash()))),
            _ => None,
        }
    });
    let done = bed.pull().expect(0, &[]);
    assert!(!done.errors.contains("no hashes"), "{done:?}");
    assert!(bed.blob("config.json").is_file() && bed.blob(SHARD).is_file());
}

#[trial(full)]
fn missing_hashes_are_noted_once_and_sizes_checked() {
    for etag in ["\"d41d8cd98f00b204e9800998ecf8427e-3\"", "\"../../../outside\"", ""] {
        let bed = Bed::new();
        bed.server.faults(move |request| {
            let name = if request.path.ends_with(SHARD) { "X-Linked-Etag" } else { "ETag" };
            (!list(request)).then(|| Fault::Header(name, etag.to_owned()))
        });
        let done = bed.pull().expect(0, &["sends no hashes"]);
        assert_eq!(done.errors.matches("sends no hashes").count(), 1, "{done:?}");
        assert_whole(&bed);
        let blobs = std::fs::read_dir(bed.model().join("blobs")).expect("blobs");
        let names = blobs.map(|blob| blob.expect("a blob").file_name().into_string().expect("a name"));
        assert!(names.filter(|name| name.starts_with("unchecked-") && name.len() == 50).count() >= 5);
        // The second pull fetches nothing.
        bed.server.requests();
        bed.pull().expect(0, &["0 of"]);
        assert!(bed.server.requests().iter().all(|request| request.method == "HEAD" || list(request)));
    }
}

#[trial(full)]
fn retry_after_is_honored() {
    let bed = Bed::new();
    let mut left = 2;
    bed.server.faults(move |request| {
        let refuses = request.path.ends_with("/config.json") && left > 0;
        left -= i32::from(refuses);
        refuses.then_some(Fault::Status(429, &[("Retry-After", "1")]))
    });
    let begin = Instant::now();
    bed.pull().expect(0, &["429", "asking again in 1 s"]);
    assert!(begin.elapsed() > Duration::from_secs(2));
}

#[trial(full)]
fn long_retry_after_ends_the_download() {
    let bed = Bed::new();
    bed.server.faults(|_| Some(Fault::Status(429, &[("Retry-After", "7200")])));
    bed.pull().expect(1, &["429", "asks to wait for 7200 s"]);
    assert_eq!(bed.server.requests().len(), 1);
    bed.server.faults(|_| Some(Fault::Status(503, &[("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT")])));
    bed.pull().expect(1, &["503", "asks to wait for"]);
}

#[trial(full)]
fn failed_listing_is_retried() {
    let bed = Bed::new();
    let mut left = 2;
    bed.server.faults(move |request| {
        let refuses = list(request) && left > 0;
        left -= i32::from(refuses);
        refuses.then_some(Fault::Status(502, &[]))
    });
    bed.pull().expect(0, &[]);
}

#[trial(full)]
fn http_proxy_gets_full_address() {
    let bed = Bed::new();
    let server = bed.server.endpoint().replace("http://", "http://me:p%40ss@");
    let mut command = bed.command(&["pull", REPO]);
    command.env("HF_ENDPOINT", "http://hub.invalid").env("HTTP_PROXY", server).env("ALL_PROXY", "http://127.0.0.1:9");
    command.env("NO_PROXY", "10.0.0.0/8, 127.0.0.1").env("HF_TOKEN", SECRET);
    Done::from(command.output().expect("the program starts")).expect(0, &[]);
    assert_whole(&bed);
}

#[trial(full)]
fn unreachable_proxy_is_named() {
    let bed = Bed::new();
    for (variable, value) in [("HTTP_PROXY", "http://me:secret@127.0.0.1:9"), ("all_proxy", "socks5://127.0.0.1:9")] {
        let output = bed.command(&["pull", REPO]).env(variable, value).output().expect("the program starts");
        let shown = value.replace("me:secret@", "");
        let done = Done::from(output).expect(1, &[&format!("through the proxy {shown} (from {variable})")]);
        assert!(!done.errors.contains("secret"), "{done:?}");
    }
    let mut command = bed.command(&["pull", REPO]);
    let output = command.env("HTTPS_PROXY", "http://127.0.0.1:9").output().expect("the program starts");
    Done::from(output).expect(0, &[]);
}

#[trial(full)]
fn invalid_proxy_is_refused() {
    let bed = Bed::new();
    for value in ["quic://127.0.0.1:9", ":::"] {
        let output = bed.command(&["pull", REPO]).env("http_proxy", value).output().expect("the program starts");
        Done::from(output).expect(1, &["http_proxy is `", value, "expected one like http://host:8080"]);
    }
    assert!(bed.server.requests().is_empty());
}

#[cfg(unix)]
#[trial(full)]
fn links_and_pipes_in_place_of_partial_files_and_locks_are_handled() {
    let pipe = |path: &Path| {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo");
        assert!(made.success());
    };
    let bed = Bed::new();
    let victim = bed.home.path().join("victim");
    std::fs::write(&victim, "mine").expect("a file");
    pipe(&bed.partial("config.json"));
    std::os::unix::fs::symlink(&victim, bed.partial(SHARD)).expect("a link");
    bed.pull().expect(0, &[]);
    assert_whole(&bed);
    assert_eq!(std::fs::read(&victim).expect("a file"), b"mine");
    let bed = Bed::new();
    let hash = etag("config.json", &content("config.json"));
    pipe(&bed.cache().join(".locks/models--maker--small-loop").join(format!("{hash}.lock")));
    bed.pull().expect(1, &["is not a regular file, so it cannot be a lock"]);
}

#[trial(full)]
fn absurd_sizes_are_refused_for_lack_of_room() {
    let bed = Bed::new();
    bed.server.faults(|request| {
        let shard = request.path.ends_with(".safetensors") && !request.cdn;
        shard.then(|| Fault::Header("X-Linked-Size", u64::MAX.to_string()))
    });
    let mut command = bed.command(&["pull", REPO]);
    let output = command.env("HF_HUB_DOWNLOAD_TIMEOUT", u64::MAX.to_string()).output().expect("the program starts");
    Done::from(output).expect(1, &["not enough room"]);
}
