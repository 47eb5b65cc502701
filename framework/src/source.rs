//! An experiment file's text, and the way from a slice of it back to a line and column.

use std::{fs, io, path::Path};

use ron::{Options, error::SpannedError, extensions::Extensions};
use serde::Deserialize;

use crate::{
    diagnostic::{Diagnostic, Place},
    registry::nearest,
};

/// The text of a RON file, kept so that errors can quote it.
pub struct Source {
    path: String,
    text: String,
}

/// The RON dialect of every file: `Some(..)` may be left out.
pub fn dialect() -> Options {
    Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

impl Source {
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self::new(
            path.display().to_string(),
            fs::read_to_string(path)?,
        ))
    }

    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// Parses the whole text.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Diagnostic> {
        self.parse_slice(&self.text)
    }

    /// Parses `slice`, which must borrow from this source; errors point into the whole file.
    pub fn parse_slice<'a, T: Deserialize<'a>>(&'a self, slice: &'a str) -> Result<T, Diagnostic> {
        dialect()
            .from_str(slice)
            .map_err(|error| self.explain(slice, error))
    }

    /// An error about `slice`, which must borrow from this source.
    pub fn error(&self, slice: &str, message: impl Into<String>) -> Diagnostic {
        let (line, column) = self.position(slice);
        let length = slice.lines().next().unwrap_or("").chars().count();
        self.at(
            Place {
                line,
                column,
                length,
            },
            message.into(),
        )
    }

    fn explain(&self, slice: &str, error: SpannedError) -> Diagnostic {
        let (line, column) = self.position(slice);
        let shift = |at: ron::error::Position| match at.line {
            1 => (line, column + at.col - 1),
            more => (line + more - 1, at.col),
        };
        let (mut start, end) = (shift(error.span.start), shift(error.span.end));
        // RON's cursor may still stand on the blanks before the value.
        let blanks = self
            .line(start.0)
            .chars()
            .skip(start.1 - 1)
            .take_while(|c| c.is_whitespace())
            .count();
        if start.1 + blanks <= self.line(start.0).chars().count() {
            start.1 += blanks;
        }
        let length = if start.0 == end.0 {
            end.1.saturating_sub(start.1)
        } else {
            1
        };
        let (message, help) = reword(&error.code);
        Diagnostic {
            help,
            ..self.at(
                Place {
                    line: start.0,
                    column: start.1,
                    length,
                },
                message,
            )
        }
    }

    fn position(&self, slice: &str) -> (usize, usize) {
        let offset = slice.as_ptr() as usize - self.text.as_ptr() as usize;
        let before = &self.text[..offset];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }

    fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number - 1).unwrap_or("")
    }

    fn at(&self, place: Place, message: String) -> Diagnostic {
        Diagnostic {
            path: self.path.clone(),
            place,
            excerpt: self.line(place.line).to_owned(),
            message,
            help: None,
        }
    }
}

/// RON's own words, but for the mistakes made most: a name that is wrong, a name that is missing.
fn reword(error: &ron::Error) -> (String, Option<String>) {
    use ron::Error::*;
    match error {
        NoSuchStructField {
            expected,
            found,
            outer,
        } => {
            let help = match nearest(found, expected) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known: {}", expected.join(", ")),
            };
            (
                format!("{} has no field `{found}`", owner(outer)),
                Some(help),
            )
        }
        MissingStructField { field, outer } => {
            (format!("{} lacks its field `{field}`", owner(outer)), None)
        }
        other => (other.to_string(), None),
    }
}

fn owner(outer: &Option<String>) -> &str {
    outer.as_deref().unwrap_or("this")
}
