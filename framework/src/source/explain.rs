//! RON's errors in the words of a person, each at its place.

use std::ops::Range;

use ron::error::{Error, Position, SpannedError};

use super::{
    Source,
    syntax::{Body, Field, Value, is_blank, mismatched, no_finite_number, unclosed},
};
use crate::{
    diagnostic::Diagnostic,
    source::{COMMAND_LINE, nearest},
};

/// A syntax error of the whole file.
pub(crate) fn syntax(source: &Source, error: &SpannedError) -> Diagnostic {
    let all = source.all();
    let range = range_of(source, &all, error);
    let text = source.text();
    match &error.code {
        Error::ExpectedComma
        | Error::ExpectedStructLikeEnd
        | Error::ExpectedArrayEnd
        | Error::Eof
            if text[range.start..].trim().is_empty() =>
        {
            // RON can only say where the text ended; the bracket that was never closed is what the reader looks for.
            match unclosed(text) {
                Some(open) => source.error(
                    &(open..open + 1),
                    format!("`{}` is never closed", &text[open..open + 1]),
                ),
                None if is_blank(text) => source
                    .error(&range, "the file is empty")
                    .help("start it with `Experiment(` or `Pretrain(`"),
                None => source.error(&range, "the file ends too early"),
            }
        }
        Error::ExpectedComma | Error::UnexpectedChar(_)
            if mismatched(text).is_some_and(|pair| pair.1 == range.start) =>
        {
            let (open, close) = mismatched(text).unwrap_or_default();
            let line = source
                .error(&(open..open + 1), "")
                .place()
                .map_or(0, |place| place.line);
            let bracket = |at: usize| &text[at..at + 1];
            source.error(
                &(close..close + 1),
                format!(
                    "`{}` does not close the `{}` of line {line}",
                    bracket(close),
                    bracket(open)
                ),
            )
        }
        Error::ExpectedComma => source.error(&range, "expected a comma or a closing bracket"),
        Error::TrailingCharacters if Value::parse(text, source.all()).body == Body::Bare => source
            .error(&range, "expected an experiment or a stage")
            .help("start the file with `Experiment(` or `Pretrain(`"),
        Error::TrailingCharacters => source.error(
            &range,
            "nothing may follow the end of the experiment; is a bracket closed too early?",
        ),
        Error::Message(message) if message.contains("cannot") => {
            let start = text.find("#!").unwrap_or(range.start);
            let line = text[start..].lines().next().unwrap_or("");
            source
                .error(
                    &(start..start + line.len()),
                    "attributes such as `#![enable(..)]` are not needed",
                )
                .help("remove the line")
        }
        other => source.error(&range, reword(other)),
    }
}

/// The range that a RON error means, found in the value that stands in `parsed`.
pub(crate) fn range_of(
    source: &Source,
    parsed: &Range<usize>,
    error: &SpannedError,
) -> Range<usize> {
    let text = source.slice(parsed);
    let mut start = offset_of(text, error.span.start);
    let end = offset_of(text, error.span.end).max(start);
    // RON's cursor may still stand on the blanks before the value.
    let blanks = text[start..].len() - text[start..].trim_start().len();
    if start + blanks < text.len() {
        start += blanks;
    }
    parsed.start + start..parsed.start + end.max(start)
}

/// The byte offset of a RON position in the text that was parsed.
pub(crate) fn offset_of(text: &str, position: Position) -> usize {
    let mut start = 0;
    for _ in 1..position.line {
        match text[start..].find('\n') {
            Some(at) => start += at + 1,
            None => return text.len(),
        }
    }
    text[start..]
        .char_indices()
        .nth(position.col.saturating_sub(1))
        .map_or(text.len(), |(at, _)| start + at)
}

