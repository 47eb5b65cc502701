//! Changes to an experiment file, from the command line or in the field `changes` of a file with a base:
//! `path.to.field=value`.
//!
//! The value is spliced into the file's text before anything is built, so that it is read, checked and reported exactly
//! as if it stood there. A path starts at a field of the file (`seed`, `stages`) or at the name of a stage; it goes on
//! by fields, and within lists by position from 0 or by name (`pretrain.view.RandomCrop.size=96`).

use std::ops::Range;

use ron::value::RawValue;

use crate::{
    diagnostic::Diagnostic,
    source::{
        COMMAND_LINE, Part, Source,
        explain::suggest,
        syntax::{Body, Value},
    },
};

/// Applies `overrides` in order; gives what is wrong with those that cannot be applied.
pub(crate) fn apply(source: &mut Source, overrides: &[String]) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for text in overrides {
        let origin = source.add_origin(COMMAND_LINE, text);
        errors.extend(apply_one(source, text, (origin, 0)).err());
    }
    errors
}

/// Applies the change `text`, which was typed at a place of one of the source's origins.
pub(crate) fn apply_one(
    source: &mut Source,
    text: &str,
    (origin, start): (usize, usize),
) -> Result<(), Diagnostic> {
    Override::parse(source, (origin, start), text)?.apply(source)
}

/// A split `path=value`; ranges lie in its own text.
struct Override<'a> {
    text: &'a str,
    /// The origin that it stands in, and where it starts there.
    place: (usize, usize),
    path: Vec<Range<usize>>,
    value: Range<usize>,
    /// The value is no RON but a bare text, such as a path that the shell took the quotes from.
    bare: bool,
}

impl<'a> Override<'a> {
    fn parse(source: &Source, place: (usize, usize), text: &'a str) -> Result<Self, Diagnostic> {
        let fail = |range: Range<usize>, message: &str| error(source, place, &range, message);
        let Some(equals) = text.find('=') else {
            return Err(fail(
                0..text.len(),
                "an override has the form `path.to.field=value`",
            ));
        };
        let mut path = Vec::new();
        let mut start = 0;
        for part in text[..equals].split('.') {
            if part.is_empty() {
                return Err(fail(start..start + 1, "a name is missing here"));
            }
            path.push(start..start + part.len());
            start += part.len() + 1;
        }
        let trimmed = text[equals + 1..].trim();
        let offset =
            equals + 1 + (text[equals + 1..].len() - text[equals + 1..].trim_start().len());
        let value = offset..offset + trimmed.len();
        if trimmed.is_empty() {
            return Err(fail(equals..equals + 1, "a value is missing after `=`"));
        }
        let bare = RawValue::from_ron(trimmed).is_err();
        if bare && trimmed.starts_with(['"', '\'', '(', '[', '{']) || trimmed.contains("\"#") {
            return Err(fail(value, "the value is not well-formed").help(
                "put the whole override in single quotes, so that the shell leaves it alone",
            ));
        }
        Ok(Self {
            text,
            place,
            path,
            value,
            bare,
        })
    }

