//! Lays out experiment files: the same text with other blanks, every comment kept.
//!
//! RON's own printer knows values and no comments, so the text is laid out from its tokens and never from what it means.
//! The author decides what stands on lines of its own: brackets that were opened at the end of a line stay open, all
//! others are written on one line where that fits. A comment stays with what it stands beside or above.

use super::{Source, syntax::Scanner};
use crate::diagnostic::Diagnostic;

/// The most characters of a line that brackets are closed up on.
const WIDTH: usize = 100;

/// Blanks for a level of brackets.
const INDENT: usize = 4;

/// The text of an experiment file, laid out. Line ends are `\n`, the last one included.
///
/// # Errors
/// The first place where the text is not well-formed.
pub fn format(source: &Source) -> Result<String, Diagnostic> {
    source.check_syntax()?;
    let mut tokens = Tokens::of(source.text());
    let group = tokens.items();
    let mut page = Page::default();
    page.lines(&group, 0, "");
    Ok(page.text)
}

/// A piece of text that is kept as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Open,
    Close,
    Comma,
    Colon,
    Atom,
    LineComment,
    BlockComment,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    /// Line breaks between the token before and this one.
    breaks: usize,
}

#[derive(Clone, Copy)]
struct Comment<'a> {
    text: &'a str,
    line: bool,
    /// An empty line stands before it.
    apart: bool,
}

/// What stands between two commas.
#[derive(Default)]
struct Item<'a> {
    /// Comments above it.
    above: Vec<Comment<'a>>,
    apart: bool,
    parts: Vec<Part<'a>>,
    /// Comments behind it on its line.
    behind: Vec<Comment<'a>>,
    /// A line comment stood in its middle; all comments that did go above.
    torn: bool,
}

enum Part<'a> {
    Atom(&'a str),
    Colon,
    Comment(&'a str),
    Group(Group<'a>),
}

/// Brackets and what is in them; a whole file is one without brackets.
#[derive(Default)]
struct Group<'a> {
    open: &'a str,
    close: &'a str,
    items: Vec<Item<'a>>,
    /// Comments after the last item.
    end: Vec<Comment<'a>>,
    /// The author has put the first item on a line of its own.
    spread: bool,
}

struct Tokens<'a> {
    all: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a str) -> Self {
        let mut scanner = Scanner { text, at: 0 };
        let mut all = Vec::new();
        loop {
            let start = scanner.at;
            scanner.whitespace();
            let breaks = text[start..scanner.at].matches('\n').count();
            let start = scanner.at;
            let Some(kind) = scanner.token() else {
                return Self { all, at: 0 };
            };
            let text = text[start..scanner.at].trim_end();
            all.push(Token { kind, text, breaks });
        }
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.all.get(self.at).copied()
    }

    /// The items up to a closing bracket, which is left where it is.
    fn items(&mut self) -> Group<'a> {
        let mut group = Group {
            spread: self.peek().is_some_and(|token| token.breaks > 0),
            ..Group::default()
        };
        let mut item = Item::default();
        while let Some(token) = self.peek() {
            let comment = Comment {
                text: token.text,
                line: token.kind == Kind::LineComment,
                apart: token.breaks > 1,
            };
            match token.kind {
                Kind::Close => break,
                Kind::Comma => {
                    self.at += 1;
                    item.behind.extend(self.rest_of_line());
                    group.items.push(std::mem::take(&mut item).settled());
                    continue;
                }
                Kind::LineComment | Kind::BlockComment => match item.parts.is_empty() {
                    true if comment.line || self.ends_line() || self.ends_value() => {
                        item.above.push(comment)
                    }
                    _ if self.ends_value() => match token.breaks > 0 && !self.comma_follows() {
                        true => {
                            group.items.push(std::mem::take(&mut item).settled());
                            item.above.push(comment);
                        }
                        false => item.behind.push(comment),
                    },
                    _ => {
                        item.apart |= item.parts.is_empty() && comment.apart;
                        match comment.line {
                            true => {
                                item.torn = true;
                                item.above.push(comment);
                            }
                            false => item.parts.push(Part::Comment(comment.text)),
                        }
                    }
                },
                _ => {
                    item.apart |= item.parts.is_empty() && comment.apart;
                    let part = match token.kind {
                        Kind::Open => Part::Group(self.group(token.text)),
                        Kind::Colon => Part::Colon,
                        _ => Part::Atom(token.text),
                    };
                    item.parts.push(part);
                }
            }
            self.at += 1;
        }
        match item.parts.is_empty() {
            true => group.end = item.above,
            false => group.items.push(item.settled()),
        }
        group
    }

    /// The brackets that open here; leaves the closing one to be stepped over.
    fn group(&mut self, open: &'a str) -> Group<'a> {
        self.at += 1;
        let close = match open {
            "(" => ")",
            "[" => "]",
            _ => "}",
        };
        Group {
            open,
            close,
            ..self.items()
        }
    }

    /// Whether the line ends behind the token at hand.
    fn ends_line(&self) -> bool {
        let next = self.all.get(self.at + 1);
        next.is_none_or(|next| next.breaks > 0)
    }

    /// What comes behind the comments at hand.
    fn behind_comments(&self) -> Option<Kind> {
        let mut rest = self.all[self.at..].iter();
        let next = rest.find(|token| !is_comment(token.kind));
        next.map(|next| next.kind)
    }

    /// Whether nothing of an item comes behind the comments at hand.
    fn ends_value(&self) -> bool {
        let next = self.behind_comments();
        next.is_none_or(|next| matches!(next, Kind::Comma | Kind::Close))
    }

    fn comma_follows(&self) -> bool {
        self.behind_comments() == Some(Kind::Comma)
    }

    /// Takes the comments that stand behind a comma, if nothing else does on the line.
    fn rest_of_line(&mut self) -> Vec<Comment<'a>> {
        let rest = &self.all[self.at..];
        let mut count = 0;
        while rest
            .get(count)
            .is_some_and(|token| is_comment(token.kind) && token.breaks == 0)
        {
            count += 1;
        }
        let next = rest.get(count);
        if next.is_some_and(|next| next.breaks == 0 && next.kind != Kind::Close) {
            return Vec::new();
        }
        self.at += count;
        let comments = rest[..count].iter().map(|token| Comment {
            text: token.text,
            line: token.kind == Kind::LineComment,
            apart: false,
        });
        comments.collect()
    }
}

