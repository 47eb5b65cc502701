//! An experiment file's text, and the way from a range of it back to a line and column.
//!
//! A file is woven into the text of its base and overrides from the command line are spliced in, so that everything after
//! sees one file; the source remembers which part came from where, and a mistake is shown where it was typed. Ranges are
//! byte offsets into that one text.

pub(crate) mod explain;
mod format;
mod near;
mod site;
pub(crate) mod syntax;
mod weave;

use std::{
    fs,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};

use ron::{Options, extensions::Extensions, value::RawValue};
use serde::de::DeserializeOwned;

use crate::diagnostic::{Diagnostic, Excerpt, Place};

pub use format::format;
pub(crate) use near::nearest;
pub use site::Site;
pub(crate) use weave::{Strand, Weave};

/// The largest experiment file that is read, in bytes; a larger one is not an experiment file.
const LARGEST: u64 = 4 << 20;

/// What an experiment file is, for those who give another file.
const FORM: &str = "an experiment file is text in UTF-8 that begins with `Experiment(` or a stage such as `Pretrain(`";

/// The RON dialect of every file: `Some(..)` may be left out.
pub fn dialect() -> Options {
    Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

/// What overrides are called in messages.
pub const COMMAND_LINE: &str = "command line";

/// A text in quotes, as a file has it.
pub(crate) fn quoted(text: &str) -> String {
    dialect()
        .to_string(text)
        .expect("a text can always be written")
}

/// The text of an experiment file with its overrides.
#[derive(Clone, Debug)]
pub struct Source {
    text: String,
    pieces: Vec<Piece>,
    origins: Vec<Origin>,
}

/// Where a stretch of the text came from, up to the start of the next piece.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Start in the text.
    start: usize,
    /// Index of the origin.
    origin: usize,
    /// The place in the origin's text that the start came from.
    offset: usize,
    /// All of the stretch stands for the place at `offset`: punctuation that nobody typed.
    fixed: bool,
}

/// Something that a person typed.
#[derive(Clone, Debug)]
struct Origin {
    name: String,
    text: String,
    /// Where its relative paths start; where those of the file start unless it says.
    folder: Option<PathBuf>,
    /// What mistakes in it add.
    note: Option<String>,
}

impl Origin {
    fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            folder: None,
            note: None,
        }
    }

    /// A mistake at the byte `start`, with `length` characters underlined as far as the line goes.
    fn error(&self, start: usize, length: usize, message: String) -> Diagnostic {
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_start..].lines().next().unwrap_or("");
        let column = self.text[line_start..start].chars().count() + 1;
        let room = (line.chars().count() + 1).saturating_sub(column);
        Diagnostic {
            message,
            path: self.name.clone(),
            excerpt: Some(Box::new(Excerpt {
                place: Place {
                    line: before.matches('\n').count() + 1,
                    column,
                    length: length.min(room).max(1),
                },
                line: line.to_owned(),
            })),
            note: self.note.clone(),
            help: None,
        }
    }
}

