//! Mistakes in experiment files and overrides, printed with the line they are about.
//!
//! A file's mistakes are collected, not thrown one by one: functions that read text return or fill a
//! `Vec<Diagnostic>`, so that one look at the output is enough to mend the whole file.

use std::fmt;

/// A place in a text: one-based line and column, and a length in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters to underline.
    pub length: usize,
}

/// A quoted line with something underlined in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// What is underlined.
    pub place: Place,
    /// The whole line.
    pub line: String,
}

/// The most characters of a line that are shown, and how many of them before what is underlined.
const SHOWN: usize = 160;
const BEFORE: usize = 60;

impl Excerpt {
    /// The part of the line that is shown, and column and length of what is underlined in it. Lines without end, and
    /// characters that do something to a terminal, are in files that are no text for people.
    fn window(&self) -> (String, usize, usize) {
        let Place { column, length, .. } = self.place;
        let letters = self.line.chars().count();
        let (start, end) = match letters > SHOWN {
            true => {
                let start = (column - 1).saturating_sub(BEFORE).min(letters - SHOWN);
                (start, start + SHOWN)
            }
            false => (0, letters),
        };
        let shown = |c: char| match c.is_control() && c != '\t' {
            true => char::REPLACEMENT_CHARACTER,
            false => c,
        };
        let part = self.line.chars().skip(start).take(end - start).map(shown);
        let cut = |cut: bool| if cut { "…" } else { "" };
        let line = [
            cut(start > 0),
            &part.collect::<String>(),
            cut(end < letters),
        ]
        .concat();
        let column = column - start + usize::from(start > 0);
        let room = (end + 1).saturating_sub(self.place.column - 1);
        (line, column, length.min(room))
    }
}

/// A mistake of the user in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong: lower case, no full stop, names in backquotes.
    pub message: String,
    /// The file, or `command line`.
    pub path: String,
    /// Where in it; none where the file as a whole is meant.
    pub excerpt: Option<Box<Excerpt>>,
    /// What is worth knowing beside it, such as that the file is the base of another.
    pub note: Option<String>,
    /// What would put it right.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A mistake that has no place within the file `path`, such as that it cannot be read.
    pub fn whole(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            path: path.into(),
            excerpt: None,
            note: None,
            help: None,
        }
    }

    /// The same with a remark.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The same with a remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Where it is, as far as that is known; sorts mistakes in reading order.
    pub fn place(&self) -> Option<Place> {
        self.excerpt.as_ref().map(|excerpt| excerpt.place)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let gutter = match self.excerpt.as_deref() {
            None => {
                write!(f, "\n --> {}", self.path)?;
                1
            }
            Some(excerpt) => {
                let place = &excerpt.place;
                let gutter = place.line.to_string().len();
                let (line, column, length) = excerpt.window();
                // A tab stays a tab under the line too, or the carets would not stand below what they mean.
                let indent: String = line
                    .chars()
                    .take(column - 1)
                    .map(|c| if c == '\t' { '\t' } else { ' ' })
                    .collect();
                let carets = "^".repeat(length.max(1));
                write!(
                    f,
                    "\n{:gutter$}--> {}:{}:{}",
                    "", self.path, place.line, place.column
                )?;
                write!(f, "\n{:gutter$} |", "")?;
                write!(f, "\n{} | {line}", place.line)?;
                write!(f, "\n{:gutter$} | {indent}{carets}", "")?;
                gutter
            }
        };
        for (kind, text) in [("note", &self.note), ("help", &self.help)] {
            if let Some(text) = text {
                write!(f, "\n{:gutter$} = {kind}: {text}", "")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_below_what_they_mean() {
        let diagnostic = Diagnostic {
            message: "no objective is named `MoCO`".into(),
            path: "a.ron".into(),
            excerpt: Some(Box::new(Excerpt {
                place: Place {
                    line: 12,
                    column: 3,
                    length: 4,
                },
                line: "\té MoCO".into(),
            })),
            note: None,
            help: Some("did you mean `MoCo`?".into()),
        };
        assert_eq!(
            diagnostic.to_string(),
            "no objective is named `MoCO`\n  --> a.ron:12:3\n   |\n12 | \té MoCO\n   | \t ^^^^\n   = help: did you mean `MoCo`?"
        );
    }

    #[test]
    fn long_lines_are_cut_and_terminals_left_alone() {
        let shown = |line: String, column: usize, length: usize| {
            let place = Place {
                line: 1,
                column,
                length,
            };
            let mut diagnostic = Diagnostic::whole("a.ron", "wrong");
            diagnostic.excerpt = Some(Box::new(Excerpt { place, line }));
            let text = diagnostic.to_string();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            (lines[3].clone(), lines[4].clone())
        };
        let a = |count: usize| "a".repeat(count);
        let (line, carets) = shown(a(300) + "bcd" + &a(300), 301, 3);
        assert_eq!(line, format!("1 | …{}bcd{}…", a(60), a(97)));
        assert_eq!(carets, format!("  | {}^^^", " ".repeat(61)));
        let (line, carets) = shown(a(300) + "bcd", 301, 3);
        assert_eq!(line, format!("1 | …{}bcd", a(157)));
        assert_eq!(carets, format!("  | {}^^^", " ".repeat(158)));
        let (line, carets) = shown("b".repeat(500), 1, 500);
        assert_eq!(line, format!("1 | {}…", "b".repeat(160)));
        assert_eq!(carets, format!("  | {}", "^".repeat(161)));
        let (line, _) = shown("a\x1b[31m\tb".to_owned(), 1, 1);
        assert_eq!(line, "1 | a\u{fffd}[31m\tb");
    }

    #[test]
    fn a_whole_file_needs_no_line() {
        let diagnostic = Diagnostic::whole("a.ron", "no such file")
            .help("look elsewhere")
            .note("b.ron asks for it");
        assert_eq!(
            diagnostic.to_string(),
            "no such file\n --> a.ron\n  = note: b.ron asks for it\n  = help: look elsewhere"
        );
    }
}
