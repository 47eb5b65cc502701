//! The field `base`: an experiment that says only how it differs from another.
//!
//! Three rules. The file's fields take the place of those of its base, for the experiment and for each stage that both
//! have; everything else of the base stays. A plugin is one value: `objective: MoCo(temperature: 0.1)` is that and has
//! nothing of the base's MoCo left, so that no parameter comes from somewhere that the reader does not see. For a single
//! parameter there is `changes`, in the notation of the command line. So what counts last is the command line, before
//! that `changes`, the file's fields, and the base, which may have a base itself.
//!
//! All of it is done to the text: what is read afterwards is one file, each part of which knows the file that it came from
//! and the folder where its relative paths start.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{Fields, STAGES, folder_is_start};
use crate::{
    diagnostic::Diagnostic,
    overrides::{apply_one, stage_name},
    source::{
        Source, Strand, Weave,
        syntax::{Body, Field, Value},
    },
};

/// Fields that a file has for itself and that no other takes over, beside its name and where its paths start.
const OWN: [&str; 2] = ["base", "changes"];

/// Fields of a stage of which one takes the place of the other.
const ALTERNATIVES: [(&str, &str); 2] = [("view", "views"), ("views", "view")];

/// Lays `source`, whose relative paths start at `folder`, over the file that it names as its base, if it names one; none
/// after a mistake that leaves nothing to read.
pub(super) fn laid_over(
    source: Source,
    folder: &Path,
    errors: &mut Vec<Diagnostic>,
) -> Option<Source> {
    let itself = fs::canonicalize(source.name()).ok();
    let mut chain = Chain {
        files: itself.into_iter().collect(),
        names: vec![source.name().to_owned()],
    };
    chain.lay(source, folder, errors)
}

/// Refuses what is left of `base` and `changes` where they have no place.
pub(super) fn left_over(fields: &mut Fields<'_>) {
    if let Some(field) = fields.field("base") {
        let message = "a base can only be given in the file itself";
        fields.reader.error(&field.value, message);
    }
    if fields.field("changes").is_some() {
        let reason = "is for a file with a `base`";
        fields.refuse("changes", reason).help =
            Some("write the values where they belong".to_owned());
    }
}

/// The files that were gone through, each the base of the one before.
struct Chain {
    files: Vec<PathBuf>,
    names: Vec<String>,
}

impl Chain {
    fn lay(
        &mut self,
        source: Source,
        folder: &Path,
        errors: &mut Vec<Diagnostic>,
    ) -> Option<Source> {
        let whole = Value::parse(source.text(), source.all());
        let Some(given) = field(&source, &whole, "base") else {
            return Some(source);
        };
        let base = match self.read(&source, given, folder) {
            Ok((base, base_folder)) => {
                let base = self.lay(base, &base_folder, errors)?;
                settled(base, &base_folder, source.name(), errors)?
            }
            Err(error) => {
                errors.push(*error);
                return None;
            }
        };
        let mut woven = woven(&base, &source, given, errors)?;
        if let Some(list) = field(&source, &whole, "changes") {
            change(&mut woven, &source, list, errors);
        }
        Some(woven)
    }

    /// The file that `given` names, and the folder that it lies in.
    fn read(
        &mut self,
        source: &Source,
        given: &Field,
        folder: &Path,
    ) -> Result<(Source, PathBuf), Box<Diagnostic>> {
        let fail = |message: String| Box::new(source.error(&given.value, message));
        let Ok(name) = source.parse::<PathBuf>(&given.value) else {
            let error = fail("`base`: expected a text in double quotes".to_owned());
            return Err(Box::new(error.help("for example, `\"moco.ron\"`")));
        };
        let path = match folder == Path::new(".") {
            true => name,
            false => folder.join(name),
        };
        let unread = |error: &dyn std::fmt::Display| {
            fail(format!("`base`: cannot read {}: {error}", path.display()))
        };
        // Anything but an ordinary file could keep the reader waiting for ever.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Err(unread(&"it is no file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(unread(&"there is no such file"));
            }
            Err(error) => return Err(unread(&error)),
        }
        let file = fs::canonicalize(&path).map_err(|error| unread(&error))?;
        self.names.push(path.display().to_string());
        if self.files.contains(&file) {
            let error = fail("`base`: the file comes to be its own base".to_owned());
            return Err(Box::new(error.help(self.names.join(" has the base "))));
        }
        self.files.push(file);
        let note = format!("it is the base of {}", source.name());
        let base = Source::read(&path).map_err(|error| Box::new(error.note(note.as_str())))?;
        base.check_syntax()
            .map_err(|error| Box::new(error.note(note.as_str())))?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok((base, folder))
    }
}