/// The characters of the first line of a text.
fn first_line(text: &str) -> usize {
    let line = text.lines().next().unwrap_or("");
    line.trim_end().chars().count()
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// It is missing, unreadable, no file, much too large or no text in UTF-8.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        let name = path.display().to_string();
        let fail = |message: String| Diagnostic::whole(name.clone(), message);
        let mut file = fs::File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => fail("there is no such file".to_owned()),
            _ => fail(format!("cannot open the file: {error}")),
        })?;
        let metadata = file
            .metadata()
            .map_err(|error| fail(format!("cannot read the file: {error}")))?;
        if metadata.is_dir() {
            return Err(fail("this is a folder, not an experiment file".to_owned()));
        }
        let mut bytes = Vec::new();
        file.by_ref()
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| fail(format!("cannot read the file: {error}")))?;
        if bytes.len() as u64 > LARGEST {
            let most = LARGEST >> 20;
            let message =
                format!("the file is larger than {most} MiB and cannot be an experiment file");
            return Err(fail(message).help(FORM));
        }
        // A zero is good UTF-8, but no text has one.
        if let Some(zero) = bytes.iter().position(|&byte| byte == 0) {
            let message = format!("the file is not text (byte {} is zero)", zero + 1);
            return Err(fail(message).help(FORM));
        }
        String::from_utf8(bytes).map_or_else(
            |error| {
                let first = error.utf8_error().valid_up_to() + 1;
                let message = format!(
                    "the file is not text in UTF-8 (byte {first} is the first that does not fit)"
                );
                Err(fail(message).help(FORM))
            },
            |text| Ok(Self::new(name.clone(), text)),
        )
    }

    /// A source from a text; `name` stands for it in messages.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text: String = text.into();
        // A byte order mark is no part of the first line.
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        Self {
            pieces: vec![Piece {
                start: 0,
                origin: 0,
                offset: 0,
                fixed: false,
            }],
            origins: vec![Origin::new(name, text.clone())],
            text,
        }
    }

    /// The text, overrides included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of the file as it was given.
    pub fn original(&self) -> &str {
        &self.origins[0].text
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.origins[0].name
    }

    /// The range of the whole text.
    pub(crate) fn all(&self) -> Range<usize> {
        0..self.text.len()
    }

    /// The text in a range.
    pub(crate) fn slice(&self, range: &Range<usize>) -> &str {
        &self.text[range.clone()]
    }

    /// Checks that the whole text is well-formed RON.
    ///
    /// # Errors
    /// The first place where it is not; nothing behind that can be understood.
    pub(crate) fn check_syntax(&self) -> Result<(), Diagnostic> {
        // A comment in the last line may end without a line break; RON wants one.
        match RawValue::from_ron(&format!("{}\n", self.text)) {
            Ok(_) => Ok(()),
            Err(error) => Err(explain::syntax(self, &error)),
        }
    }

    /// Parses the value in a range.
    pub(crate) fn parse<T: DeserializeOwned>(
        &self,
        range: &Range<usize>,
    ) -> Result<T, ron::error::SpannedError> {
        dialect().from_str(self.slice(range))
    }

    /// A mistake in a range.
    pub fn error(&self, range: &Range<usize>, message: impl Into<String>) -> Diagnostic {
        let (origin, start) = self.origin_of(range.start);
        origin.error(start, first_line(self.slice(range)), message.into())
    }

    /// The folder where relative paths in what stands at `at` start, where it is another than that of the file.
    pub(crate) fn folder_at(&self, at: usize) -> Option<&Path> {
        self.origin_of(at).0.folder.as_deref()
    }

    /// Makes this the base of another file: says in all mistakes `note`, and where relative paths start.
    pub(crate) fn become_base(&mut self, folder: &Path, note: &str) {
        for origin in &mut self.origins {
            origin.folder.get_or_insert_with(|| folder.to_owned());
            origin.note.get_or_insert_with(|| note.to_owned());
        }
    }

    /// The origin of the byte at `at`, and its place there.
    fn origin_of(&self, at: usize) -> (&Origin, usize) {
        let index = self.pieces.partition_point(|piece| piece.start <= at);
        let piece = self.pieces[index.max(1) - 1];
        let origin = &self.origins[piece.origin];
        let mut offset = match piece.fixed {
            true => piece.offset,
            false => piece.offset + (at - piece.start),
        };
        offset = offset.min(origin.text.len());
        while !origin.text.is_char_boundary(offset) {
            offset -= 1;
        }
        (origin, offset)
    }

    /// Adds a text that parts can be spliced in from; gives its number.
    pub(crate) fn add_origin(&mut self, name: &str, text: &str) -> usize {
        self.origins.push(Origin::new(name, text));
        self.origins.len() - 1
    }

    /// The number of the text that `range` stands in, and its place there, if it was typed there as it is.
    pub(crate) fn typed_at(&self, range: &Range<usize>) -> Option<(usize, usize)> {
        let (index, piece) = self.piece_at(range.start);
        let end = self.pieces.get(index + 1).map(|next| next.start);
        let whole = end.is_none_or(|end| range.end <= end);
        (whole && !piece.fixed).then_some((piece.origin, piece.offset))
    }

    /// A mistake within an added text.
    pub(crate) fn error_in(
        &self,
        origin: usize,
        range: Range<usize>,
        message: impl Into<String>,
    ) -> Diagnostic {
        let origin = &self.origins[origin];
        let length = first_line(&origin.text[range.clone()]);
        origin.error(range.start, length, message.into())
    }

    /// Replaces a range by parts, each a text and the place in an added text that it came from.
    pub(crate) fn splice(&mut self, range: Range<usize>, origin: usize, parts: &[Part<'_>]) {
        let removed = range.len();
        let mut inserted = Vec::new();
        let mut text = String::new();
        for part in parts {
            let start = range.start + text.len();
            let (piece_text, offset, fixed) = match *part {
                Part::Typed(text, offset) => (text, offset, false),
                Part::Implied(text, offset) => (text, offset, true),
            };
            inserted.push(Piece {
                start,
                origin,
                offset,
                fixed,
            });
            text.push_str(piece_text);
        }
        // What follows the range goes on as before.
        let (index, resumed) = self.piece_at(range.end);
        let after: Vec<Piece> = self.pieces[index + 1..]
            .iter()
            .map(|piece| Piece {
                start: piece.start - removed + text.len(),
                ..*piece
            })
            .collect();
        self.pieces.retain(|piece| piece.start < range.start);
        self.pieces.extend(inserted);
        self.pieces.push(Piece {
            start: range.start + text.len(),
            ..resumed
        });
        self.pieces.extend(after);
        self.text.replace_range(range, &text);
    }

    /// The piece that holds the byte at `at`, cut so that it starts there, and its index.
    fn piece_at(&self, at: usize) -> (usize, Piece) {
        let index = self
            .pieces
            .partition_point(|piece| piece.start <= at)
            .max(1)
            - 1;
        let piece = self.pieces[index];
        let offset = match piece.fixed {
            true => piece.offset,
            false => piece.offset + (at - piece.start),
        };
        (
            index,
            Piece {
                start: at,
                offset,
                ..piece
            },
        )
    }
}

