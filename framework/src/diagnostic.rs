//! Errors that point into an experiment file.

use std::fmt;

/// A place in a source text: one-based line and column, and a length in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    pub length: usize,
}

/// An error in an experiment file, printed with the line it is about.
#[derive(Debug)]
pub struct Diagnostic {
    pub path: String,
    pub place: Place,
    pub excerpt: String,
    pub message: String,
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place {
            line,
            column,
            length,
        } = self.place;
        let gutter = line.to_string().len();
        writeln!(f, "{}", self.message)?;
        writeln!(f, "{:gutter$}--> {}:{line}:{column}", "", self.path)?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{line} | {}", self.excerpt)?;
        write!(
            f,
            "{:gutter$} | {:indent$}{}",
            "",
            "",
            "^".repeat(length.max(1)),
            indent = column - 1
        )?;
        if let Some(help) = &self.help {
            write!(f, "\n{:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}
