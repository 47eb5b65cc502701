//! A text put together from parts of others, each of which keeps the place that it came from.

use std::ops::Range;

use super::{Origin, Piece, Source};

/// A source in the making.
pub(crate) struct Weave {
    text: String,
    pieces: Vec<Piece>,
    origins: Vec<Origin>,
}

/// One of the sources that parts are taken from.
#[derive(Clone, Copy)]
pub(crate) struct Strand<'a> {
    source: &'a Source,
    /// The number of its first origin in the whole.
    first: usize,
}

impl<'a> Strand<'a> {
    /// The source.
    pub fn source(&self) -> &'a Source {
        self.source
    }
}

impl Weave {
    /// Starts with the source whose file the whole is called by.
    pub fn new(source: &Source) -> (Self, Strand<'_>) {
        let weave = Self {
            text: String::new(),
            pieces: Vec::new(),
            origins: source.origins.clone(),
        };
        (weave, Strand { source, first: 0 })
    }

    /// Lets parts be taken from another source.
    pub fn add<'a>(&mut self, source: &'a Source) -> Strand<'a> {
        let first = self.origins.len();
        self.origins.extend(source.origins.iter().cloned());
        Strand { source, first }
    }

    /// Goes on with a part of a source.
    pub fn take(&mut self, strand: Strand<'_>, range: &Range<usize>) {
        let pieces = &strand.source.pieces;
        for (i, piece) in pieces.iter().enumerate() {
            let end = (pieces.get(i + 1)).map_or(strand.source.text.len(), |next| next.start);
            let (start, end) = (piece.start.max(range.start), end.min(range.end));
            if start >= end {
                continue;
            }
            let offset = match piece.fixed {
                true => piece.offset,
                false => piece.offset + (start - piece.start),
            };
            self.pieces.push(Piece {
                start: self.text.len(),
                origin: strand.first + piece.origin,
                offset,
                fixed: piece.fixed,
            });
            self.text.push_str(&strand.source.text[start..end]);
        }
    }

    /// Goes on with punctuation that nobody typed and that stands for the place `at` of a source.
    pub fn imply(&mut self, text: &str, strand: Strand<'_>, at: usize) {
        let (_, piece) = strand.source.piece_at(at);
        self.pieces.push(Piece {
            start: self.text.len(),
            origin: strand.first + piece.origin,
            offset: piece.offset,
            fixed: true,
        });
        self.text.push_str(text);
    }

    /// The whole.
    pub fn finish(self) -> Source {
        Source {
            text: self.text,
            pieces: self.pieces,
            origins: self.origins,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_shown_where_they_were_typed() {
        let (mut below, above) = (
            Source::new("below", "one\ntwo"),
            Source::new("above", "drei"),
        );
        below.become_base("/there".as_ref(), "below the other");
        let (mut weave, above) = Weave::new(&above);
        let below = weave.add(&below);
        weave.take(below, &(4..7));
        weave.imply(", ", above, 1);
        weave.take(above, &(2..4));
        let whole = weave.finish();
        assert_eq!(whole.text(), "two, ei");
        assert_eq!((whole.name(), whole.original()), ("above", "drei"));
        let said = |at| {
            let error = whole.error(&(at..at + 1), "");
            let place = error.place().expect("it has a place");
            (error.path, place.line, place.column, error.note)
        };
        let note = Some("below the other".to_owned());
        assert_eq!(said(1), ("below".to_owned(), 2, 2, note));
        assert_eq!(said(3), ("above".to_owned(), 1, 2, None));
        assert_eq!(said(6), ("above".to_owned(), 1, 4, None));
        assert_eq!(whole.folder_at(0), Some("/there".as_ref()));
        assert_eq!(whole.folder_at(5), None);
        assert_eq!(whole.typed_at(&(5..7)), Some((0, 2)));
        assert_eq!(whole.typed_at(&(1..6)), None);
    }
}