/// A part of a text that is spliced in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// Typed by a person at this offset of the added text.
    Typed(&'a str, usize),
    /// Punctuation that goes with what stands at this offset.
    Implied(&'a str, usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(source: &Source, needle: &str) -> (String, usize, usize, usize) {
        let start = source.text().find(needle).expect("it is in the text");
        let error = source.error(&(start..start + needle.len()), "");
        let place = error.place().expect("it has a place");
        (error.path, place.line, place.column, place.length)
    }

    #[test]
    fn columns_count_characters() {
        let source = Source::new("a", "\u{feff}eins\r\n\t/* é */ zwei\r\ndrei");
        assert_eq!(place(&source, "eins"), ("a".into(), 1, 1, 4));
        assert_eq!(place(&source, "zwei"), ("a".into(), 2, 10, 4));
        assert_eq!(place(&source, "drei"), ("a".into(), 3, 1, 4));
    }

    #[test]
    fn what_was_spliced_in_is_shown_where_it_was_typed() {
        let mut source = Source::new("a", "one two three");
        let origin = source.add_origin("command line", "b=TWO");
        source.splice(
            4..7,
            origin,
            &[Part::Implied("(", 2), Part::Typed("TWO", 2)],
        );
        assert_eq!(source.text(), "one (TWO three");
        assert_eq!(source.original(), "one two three");
        assert_eq!(place(&source, "one"), ("a".into(), 1, 1, 3));
        assert_eq!(place(&source, "TWO"), ("command line".into(), 1, 3, 3));
        assert_eq!(place(&source, "three"), ("a".into(), 1, 9, 5));
        let second = source.add_origin("command line", "c=3");
        source.splice(9..14, second, &[Part::Typed("3", 2)]);
        assert_eq!(source.text(), "one (TWO 3");
        assert_eq!(place(&source, "TWO"), ("command line".into(), 1, 3, 3));
        assert_eq!(place(&source, "3"), ("command line".into(), 1, 3, 1));
    }
}