fn is_comment(kind: Kind) -> bool {
    matches!(kind, Kind::LineComment | Kind::BlockComment)
}

impl Scanner<'_> {
    /// Steps over a token.
    fn token(&mut self) -> Option<Kind> {
        let kind = match self.peek()? {
            '(' | '[' | '{' => Kind::Open,
            ')' | ']' | '}' => Kind::Close,
            ',' => Kind::Comma,
            ':' => Kind::Colon,
            _ if self.rest().starts_with("//") => {
                self.line_comment();
                return Some(Kind::LineComment);
            }
            _ if self.rest().starts_with("/*") => {
                self.block_comment();
                return Some(Kind::BlockComment);
            }
            _ => {
                self.atom();
                return Some(Kind::Atom);
            }
        };
        self.advance();
        Some(kind)
    }

    fn atom(&mut self) {
        if self.string() || self.character() {
            return;
        }
        self.advance();
        let ends = |c: char| c.is_whitespace() || "()[]{},:\"".contains(c);
        while let Some(next) = self.peek() {
            if ends(next) || self.rest().starts_with("//") || self.rest().starts_with("/*") {
                return;
            }
            // A byte, `b'x'`.
            if self.character() {
                return;
            }
            self.advance();
        }
    }
}

impl<'a> Item<'a> {
    /// With comments where they can be written: a line ends behind `//`, so that only the last one can stand behind.
    fn settled(mut self) -> Self {
        if self.torn {
            let is_comment = |part: &Part<'_>| matches!(part, Part::Comment(_));
            let (comments, parts): (Vec<_>, Vec<_>) = self.parts.into_iter().partition(is_comment);
            self.parts = parts;
            self.above.extend(comments.iter().map(|part| Comment {
                text: match part {
                    Part::Comment(text) => text,
                    _ => "",
                },
                line: false,
                apart: false,
            }));
        }
        while self.behind.iter().rev().skip(1).any(|comment| comment.line) {
            let comment = self.behind.remove(0);
            self.above.push(comment);
        }
        // In the order of the text that they come from.
        self.above.sort_by_key(|comment| comment.text.as_ptr());
        self
    }