/// The base with what is its own settled: where its relative paths start.
fn settled(
    mut base: Source,
    folder: &Path,
    above: &str,
    errors: &mut Vec<Diagnostic>,
) -> Option<Source> {
    let whole = Value::parse(base.text(), base.all());
    let note = format!("it is the base of {above}");
    let starts = folder_is_start(word(&base, &whole).unwrap_or_default());
    let given = field(&base, &whole, "folder").filter(|_| starts).cloned();
    let start = match given
        .as_ref()
        .map(|given| base.parse::<PathBuf>(&given.value))
    {
        None => Ok(folder.to_owned()),
        Some(Ok(given)) => Ok(folder.join(given)),
        Some(Err(_)) => Err("expected a text in double quotes".to_owned()),
    };
    let start = start.and_then(|start| {
        fs::canonicalize(start).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such folder".to_owned(),
            _ => error.to_string(),
        })
    });
    match (start, given) {
        (Ok(start), _) => {
            base.become_base(&start, &note);
            Some(base)
        }
        (Err(reason), Some(given)) => {
            let error = base.error(&given.value, format!("`folder`: {reason}"));
            errors.push(error.note(note));
            None
        }
        (Err(_), None) => {
            base.become_base(folder, &note);
            Some(base)
        }
    }
}

/// `above` laid over `base`, both a whole file.
fn woven(
    base: &Source,
    above: &Source,
    given: &Field,
    errors: &mut Vec<Diagnostic>,
) -> Option<Source> {
    let (below_value, above_value) = (
        Value::parse(base.text(), base.all()),
        Value::parse(above.text(), above.all()),
    );
    let (below_word, above_word) = (word(base, &below_value), word(above, &above_value));
    if below_word != above_word {
        let said =
            |word: Option<&str>| word.map_or("something else".to_owned(), |w| format!("`{w}`"));
        let message = format!(
            "`base`: it holds {}, this file {}",
            said(below_word),
            said(above_word)
        );
        let help = match above_word {
            Some("Experiment") if below_word.is_some_and(|word| STAGES.contains(&word)) => format!(
                "write this file as `{}(base: .., ..)`, or put the base's stage into an `Experiment`",
                below_word.unwrap_or_default()
            ),
            Some(kind) if below_word == Some("Experiment") => {
                format!("write this file as `Experiment(base: .., stages: [{kind}(..)])`")
            }
            _ => "a file and its base hold the same kind of thing".to_owned(),
        };
        errors.push(above.error(&given.value, message).help(help));
        return None;
    }
    let (mut weave, above_strand) = Weave::new(above);
    let below_strand = weave.add(base);
    let mut loom = Loom {
        weave: &mut weave,
        below: below_strand,
        above: above_strand,
        errors,
    };
    let experiment = above_word == Some("Experiment");
    let starts = folder_is_start(above_word.unwrap_or_default());
    loom.fields(&below_value, &above_value, |name| match name {
        "folder" => starts,
        // A run folder of its own for each file.
        "name" => experiment,
        _ => OWN.contains(&name),
    });
    Some(weave.finish())
}

/// Weaves values of two files.
struct Loom<'a> {
    weave: &'a mut Weave,
    below: Strand<'a>,
    above: Strand<'a>,
    errors: &'a mut Vec<Diagnostic>,
}

