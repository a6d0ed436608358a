//! Why a session cannot be resumed from a file.

/// What is wrong with the file of a saved session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotProblem {
    /// Some other file.
    #[error("is no saved session: give a file that Session::save wrote")]
    Other,
    /// Written by another version of this program.
    #[error(
        "is a saved session in version {found} of the format; this program reads version {expected}: compute it again"
    )]
    Version {
        /// What the file says.
        found: String,
        /// What is read here.
        expected: u32,
    },
    /// The file ends early.
    #[error("has {bytes} bytes and should have {needed}: it is cut off, copy it again or compute the session again")]
    CutOff {
        /// Bytes of the file.
        bytes: u64,
        /// Bytes that it should have.
        needed: u64,
    },
    /// The content is not what was written.
    #[error("is damaged ({reason}): copy it again or compute the session again")]
    Damaged {
        /// What shows it.
        reason: String,
    },
    /// A model of another shape.
    #[error(
        "was saved from a model whose {field} is {found}; that of this model is {expected}: load the model that it was saved from"
    )]
    Shape {
        /// Name in `config.json` or of the [`Spec`](crate::Spec).
        field: String,
        /// The value of the model that the session was saved from.
        found: String,
        /// The value of this model.
        expected: String,
    },
    /// A model of the same shape with other weights.
    #[error(
        "was saved from a model of the same shape with other weights, or with these stored in other numbers: load the files that it was saved from"
    )]
    Weights,
    /// The weights are rounded otherwise.
    #[error(
        "was computed with weights held in {found}, and these are held in {expected}: load the model with dtype {found}"
    )]
    Rounded {
        /// How they were held.
        found: String,
        /// How they are held here.
        expected: String,
    },
}

impl SnapshotProblem {
    #[cfg(feature = "files")]
    pub(super) fn contradicts(reason: &str) -> Self {
        Self::Damaged { reason: reason.to_owned() }
    }
}
