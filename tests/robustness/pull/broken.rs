//! Broken connections, wrong responses, and full disks.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::bed::{Bed, Done, SHARD, content};
use super::server::{Fault, REPO, Request};
use ruminate_tests::trial;

/// Bytes sent before a fault.
const PART: usize = 100_000;

/// Whether a request is for the content of the shard with faults.
fn shard(request: &Request) -> bool {
    request.cdn && request.method == "GET" && request.path.ends_with(SHARD)
}

/// Range starts of the requests for the shard so far.
fn starts(bed: &Bed) -> Vec<Option<u64>> {
    bed.server.requests().iter().filter(|request| shard(request)).map(|request| request.range).collect()
}

#[track_caller]
fn assert_whole(bed: &Bed) {
    assert!(!bed.partial(SHARD).exists());
    assert_eq!(std::fs::read(bed.snapshot().join(SHARD)).expect("the shard"), content(SHARD));
}

#[track_caller]
fn assert_part(bed: &Bed, bytes: usize) {
    assert_eq!(std::fs::read(bed.partial(SHARD)).expect("a part"), content(SHARD)[..bytes]);
    assert!(!bed.blob(SHARD).exists() && !bed.snapshot().exists() && !bed.model().join("refs/main").exists());
    bed.run(&["run", "--cpu", "-m", REPO, "x"]).expect(4, &["ruminate pull"]);
}

#[trial(full)]
fn broken_download_resumes_where_it_stopped() {
    let bed = Bed::new();
    bed.server.faults(|request| (shard(request) && request.range.is_none()).then_some(Fault::Cut(PART)));
    bed.pull().expect(0, &["connection broke"]);
    assert_eq!(starts(&bed), [None, Some(PART as u64)]);
    assert_whole(&bed);
}

#[trial(full)]
fn persistent_failure_is_an_error_and_keeps_partial_file() {
    let bed = Bed::new();
    bed.server.faults(|request| shard(request).then(|| Fault::Cut(if request.range.is_none() { PART } else { 0 })));
    bed.pull().expect(1, &[SHARD, "100000 of 290968 bytes", "run the same command again"]);
    assert_part(&bed, PART);
    let asked = starts(&bed);
    assert!(asked.len() > 2 && asked[1..].iter().all(|start| *start == Some(PART as u64)), "{asked:?}");
    bed.server.faults(|_| None);
    bed.pull().expect(0, &[]);
    assert_eq!(starts(&bed), [Some(PART as u64)]);
    assert_whole(&bed);
}

#[trial(full)]
fn download_restarts_without_range_support() {
    let bed = Bed::new();
    let cut = |request: &Request| if request.range.is_none() { Fault::Cut(PART) } else { Fault::NoRange };
    bed.server.faults(move |request| shard(request).then(|| cut(request)));
    bed.pull().expect(0, &[]);
    assert_whole(&bed);
}

#[trial(full)]
fn wrong_content_range_is_refused() {
    let bed = Bed::new();
    let other = || Fault::Header("Content-Range", "bytes 5-290967/290968".to_owned());
    let fault = move |request: &Request| if request.range.is_none() { Fault::Cut(PART) } else { other() };
    bed.server.faults(move |request| shard(request).then(|| fault(request)));
    bed.pull().expect(1, &["from byte 100000", "bytes 5-290967/290968"]);
    assert_part(&bed, PART);
}

#[trial(full)]
fn foreign_partial_file_is_detected_by_hash() {
    let bed = Bed::new();
    std::fs::create_dir_all(bed.model().join("blobs")).expect("a folder");
    std::fs::write(bed.partial(SHARD), vec![7; PART]).expect("a part");
    bed.pull().expect(1, &[SHARD, "its hash is", "deleted"]);
    assert!(!bed.partial(SHARD).exists() && !bed.blob(SHARD).exists());
    bed.pull().expect(0, &[]);
    assert_whole(&bed);
}

#[trial(full)]
fn too_long_partial_file_is_dropped() {
    let bed = Bed::new();
    std::fs::create_dir_all(bed.model().join("blobs")).expect("a folder");
    std::fs::write(bed.partial(SHARD), vec![7; 1 << 20]).expect("a part");
    bed.pull().expect(0, &[]);
    assert_eq!(starts(&bed), [None]);
    assert_whole(&bed);
}

#[trial(full)]
fn wrong_hash_is_an_error_and_leaves_no_file() {
    for name in [SHARD, "tokenizer.json"] {
        let bed = Bed::new();
        let mut damaged = content(name);
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        bed.server.faults(move |request| {
            (request.method == "GET" && request.path.ends_with(name)).then(|| Fault::Content(damaged.clone()))
        });
        bed.pull().expect(1, &[name, "its hash is", "has been deleted"]);
        assert!(!bed.partial(name).exists() && !bed.blob(name).exists() && !bed.snapshot().exists());
        bed.run(&["run", "--cpu", "-m", REPO, "x"]).expect(4, &[]);
        bed.server.faults(|_| None);
        bed.pull().expect(0, &[]);
    }
}

#[trial(full)]
fn wrong_size_is_an_error() {
    let bed = Bed::new();
    let longer = [content(SHARD), vec![0; 10]].concat();
    let shorter = content(SHARD)[..PART].to_vec();
    for (other, measured, unmeasured) in [
        (longer, "has 290978 bytes of it, the hub lists 290968", "longer than the 290968 bytes"),
        (shorter, "has 100000 bytes of it, the hub lists 290968", "of 290968 bytes"),
    ] {
        let told = other.clone();
        bed.server.faults(move |request| shard(request).then(|| Fault::Content(told.clone())));
        bed.pull().expect(1, &[SHARD, measured]);
        bed.server.faults(move |request| shard(request).then(|| Fault::Unmeasured(other.clone())));
        bed.pull().expect(1, &[SHARD, unmeasured]);
    }
    assert!(!bed.blob(SHARD).exists() && !bed.snapshot().exists());
}