/// What a value should have been, in words that follow `field of Plugin: `.
pub(crate) fn reword(error: &Error) -> String {
    match error {
        Error::ExpectedInteger => "expected a whole number".to_owned(),
        Error::ExpectedFloat => "expected a number".to_owned(),
        Error::ExpectedBoolean => "expected `true` or `false`".to_owned(),
        Error::ExpectedString => "expected a text in double quotes".to_owned(),
        Error::ExpectedArray => "expected a list, `[..]`".to_owned(),
        Error::ExpectedMap => "expected a map, `{..}`".to_owned(),
        Error::ExpectedStructLike => "expected `(..)`".to_owned(),
        Error::IntegerOutOfBounds => "the number is out of range".to_owned(),
        Error::Eof => "expected a value".to_owned(),
        Error::ExpectedStringEnd => {
            "the text is never closed: a double quote is missing".to_owned()
        }
        Error::ExpectedChar => {
            "expected a single character; a text stands in double quotes".to_owned()
        }
        Error::ExpectedMapColon => "expected `:` between a field and its value".to_owned(),
        Error::UnclosedBlockComment => "the comment is never closed: `*/` is missing".to_owned(),
        Error::InvalidValueForType { expected, found } => {
            format!("expected {expected}, found {found}")
        }
        Error::ExpectedDifferentLength { expected, found } => {
            format!("expected {expected}, found {found}")
        }
        Error::NoSuchEnumVariant { found, .. } => format!("there is no choice `{found}`"),
        Error::NoSuchStructField { found, .. } => format!("there is no field `{found}`"),
        Error::MissingStructField { field, .. } => format!("lacks its field `{field}`"),
        Error::DuplicateStructField { field, .. } => format!("`{field}` is given twice"),
        Error::ExceededRecursionLimit => "brackets are nested too deeply".to_owned(),
        other => {
            let text = other.to_string();
            let mut letters = text.chars();
            match letters.next() {
                Some(first) => first.to_lowercase().chain(letters).collect(),
                None => text,
            }
        }
    }
}

/// A value that does not fit its field.
pub(crate) struct Misfit {
    /// RON's reason.
    pub code: Error,
    /// The range that RON means.
    pub range: Range<usize>,
}

impl Misfit {
    /// Tells of a misfit in `field` of `owner`; where RON cannot name what would be right, `pattern` may.
    pub fn diagnose(
        &self,
        source: &Source,
        field: &Field,
        owner: &str,
        pattern: impl FnOnce() -> Option<String>,
    ) -> Diagnostic {
        let value = source.slice(&field.value);
        // Within brackets RON's place is more exact than the whole value.
        let bracketed = value.ends_with([')', ']', '}']);
        let place = match bracketed && field.value.contains(&self.range.start) {
            true => {
                let blanks = source.text()[self.range.start..field.value.end]
                    .find(|c: char| !c.is_whitespace())
                    .unwrap_or(0);
                let start = self.range.start + blanks;
                start..self.range.end.max(start)
            }
            false => field.value.clone(),
        };
        let what = match &self.code {
            // The text is well-formed, so these say that it has the form of another type.
            Error::ExpectedComma
            | Error::ExpectedStructLikeEnd
            | Error::ExpectedArrayEnd
            | Error::ExpectedMapEnd
            | Error::ExpectedOptionEnd
            | Error::ExpectedIdentifier
            | Error::ExpectedUnit
            | Error::UnexpectedChar(_)
            | Error::TrailingCharacters
            | Error::Eof => match bracketed {
                true => "has not the form that is expected".to_owned(),
                false if value.parse::<f64>().is_ok() => {
                    format!("expected a whole number, found `{value}`")
                }
                false => format!("cannot be `{value}`"),
            },
            code => reword(code),
        };
        let mut diagnostic = source.error(
            &place,
            format!("`{}` of {owner}: {what}", source.slice(&field.name)),
        );
        diagnostic.help = match &self.code {
            // The shell has taken the quotes.
            Error::ExpectedString if diagnostic.path == COMMAND_LINE => Some(format!(
                "put the text in double quotes and all of it in single quotes: `'..=\"{value}\"'`"
            )),
            code => remedy(code).or_else(pattern),
        };
        diagnostic
    }
}

/// Tells of a number in `field` of `owner` that is none or has no end, which RON takes and nothing can be done with.
pub(crate) fn not_finite(
    source: &Source,
    field: &Field,
    owner: &str,
    pattern: impl FnOnce() -> Option<String>,
) -> Option<Diagnostic> {
    let found = no_finite_number(source.slice(&field.value))?;
    let place = field.value.start + found.start..field.value.start + found.end;
    let message = format!(
        "`{}` of {owner}: expected a finite number, found `{}`",
        source.slice(&field.name),
        source.slice(&place)
    );
    let mut diagnostic = source.error(&place, message);
    diagnostic.help = pattern();
    Some(diagnostic)
}

/// What would be right, where RON knows the names.
fn remedy(error: &Error) -> Option<String> {
    let (expected, found) = match error {
        Error::NoSuchEnumVariant {
            expected, found, ..
        }
        | Error::NoSuchStructField {
            expected, found, ..
        } => (*expected, found),
        _ => return None,
    };
    Some(suggest(found, expected))
}

/// `did you mean ..?`, or all there are.
pub(crate) fn suggest(name: &str, names: &[&str]) -> String {
    match (nearest(name, names), names) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, []) => "there are none".to_owned(),
        (None, _) => format!("known: {}", names.join(", ")),
    }
}