    /// On one line, where that is possible.
    fn line(&self) -> Option<String> {
        if !self.above.is_empty() || self.behind.iter().any(|comment| comment.line) {
            return None;
        }
        let mut text = String::new();
        for part in &self.parts {
            space_before(&mut text, part);
            match part {
                Part::Atom(atom) | Part::Comment(atom) => text.push_str(atom),
                Part::Colon => text.push(':'),
                Part::Group(group) => text.push_str(&group.line()?),
            }
        }
        for comment in &self.behind {
            text.push(' ');
            text.push_str(comment.text);
        }
        (!text.contains('\n')).then_some(text)
    }
}

/// `a: b`, `Name(..)`.
fn space_before(text: &mut String, part: &Part<'_>) {
    let tight = match part {
        Part::Colon => true,
        Part::Group(group) => {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            group.open == "(" && text.ends_with(word)
        }
        _ => false,
    };
    if !tight && !text.is_empty() && !text.ends_with([' ', '\n']) {
        text.push(' ');
    }
}

impl Group<'_> {
    /// On one line, where the author and its comments allow that.
    fn line(&self) -> Option<String> {
        if self.spread && !self.items.is_empty() || !self.end.is_empty() {
            return None;
        }
        let items: Option<Vec<_>> = self.items.iter().map(Item::line).collect();
        Some(format!("{}{}{}", self.open, items?.join(", "), self.close))
    }

    /// One value in round brackets, as in `File("a")`: no list that a comma could go on.
    fn is_wrapper(&self) -> bool {
        let named = |item: &Item<'_>| item.parts.iter().any(|part| matches!(part, Part::Colon));
        self.open == "(" && self.items.len() == 1 && !named(&self.items[0])
    }
}