#[trial(full)]
fn overloaded_server_is_retried() {
    let bed = Bed::new();
    let mut left = 2;
    bed.server.faults(move |request| {
        let busy = request.path.ends_with(SHARD) && left > 0;
        left -= i32::from(busy);
        busy.then_some(Fault::Status(503, &[]))
    });
    bed.pull().expect(0, &[]);
    assert_whole(&bed);
}

#[trial(full)]
fn silent_server_is_retried() {
    let bed = Bed::new();
    // Keeps the connection open until the end of the test.
    let (over, waiting) = mpsc::channel::<()>();
    let mut waiting = Some(waiting);
    bed.server.faults(move |request| {
        let waiting = if shard(request) { waiting.take() } else { None };
        waiting.map(|waiting| Fault::Stop(PART, Box::new(move || waiting.recv().unwrap_or_default())))
    });
    let output = bed.command(&["pull", REPO]).env("HF_HUB_DOWNLOAD_TIMEOUT", "1").output().expect("the program starts");
    Done::from(output).expect(0, &[SHARD, "continuing"]);
    assert_eq!(starts(&bed), [None, Some(PART as u64)]);
    drop(over);
    assert_whole(&bed);
}

#[trial(full)]
fn insufficient_disk_space_is_reported_before_download() {
    let bed = Bed::new();
    let huge = "1000000000000000000";
    bed.server.faults(move |request| {
        let lie = request.method == "HEAD" && request.path.ends_with(SHARD);
        lie.then(|| Fault::Header("X-Linked-Size", huge.to_owned()))
    });
    bed.pull().expect(1, &["not enough room", "1.00 EB", "left", "--cache"]);
    assert!(starts(&bed).is_empty() && !bed.snapshot().exists());
}

#[cfg(unix)]
#[trial(full)]
fn interrupt_keeps_partial_file() {
    let bed = Bed::new();
    let (reached, half) = mpsc::channel();
    let (over, waiting) = mpsc::channel::<()>();
    let mut stop = Some((reached, waiting));
    bed.server.faults(move |request| {
        let stop = if shard(request) { stop.take() } else { None };
        stop.map(|(reached, waiting)| {
            let wait = move || {
                reached.send(()).expect("the test waits");
                waiting.recv().unwrap_or_default();
            };
            Fault::Stop(PART, Box::new(wait))
        })
    });
    let mut command = bed.command(&["pull", REPO]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    half.recv_timeout(Duration::from_secs(60)).expect("the shard is asked for");
    wait_for_part(&bed.partial(SHARD));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    Done::from(child.wait_with_output().expect("it ends")).expect(130, &[]);
    drop(over);
    assert_part(&bed, PART);
    bed.pull().expect(0, &[]);
    assert_eq!(starts(&bed), [None, Some(PART as u64)]);
    assert_whole(&bed);
}

/// Waits until the bytes that were sent are written.
fn wait_for_part(path: &Path) {
    let begun = Instant::now();
    while std::fs::metadata(path).map_or(0, |file| file.len()) < PART as u64 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// File system of 4 MiB, unmounted on drop.
pub(crate) struct Disk(tempfile::TempDir);

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

/// Mounts a small file system, if allowed.
fn small_disk() -> Option<Disk> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let folder = tempfile::tempdir().ok()?;
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=4m", "ruminate-test"]).arg(folder.path());
    let mounted = mount.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    mounted.then(|| Disk(folder))
}

fn no_small_disk() -> Option<String> {
    small_disk().is_none().then(|| "only root may mount a file system".to_owned())
}

#[trial(full, needs(no_small_disk))]
fn full_disk_is_reported_and_partial_file_kept() {
    let (bed, disk) = (Bed::new(), small_disk().expect("run only where one may be mounted"));
    let cache = disk.0.path().to_str().expect("a path in UTF-8").to_owned();
    let filler = disk.0.path().join("filler");
    // The disk has room when the shard begins, and is then filled.
    let at = |start: &str| disk.0.path().join("models--maker--small-loop").join(start);
    let part = at("blobs").join(bed.partial(SHARD).file_name().expect("a name"));
    let (path, mut first) = (filler.clone(), true);
    bed.server.faults(move |request| {
        let now = shard(request) && std::mem::take(&mut first);
        let (path, part) = (path.clone(), part.clone());
        let fill = move || {
            wait_for_part(&part);
            drop(std::fs::write(path, vec![0; 8 << 20]));
        };
        now.then(|| Fault::Pause(PART, Box::new(fill)))
    });
    let done = bed.run(&["pull", REPO, "--cache", &cache]).expect(1, &["full", "kept", &cache]);
    assert!(!done.errors.contains("deleted"));
    assert!(!at("snapshots").exists() && !at("refs").exists());
    // With the disk still full, the download does not start.
    bed.run(&["pull", REPO, "--cache", &cache]).expect(1, &["not enough room"]);
    std::fs::remove_file(filler).expect("the filler");
    bed.server.requests();
    bed.run(&["pull", REPO, "--cache", &cache]).expect(0, &[]);
    let asked = starts(&bed);
    assert!(matches!(asked[..], [Some(start)] if start >= PART as u64), "{asked:?}");
    let path: PathBuf = at("snapshots").join(super::server::COMMIT).join(SHARD);
    assert_eq!(std::fs::read(path).expect("the shard"), content(SHARD));
}
