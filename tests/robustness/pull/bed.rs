//! Test bed: a hub with a small model, an empty cache, and the command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::server::{COMMIT, REPO, Server, etag};

pub(crate) const SHARD: &str = "model-00002-of-00003.safetensors";
pub(crate) const HEAD_SHARD: &str = "model-00004-of-00004.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Files of the hub that are not needed.
pub(crate) const UNNEEDED: [&str; 4] = [HEAD_SHARD, "raven_modeling_minimal.py", "pytorch_model.bin", "README.md"];

pub(crate) struct Bed {
    pub(crate) server: Server,
    pub(crate) home: tempfile::TempDir,
}

/// Folder with the same model.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny")
}

/// Files of the hub: the fixture's, a shard with a copy of the embedding, and other files of a real model.
fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).expect("the fixture") {
        let path = entry.expect("the fixture").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names in UTF-8").to_owned();
        if !name.starts_with("expected") {
            files.insert(name, std::fs::read(&path).expect("a file of the fixture"));
        }
    }
    let mut index: Value = serde_json::from_slice(&files[INDEX]).expect("an index");
    index["weight_map"]["lm_head.weight"] = json!(HEAD_SHARD);
    files.insert(INDEX.to_owned(), index.to_string().into_bytes());
    for name in UNNEEDED {
        files.insert(name.to_owned(), b"nobody needs this".to_vec());
    }
    files
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self { server: Server::start(files()), home: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The command, with an environment that refers only to this test bed.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ruminate"));
        command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
        for (name, _) in std::env::vars_os() {
            let upper = name.to_string_lossy().to_ascii_uppercase();
            let hub = ["HF_", "HUGGING", "TRANSFORMERS_"].iter().any(|start| upper.starts_with(start));
            if hub || upper.ends_with("_PROXY") || upper.ends_with("_CA_BUNDLE") || upper == "SSL_CERT_FILE" {
                command.env_remove(name);
            }
        }
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", self.server.endpoint());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.command(arguments).output().expect("the program starts").into()
    }

    pub(crate) fn pull(&self) -> Done {
        self.run(&["pull", REPO])
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.home.path().join("hub")
    }

    /// Folder of the model in the cache.
    pub(crate) fn model(&self) -> PathBuf {
        self.cache().join("models--maker--small-loop")
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        self.model().join("snapshots").join(COMMIT)
    }

    /// Path of a file of the fixture in the cache.
    pub(crate) fn blob(&self, name: &str) -> PathBuf {
        self.model().join("blobs").join(etag(name, &content(name)))
    }

    pub(crate) fn partial(&self, name: &str) -> PathBuf {
        self.blob(name).with_extension("incomplete")
    }
}

/// Content of a file of the fixture.
pub(crate) fn content(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).expect("a file of the fixture")
}

/// Exit code and output of a command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), errors: text(output.stderr) }
    }
}

impl Done {
    #[track_caller]
    pub(crate) fn expect(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.errors.contains(word), "{word:?} is not in: {}", self.errors);
        }
        self
    }
}