impl Loom<'_> {
    /// The fields of `below` with those of `above` in their places; `own` names fields that `below` keeps to itself.
    fn fields(&mut self, below: &Value, above: &Value, own: impl Fn(&str) -> bool) {
        let (base, file) = (self.below.source(), self.above.source());
        let place = above.range.start;
        if let Some(name) = &above.name {
            self.weave.take(self.above, name);
        }
        self.weave.imply("(\n", self.above, place);
        let mut used: Vec<*const Field> = Vec::new();
        for theirs in below.fields() {
            let name = base.slice(&theirs.name);
            let replaced =
                |(this, other): &(&str, &str)| *this == name && field(file, above, other).is_some();
            if own(name) || ALTERNATIVES.iter().any(replaced) {
                continue;
            }
            match field(file, above, name) {
                Some(ours) => {
                    used.push(ours);
                    self.weave.take(self.above, &ours.name);
                    self.weave.imply(": ", self.above, ours.name.start);
                    match name {
                        "stages" => self.stages(&theirs.value, &ours.value),
                        _ => self.weave.take(self.above, &ours.value),
                    }
                }
                None => {
                    self.weave.take(self.below, &theirs.name);
                    self.weave.imply(": ", self.below, theirs.name.start);
                    self.weave.take(self.below, &theirs.value);
                }
            }
            self.weave.imply(",\n", self.above, place);
        }
        for ours in above.fields() {
            let name = file.slice(&ours.name);
            if used.contains(&std::ptr::from_ref(ours)) || OWN.contains(&name) {
                continue;
            }
            self.weave.take(self.above, &ours.name);
            self.weave.imply(": ", self.above, ours.name.start);
            self.weave.take(self.above, &ours.value);
            self.weave.imply(",\n", self.above, place);
        }
        self.weave.imply(")", self.above, place);
    }

    /// The stages of the base in their order, those that the file has too laid over; then those that only the file has.
    fn stages(&mut self, below: &Range<usize>, above: &Range<usize>) {
        let (base, file) = (self.below.source(), self.above.source());
        let lists = (list(base, below), list(file, above));
        let (Some(theirs), Some(ours)) = lists else {
            // What is wrong with it is said when it is read.
            self.weave.take(self.above, above);
            return;
        };
        let mut used = vec![false; ours.len()];
        self.weave.imply("[\n", self.above, above.start);
        for stage in &theirs {
            let name = stage_name(base, stage);
            let same = ours
                .iter()
                .zip(&used)
                .position(|(own, used)| !used && name.is_some() && stage_name(file, own) == name);
            match same {
                Some(position) => {
                    used[position] = true;
                    self.stage(stage, &ours[position], name.as_deref().unwrap_or_default());
                }
                None => self.weave.take(self.below, &stage.range),
            }
            self.weave.imply(",\n", self.above, above.start);
        }
        for (stage, _) in ours.iter().zip(&used).filter(|(_, used)| !**used) {
            self.weave.take(self.above, &stage.range);
            self.weave.imply(",\n", self.above, above.start);
        }
        self.weave.imply("]", self.above, above.start);
    }

    fn stage(&mut self, below: &Value, above: &Value, name: &str) {
        let (base, file) = (self.below.source(), self.above.source());
        let (theirs, ours) = (word(base, below), word(file, above));
        if theirs != ours {
            let place = above.name.as_ref().unwrap_or(&above.range);
            let message = format!(
                "stage `{name}` is a `{}` in {}",
                theirs.unwrap_or_default(),
                base.name()
            );
            let error = file.error(place, message);
            self.errors
                .push(error.help("give this one another name, or the kind of that one"));
            self.weave.take(self.above, &above.range);
            return;
        }
        match above.body {
            // Positional items and the like are refused when they are read.
            Body::Items(ref items) if !items.is_empty() => {
                self.weave.take(self.above, &above.range)
            }
            Body::Map => self.weave.take(self.above, &above.range),
            _ => self.fields(below, above, |_| false),
        }
    }
}

/// Applies the texts of the list `changes`, each shown where it stands.
fn change(woven: &mut Source, source: &Source, given: &Field, errors: &mut Vec<Diagnostic>) {
    let Some(items) = list(source, &given.value) else {
        let error = source.error(&given.value, "`changes`: expected a list of texts, `[..]`");
        errors.push(error.help("for example, `[\"pretrain.objective.temperature=0.1\"]`"));
        return;
    };
    for item in items {
        let Ok(text) = source.parse::<String>(&item.range) else {
            let error = source.error(&item.range, "`changes`: expected a text in double quotes");
            errors.push(error.help("for example, `\"pretrain.objective.temperature=0.1\"`"));
            continue;
        };
        let literal = source.slice(&item.range);
        let typed = literal.find(&text).and_then(|at| {
            let start = item.range.start + at;
            source.typed_at(&(start..start + text.len()))
        });
        // A text with escapes is no part of the file as it is and is shown by itself.
        let place = match typed {
            Some(place) if !text.is_empty() => place,
            _ => (
                woven.add_origin(&format!("changes of {}", source.name()), &text),
                0,
            ),
        };
        errors.extend(apply_one(woven, &text, place).err());
    }
}

fn field<'a>(source: &Source, value: &'a Value, name: &str) -> Option<&'a Field> {
    let mut fields = value.fields().iter();
    fields.find(|field| source.slice(&field.name) == name)
}

fn word<'a>(source: &'a Source, value: &Value) -> Option<&'a str> {
    value.name.as_ref().map(|name| source.slice(name))
}

/// The items of a list in square brackets.
fn list(source: &Source, range: &Range<usize>) -> Option<Vec<Value>> {
    let value = Value::parse(source.text(), range.clone());
    match value.body {
        Body::Items(items) if source.slice(range).starts_with('[') => Some(
            items
                .into_iter()
                .map(|item| Value::parse(source.text(), item))
                .collect(),
        ),
        _ => None,
    }
}
