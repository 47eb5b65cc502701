//! Lays out `resolved.ron`.

/// `Name(` fields, one a line, `)`.
pub(super) fn block(name: &str, fields: &[(&str, String)]) -> String {
    let mut text = format!("{name}(\n");
    for (field, value) in fields {
        text.push_str(&indented(&format!("{field}: {value},")));
    }
    text.push(')');
    text
}

/// `[` items, one a line, `]`.
pub(super) fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = "[\n".to_owned();
    for item in items {
        text.push_str(&indented(&format!("{item},")));
    }
    text.push(']');
    match text.as_str() {
        "[\n]" => "[]".to_owned(),
        _ => text,
    }
}

// A value never holds a raw line break within a string: RON writes `\n` for it.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nests() {
        let inner = block("B", &[("c", "1".to_owned())]);
        let text = block(
            "A",
            &[("b", inner), ("d", list(["1", "2"])), ("e", list([]))],
        );
        assert_eq!(
            text,
            "A(\n    b: B(\n        c: 1,\n    ),\n    d: [\n        1,\n        2,\n    ],\n    e: [],\n)"
        );
        assert_eq!(crate::source::quoted("a\"b\nc"), r#""a\"b\nc""#);
    }
}
