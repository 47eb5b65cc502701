//! Splits RON text into its parts without giving them a meaning.
//!
//! serde stops at the first mistake and knows no places; to report all mistakes of a file, and to change a value from
//! the command line, the parts must be known first. Only text that RON's own parser found well-formed gets here; on
//! other text the answers are useless but nothing panics.

use std::ops::Range;

/// A value: an optional name before it, and what is in its brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    /// All of it, without the blanks around it.
    pub range: Range<usize>,
    /// The name in front, as in `MoCo(..)` or `Untrained`.
    pub name: Option<Range<usize>>,
    /// What it holds.
    pub body: Body,
}

/// What a value holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// No brackets: a number, a text, a name alone.
    Bare,
    /// `(a: 1, b: 2)`.
    Fields(Vec<Field>),
    /// `(1, 2)` or `[1, 2]`.
    Items(Vec<Range<usize>>),
    /// `{..}`.
    Map,
}

/// One `name: value` of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// The name.
    pub name: Range<usize>,
    /// The value, without the blanks around it.
    pub value: Range<usize>,
}

impl Value {
    /// Splits the value that stands in `range` of `text`.
    pub fn parse(text: &str, range: Range<usize>) -> Self {
        let mut scanner = Scanner {
            text: &text[..range.end],
            at: range.start,
        };
        scanner.blanks();
        let start = scanner.at;
        let name = scanner.identifier();
        if name.is_some() {
            let end = scanner.at;
            scanner.blanks();
            if scanner.peek() != Some('(') {
                return Self {
                    range: start..end,
                    name,
                    body: Body::Bare,
                };
            }
        }
        let body = match scanner.peek() {
            Some('(') if scanner.opens_fields() => Body::Fields(scanner.fields()),
            Some('(' | '[') => Body::Items(scanner.items()),
            Some('{') => {
                scanner.skip_value();
                Body::Map
            }
            _ => {
                scanner.skip_value();
                Body::Bare
            }
        };
        Self {
            range: start..scanner.at.max(start),
            name,
            body,
        }
    }

    /// Where a first field or item would be put: just behind the opening bracket.
    pub fn inside(&self, text: &str) -> Option<usize> {
        let from = self.name.as_ref().map_or(self.range.start, |name| name.end);
        let mut scanner = Scanner {
            text: &text[..self.range.end],
            at: from,
        };
        scanner.blanks();
        matches!(scanner.peek(), Some('(' | '[')).then_some(scanner.at + 1)
    }

    /// The fields, none where it has no named ones.
    pub fn fields(&self) -> &[Field] {
        match &self.body {
            Body::Fields(fields) => fields,
            _ => &[],
        }
    }
}

/// The bracket that is opened and never closed. Brackets have no names, so which one it is can only be told by how the
/// text is laid out: one that is closed in a line with another indent was meant to be closed before.
pub(crate) fn unclosed(text: &str) -> Option<usize> {
    let indent = |at: usize| {
        let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
        let line = &text[start..];
        (start, line.len() - line.trim_start().len())
    };
    let (mut open, mut odd) = (Vec::new(), None);
    brackets(text, |at, opens| {
        if opens {
            open.push(at);
        } else if let Some(start) = open.pop() {
            let (begin, end) = (indent(start), indent(at));
            if begin.0 != end.0 && begin.1 != end.1 {
                odd = odd.max(Some(start));
            }
        }
        true
    });
    let innermost = open.pop()?;
    Some(odd.unwrap_or(innermost))
}

/// The first closing bracket that is of another form than the one that it should close, behind that one.
pub(crate) fn mismatched(text: &str) -> Option<(usize, usize)> {
    let (mut open, mut found) = (Vec::new(), None);
    brackets(text, |at, opens| {
        if opens {
            open.push(at);
            return true;
        }
        let Some(start) = open.pop() else {
            return false;
        };
        if !["()", "[]", "{}"].contains(&[&text[start..=start], &text[at..=at]].concat().as_str()) {
            found = Some((start, at));
        }
        found.is_none()
    });
    found
}

/// Whether there is nothing but blanks and comments.
pub(crate) fn is_blank(text: &str) -> bool {
    let mut scanner = Scanner { text, at: 0 };
    scanner.blanks();
    scanner.rest().is_empty()
}

/// The first number in `text` that is none or has no end: `NaN`, `inf`, or one too large to be held.
pub(crate) fn no_finite_number(text: &str) -> Option<Range<usize>> {
    let mut scanner = Scanner { text, at: 0 };
    loop {
        scanner.blanks();
        if scanner.string() || scanner.character() {
            continue;
        }
        let start = scanner.at;
        while (scanner.peek()).is_some_and(|c| c.is_alphanumeric() || "_.+-".contains(c)) {
            scanner.advance();
        }
        let word = &text[start..scanner.at];
        if word.is_empty() {
            scanner.advance()?;
        } else if is_not_finite(word) {
            return Some(start..scanner.at);
        }
    }
}

