//! Reasons why a session cannot be resumed from a file.

/// Problem with the file of a saved session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotProblem {
    /// Not a saved session.
    #[error("is not a saved session: give a file that Session::save wrote")]
    Other,
    /// Format version of another release of this program.
    #[error(
        "is a saved session in format version {found}; this program reads version {expected}: compute the session again"
    )]
    Version {
        /// Version of the file.
        found: String,
        /// Version that this program reads.
        expected: u32,
    },
    /// The file is truncated.
    #[error("has {bytes} bytes and should have {needed}: it is truncated, copy it again or compute the session again")]
    CutOff {
        /// Bytes of the file.
        bytes: u64,
        /// Bytes that it should have.
        needed: u64,
    },
    /// The content is damaged.
    #[error("is damaged ({reason}): copy it again or compute the session again")]
    Damaged {
        /// Reason.
        reason: String,
    },
    /// Saved from a model of another shape.
    #[error(
        "was saved from a model with {field} {found}; this model has {expected}: load the model that it was saved from"
    )]
    Shape {
        /// Name in `config.json` or of the [`Spec`](crate::Spec).
        field: String,
        /// The value of the model that the session was saved from.
        found: String,
        /// The value of this model.
        expected: String,
    },
    /// Saved from a model of the same shape with other weights.
    #[error(
        "was saved from a model of the same shape with other weights, or with these weights stored in another dtype: load the files that it was saved from"
    )]
    Weights,
    /// Computed with weights in another dtype.
    #[error(
        "was computed with weights in {found}, but this model has them in {expected}: load the model with dtype {found}"
    )]
    Rounded {
        /// Dtype at the time of saving.
        found: String,
        /// Dtype of the loaded model.
        expected: String,
    },
}

impl SnapshotProblem {
    #[cfg(feature = "files")]
    pub(super) fn contradicts(reason: &str) -> Self {
        Self::Damaged { reason: reason.to_owned() }
    }
}