/// A text in the making.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// The items of a group, each on lines of its own, with `comma` behind each.
    fn lines(&mut self, group: &Group<'_>, indent: usize, comma: &str) {
        let mut first = true;
        for item in &group.items {
            for comment in &item.above {
                self.comment(comment, indent, first);
                first = false;
            }
            self.start(indent, item.apart && !first);
            first = false;
            self.item(item, indent, comma);
            self.text.push('\n');
        }
        for comment in &group.end {
            self.comment(comment, indent, first);
            first = false;
        }
    }

    fn comment(&mut self, comment: &Comment<'_>, indent: usize, first: bool) {
        self.start(indent, comment.apart && !first);
        self.text.push_str(comment.text);
        self.text.push('\n');
    }

    fn start(&mut self, indent: usize, apart: bool) {
        if apart {
            self.text.push('\n');
        }
        self.text.push_str(&" ".repeat(indent));
    }

    fn item(&mut self, item: &Item<'_>, indent: usize, comma: &str) {
        let begin = self.text.len();
        for part in &item.parts {
            let mut line = self.text.split_off(begin);
            space_before(&mut line, part);
            self.text.push_str(&line);
            match part {
                Part::Atom(atom) | Part::Comment(atom) => self.text.push_str(atom),
                Part::Colon => self.text.push(':'),
                Part::Group(group) => self.group(group, indent),
            }
        }
        self.text.push_str(comma);
        for comment in &item.behind {
            self.text.push(' ');
            self.text.push_str(comment.text);
        }
    }

    fn group(&mut self, group: &Group<'_>, indent: usize) {
        let column = match self.text.rfind('\n') {
            Some(at) => self.text[at + 1..].chars().count(),
            None => self.text.chars().count(),
        };
        if let Some(line) = group.line()
            && (column + line.chars().count() < WIDTH || group.items.is_empty())
        {
            self.text.push_str(&line);
            return;
        }
        self.text.push_str(group.open);
        self.text.push('\n');
        let comma = if group.is_wrapper() { "" } else { "," };
        self.lines(group, indent + INDENT, comma);
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(group.close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::dialect;

    fn formatted(text: &str) -> String {
        format(&Source::new("a.ron", text)).unwrap_or_else(|error| panic!("{text}\n{error}"))
    }

    /// Tokens without blanks, comments and commas that end a list: all that RON sees.
    fn essence(text: &str) -> Vec<&str> {
        let tokens: Vec<_> = Tokens::of(text).all;
        let tokens: Vec<_> = (tokens.into_iter().filter(|token| !is_comment(token.kind))).collect();
        let ends = |i: usize| {
            let next = tokens.get(i + 1);
            tokens[i].kind == Kind::Comma && next.is_none_or(|next| next.kind == Kind::Close)
        };
        (0..tokens.len())
            .filter(|&i| !ends(i))
            .map(|i| tokens[i].text)
            .collect()
    }

    /// All comments; one that cannot stand where it stood goes above its item.
    fn comments(text: &str) -> Vec<&str> {
        let tokens = Tokens::of(text).all.into_iter();
        let comments = tokens.filter(|token| is_comment(token.kind));
        let mut texts: Vec<_> = comments.map(|token| token.text).collect();
        texts.sort_unstable();
        texts
    }

    #[test]
    fn files_are_laid_out() {
        let text = "// What for.\r\nExperiment ( seed:1,stages:[\n  Pretrain(  // first\n epochs:3 ,\n\n\n\n   // the \
                    method\n  objective:MoCo( queue:4 /* small */ ,head:Wide ),clip:None, // none\n view:[ A,B( p:1 \
                    ) ]\n // last\n )  ] )\n// end";
        assert_eq!(
            formatted(text),
            "// What for.
Experiment(
    seed: 1,
    stages: [
        Pretrain(
            // first
            epochs: 3,

            // the method
            objective: MoCo(queue: 4 /* small */, head: Wide),
            clip: None, // none
            view: [A, B(p: 1)],
            // last
        ),
    ],
)
// end
"
        );
    }

    #[test]
    fn long_brackets_are_opened_and_wrappers_take_no_comma() {
        let long = format!("A(f: [{}])", ["Word(p: 0.25)"; 8].join(", "));
        let text = formatted(&long);
        assert_eq!(text.lines().count(), 12, "{text}");
        assert_eq!(text.matches("        Word(p: 0.25),\n").count(), 8);
        assert_eq!(
            formatted("A(w:File(\"a\",),t:(1,2,))"),
            "A(w: File(\"a\"), t: (1, 2))\n"
        );
        assert_eq!(
            formatted("A(\n w: Some(// b\n1))"),
            "A(\n    w: Some(\n        // b\n        1\n    ),\n)\n"
        );
    }

    #[test]
    fn nothing_but_blanks_changes() {
        // Texts from a grammar, with comments and line breaks wherever they may stand.
        struct Writer(u64);
        impl Writer {
            fn pick(&mut self, below: u64) -> u64 {
                self.0 = self
                    .0
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (self.0 >> 33) % below
            }
            fn blank(&mut self, text: &mut String) {
                for _ in 0..self.pick(3) {
                    let number = self.0 >> 40;
                    match self.pick(9) {
                        0 => *text += &format!("// c{number} é )\n"),
                        1 => *text += &format!("/* b{number} ( */"),
                        2 => *text += &format!("/* two\n  lines {number} */ "),
                        3 => *text += "\n\n\n",
                        4 => *text += "\r\n\t",
                        _ => *text += " ",
                    }
                }
            }
            fn value(&mut self, text: &mut String, depth: usize) {
                let choice = self.pick(if depth > 4 { 4 } else { 8 });
                match choice {
                    0 => *text += "1e-4",
                    1 => *text += "\"a, // b\"",
                    2 => *text += "Word",
                    3 => *text += "r#\"raw \" \n x\"#",
                    _ => {
                        let (open, close, named) = match choice {
                            4 => ("[", "]", false),
                            5 => ("(", ")", false),
                            6 => ("Name(", ")", true),
                            _ => ("Name(", ")", false),
                        };
                        *text += open;
                        let count = self.pick(4);
                        for i in 0..count {
                            self.blank(text);
                            if named {
                                *text += &format!("field_{i}");
                                self.blank(text);
                                *text += ":";
                                self.blank(text);
                            }
                            self.value(text, depth + 1);
                            self.blank(text);
                            if i + 1 < count || self.pick(2) == 0 {
                                *text += ",";
                            }
                        }
                        self.blank(text);
                        *text += close;
                    }
                }
            }
        }
        for seed in 0..4000 {
            let mut text = String::new();
            let mut writer = Writer(seed);
            writer.blank(&mut text);
            writer.value(&mut text, 0);
            writer.blank(&mut text);
            let once = formatted(&text);
            let note = || format!("{text}\n=====\n{once}");
            assert_eq!(essence(&once), essence(&text), "{}", note());
            assert_eq!(comments(&once), comments(&text), "{}", note());
            assert_eq!(formatted(&once), once, "{}", note());
            // The library reads `()` as something else than `( )`.
            let meaning = |text: &str| {
                let value = dialect().from_str::<ron::Value>(text).ok();
                format!("{value:?}").replace("Unit", "Seq([])")
            };
            assert_eq!(meaning(&once), meaning(&text), "{}", note());
            assert!(!once.contains(" \n") || text.contains("raw"), "{}", note());
        }
    }
}
