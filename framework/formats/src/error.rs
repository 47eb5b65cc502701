//! The one error of this crate: which file, what is wrong with it, what to do.
//!
//! Parts of the message come from a file that may be hostile and go to a terminal, so [`visible`] takes out control
//! characters and bounds the length of whatever is quoted.

use std::{
    error, fmt, io,
    path::{Path, PathBuf},
};

/// What sort of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The file cannot be opened, read or written.
    Disk,
    /// The file is damaged, foreign, or asks for more than it may.
    Content,
    /// The file names code that an ordinary unpickler would import or run.
    Code,
}

/// Why a file of weights cannot be read, or a value not be turned into what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    path: Option<PathBuf>,
    problem: String,
    remedy: String,
}

impl Error {
    /// A damaged or foreign file: `problem` continues "the file …".
    pub fn content(problem: impl Into<String>) -> Self {
        Self {
            kind: Kind::Content,
            path: None,
            problem: problem.into(),
            remedy: "fetch or write the file again; it is not as `torch.save` writes it".to_owned(),
        }
    }

    /// A file that would run code.
    pub fn code(problem: impl Into<String>) -> Self {
        Self {
            kind: Kind::Code,
            remedy: "do not open such a file in Python either, unless you trust its maker; ask for a file \
                     of plain weights, such as `torch.save(model.state_dict(), path)` writes"
                .to_owned(),
            ..Self::content(problem)
        }
    }

    /// A failure of the disk.
    pub fn disk(action: &str, error: &io::Error) -> Self {
        Self {
            kind: Kind::Disk,
            remedy: "check the path, the permissions and the free space".to_owned(),
            ..Self::content(format!("cannot be {action}: {error}"))
        }
    }

    /// The same error with another remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// The same error about the file at `path`.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// What sort of thing went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is wrong, without the file's name.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What to do about it.
    pub fn help(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{} {}", path.display(), self.problem)?,
            None => write!(f, "the file {}", self.problem)?,
        }
        write!(f, " ({})", self.remedy)
    }
}

impl error::Error for Error {}

/// `text` without control characters and of at most 120 characters.
pub fn visible(text: &str) -> String {
    let mut visible: String = text
        .chars()
        .take(120)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(120).is_some() {
        visible.push('…');
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\u{7f}"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(visible(&"x".repeat(200)).chars().count(), 121);
    }

    #[test]
    fn message_has_file_problem_and_remedy() {
        let error = Error::content("is empty").remedy("give another");
        assert_eq!(error.to_string(), "the file is empty (give another)");
        let placed = error.at(Path::new("a/b.pth"));
        assert_eq!(placed.to_string(), "a/b.pth is empty (give another)");
        assert_eq!(placed.problem(), "is empty");
    }
}
