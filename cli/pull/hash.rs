//! Verifies files against their hashes.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::remote::RemoteFile;

/// Incremental hash of a file.
pub(super) enum Hasher {
    /// Hash of a large file's content.
    Sha256(Sha256),
    /// Git's blob hash: of `blob SIZE`, a zero byte, and the content.
    Git(Sha1),
    /// No known hash to compare with.
    Unchecked,
}

impl Hasher {
    /// Chooses the hash by the length of the known one.
    pub(super) fn new(file: &RemoteFile) -> Self {
        match file.blob.len() {
            _ if !file.hashed => Self::Unchecked,
            64 => Self::Sha256(Sha256::new()),
            _ => Self::Git(Sha1::new().chain_update(format!("blob {}\0", file.size))),
        }
    }

    /// Adds the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
            Self::Unchecked => {}
        }
    }

    /// Hash of all bytes in hexadecimal digits, or `None` if no hash is known to compare with.
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
