//! Checking a file against the hash that names it.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::remote::RemoteFile;

/// Reads along.
pub(super) enum Hasher {
    /// Of a large file's content.
    Sha256(Sha256),
    /// As git names a file: of `blob SIZE`, a zero byte, and the content.
    Git(Sha1),
    /// Nothing to compare with.
    Unchecked,
}

impl Hasher {
    /// The kind that names a file, by its length.
    pub(super) fn new(file: &RemoteFile) -> Self {
        match file.blob.len() {
            _ if !file.hashed => Self::Unchecked,
            64 => Self::Sha256(Sha256::new()),
            _ => Self::Git(Sha1::new().chain_update(format!("blob {}\0", file.size))),
        }
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
            Self::Unchecked => {}
        }
    }

    /// The hash of everything, in hexadecimal digits; none if there is nothing to compare it with.
    pub(super) fn finish(self) -> Option<String> {
        match self {
            Self::Sha256(hash) => Some(hex(&hash.finalize())),
            Self::Git(hash) => Some(hex(&hash.finalize())),
            Self::Unchecked => None,
        }
    }
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Hasher, RemoteFile};

    #[test]
    fn hashes_are_those_of_sha256sum_and_git_hash_object() {
        for hash in [
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0",
        ] {
            let (name, blob) = (String::new(), hash.to_owned());
            let mut hasher = Hasher::new(&RemoteFile { name, blob, hashed: true, size: 5 });
            hasher.update(b"he");
            hasher.update(b"llo");
            assert_eq!(hasher.finish().as_deref(), Some(hash));
        }
    }
}
