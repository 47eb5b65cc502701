//! Advice on an experiment: what will run, but probably not as its author means it.
//!
//! A mistake stops a run and is a [`Diagnostic`](crate::diagnostic::Diagnostic); advice does not. Plugins give it about
//! their own parameters, `preflight` about the stage as a whole and gives all of it a place in the file.

use crate::registry::Invalid;

/// How much a piece of advice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing need be done.
    Note,
    /// Probably not what is meant.
    Warning,
}

impl Severity {
    /// The word before a message.
    pub fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
        }
    }
}

/// What a plugin or the framework says about an experiment that can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// How much it matters.
    pub severity: Severity,
    /// The parameter, the reason and the remedy, in the form of a refusal: the reason follows the parameter's name.
    pub remark: Invalid,
}

impl Advice {
    /// Something worth knowing.
    pub fn note(remark: Invalid) -> Self {
        Self {
            severity: Severity::Note,
            remark,
        }
    }

    /// Something that is probably not meant.
    pub fn warning(remark: Invalid) -> Self {
        Self {
            severity: Severity::Warning,
            remark,
        }
    }
}
