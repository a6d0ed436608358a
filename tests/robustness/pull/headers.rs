//! `inspect` of a model that is not in the cache: only its headers are fetched from the hub.

use ruminate_tests::trial;
use serde_json::Value;

use super::bed::{Bed, Done, HEAD_SHARD, SHARD, content, folder};
use super::server::{Fault, REPO};

/// Output of `inspect`, without values that depend on the machine's memory.
fn found(done: &Done) -> Value {
    let mut found: Value = serde_json::from_str(&done.out).expect("JSON");
    found["devices"].take();
    found
}

/// Output of `inspect` for the same model in a folder.
fn of_folder(bed: &Bed) -> Value {
    let folder = folder();
    let path = folder.to_str().expect("a path in UTF-8");
    found(&bed.run(&["inspect", "--json", "-m", path]).expect(0, &[]))
}

#[trial]
fn inspect_fetches_only_headers() {
    let bed = Bed::new();
    let done = bed.run(&["inspect", "--json", "-m", REPO]).expect(0, &["note: maker/small-loop is not in", "5 files"]);
    assert_eq!(found(&done), of_folder(&bed));
    assert!(!bed.cache().exists(), "something was stored");
    let asked = bed.server.requests();
    let contents = asked.iter().filter(|request| request.method == "GET");
    for request in contents.filter(|request| request.path.ends_with(".safetensors")) {
        assert!(request.end.is_some_and(|end| end <= 1 << 16), "{request:?}");
        assert!(!request.path.ends_with(HEAD_SHARD), "{request:?}");
    }
    assert!(asked.iter().any(|request| request.path.ends_with(SHARD)));
    assert!(!asked.iter().any(|request| request.path.ends_with("tokenizer.json")), "the tokenizer is not needed");
    bed.run(&["inspect", "-m", REPO]).expect(0, &[]);
    // A cached model needs no request.
    bed.pull().expect(0, &[]);
    bed.server.requests();
    let done = bed.run(&["inspect", "--json", "-m", REPO]).expect(0, &[]);
    assert!(found(&done) == of_folder(&bed) && bed.server.requests().is_empty(), "{}", done.errors);
}

/// Shard with a header longer than the first request.
fn long_header() -> Vec<u8> {
    let whole = content(SHARD);
    let header = u64::from_le_bytes(whole[..8].try_into().expect("eight bytes")) as usize;
    let padded = header + 100_000;
    let parts = [&(padded as u64).to_le_bytes()[..], &whole[8..8 + header], &vec![b' '; 100_000], &whole[8 + header..]];
    parts.concat()
}

#[trial]
fn headers_are_read_from_long_headers_and_servers_without_ranges() {
    let bed = Bed::new();
    bed.server.set(SHARD, long_header());
    for faults in [false, true] {
        bed.server.faults(move |_| faults.then_some(Fault::NoRange));
        let done = bed.run(&["inspect", "--json", "-m", REPO]).expect(0, &[]);
        assert_eq!(found(&done), of_folder(&bed), "without ranges: {faults}");
    }
}

#[trial]
fn broken_connection_is_retried() {
    let bed = Bed::new();
    let mut broken = false;
    bed.server.faults(move |request| {
        let breaks = request.cdn && !broken;
        broken |= breaks;
        breaks.then_some(Fault::Cut(5))
    });
    let done = bed.run(&["inspect", "--json", "-m", REPO]).expect(0, &[]);
    assert_eq!(found(&done), of_folder(&bed));
}

#[trial]
fn unreachable_hub_is_reported() {
    let bed = Bed::new();
    let mut offline = bed.command(&["inspect", "-m", REPO]);
    let done: Done = offline.env("HF_HUB_OFFLINE", "1").output().expect("the program starts").into();
    done.expect(1, &["`maker/small-loop` is not in the Hugging Face cache", "HF_HUB_OFFLINE"]);
    assert!(bed.server.requests().is_empty());
    let mut silent = bed.command(&["inspect", "-m", REPO]);
    let done: Done = silent.env("HF_ENDPOINT", "http://127.0.0.1:9").output().expect("the program starts").into();
    done.expect(1, &["its headers cannot be fetched: cannot reach http://127.0.0.1:9", "check the connection"]);
    bed.run(&["inspect", "-m", "maker/nothing"]).expect(4, &["has no model `maker/nothing`"]);
}

#[trial]
fn invalid_remote_files_are_refused_like_local_ones() {
    let bed = Bed::new();
    bed.server.set(SHARD, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
    bed.run(&["inspect", "-m", REPO]).expect(4, &["model-00002-of-00003.safetensors of maker/small-loop", "Git LFS"]);
    bed.server.set(SHARD, &content(SHARD)[..content(SHARD).len() - 4]);
    bed.run(&["inspect", "-m", REPO]).expect(4, &["model-00002-of-00003.safetensors of maker/small-loop", "truncated"]);
    bed.server.set("config.json", "{\"architectures\": [\"Other\"]}");
    bed.run(&["inspect", "-m", REPO]).expect(4, &["config.json of maker/small-loop"]);
}
