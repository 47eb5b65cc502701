//! Reads the fields of an experiment or stage, one by one, so that one mistake does not hide the next.

use std::{
    fs,
    ops::Range,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use serde::de::DeserializeOwned;

use crate::{
    diagnostic::Diagnostic,
    registry::{Built, Context, Kind, build_at, build_in, entries, one},
    source::{
        Site, Source,
        explain::{Misfit, not_finite, range_of, suggest},
        nearest,
        syntax::{Body, Field, Value},
    },
};

/// What is read, and what was wrong with it so far.
pub(super) struct Reader {
    /// The text.
    pub source: Arc<Source>,
    /// The folder that relative paths start from.
    pub folder: PathBuf,
    /// Mistakes so far.
    pub errors: Vec<Diagnostic>,
}

impl Reader {
    /// Splits the value in `range`.
    pub fn value(&self, range: &Range<usize>) -> Value {
        Value::parse(self.source.text(), range.clone())
    }

    /// Notes a mistake in `range`.
    pub fn error(&mut self, range: &Range<usize>, message: impl Into<String>) -> &mut Diagnostic {
        self.errors.push(self.source.error(range, message));
        self.errors.last_mut().expect("it was just pushed")
    }

    /// Builds the plugin in `range`; mistakes are noted.
    pub fn build<K: Kind + ?Sized>(&mut self, range: &Range<usize>) -> Option<Built<K>> {
        let context = Context {
            folder: &self.folder,
        };
        let built = match self.elsewhere(range) {
            Some(folder) => build_in(&context, &folder, &self.source, range),
            None => build_at(&context, &self.source, range),
        };
        match built {
            Ok(built) => Some(built),
            Err(errors) => {
                self.errors.extend(errors);
                None
            }
        }
    }
}

impl Reader {
    /// A path that stands in `range`, as it is from the folder of the experiment: a base may lie in another.
    pub fn path(&self, path: &Path, range: &Range<usize>) -> PathBuf {
        match self.elsewhere(range) {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        }
    }

    /// The folder where relative paths in what stands in `range` start, from that of the experiment; none where they are
    /// the same.
    fn elsewhere(&self, range: &Range<usize>) -> Option<PathBuf> {
        let folder = self.source.folder_at(range.start)?;
        let own = fs::canonicalize(&self.folder).unwrap_or_else(|_| self.folder.clone());
        (own != folder).then(|| from(&own, folder))
    }
}

/// The way from one absolute folder to another; the other as it is where there is none.
fn from(start: &Path, end: &Path) -> PathBuf {
    let (here, there): (Vec<_>, Vec<_>) =
        (start.components().collect(), end.components().collect());
    let shared = here.iter().zip(&there).take_while(|(a, b)| a == b).count();
    if shared == 0 || !end.is_absolute() {
        return end.to_owned();
    }
    let up = here[shared..].iter().map(|_| Component::ParentDir);
    up.chain(there[shared..].iter().copied()).collect()
}

/// The fields of one struct.
pub(super) struct Fields<'a> {
    /// What is read from.
    pub reader: &'a mut Reader,
    owner: &'static str,
    value: &'a Value,
    known: Vec<&'static str>,
    inherited: Vec<Field>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which is called `owner` in messages.
    pub fn open(reader: &'a mut Reader, value: &'a Value, owner: &'static str) -> Self {
        match &value.body {
            Body::Items(items) if !items.is_empty() => {
                reader.error(
                    &items[0],
                    format!("{owner} takes its fields by name: `{owner}(field: value, ..)`"),
                );
            }
            Body::Map => {
                reader.error(
                    &value.range,
                    format!("{owner} takes its fields as `(field: value, ..)`"),
                );
            }
            _ => {}
        }
        Self {
            reader,
            owner,
            value,
            known: Vec::new(),
            inherited: Vec::new(),
        }
    }

    /// Where the struct stands.
    pub fn site(&self) -> Site {
        Site::of(&self.reader.source, self.value)
    }

    /// The field named `name`, where it is given.
    pub fn field(&mut self, name: &'static str) -> Option<Field> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.find(name).cloned()
    }

    /// Takes `fields` of the experiment for those that are not given here.
    pub fn inherit(&mut self, fields: &[Field]) {
        self.inherited.extend_from_slice(fields);
    }

    fn find(&self, name: &str) -> Option<&Field> {
        let mut fields = self.value.fields().iter().chain(&self.inherited);
        fields.find(|field| self.reader.source.slice(&field.name) == name)
    }

    /// Notes a mistake about the struct as a whole.
    pub fn error(&mut self, message: impl Into<String>) -> &mut Diagnostic {
        let place = self
            .value
            .name
            .clone()
            .unwrap_or_else(|| self.value.range.clone());
        self.reader.error(&place, message)
    }

    /// Notes that a field is missing; `example` shows one.
    pub fn missing(&mut self, name: &str, example: &str) {
        let owner = self.owner;
        self.error(lacks(owner, name)).help =
            Some(format!("add, for example, `{name}: {example}`"));
    }

    /// The value of an optional field.
    pub fn optional<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        example: &str,
    ) -> Option<T> {
        let field = self.field(name)?;
        self.read(&field, example)
    }

    /// The value of a field that must be given; none after a mistake.
    pub fn required<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        example: &str,
    ) -> Option<T> {
        match self.field(name) {
            Some(field) => self.read(&field, example),
            None => {
                self.missing(name, example);
                None
            }
        }
    }

    /// A whole number above 0; `default` where it is not given, which is a mistake without a default.
    pub fn count(&mut self, name: &'static str, default: Option<usize>, example: &str) -> usize {
        let value = match default {
            Some(default) => self.optional(name, example).unwrap_or(default),
            None => self.required(name, example).unwrap_or(1),
        };
        if value == 0 {
            self.refuse(name, "must be above 0");
        }
        value
    }

    /// A whole number above 0, or none.
    pub fn optional_count(&mut self, name: &'static str, example: &str) -> Option<usize> {
        let value = self.optional::<Option<usize>>(name, example).flatten();
        if value == Some(0) {
            self.refuse(name, "must be above 0");
        }
        value
    }

    /// Refuses the value of a field that was read.
    pub fn refuse(&mut self, name: &'static str, reason: &str) -> &mut Diagnostic {
        let place = self
            .find(name)
            .map_or_else(|| self.value.range.clone(), |field| field.value.clone());
        let message = format!("`{name}` of {}: {reason}", self.owner);
        self.reader.error(&place, message)
    }

    /// A name that can be part of a path.
    pub fn name(&mut self, default: &str) -> String {
        let name = self
            .optional("name", "\"first-try\"")
            .unwrap_or_else(|| default.to_owned());
        if let Err(reason) = check_name(&name) {
            self.refuse("name", &reason);
        }
        name
    }

    fn read<T: DeserializeOwned>(&mut self, field: &Field, example: &str) -> Option<T> {
        let pattern = || Some(format!("for example, `{example}`"));
        match self.reader.source.parse(&field.value) {
            Ok(value) => {
                let source = &self.reader.source;
                let Some(error) = not_finite(source, field, self.owner, pattern) else {
                    return Some(value);
                };
                self.reader.errors.push(error);
                None
            }
            Err(error) => {
                let misfit = Misfit {
                    range: range_of(&self.reader.source, &field.value, &error),
                    code: error.code,
                };
                let error = misfit.diagnose(&self.reader.source, field, self.owner, pattern);
                self.reader.errors.push(error);
                None
            }
        }
    }

    /// The plugin of a field that must be given.
    pub fn plugin<K: Kind + ?Sized>(&mut self, name: &'static str) -> Option<Built<K>> {
        match self.field(name) {
            Some(field) => self.reader.build(&field.value),
            None => {
                self.missing_plugin::<K>(name);
                None
            }
        }
    }

    /// Notes that a field with a plugin is missing.
    pub fn missing_plugin<K: Kind + ?Sized>(&mut self, name: &str) {
        let owner = self.owner;
        self.error(lacks(owner, name)).help = Some(format!(
            "give it {}; `list {}` shows those there are",
            one(K::LABEL),
            K::LABEL.replace(' ', "")
        ));
    }

    /// The plugin of an optional field.
    pub fn optional_plugin<K: Kind + ?Sized>(&mut self, name: &'static str) -> Option<Built<K>> {
        let field = self.field(name)?;
        self.reader.build(&field.value)
    }

    /// The items of a list field; none after a mistake.
    pub fn items(&mut self, field: &Field, of: &str) -> Option<Vec<Range<usize>>> {
        let value = self.reader.value(&field.value);
        match value.body {
            Body::Items(items) if self.reader.source.slice(&value.range).starts_with('[') => {
                Some(items)
            }
            _ => {
                let name = self.reader.source.slice(&field.name);
                let message = format!(
                    "`{name}` of {}: expected a list of {of}, `[..]`",
                    self.owner
                );
                self.reader.error(&value.range, message);
                None
            }
        }
    }

    /// Notes fields that nobody asked for and fields that are given twice.
    pub fn finish(self) {
        let Self {
            reader,
            owner,
            value,
            known,
            ..
        } = self;
        let mut seen = Vec::new();
        for field in value.fields() {
            let name = reader.source.slice(&field.name).to_owned();
            if !known.contains(&name.as_str()) {
                let help = suggest(&name, &known);
                if let Some(meant) = nearest(&name, &known) {
                    let place = value.name.as_ref().unwrap_or(&value.range);
                    let lacks = reader.source.error(place, lacks(owner, meant));
                    let same = |error: &Diagnostic| {
                        (&error.message, &error.excerpt) == (&lacks.message, &lacks.excerpt)
                    };
                    // It is not missing, but misspelt.
                    reader.errors.retain(|error| !same(error));
                }
                reader
                    .error(&field.name, format!("{owner} has no field `{name}`"))
                    .help = Some(help);
            } else if seen.contains(&name) {
                reader.error(&field.name, format!("`{name}` of {owner} is given twice"));
            }
            seen.push(name);
        }
    }
}

fn lacks(owner: &str, name: &str) -> String {
    format!("{owner} lacks its field `{name}`")
}

/// A list with one plugin of a kind, as an example.
pub(super) fn example<K: Kind + ?Sized>() -> String {
    let name = entries::<K>().first().map_or("..", |entry| entry.name);
    format!("[{name}]")
}

/// Refuses names that would make a strange folder.
fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
    match name.chars().next() {
        None => Err("must not be empty".to_owned()),
        Some('.' | '-') => Err("must start with a letter or digit".to_owned()),
        Some(_) => match name.chars().find(|&c| !fits(c)) {
            Some(other) => Err(format!(
                "`{other}` cannot be part of a name; use letters, digits and any of `-_.+`"
            )),
            None => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_between_folders() {
        for (start, end, way) in [
            ("/a/b", "/a/b/c", "c"),
            ("/a/b", "/a", ".."),
            ("/a/b", "/a/c/d", "../c/d"),
            ("/a/b", "/x", "../../x"),
            ("/a/b", "x", "x"),
        ] {
            assert_eq!(
                from(start.as_ref(), end.as_ref()),
                Path::new(way),
                "{start} {end}"
            );
        }
    }
}
