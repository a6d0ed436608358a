//! Complete downloads: which files are fetched, where they are stored, and that the model runs.

use std::collections::BTreeSet;
use std::path::Path;

use super::bed::{Bed, INDEX, SHARD, UNNEEDED, content, folder};
use super::server::{COMMIT, REPO};
use ruminate_tests::trial;

/// Arguments that generate four greedy tokens of the model.
fn say(model: &str) -> [&str; 14] {
    ["run", "--cpu", "-q", "-m", model, "--steps", "2", "--seed", "1", "-n", "4", "--temp", "0", "One two three"]
}

#[trial(full)]
fn pulled_model_runs_by_name_offline() {
    let bed = Bed::new();
    bed.run(&say(REPO)).expect(4, &[REPO, "ruminate pull maker/small-loop", "models--maker--small-loop"]);
    bed.pull().expect(0, &["ruminate run -m maker/small-loop"]);
    let asked: BTreeSet<String> = bed.server.requests().into_iter().map(|request| request.path).collect();
    for name in UNNEEDED {
        assert!(!asked.iter().any(|path| path.ends_with(name)), "{name} was requested");
    }
    let Bed { server, home } = bed;
    drop(server);
    let bed = Bed { server: super::server::Server::start(Default::default()), home };
    let folder = folder();
    let right = bed.run(&say(folder.to_str().expect("a path in UTF-8"))).expect(0, &[]);
    assert!(!right.out.trim().is_empty());
    let named = bed.command(&say(REPO)).env("HF_HUB_OFFLINE", "1").output().expect("the program starts");
    assert_eq!(String::from_utf8_lossy(&named.stdout), right.out, "{}", String::from_utf8_lossy(&named.stderr));
    assert!(bed.server.requests().is_empty(), "`run` sent requests");
}

#[trial(full)]
fn cache_layout_matches_huggingface_hub() {
    let bed = Bed::new();
    let done = bed.pull().expect(0, &[SHARD]);
    assert_eq!(Path::new(done.out.trim_end()), bed.snapshot());
    assert_eq!(std::fs::read_to_string(bed.model().join("refs/main")).expect("a ref"), COMMIT);
    let names = |path: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        entries.map(|name| name.to_string_lossy().into_owned()).collect()
    };
    let expected = [
        "config.json",
        "generation_config.json",
        "model-00001-of-00003.safetensors",
        SHARD,
        "model-00003-of-00003.safetensors",
        INDEX,
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&bed.snapshot()), expected.map(str::to_owned).into());
    let blobs = names(&bed.model().join("blobs"));
    assert_eq!(blobs.len(), expected.len());
    assert!(blobs.iter().all(|name| matches!(name.len(), 40 | 64)), "{blobs:?}");
    #[cfg(unix)]
    for name in expected {
        let link = std::fs::read_link(bed.snapshot().join(name)).expect("a link");
        assert!(link.is_relative() && link.starts_with("../../blobs"), "{name} leads to {}", link.display());
    }
    assert_eq!(std::fs::read(bed.blob(SHARD)).expect("a blob"), content(SHARD));
}

#[trial(full)]
fn second_pull_downloads_nothing() {
    let bed = Bed::new();
    bed.pull().expect(0, &[]);
    bed.server.requests();
    let done = bed.pull().expect(0, &["0 of 9 files downloaded"]);
    assert_eq!(Path::new(done.out.trim_end()), bed.snapshot());
    let asked = bed.server.requests();
    assert!(asked.iter().all(|request| request.method == "HEAD" || request.path.starts_with("/api/")), "{asked:?}");
    let quiet = bed.run(&["pull", "-q", REPO]).expect(0, &[]);
    assert_eq!((quiet.out, quiet.errors.as_str()), (done.out, ""));
}

#[trial(full)]
fn missing_or_damaged_blobs_are_downloaded_again() {
    let bed = Bed::new();
    bed.pull().expect(0, &[]);
    std::fs::remove_file(bed.blob(SHARD)).expect("a blob");
    std::fs::write(bed.blob("tokenizer.json"), "cut short").expect("a blob");
    bed.pull().expect(0, &["2 of 9 files downloaded"]);
    for name in [SHARD, "tokenizer.json"] {
        assert_eq!(std::fs::read(bed.snapshot().join(name)).expect("a file"), content(name));
    }
}

