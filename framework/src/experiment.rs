//! The experiment file: RON text in, a [`Plan`] out, or everything that is wrong with the text.
//!
//! A file holds one stage, such as `Pretrain(..)` or `Evaluate(..)`, or `Experiment(name: .., seed: .., stages: [..])`. The text
//! is split into its parts first and every part read for itself; serde alone would stop at the first mistake. A new
//! kind of stage is a file beside `pretrain` and an arm in `stage`.

mod base;
mod evaluate;
mod fields;
mod health;
mod images;
mod layout;
mod map;
mod pretrain;
mod probe;
mod statics;
mod subject;
mod views;

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    diagnostic::Diagnostic,
    overrides,
    plan::{Plan, Stage},
    registry::using,
    source::{
        Source,
        explain::suggest,
        quoted,
        syntax::{Field, Value},
    },
};

use fields::{Fields, Reader};

/// The kinds of stages, by the word in a file.
const STAGES: [&str; 5] = ["Pretrain", "Evaluate", "Views", "Probe", "Map"];

/// Where run folders are made unless file or command line says otherwise; relative to the current folder.
const OUTPUT: &str = "runs";

/// Reads the experiment file `path` with `overrides` of the form `path.to.field=value`.
///
/// # Errors
/// Everything that is wrong with file and overrides, in reading order.
pub fn load(path: &Path, overrides: &[String]) -> Result<Plan, Vec<Diagnostic>> {
    let source = Source::read(path).map_err(|error| vec![error])?;
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("."),
    };
    let stem = path.file_stem().map(|stem| stem.to_string_lossy());
    parse(source, folder, stem.as_deref().unwrap_or("run"), overrides)
}

/// Makes a plan of `source`: relative paths start at `folder`, and the experiment is called `name` unless it says
/// otherwise.
///
/// # Errors
/// As [`load`].
pub fn parse(
    mut source: Source,
    folder: &Path,
    name: &str,
    overrides: &[String],
) -> Result<Plan, Vec<Diagnostic>> {
    source.check_syntax().map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    source = match base::laid_over(source, folder, &mut errors) {
        Some(source) => source,
        None => return Err(errors),
    };
    errors.extend(overrides::apply(&mut source, overrides));
    let file = source.name().to_owned();
    let mut reader = Reader {
        source: Arc::new(source),
        folder: folder.to_owned(),
        errors: Vec::new(),
    };
    let (plan, plugins) = using(|| experiment(&mut reader, name));
    errors.append(&mut reader.errors);
    match plan {
        Some(plan) if errors.is_empty() => Ok(Plan { plugins, ..plan }),
        _ => Err(in_reading_order(errors, &file, overrides)),
    }
}

/// Gives the experiment, and so its run folder, another name.
pub fn rename(plan: &mut Plan, name: &str) {
    let line = |name: &str| format!("    name: {},\n", quoted(name));
    plan.resolved = plan.resolved.replacen(&line(&plan.name), &line(name), 1);
    name.clone_into(&mut plan.name);
}

/// Sorts by place, the file before the command line, and drops what is there twice: a part that two stages share is
/// read twice.
fn in_reading_order(errors: Vec<Diagnostic>, file: &str, overrides: &[String]) -> Vec<Diagnostic> {
    let mut sorted: Vec<Diagnostic> = Vec::new();
    for error in errors {
        if !sorted.contains(&error) {
            sorted.push(error);
        }
    }
    let which = |error: &Diagnostic| match &error.excerpt {
        Some(excerpt) if error.path != file => {
            overrides.iter().position(|text| *text == excerpt.line)
        }
        _ => None,
    };
    sorted.sort_by_key(|error| (error.path != file, which(error), error.place()));
    sorted
}