    fn apply(&self, source: &mut Source) -> Result<(), Diagnostic> {
        let mut at = Value::parse(source.text(), source.all());
        for (depth, part) in self.path.iter().enumerate() {
            let last = depth + 1 == self.path.len();
            match self.step(source, &at, depth)? {
                Step::Here => {
                    if last {
                        let message = "this is a stage, not a field of one";
                        return Err(error(source, self.place, part, message)
                            .help("go on with the field: `stage.field=value`"));
                    }
                }
                Step::To(range) if last => {
                    self.splice(source, range, None);
                    return Ok(());
                }
                Step::To(range) => at = Value::parse(source.text(), range),
                Step::New => {
                    self.splice(source, at.range.clone(), Some((part, &at)));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Where one part of the path leads from `at`.
    fn step(&self, source: &Source, at: &Value, depth: usize) -> Result<Step, Diagnostic> {
        let part = &self.path[depth];
        let name = &self.text[part.clone()];
        let last = depth + 1 == self.path.len();
        let fail = |message: String| error(source, self.place, part, &message);
        if let Some(field) = field(source, at, name) {
            return Ok(Step::To(field));
        }
        if depth == 0 {
            let stages = field(source, at, "stages");
            match &stages {
                Some(stages) => {
                    let stages = Value::parse(source.text(), stages.clone());
                    if let Some(stage) = item(source, &stages, name).map_err(&fail)? {
                        return Ok(Step::To(stage));
                    }
                }
                // A file that is one stage: its name may be given or left out.
                None if stage_name(source, at).as_deref() == Some(name) => return Ok(Step::Here),
                None => {}
            }
            if !last {
                let mut known: Vec<_> = names(source, at);
                if let Some(stages) = stages {
                    let stages = Value::parse(source.text(), stages);
                    known.extend(names(source, &stages));
                }
                let known: Vec<_> = known.iter().map(String::as_str).collect();
                return Err(fail(format!("no field and no stage is named `{name}`"))
                    .help(suggest(name, &known)));
            }
        }
        match &at.body {
            Body::Items(items) if !items.is_empty() => {
                match item(source, at, name).map_err(&fail)? {
                    Some(range) => Ok(Step::To(range)),
                    None => {
                        let known = names(source, at);
                        let known: Vec<_> = known.iter().map(String::as_str).collect();
                        let help = match name.parse::<usize>() {
                            Ok(_) => format!("it has {}, counted from 0", items.len()),
                            Err(_) => suggest(name, &known),
                        };
                        Err(fail(format!("the list has no item `{name}`")).help(help))
                    }
                }
            }
            Body::Map => Err(fail("a map can only be given whole".to_owned())),
            Body::Bare if at.name.is_none() => {
                Err(fail(format!("`{}` has no fields", source.slice(&at.range))))
            }
            _ if last => Ok(Step::New),
            _ => Err(fail(format!(
                "the file does not give `{name}`, so nothing in it can be changed"
            ))
            .help(format!(
                "give it whole: `{}={name}(..)`",
                &self.text[..part.end]
            ))),
        }
    }

    /// Puts the value in place of `range`; as a new field of `owner` where one is given.
    fn splice(
        &self,
        source: &mut Source,
        range: Range<usize>,
        owner: Option<(&Range<usize>, &Value)>,
    ) {
        let (origin, first) = self.place;
        let start = first + self.value.start;
        let text = &self.text[self.value.clone()];
        let typed = Part::Typed(text, start);
        // A word in place of a text is a text whose quotes the shell has taken.
        let word = text.chars().all(|c| c.is_alphanumeric() || c == '_');
        let bare = self.bare || owner.is_none() && word && source.slice(&range).starts_with('"');
        let value = match bare {
            true => vec![
                Part::Implied("r#\"", start),
                typed,
                Part::Implied("\"#", start),
            ],
            false => vec![typed],
        };
        let Some((name, owner)) = owner else {
            source.splice(range, origin, &value);
            return;
        };
        let key_start = first + name.start;
        let key = Part::Typed(&self.text[name.clone()], key_start);
        let mut parts = Vec::new();
        let (at, close) = match owner.inside(source.text()) {
            Some(inside) => (inside, ", "),
            None => {
                parts.push(Part::Implied("(", key_start));
                (owner.range.end, ")")
            }
        };
        parts.extend([key, Part::Implied(": ", key_start)]);
        parts.extend(value);
        parts.push(Part::Implied(close, start));
        source.splice(at..at, origin, &parts);
    }
}

/// A mistake in `range` of the change that stands at `place`.
fn error(
    source: &Source,
    (origin, start): (usize, usize),
    range: &Range<usize>,
    message: &str,
) -> Diagnostic {
    source.error_in(origin, start + range.start..start + range.end, message)
}

/// Where a part of a path leads.
enum Step {
    /// Nowhere: it names what the path already stands at.
    Here,
    /// To a value that is in the file.
    To(Range<usize>),
    /// To a field that the file leaves to its default.
    New,
}

fn field(source: &Source, value: &Value, name: &str) -> Option<Range<usize>> {
    let mut fields = value.fields().iter();
    fields
        .find(|field| source.slice(&field.name) == name)
        .map(|field| field.value.clone())
}

/// The item of a list at a position, or with a name: that of a stage, or of a plugin.
fn item(source: &Source, list: &Value, name: &str) -> Result<Option<Range<usize>>, String> {
    let Body::Items(items) = &list.body else {
        return Ok(None);
    };
    if let Ok(position) = name.parse::<usize>() {
        return Ok(items.get(position).cloned());
    }
    let mut found = items.iter().filter(|item| {
        let value = Value::parse(source.text(), (*item).clone());
        let word = value.name.as_ref().map(|word| source.slice(word));
        word == Some(name) || stage_name(source, &value).as_deref() == Some(name)
    });
    match (found.next(), found.next()) {
        (first, None) => Ok(first.cloned()),
        _ => Err(format!(
            "several items are named `{name}`; give the position instead, from 0"
        )),
    }
}

/// The name of a stage: its field `name`, or its kind in lower case.
pub(crate) fn stage_name(source: &Source, value: &Value) -> Option<String> {
    match field(source, value, "name") {
        Some(range) => source.parse(&range).ok(),
        None => Some(source.slice(value.name.as_ref()?).to_lowercase()),
    }
}

/// The names that a path could go on with.
fn names(source: &Source, value: &Value) -> Vec<String> {
    match &value.body {
        Body::Fields(fields) => fields
            .iter()
            .map(|field| source.slice(&field.name).to_owned())
            .collect(),
        Body::Items(items) => items
            .iter()
            .filter_map(|item| {
                let value = Value::parse(source.text(), item.clone());
                match field(source, &value, "name") {
                    Some(range) => source.parse(&range).ok(),
                    None => Some(source.slice(value.name.as_ref()?).to_owned()),
                }
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(file: &str, text: &str) -> String {
        let mut source = Source::new("a.ron", file);
        let errors = apply(&mut source, &[text.to_owned()]);
        assert!(errors.is_empty(), "{}", errors[0]);
        source.check_syntax().expect("it is well-formed");
        source.text().to_owned()
    }

    fn refused(file: &str, text: &str) -> String {
        let mut source = Source::new("a.ron", file);
        let errors = apply(&mut source, &[text.to_owned()]);
        assert_eq!(errors.len(), 1, "{}", source.text());
        errors[0].to_string()
    }

    const FILE: &str = "Experiment(seed: 1, stages: [Pretrain(objective: MoCo, view: [A, B(p: 1), A]), Pretrain(name: \"two\", epochs: 3, pair: (1, 2))])";

    #[test]
    fn values_change_in_place() {
        let check =
            |text, before, after| assert_eq!(applied(FILE, text), FILE.replace(before, after));
        check("seed=7", "seed: 1", "seed: 7");
        check("two.epochs= 9 ", "epochs: 3", "epochs: 9");
        check("stages.two.epochs=9", "epochs: 3", "epochs: 9");
        check("stages.1.epochs=9", "epochs: 3", "epochs: 9");
        check("two.pair.1=5", "(1, 2)", "(1, 5)");
        check("pretrain.view.B.p=0.5", "p: 1", "p: 0.5");
        check("pretrain.view.2=C(p: 1)", ", A]", ", C(p: 1)]");
        check("pretrain.objective=SEED(a: 1)", "MoCo", "SEED(a: 1)");
        check("two.name=../a b", "\"two\"", "r#\"../a b\"#");
        check("two.name=three", "\"two\"", "r#\"three\"#");
    }

    #[test]
    fn fields_left_to_their_default_are_added() {
        let check =
            |text, before, after| assert_eq!(applied(FILE, text), FILE.replace(before, after));
        check("pretrain.objective.queue=4", "MoCo", "MoCo(queue: 4)");
        check("name=\"x\"", "Experiment(", "Experiment(name: \"x\", ");
        check("pretrain.view.0.p=1", "[A,", "[A(p: 1),");
        assert_eq!(
            applied("Pretrain()", "pretrain.epochs=1"),
            "Pretrain(epochs: 1, )"
        );
        assert_eq!(applied("Pretrain", "epochs=1"), "Pretrain(epochs: 1)");
    }

    #[test]
    fn what_cannot_be_applied_is_shown() {
        assert_eq!(
            refused(FILE, "pretrian.epochs=1"),
            "no field and no stage is named `pretrian`\n --> command line:1:1\n  |\n1 | pretrian.epochs=1\n  | ^^^^^^^^\n  = help: did you mean `Pretrain`?"
        );
        for (text, message) in [
            ("epochs", "an override has the form"),
            ("two..epochs=1", "a name is missing here"),
            ("seed=", "a value is missing"),
            ("seed.x=1", "`1` has no fields"),
            ("pretrain.view.A.p=1", "several items are named `A`"),
            ("pretrain.view.9.p=1", "the list has no item `9`"),
            ("two.data.path=\"x\"", "the file does not give `data`"),
            ("seed=(1", "not well-formed"),
        ] {
            assert!(
                refused(FILE, text).starts_with(message) || refused(FILE, text).contains(message),
                "{text}"
            );
        }
    }
}