#[trial(full)]
fn revisions_can_be_branches_tags_or_commits() {
    let bed = Bed::new();
    let (tag, commit) = (format!("{REPO}@v1"), format!("{REPO}@{COMMIT}"));
    bed.run(&say(&commit)).expect(4, &[&format!("ruminate pull {commit}")]);
    bed.run(&["pull", &commit]).expect(0, &[]);
    assert!(!bed.model().join("refs").exists(), "a commit must not create a ref");
    bed.run(&say(&commit)).expect(0, &[]);
    bed.run(&say(&tag)).expect(4, &["has no complete copy of revision v1"]);
    bed.run(&["pull", &tag]).expect(0, &["0 of 9 files downloaded"]);
    bed.run(&say(&tag)).expect(0, &[]);
    bed.run(&say(REPO)).expect(4, &["has no complete copy of revision main"]);
}

#[trial(full)]
fn new_commit_downloads_only_changed_files() {
    let bed = Bed::new();
    bed.pull().expect(0, &[]);
    let newer = "f".repeat(40);
    bed.server.set_commit(&newer);
    bed.server.set("generation_config.json", "{}");
    bed.pull().expect(0, &["1 of 9 files downloaded"]);
    assert_eq!(std::fs::read_to_string(bed.model().join("refs/main")).expect("a ref"), newer);
    let read = |commit: &str| std::fs::read(bed.model().join("snapshots").join(commit).join("generation_config.json"));
    assert_eq!(read(&newer).expect("the new one"), b"{}");
    assert_eq!(read(COMMIT).expect("the old one"), content("generation_config.json"));
}

#[trial(full)]
fn token_is_sent_only_to_the_hub() {
    let bed = Bed::new();
    let output = bed.command(&["pull", REPO]).env("HF_TOKEN", "hf_secret").output().expect("the program starts");
    assert!(output.status.success());
    let asked = bed.server.requests();
    let (cdn, hub): (Vec<_>, Vec<_>) = asked.into_iter().partition(|request| request.cdn);
    assert_eq!(cdn.len(), 3, "shards come from the other server");
    assert!(cdn.iter().all(|request| request.token.is_none()), "{cdn:?}");
    assert!(hub.iter().all(|request| request.token.as_deref() == Some("Bearer hf_secret")), "{hub:?}");
}

#[trial(full)]
fn concurrent_pulls_download_each_file_once() {
    let bed = Bed::new();
    bed.server.faults(|request| {
        let slow = || std::thread::sleep(std::time::Duration::from_millis(100));
        (request.method == "GET" && request.cdn).then(|| super::server::Fault::Pause(1000, Box::new(slow)))
    });
    let children = [(); 2].map(|()| {
        let mut command = bed.command(&["pull", REPO]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("it starts")
    });
    for child in children {
        super::bed::Done::from(child.wait_with_output().expect("it ends")).expect(0, &[]);
    }
    let shards = bed.server.requests().into_iter().filter(|request| request.cdn).count();
    assert_eq!(shards, 3);
    bed.run(&say(REPO)).expect(0, &[]);
}

#[trial(full)]
fn cache_flag_selects_the_folder() {
    let bed = Bed::new();
    let other = tempfile::tempdir().expect("a temporary folder");
    let path = other.path().to_str().expect("a path in UTF-8");
    let done = bed.run(&["pull", REPO, "--cache", path]).expect(0, &[&format!("HF_HUB_CACHE={path} ruminate run")]);
    assert!(done.out.starts_with(path), "{}", done.out);
    assert!(!bed.cache().exists());
    let run = bed.command(&say(REPO)).env("HF_HUB_CACHE", path).output().expect("the program starts");
    super::bed::Done::from(run).expect(0, &[]);
}

#[trial(full)]
fn single_weights_file_needs_no_index() {
    let bed = Bed::new();
    bed.server.set("model.safetensors", "not read here");
    bed.pull().expect(0, &["model.safetensors"]);
    let asked = bed.server.requests();
    assert!(
        !asked.iter().any(|request| request.path.contains("model-0") || request.path.ends_with(INDEX)),
        "{asked:?}"
    );
}

#[trial(full)]
fn help_and_completions_contain_pull() {
    let bed = Bed::new();
    let help = bed.run(&["pull", "--help"]).expect(0, &[]).out;
    for word in ["OWNER/NAME[@REVISION]", "--cache", "HF_TOKEN", "HF_ENDPOINT"] {
        assert!(help.contains(word), "{help}");
    }
    assert!(bed.run(&["completions", "bash"]).out.contains("pull"));
    bed.run(&["pull", "../evil"]).expect(2, &["expected owner/name"]);
    bed.run(&["pull", "a/b@../c"]).expect(2, &["expected a branch, a tag or a commit"]);
}
