//! Fingerprint of a checkpoint's weights, computed from a sample of their bytes.

use sha2::{Digest, Sha256};

use super::{Checkpoint, Entry, Expected};
use crate::error::{Error, Result};

/// Bytes of a sampled piece, and pieces per tensor: they cover all of a norm, and a few million bytes of Huginn's 15 GB.
const PIECE: usize = 4096;
const PIECES: usize = 16;

impl Checkpoint {
    /// SHA-256 over names, dtypes and shapes of the tensors that a model needs, and over a sample of their bytes: the first and last pieces and some at equal
    /// distances in between. It does not depend on how tensors are distributed over files.
    ///
    /// # Errors
    /// [`Error::File`] if a file cannot be read.
    pub(crate) fn fingerprint(&self, needed: &[Expected]) -> Result<Sha256> {
        let mut hash = Sha256::new();
        let mut piece = [0; PIECE];
        let entries = needed.iter().filter(|tensor| tensor.required).filter_map(|it| self.tensors.get(&it.name));
        for entry @ Entry { info, place, .. } in entries {
            hash.update(format!("{} {} {:?};", info.name, info.dtype.name(), info.shape));
            for (start, bytes) in entry.parts() {
                for at in places(bytes) {
                    let piece = &mut piece[..PIECE.min(bytes - at)];
                    let read = self.files[*place].read_at(start + at, piece);
                    read.map_err(|source| Error::File { file: info.file.clone(), source })?;
                    hash.update(piece);
                }
            }
        }
        Ok(hash)
    }
}

impl Entry {
    /// Offset in the file and length of each part of a tensor; only a matrix in blocks has more than one.
    fn parts(&self) -> Vec<(usize, usize)> {
        let Some(blocks) = &self.blocks else { return vec![(self.start, self.info.bytes as usize)] };
        let bytes = blocks.matrix.parts().into_iter().map(|part| part.shape[0] * part.row_bytes);
        blocks.starts.iter().copied().zip(bytes).collect()
    }
}

/// Offsets of the sampled pieces; a small tensor is sampled completely.
fn places(bytes: usize) -> Vec<usize> {
    if bytes <= PIECE * PIECES {
        return (0..bytes).step_by(PIECE).collect();
    }
    let apart = (bytes - PIECE) / (PIECES - 1);
    (0..PIECES - 1).map(|at| apart * at).chain([bytes - PIECE]).collect()
}
