//! Checking a file against the hash that names it.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Reads along.
pub(super) enum Hasher {
    /// Of a large file's content.
    Sha256(Sha256),
    /// As git names a file: of `blob SIZE`, a zero byte, and the content.
    Git(Sha1),
}

impl Hasher {
    /// The kind that an ETag is of, by its length; `size` is the whole file's.
    pub(super) fn new(etag: &str, size: u64) -> Self {
        if etag.len() == 64 {
            Self::Sha256(Sha256::new())
        } else {
            Self::Git(Sha1::new().chain_update(format!("blob {size}\0")))
        }
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
        }
    }

    /// The hash of everything, in hexadecimal digits.
    pub(super) fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hash) => hex(&hash.finalize()),
            Self::Git(hash) => hex(&hash.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Hasher;

    #[test]
    fn hashes_are_those_of_sha256sum_and_git_hash_object() {
        for hash in [
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0",
        ] {
            let mut hasher = Hasher::new(hash, 5);
            hasher.update(b"he");
            hasher.update(b"llo");
            assert_eq!(hasher.finish(), hash);
        }
    }
}