fn experiment(reader: &mut Reader, default_name: &str) -> Option<Plan> {
    let source = Arc::clone(&reader.source);
    let value = Value::parse(source.text(), source.all());
    let word = value.name.as_ref().map(|name| source.slice(name));
    if let Some(kind) = STAGES.into_iter().find(|kind| Some(*kind) == word) {
        return single(reader, &value, kind, default_name);
    }
    let mut fields = match word {
        Some("Experiment") => Fields::open(reader, &value, "Experiment"),
        _ => {
            let place = value.name.clone().unwrap_or_else(|| value.range.clone());
            let help = match word {
                Some(word) => suggest(word, &[&["Experiment"], &STAGES[..]].concat()),
                None => "start the file with `Experiment(` or `Pretrain(`".to_owned(),
            };
            let message = match word {
                Some(word) => format!("a file cannot hold `{word}`"),
                None => "expected an experiment or a stage".to_owned(),
            };
            reader.error(&place, message).help = Some(help);
            return None;
        }
    };
    let name = fields.name(default_name);
    let place = place(&mut fields, "Experiment");
    let stages = match fields.field("stages") {
        Some(field) => {
            let items = fields.items(&field, "stages");
            if items.as_ref().is_some_and(Vec::is_empty) {
                fields.refuse("stages", "needs at least one stage");
            }
            items.unwrap_or_default()
        }
        None => {
            fields.missing("stages", "[Pretrain(..)]");
            Vec::new()
        }
    };
    let shared = subject::shared(&mut fields);
    fields.finish();
    let mut stages = Stages::new(reader, &stages);
    stages.shared = shared;
    let stages = stages.read(reader);
    Some(plan(reader, name, place, stages?))
}

/// A file that is one stage: the stage also takes the fields of the experiment.
fn single(
    reader: &mut Reader,
    value: &Value,
    kind: &'static str,
    default_name: &str,
) -> Option<Plan> {
    let mut fields = Fields::open(reader, value, kind);
    let place = place(&mut fields, kind);
    drop(fields);
    let mut stages = Stages::new(reader, std::slice::from_ref(&value.range));
    stages.alone = true;
    let stages = stages.read(reader);
    let name = default_name.to_owned();
    Some(plan(reader, name, place, stages?))
}

/// What an experiment has beside its name and its stages.
struct Place {
    seed: u64,
    folder: PathBuf,
    output: Option<PathBuf>,
}

/// Whether the field `folder` of a file that holds `word` says where relative paths start. That of static views says where
/// they are written.
fn folder_is_start(word: &str) -> bool {
    word != "Views"
}

fn place(fields: &mut Fields<'_>, word: &str) -> Place {
    let seed = fields.optional("seed", "1").unwrap_or(0);
    let given = match folder_is_start(word) {
        true => fields.optional::<PathBuf>("folder", "\"../data\""),
        false => None,
    };
    let folder = folder(fields, given);
    base::left_over(fields);
    let output = fields.field("output").map(|field| field.value);
    let given = fields.optional::<PathBuf>("output", "\"runs\"");
    let output = given
        .zip(output)
        .map(|(given, range)| folder.join(fields.reader.path(&given, &range)));
    Place {
        seed,
        folder,
        output,
    }
}

/// The folder that relative paths start from, made absolute.
fn folder(fields: &mut Fields<'_>, given: Option<PathBuf>) -> PathBuf {
    if let Some(given) = &given {
        fields.reader.folder = fields.reader.folder.join(given);
    }
    match fs::canonicalize(&fields.reader.folder) {
        Ok(folder) => folder,
        Err(error) => {
            if given.is_some() {
                let reason = match error.kind() {
                    io::ErrorKind::NotFound => "there is no such folder".to_owned(),
                    _ => error.to_string(),
                };
                fields.refuse("folder", &reason);
            }
            fields.reader.folder.clone()
        }
    }
}

/// The stages of a file before they are read in full: what they need to know of one another.
struct Stages {
    outlines: Vec<Outline>,
    /// What the experiment says of the network that its stages judge.
    shared: Vec<Field>,
    /// The only stage of a file, which takes the fields of the experiment too.
    alone: bool,
}

/// What other stages need to know of a stage.
struct Outline {
    value: Value,
    kind: Option<&'static str>,
    name: String,
    backbone: Option<Range<usize>>,
}

impl Stages {
    fn new(reader: &mut Reader, ranges: &[Range<usize>]) -> Self {
        let source = Arc::clone(&reader.source);
        let outlines = ranges
            .iter()
            .map(|range| {
                let value = reader.value(range);
                let word = value.name.as_ref().map(|name| source.slice(name));
                let kind = STAGES.into_iter().find(|kind| Some(*kind) == word);
                let field = |name| {
                    let mut fields = value.fields().iter();
                    fields.find(|field| source.slice(&field.name) == name)
                };
                let name = field("name")
                    .and_then(|field| source.parse::<String>(&field.value).ok())
                    .unwrap_or_else(|| kind.unwrap_or("").to_lowercase());
                let backbone = field("backbone").map(|field| field.value.clone());
                Outline {
                    kind,
                    name,
                    backbone,
                    value,
                }
            })
            .collect();
        Self {
            outlines,
            shared: Vec::new(),
            alone: false,
        }
    }

