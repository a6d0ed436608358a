//! Constants and structs shared by WGSL and Rust must be declared only in Rust.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ruminate_shaders::{KERNELS, Part, assemble};
use ruminate_tests::trial;

/// Files of the shaders crate with an extension.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../shaders")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the shaders crate lies beside the tests") {
            let path = entry.expect("its folders can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "only {} files in {extension}", found.len());
    found
}

/// Types of constants that can be shared.
const NUMBERS: [&str; 6] = ["u32", "i32", "f32", "f64", "u64", "usize"];

/// Names declared by lines that begin with a keyword, and the word after each: `const NAME: type`, `struct NAME {`. Rust's visibility is skipped.
fn declared(path: &Path, keyword: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).expect("a source file can be read");
    let names = text.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub").map_or(line, |rest| rest.split_once(' ').map_or("", |(_, rest)| rest));
        let rest = line.strip_prefix(keyword)?.strip_prefix(' ')?;
        let mut words = rest.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        Some((words.next()?.to_owned(), words.next().unwrap_or_default().to_owned()))
    });
    names.collect()
}

fn parts() -> impl Iterator<Item = &'static Part> {
    KERNELS.iter().flat_map(|kernel| kernel.parts.iter().chain(kernel.axes.iter().flat_map(|axis| axis.options)))
}

#[trial]
fn wgsl_does_not_redeclare_rust_constants_and_structs() {
    let consts: BTreeSet<&str> = parts().flat_map(|part| part.consts).map(|it| it.name).collect();
    let structs: BTreeSet<&str> = parts().flat_map(|part| part.structs).map(|it| it.name).chain(["Params"]).collect();
    assert!(consts.len() > 30 && structs.len() > 10, "{consts:?} {structs:?}");
    for path in files("wgsl") {
        for (name, _) in declared(&path, "const") {
            assert!(!consts.contains(name.as_str()), "{}: const {name} is generated from Rust", path.display());
        }
        for (name, _) in declared(&path, "struct") {
            assert!(!structs.contains(name.as_str()), "{}: struct {name} is generated from Rust", path.display());
        }
    }
}

#[trial]
fn wgsl_does_not_repeat_rust_constants_of_its_folder() {
    let mut rust: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for path in files("rs") {
        let folder = path.parent().expect("a file is in a folder").to_owned();
        let numbers = declared(&path, "const").into_iter().filter(|(_, ty)| NUMBERS.contains(&ty.as_str()));
        rust.entry(folder).or_default().extend(numbers.map(|(name, _)| name));
    }
    for path in files("wgsl") {
        let folder = path.parent().expect("a file is in a folder");
        let known = rust.get(folder);
        for (name, _) in declared(&path, "const") {
            let twice = known.is_some_and(|names| names.contains(&name));
            assert!(
                !twice,
                "{}: Rust beside it has a constant {name} too; list it in a part's `consts`",
                path.display()
            );
        }
    }
}

#[trial]
fn modules_declare_only_the_constants_they_use() {
    let mention = |text: &str, name: &str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|it| *it == name).count()
    };
    for kernel in KERNELS {
        for choice in kernel.variants().into_iter().take(3) {
            let text = assemble(kernel, choice);
            for part in kernel.parts.iter().chain(kernel.chosen(choice)) {
                for constant in part.consts {
                    let count = mention(&text, constant.name);
                    let declarations = text.matches(&constant.declaration()).count();
                    assert!(
                        (count == 0 && declarations == 0) || (count > 1 && declarations == 1),
                        "{}: {} is declared {declarations} times and mentioned {count} times",
                        kernel.label(choice),
                        constant.name
                    );
                }
            }
        }
    }
}
