//! Short names of published models.

use ruminate_tests::{Folder, trial};

use crate::call::{ruminate, text};

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// Runs the command with its own cache.
fn call(cache: &Folder, arguments: &[&str]) -> (i32, String, String) {
    let mut command = ruminate(arguments);
    command.env("HF_HUB_CACHE", cache.path()).env_remove("HF_HOME").env("HF_HUB_OFFLINE", "1");
    let done = command.output().expect("the program starts");
    (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

/// Stores a model in the cache under the name of a published one.
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
fn short_names_resolve_to_repositories_in_every_command() {
    let cache = Folder::new().expect("a folder");
    for verb in [&["run", "--cpu", "x"][..], &["score", "--cpu", "x"], &["chat", "--cpu"]] {
        let (code, _, errors) = call(&cache, &[verb, &["-m", "huginn-0125"]].concat());
        let says = "`ruminate pull tomg-group-umd/huginn-0125`";
        assert!(code == 4 && errors.contains(says), "{verb:?}: {code} {errors}");
    }
    let (code, _, errors) = call(&cache, &["inspect", "-m", "huginn-0125"]);
    assert!(code == 1 && errors.contains("`tomg-group-umd/huginn-0125` is not in the Hugging Face cache"), "{errors}");
    // For an unknown name without an owner, pulling is not suggested.
    let (code, _, errors) = call(&cache, &["run", "--cpu", "-m", "huginn-0126", "x"]);
    assert!(code == 4 && errors.contains("owner/name, or one of the short names: huginn-0125"), "{errors}");
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
fn demo_can_be_selected_by_name() {
    let cache = Folder::new().expect("a folder");
    let prompt = ruminate::demo::PROMPTS[0].0;
    let (code, shown, errors) = call(&cache, &["run", "--cpu", "-q", "--steps=16", "-m", "demo", prompt]);
    assert_eq!((code, shown.as_str()), (0, " A.\n"), "{errors}");
    let (code, shown, errors) = call(&cache, &["sweep", "--cpu", "-m", "demo", "-n=1", "--steps=1"]);
    assert!(code == 0 && shown.starts_with("3 problems"), "{errors}");
}

/// Commands that need only a shape accept a published model without its weights.
#[trial]
fn bench_of_published_model_needs_no_download() {
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
    assert!(code == 0 && shown.lines().count() == ruminate::published().len(), "{shown}{errors}");
    let of = |shown: &str, name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    let huginn = of(&shown, "huginn-0125 ");
    assert!(huginn.contains("  tomg-group-umd/huginn-0125  ") && huginn.ends_with("  not in the cache"), "{shown}");
    assert!(of(&shown, "ouro-1.4b ").contains("  ByteDance/Ouro-1.4B  "), "{shown}");
    cached(&cache);
    let (_, shown, _) = call(&cache, &["pull", "--list"]);
    assert!(of(&shown, "huginn-0125 ").ends_with(")  in the cache"), "{shown}");
    assert!(of(&shown, "ouro-1.4b ").ends_with("  not in the cache"), "{shown}");
    assert_eq!(call(&cache, &["pull"]).0, 2);
    assert_eq!(call(&cache, &["pull", "--list", "a/b"]).0, 2);
}