    /// Reads all stages; each comes with its resolved text.
    fn read(&self, reader: &mut Reader) -> Option<Vec<(Stage, String)>> {
        let mut stages = Vec::new();
        for (i, outline) in self.outlines.iter().enumerate() {
            let place = outline.value.name.as_ref().unwrap_or(&outline.value.range);
            if outline.kind.is_some()
                && self.outlines[..i]
                    .iter()
                    .any(|before| before.kind.is_some() && before.name == outline.name)
            {
                reader
                    .error(place, format!("two stages are named `{}`", outline.name))
                    .help = Some(format!(
                    "give this one a name: `name: \"{}-2\"`",
                    outline.name
                ));
            }
            stages.extend(self.stage(i, reader));
        }
        (stages.len() == self.outlines.len()).then_some(stages)
    }

    fn stage(&self, i: usize, reader: &mut Reader) -> Option<(Stage, String)> {
        let outline = &self.outlines[i];
        match outline.kind {
            Some("Pretrain") => pretrain::read(reader, self, i),
            Some("Evaluate") => evaluate::read(reader, self, i),
            Some("Views") => statics::read(reader, self, i),
            Some("Probe") => probe::read(reader, self, i),
            Some("Map") => map::read(reader, self, i),
            _ => {
                let source = Arc::clone(&reader.source);
                let (place, help) = match &outline.value.name {
                    Some(name) => (name, suggest(source.slice(name), &STAGES)),
                    None => (
                        &outline.value.range,
                        format!("kinds of stages: {}", STAGES.join(", ")),
                    ),
                };
                let message = match &outline.value.name {
                    Some(name) => format!("no kind of stage is named `{}`", source.slice(name)),
                    None => "expected a stage, as `Kind(field: value, ..)`".to_owned(),
                };
                reader.error(place, message).help = Some(help);
                None
            }
        }
    }

    /// Whether a stage of `kind` before stage `i` is named `name`.
    ///
    /// # Errors
    /// What may have been meant.
    fn before(&self, i: usize, kind: &str, name: &str) -> Result<(), String> {
        let such = |outline: &&Outline| outline.kind == Some(kind);
        let before: Vec<_> = self.outlines[..i].iter().filter(such).collect();
        if before.iter().any(|outline| outline.name == name) {
            return Ok(());
        }
        let names: Vec<_> = before.iter().map(|outline| outline.name.as_str()).collect();
        let mut later = self.outlines[i..].iter().skip(1).filter(such);
        Err(match later.any(|outline| outline.name == name) {
            true => "it comes later in the file; put it before this stage".to_owned(),
            false if names.is_empty() => format!("put a stage `{kind}(..)` before this one"),
            false => suggest(name, &names),
        })
    }

    /// Opens the fields of a stage; the only stage of a file has those of the experiment too.
    fn open<'a>(
        &self,
        reader: &'a mut Reader,
        outline: &'a Outline,
        owner: &'static str,
    ) -> Fields<'a> {
        let mut fields = Fields::open(reader, &outline.value, owner);
        if self.alone {
            for name in ["seed", "folder", "output", "base", "changes"] {
                fields.field(name);
            }
        }
        fields
    }
}

fn plan(reader: &Reader, name: String, place: Place, stages: Vec<(Stage, String)>) -> Plan {
    let Place {
        seed,
        folder,
        output,
    } = place;
    let list = layout::list(stages.iter().map(|stage| stage.1.as_str()));
    let mut fields = vec![("name", quoted(&name)), ("seed", seed.to_string())];
    let essence = layout::block("Experiment", &[fields[1].clone(), ("stages", list.clone())]);
    fields.push(("folder", quoted(&folder.to_string_lossy())));
    if let Some(output) = &output {
        fields.push(("output", quoted(&output.to_string_lossy())));
    }
    fields.push(("stages", list));
    Plan {
        name,
        output: output.unwrap_or_else(|| PathBuf::from(OUTPUT)),
        seed,
        plugins: Vec::new(),
        stages: stages.into_iter().map(|stage| stage.0).collect(),
        resolved: layout::block("Experiment", &fields) + "\n",
        essence,
        source: Arc::clone(&reader.source),
    }
}
