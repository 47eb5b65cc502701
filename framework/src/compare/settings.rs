//! A resolved experiment file as a list of settings, each under the path that an override of it would have.

use std::path::Path;

use crate::{
    failure::Failure,
    source::{
        Source,
        syntax::{Body, Value},
    },
};

/// Settings that decide no number.
const PLACES: [&str; 2] = ["name", "output"];

/// Fields of fingerprints that the experiment file gives too, or that follow from others.
const IN_THE_FILE: [&str; 14] = [
    "seed",
    "data",
    "backbone",
    "objective",
    "view",
    "optimizer",
    "schedule",
    "epochs",
    "batch",
    "train",
    "test",
    "size",
    "resize",
    "metric",
];

/// What a file says.
pub(super) struct Settings {
    /// Every setting with its path.
    pub fields: Vec<(String, String)>,
    /// The names of its stages, in order.
    pub stages: Vec<String>,
}

/// The settings in the resolved file `path`, whose contents are `text`.
pub(super) fn flatten(path: &Path, text: String) -> Result<Settings, Failure> {
    let source = Source::new(path.display().to_string(), text);
    source.check_syntax()?;
    let mut settings = Settings {
        fields: Vec::new(),
        stages: Vec::new(),
    };
    let whole = Value::parse(source.text(), source.all());
    let stages = whole
        .fields()
        .iter()
        .find(|field| source.slice(&field.name) == "stages");
    for field in whole.fields() {
        let name = source.slice(&field.name);
        if name != "stages" && !PLACES.contains(&name) {
            settings.add(
                &source,
                name,
                &Value::parse(source.text(), field.value.clone()),
            );
        }
    }
    let items = match stages.map(|field| Value::parse(source.text(), field.value.clone()).body) {
        Some(Body::Items(items)) => items,
        // A file that is one stage.
        _ => vec![source.all()],
    };
    for item in items {
        let stage = Value::parse(source.text(), item);
        let name = stage
            .fields()
            .iter()
            .find(|field| source.slice(&field.name) == "name");
        let name = name.and_then(|field| source.parse::<String>(&field.value).ok());
        let name = name.unwrap_or_else(|| word(&source, &stage).unwrap_or_default().to_lowercase());
        for field in stage.fields() {
            let own = source.slice(&field.name);
            if !PLACES.contains(&own) {
                let value = Value::parse(source.text(), field.value.clone());
                settings.add(&source, &format!("{name}.{own}"), &value);
            }
        }
        settings.stages.push(name);
    }
    let order = settings.stages.join(", ");
    settings.fields.push(("stages".to_owned(), order));
    Ok(settings)
}

fn word<'a>(source: &'a Source, value: &Value) -> Option<&'a str> {
    value.name.as_ref().map(|name| source.slice(name))
}

impl Settings {
    fn add(&mut self, source: &Source, path: &str, value: &Value) {
        let name = word(source, value);
        match &value.body {
            Body::Fields(fields) => {
                self.fields
                    .extend(name.map(|name| (path.to_owned(), name.to_owned())));
                for field in fields {
                    let own = source.slice(&field.name);
                    let value = Value::parse(source.text(), field.value.clone());
                    self.add(source, &format!("{path}.{own}"), &value);
                }
            }
            Body::Items(items) => self.items(source, path, name, items),
            // `Cosine` and `Cosine()` are the same.
            Body::Bare | Body::Map => self.leaf(path, source.slice(&value.range)),
        }
    }

    /// A list of plugins item by item, under their names where these tell them apart; any other list as a whole.
    fn items(
        &mut self,
        source: &Source,
        path: &str,
        name: Option<&str>,
        items: &[std::ops::Range<usize>],
    ) {
        let values: Vec<_> = items
            .iter()
            .map(|item| Value::parse(source.text(), item.clone()))
            .collect();
        let words: Option<Vec<_>> = values.iter().map(|value| word(source, value)).collect();
        let plugins = values.iter().all(|value| !matches!(value.body, Body::Bare));
        if let (None, Some(words), true) = (name, words, plugins && !items.is_empty()) {
            self.leaf(path, &format!("[{}]", words.join(", ")));
            for (i, (word, value)) in words.iter().zip(&values).enumerate() {
                let alone = words.iter().filter(|other| *other == word).count() == 1;
                let key = if alone {
                    (*word).to_owned()
                } else {
                    i.to_string()
                };
                for field in value.fields() {
                    let own = source.slice(&field.name);
                    let value = Value::parse(source.text(), field.value.clone());
                    self.add(source, &format!("{path}.{key}.{own}"), &value);
                }
            }
            return;
        }
        let nested = values
            .iter()
            .any(|value| matches!(value.body, Body::Items(_)));
        if name.is_none() && nested {
            for (i, value) in values.iter().enumerate() {
                self.add(source, &format!("{path}.{i}"), value);
            }
            return;
        }
        // A plugin of a base in another folder.
        if let (Some("In"), [folder, plugin]) = (name, values.as_slice()) {
            self.leaf(&format!("{path}.folder"), source.slice(&folder.range));
            self.add(source, path, plugin);
            return;
        }
        let texts: Vec<_> = items.iter().map(|item| source.slice(item)).collect();
        match name {
            Some(name) if texts.is_empty() => self.leaf(path, name),
            Some(name) => self.leaf(path, &format!("{name}({})", texts.join(", "))),
            None => self.leaf(path, &format!("({})", texts.join(", "))),
        }
    }

    fn leaf(&mut self, path: &str, text: &str) {
        self.fields.push((path.to_owned(), one_line(text)));
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a fingerprint says that the experiment file does not: contents of data sets and weights.
pub(super) fn beside_the_file(fingerprint: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in fingerprint.lines() {
        match line.split_once(": ") {
            Some((name, value)) if !line.starts_with([' ', ')', '}', ']']) => {
                fields.push((name.to_owned(), value.to_owned()));
            }
            _ => {
                if let Some((_, value)) = fields.last_mut() {
                    *value = format!("{value} {}", line.trim());
                }
            }
        }
    }
    fields.retain(|(name, value)| {
        let word = name.split(' ').next().unwrap_or_default();
        let given = IN_THE_FILE.contains(&word) && !name.ends_with("manifest");
        // What follows from another stage of the same file.
        let derived = ["end of ", "start of ", "seed "]
            .iter()
            .any(|start| value.starts_with(start));
        !given && !derived
    });
    fields
}
