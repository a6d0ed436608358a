//! Short names of published models.

use ruminate_tests::{Folder, trial};

use crate::call::{ruminate, text};

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// The command, with a cache of its own.
fn call(cache: &Folder, arguments: &[&str]) -> (i32, String, String) {
    let mut command = ruminate(arguments);
    command.env("HF_HUB_CACHE", cache.path()).env_remove("HF_HOME").env("HF_HUB_OFFLINE", "1");
    let done = command.output().expect("the program starts");
    (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

/// Puts a model into the cache under the name of a published one.
fn cached(cache: &Folder) {
    let repo = cache.path().join("models--tomg-group-umd--huginn-0125");
    let snapshot = repo.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(repo.join("refs")).expect("a folder");
    std::fs::create_dir_all(&snapshot).expect("a folder");
    std::fs::write(repo.join("refs/main"), COMMIT).expect("a file");
    let ruminate::Source::Embedded(files) = ruminate::demo::source() else { panic!("the demo is embedded") };
    files.iter().for_each(|(name, content)| std::fs::write(snapshot.join(name), content).expect("a file"));
}

#[trial]
fn a_short_name_stands_for_its_repository_in_every_verb() {
    let cache = Folder::new().expect("a folder");
    for verb in [&["run", "--cpu", "x"][..], &["score", "--cpu", "x"], &["chat", "--cpu"]] {
        let (code, _, errors) = call(&cache, &[verb, &["-m", "huginn-0125"]].concat());
        let says = "`ruminate pull tomg-group-umd/huginn-0125`";
        assert!(code == 4 && errors.contains(says), "{verb:?}: {code} {errors}");
    }
    let (code, _, errors) = call(&cache, &["inspect", "-m", "huginn-0125"]);
    assert!(code == 1 && errors.contains("`tomg-group-umd/huginn-0125` is not in the Hugging Face cache"), "{errors}");
    // Another model without an owner is not to be pulled.
    let (code, _, errors) = call(&cache, &["run", "--cpu", "-m", "huginn-0126", "x"]);
    assert!(code == 4 && errors.contains("owner/name, or one of the short names: "), "{errors}");
    let few = ["--cpu", "--only=tokens", "--steps=1", "--prefill=0", "--decode=1", "-r=1"];
    cached(&cache);
    let (code, shown, errors) = call(&cache, &["run", "--cpu", "-q", "--steps=1", "-n=1", "-m", "huginn-0125", "x"]);
    assert!(code == 0 && !shown.is_empty(), "{errors}");
    let (code, shown, errors) = call(&cache, &[&["bench", "-m", "huginn-0125"], &few[..]].concat());
    assert!(code == 0 && shown.starts_with("width 96,") && !errors.contains("random weights"), "{shown}{errors}");
    let (code, shown, _) = call(&cache, &["inspect", "-m", "huginn-0125"]);
    assert!(code == 0 && shown.contains("432,480 parameters"), "{shown}");
}

#[trial]
fn the_demo_has_a_name_too() {
    let cache = Folder::new().expect("a folder");
    let prompt = ruminate::demo::PROMPTS[0].0;
    let (code, shown, errors) = call(&cache, &["run", "--cpu", "-q", "--steps=16", "-m", "demo", prompt]);
    assert_eq!((code, shown.as_str()), (0, " A.\n"), "{errors}");
    let (code, shown, errors) = call(&cache, &["sweep", "--cpu", "-m", "demo", "-n=1", "--steps=1"]);
    assert!(code == 0 && shown.starts_with("3 problems"), "{errors}");
}

/// Every short name has a shape, which is that of a model of its size.
#[trial]
fn every_short_name_has_a_shape() {
    let cache = Folder::new().expect("a folder");
    let (_, shown, _) = call(&cache, &["pull", "--list"]);
    for name in shown.lines().filter_map(|line| line.split("  ").next()) {
        let line = ["bench", "--cpu", "--only=kernels", "--kernel=select", "--rows=1", "-r=1", "-m", name];
        let (code, shown, errors) = call(&cache, &line);
        assert!(code == 0 && errors.contains("random weights"), "{name}: {shown}{errors}");
        assert!(!shown.starts_with("width 96,") && shown.starts_with("width "), "{name}: {shown}");
    }
}

/// A verb that needs no more than a shape takes that of a published model where its weights are not there.
#[trial]
fn a_bench_of_a_published_model_needs_no_download() {
    let cache = Folder::new().expect("a folder");
    let line = ["bench", "--cpu", "--only=kernels", "--kernel=select", "--rows=1", "-r=1", "-m", "huginn-0125"];
    let (code, shown, errors) = call(&cache, &line);
    assert!(code == 0 && shown.starts_with("width 5280,"), "{shown}{errors}");
    assert!(errors.contains("not in the Hugging Face cache, so these are random weights of its shape"), "{errors}");
}

#[trial]
fn pull_lists_the_published_models() {
    let cache = Folder::new().expect("a folder");
    let (code, shown, errors) = call(&cache, &["pull", "--list"]);
    assert!(code == 0 && !shown.is_empty(), "{shown}{errors}");
    let named = |line: &str| line.split_whitespace().take(2).eq(["huginn-0125", "tomg-group-umd/huginn-0125"]);
    assert!(shown.lines().any(named), "{shown}");
    assert!(shown.lines().all(|line| line.ends_with("  not in the cache")), "{shown}");
    cached(&cache);
    let (_, shown, _) = call(&cache, &["pull", "--list"]);
    for line in shown.lines() {
        assert_eq!(line.ends_with("  not in the cache"), !line.starts_with("huginn-0125 "), "{line}");
    }
    assert_eq!(call(&cache, &["pull"]).0, 2);
    assert_eq!(call(&cache, &["pull", "--list", "a/b"]).0, 2);
}
