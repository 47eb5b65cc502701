//! Why a run ended without its result: a message, what to do about it, and the exit code.
//!
//! A user's mistake (exit code 2) is found before any long work; everything else that goes wrong on the way is a
//! failure (exit code 1). Mistakes within the text of an experiment file are [`Diagnostic`](crate::diagnostic)s, which
//! know their line; a `Failure` is about files, folders and numbers.

use std::{fmt, io, path::Path};

use crate::diagnostic::Diagnostic;

/// Who has to act on a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The user asked for something that cannot be done.
    Mistake,
    /// Something went wrong on the way.
    Fault,
    /// The user stopped the run.
    Interrupt,
}

/// Why a run ended without its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who has to act.
    pub cause: Cause,
    /// What is wrong, with the name of the thing that is.
    pub message: String,
    /// What would put it right, where that is known.
    pub help: Option<String>,
}

impl Failure {
    /// A mistake of the user.
    pub fn mistake(message: impl Into<String>) -> Self {
        Self::new(Cause::Mistake, message)
    }

    /// Something that went wrong on the way.
    pub fn fault(message: impl Into<String>) -> Self {
        Self::new(Cause::Fault, message)
    }

    /// The end of a run that the user stopped.
    pub fn interrupt(message: impl Into<String>) -> Self {
        Self::new(Cause::Interrupt, message)
    }

    fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            help: None,
        }
    }

    /// The same with a remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The exit code of a program that ends so: 1 failed, 2 bad usage, 130 stopped by the user.
    pub fn exit_code(&self) -> u8 {
        match self.cause {
            Cause::Fault => 1,
            Cause::Mistake => 2,
            Cause::Interrupt => 130,
        }
    }
}

/// What went wrong with a file or folder: `cannot read a/b: permission denied`.
///
/// Conditions that the user can change (a missing file, a folder without permission) are mistakes, others (a full or
/// broken disk) faults.
pub(crate) fn disk(action: &str, path: &Path, error: &io::Error) -> Failure {
    use io::ErrorKind::*;
    let message = format!("cannot {action} {}: {error}", path.display());
    match error.kind() {
        NotFound | PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory
        | InvalidFilename => Failure::mistake(message),
        StorageFull | QuotaExceeded => {
            Failure::fault(message).help("make room, then go on with --resume")
        }
        _ => Failure::fault(message),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  = help: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::mistake(diagnostic.to_string())
    }
}

/// All mistakes of a file as one, each after the first with a heading of its own.
impl From<Vec<Diagnostic>> for Failure {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        let texts: Vec<_> = diagnostics.iter().map(Diagnostic::to_string).collect();
        Self::mistake(texts.join("\nerror: "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_to_do() {
        let failure = Failure::mistake("`runs/a` exists").help("add --resume");
        assert_eq!(
            failure.to_string(),
            "`runs/a` exists\n  = help: add --resume"
        );
        assert_eq!(failure.exit_code(), 2);
    }

    #[test]
    fn a_missing_file_is_the_users_to_mend() {
        let missing = std::fs::read("/no/such/file").unwrap_err();
        assert_eq!(
            disk("read", Path::new("/no/such/file"), &missing).cause,
            Cause::Mistake
        );
    }
}