/// Whether a word is such a number; it may name its type, as `1.0f32`.
fn is_not_finite(word: &str) -> bool {
    let bare = word.trim_start_matches(['+', '-']);
    let bare = (bare.strip_suffix("f32").or(bare.strip_suffix("f64"))).unwrap_or(bare);
    let number = || bare.replace('_', "").parse::<f64>();
    ["inf", "NaN"].contains(&bare)
        || bare.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && number().is_ok_and(|number| !number.is_finite())
}

/// Calls `each` for every bracket with its place and whether it opens, while that wants more.
fn brackets(text: &str, mut each: impl FnMut(usize, bool) -> bool) {
    let mut scanner = Scanner { text, at: 0 };
    loop {
        scanner.blanks();
        if scanner.string() || scanner.character() {
            continue;
        }
        let more = match scanner.peek() {
            None => return,
            Some('(' | '[' | '{') => each(scanner.at, true),
            Some(')' | ']' | '}') => each(scanner.at, false),
            Some(_) => true,
        };
        if !more {
            return;
        }
        scanner.advance();
    }
}

/// Reads along a text.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    /// What is read.
    pub text: &'a str,
    /// How far it is read.
    pub at: usize,
}

impl Scanner<'_> {
    pub fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn advance(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Skips whitespace and comments.
    fn blanks(&mut self) {
        loop {
            self.whitespace();
            if self.rest().starts_with("//") {
                self.line_comment();
            } else if self.rest().starts_with("/*") {
                self.block_comment();
            } else {
                return;
            }
        }
    }

    /// Skips whitespace.
    pub fn whitespace(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Skips to the end of the line.
    pub fn line_comment(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    /// Skips a block comment; they nest.
    pub fn block_comment(&mut self) {
        let mut depth = 0usize;
        loop {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else if self.advance().is_none() {
                return;
            }
        }
    }

    /// An identifier at this place, but not the start of a raw or byte string.
    fn identifier(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let first = self.peek()?;
        if !(first.is_alphabetic() || first == '_') || self.string_start().is_some() {
            return None;
        }
        // A raw identifier: r#name.
        if self.rest().starts_with("r#") {
            self.at += 2;
        }
        while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.advance();
        }
        Some(start..self.at)
    }

    /// The length of the opening of a string at this place, and its number of `#` where it is raw.
    fn string_start(&self) -> Option<(usize, Option<usize>)> {
        let rest = self.rest();
        let prefix = ["br", "b", "r", ""]
            .into_iter()
            .find(|prefix| rest.starts_with(prefix))?;
        let after = &rest[prefix.len()..];
        if prefix.ends_with('r') {
            let hashes = after.len() - after.trim_start_matches('#').len();
            after[hashes..]
                .starts_with('"')
                .then_some((prefix.len() + hashes + 1, Some(hashes)))
        } else {
            after.starts_with('"').then_some((prefix.len() + 1, None))
        }
    }

    /// Skips a string, if one starts here.
    pub fn string(&mut self) -> bool {
        let Some((length, raw)) = self.string_start() else {
            return false;
        };
        self.at += length;
        match raw {
            Some(hashes) => {
                let close = format!("\"{}", "#".repeat(hashes));
                self.at += self
                    .rest()
                    .find(&close)
                    .map_or(self.rest().len(), |at| at + close.len());
            }
            None => {
                while let Some(next) = self.advance() {
                    match next {
                        '\\' => drop(self.advance()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
        }
        true
    }

    /// Skips a character literal, if one starts here.
    pub fn character(&mut self) -> bool {
        if self.peek() != Some('\'') {
            return false;
        }
        self.advance();
        if self.advance() == Some('\\') {
            self.advance();
        }
        // `'\u{e9}'` has more to it.
        while let Some(next) = self.advance() {
            if next == '\'' {
                break;
            }
        }
        true
    }

    /// Skips to the end of the value that starts here: up to a comma, a colon or a closing bracket of the level above.
    fn skip_value(&mut self) {
        let mut depth = 0usize;
        let mut end = self.at;
        loop {
            self.blanks();
            if self.string() || self.character() {
                end = self.at;
                continue;
            }
            match self.peek() {
                None => break,
                Some(')' | ']' | '}') if depth == 0 => break,
                Some(',' | ':') if depth == 0 => break,
                Some('(' | '[' | '{') => depth += 1,
                Some(')' | ']' | '}') => depth -= 1,
                Some(_) => {}
            }
            self.advance();
            end = self.at;
        }
        self.at = end;
    }

    /// Whether the bracket at this place opens named fields.
    fn opens_fields(&self) -> bool {
        let mut ahead = self.clone();
        ahead.advance();
        ahead.blanks();
        ahead.identifier().is_some() && {
            ahead.blanks();
            ahead.peek() == Some(':')
        }
    }

    /// Reads `(name: value, ..)`.
    fn fields(&mut self) -> Vec<Field> {
        let mut fields = Vec::new();
        self.advance();
        loop {
            self.blanks();
            let Some(name) = self.identifier() else {
                break;
            };
            self.blanks();
            if self.peek() != Some(':') {
                break;
            }
            self.advance();
            self.blanks();
            let start = self.at;
            self.skip_value();
            fields.push(Field {
                name,
                value: start..self.at,
            });
            self.blanks();
            if self.peek() != Some(',') {
                break;
            }
            self.advance();
        }
        self.close();
        fields
    }

    /// Reads `(value, ..)` or `[value, ..]`.
    fn items(&mut self) -> Vec<Range<usize>> {
        let mut items = Vec::new();
        self.advance();
        loop {
            self.blanks();
            let start = self.at;
            self.skip_value();
            if self.at == start {
                break;
            }
            items.push(start..self.at);
            self.blanks();
            if self.peek() != Some(',') {
                break;
            }
            self.advance();
        }
        self.close();
        items
    }

    /// Steps over the closing bracket.
    fn close(&mut self) {
        self.blanks();
        if matches!(self.peek(), Some(')' | ']' | '}')) {
            self.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Option<&str>, Value) {
        let value = Value::parse(text, 0..text.len());
        (value.name.clone().map(|name| &text[name]), value)
    }

    fn fields(text: &str) -> Vec<(&str, &str)> {
        parse(text)
            .1
            .fields()
            .iter()
            .map(|field| (&text[field.name.clone()], &text[field.value.clone()]))
            .collect()
    }

    fn items(text: &str) -> Vec<&str> {
        match parse(text).1.body {
            Body::Items(items) => items.into_iter().map(|item| &text[item]).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn splits_a_struct() {
        let text = " MoCo /* a */ ( // (\n queue : 1 , head:Mlp(a: 2, b: [1,2]), t: -0.5 /* ) */ ,) // end";
        assert_eq!(
            fields(text),
            [
                ("queue", "1"),
                ("head", "Mlp(a: 2, b: [1,2])"),
                ("t", "-0.5")
            ]
        );
        let (name, value) = parse(text);
        assert_eq!(name, Some("MoCo"));
        assert!(text[value.range.clone()].starts_with("MoCo"));
        assert!(text[value.range].ends_with(",)"));
    }

    #[test]
    fn brackets_in_strings_are_text() {
        let text =
            r####"A(a: "x)\"", b: r#"y")"#, c: ')', d: '\'', e: b"]", r#type: 1, f: '\u{e9}')"####;
        let values: Vec<_> = fields(text).into_iter().map(|field| field.1).collect();
        assert_eq!(
            values,
            [
                r#""x)\"""#,
                r###"r#"y")"#"###,
                "')'",
                r"'\''",
                r#"b"]""#,
                "1",
                r"'\u{e9}'"
            ]
        );
    }

    #[test]
    fn splits_lists_and_tuples() {
        assert_eq!(items("[A, B(p: 1), (1, 2),]"), ["A", "B(p: 1)", "(1, 2)"]);
        assert_eq!(items("(0.2, 1.0)"), ["0.2", "1.0"]);
        assert_eq!(items("Stage(\"a\")"), ["\"a\""]);
        assert_eq!(items("Gray()"), [""; 0]);
        assert_eq!(parse("{\"a\": 1}").1.body, Body::Map);
        assert_eq!(parse("Untrained ").0, Some("Untrained"));
        assert_eq!(parse("1e-4").1.body, Body::Bare);
        assert_eq!(parse("\"MoCo(a: 1)\"").1.body, Body::Bare);
    }

    #[test]
    fn finds_the_inside() {
        for text in ["MoCo(a: 1)", "MoCo /* ( */ (", "(1)"] {
            let inside = parse(text).1.inside(text).expect("it has a bracket");
            assert_eq!(&text[inside - 1..inside], "(");
            assert!(!text[..inside].contains("1)"), "{text}");
        }
        assert_eq!(parse("MoCo").1.inside("MoCo"), None);
    }

    #[test]
    fn numbers_without_end_are_found() {
        for (text, found) in [
            ("1.5", None),
            ("inf", Some("inf")),
            ("-inf", Some("-inf")),
            ("(0.2, NaN)", Some("NaN")),
            ("[1, +inff32, inf]", Some("+inff32")),
            ("1e999", Some("1e999")),
            ("1_000e9_99", Some("1_000e9_99")),
            ("1e308", None),
            ("99999999999999999999999", None),
            ("\"inf\"", None),
            ("'i'", None),
            ("/* inf */ Info(infer: 2) // NaN", None),
            ("r#\"NaN\"#", None),
        ] {
            let range = no_finite_number(text);
            assert_eq!(range.map(|range| &text[range]), found, "{text}");
        }
    }

    #[test]
    fn any_text_is_survived() {
        let alphabet = [
            "(", ")", "[", "{", "}", "a", ":", ",", "\"", "'", "\\", "r#\"", "/*", "*/", "//",
            "\n", "é", "1",
        ];
        let mut state = 7u64;
        for _ in 0..20_000 {
            let text: String = (0..12)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    alphabet[(state >> 33) as usize % alphabet.len()]
                })
                .collect();
            let value = Value::parse(&text, 0..text.len());
            let _ = (&text[value.range.clone()], value.inside(&text));
        }
    }
}
