//! From the text of a plugin's parameters to the plugin.

use std::{
    fmt,
    ops::{Deref, Range},
    sync::Arc,
};

use serde::de::DeserializeOwned;

use super::{Context, Invalid, Kind, Layout, Plugin, nested::Reading, print};
use crate::{
    diagnostic::Diagnostic,
    source::{
        Site, Source, dialect,
        explain::{Misfit, not_finite, offset_of, range_of, reword, suggest},
        syntax::{Body, Field, Value},
    },
};

/// A plugin with all its parameters, and where it stands in its file.
pub struct Built<K: ?Sized> {
    /// The object; shared, because loading threads keep augmentations.
    pub plugin: Arc<K>,
    /// Its name in experiment files.
    pub name: &'static str,
    /// RON that gives the same plugin again, every default filled in, a line for each parameter.
    pub resolved: String,
    /// The same on one line.
    pub line: String,
    site: Site,
}

impl<K: ?Sized> Built<K> {
    /// A plugin that comes from no file.
    pub fn direct(plugin: Box<K>, name: &'static str, resolved: impl Into<String>) -> Self {
        let resolved = resolved.into();
        Self {
            plugin: plugin.into(),
            name,
            line: resolved.clone(),
            resolved,
            site: Site::nowhere(),
        }
    }

    /// A refusal that came up after building, with its place in the experiment file.
    pub fn diagnose(&self, invalid: &Invalid) -> Diagnostic {
        diagnose(&self.site, self.name, invalid)
    }
}

impl<K: ?Sized> Deref for Built<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.plugin
    }
}

impl<K: ?Sized> fmt::Debug for Built<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

fn diagnose(site: &Site, name: &str, invalid: &Invalid) -> Diagnostic {
    let message = match invalid.field {
        "" => format!("{name}: {}", invalid.reason),
        field => format!("`{field}` of {name}: {}", invalid.reason),
    };
    let mut diagnostic = site.error(invalid.field, message);
    diagnostic.help = invalid.help.clone();
    diagnostic
}

/// Builds plugin `P` from a value of the form `Name` or `Name(parameter: value, ..)`.
pub(super) fn build<K: Kind + ?Sized, P: Plugin<K>>(
    context: &Context,
    source: &Arc<Source>,
    value: &Value,
) -> Result<Built<K>, Vec<Diagnostic>> {
    let params = parameters::<K, P>(context, source, value)?;
    let (resolved, line) = (
        print::<K, P>(&params, Layout::Lines),
        print::<K, P>(&params, Layout::Line),
    );
    let site = Site::of(source, value);
    match params.build(context) {
        Ok(plugin) => Ok(Built {
            plugin: plugin.into(),
            name: P::NAME,
            resolved,
            line,
            site,
        }),
        Err(invalid) => Err(vec![diagnose(&site, P::NAME, &invalid)]),
    }
}

/// Reads the parameters. serde stops at a first mistake, so every field is read alone first, to find all of them.
fn parameters<K: Kind + ?Sized, P: Plugin<K>>(
    context: &Context,
    source: &Arc<Source>,
    value: &Value,
) -> Result<P, Vec<Diagnostic>> {
    let names: Vec<_> = P::PARAMS.iter().map(|param| param.0).collect();
    let fields = match &value.body {
        Body::Bare => return Ok(P::default()),
        Body::Items(items) if items.is_empty() => return Ok(P::default()),
        Body::Items(_) | Body::Map => {
            let takes = match names.as_slice() {
                [] => "takes no parameters".to_owned(),
                [first, ..] => format!("takes its parameters by name: `{}({first}: ..)`", P::NAME),
            };
            return Err(vec![
                source.error(&value.range, format!("{} {takes}", P::NAME)),
            ]);
        }
        Body::Fields(fields) => fields,
    };
    let (mut errors, mut reading) = (Vec::new(), Reading::default());
    for (i, field) in fields.iter().enumerate() {
        let name = source.slice(&field.name);
        if !names.contains(&name) {
            let error = source.error(
                &field.name,
                format!("{} has no parameter `{name}`", P::NAME),
            );
            errors.push(error.help(suggest(name, &names)));
        } else if fields[..i]
            .iter()
            .any(|before| source.slice(&before.name) == name)
        {
            errors.push(source.error(
                &field.name,
                format!("`{name}` of {} is given twice", P::NAME),
            ));
        } else if let Err(error) = alone::<P>(context, source, field, &mut reading) {
            errors.push(error.diagnose(source, field, P::NAME, || default_of::<K, P>(name)));
        } else if reading.errors.is_empty() {
            // Within a plugin in this field it has been told, with that plugin's name.
            errors.extend(not_finite(source, field, P::NAME, || {
                default_of::<K, P>(name)
            }));
        }
        errors.append(&mut reading.errors);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let arguments = fields_range(source, value);
    let parse = || source.parse(&arguments);
    let all = reading.within(
        (context, source),
        source.slice(&arguments),
        (0, arguments.start),
        parse,
    );
    all.map_err(|error| {
        let range = range_of(source, &arguments, &error);
        vec![source.error(&range, format!("{}: {}", P::NAME, reword(&error.code)))]
    })
}

/// The brackets of a value, without its name.
fn fields_range(source: &Source, value: &Value) -> Range<usize> {
    let inside = value
        .inside(source.text())
        .expect("a value with fields has a bracket");
    inside - 1..value.range.end
}

/// Reads a struct of which one field is given.
fn alone<P: DeserializeOwned>(
    context: &Context,
    source: &Arc<Source>,
    field: &Field,
    reading: &mut Reading,
) -> Result<P, Misfit> {
    let before = format!("({}: ", source.slice(&field.name));
    let text = format!("{before}{})", source.slice(&field.value));
    let parse = || dialect().from_str(&text);
    let place = (before.len(), field.value.start);
    let one = reading.within((context, source), &text, place, parse);
    one.map_err(|error| {
        let place = |position| {
            let offset = offset_of(&text, position).saturating_sub(before.len());
            field.value.start + offset.min(field.value.len())
        };
        Misfit {
            range: place(error.span.start)..place(error.span.end),
            code: error.code,
        }
    })
}

/// The default of a parameter, as a pattern of what is expected; what it is for as well, where the default alone does not
/// show the forms that it may have.
fn default_of<K: Kind + ?Sized, P: Plugin<K>>(name: &str) -> Option<String> {
    let text = print::<K, P>(&P::default(), Layout::Line);
    let value = Value::parse(&text, 0..text.len());
    let field = value
        .fields()
        .iter()
        .find(|field| &text[field.name.clone()] == name)?;
    let value = &text[field.value.clone()];
    let default = format!("the default is `{value}`");
    let simple =
        value.starts_with('"') || value.parse::<f64>().is_ok() || value.parse::<bool>().is_ok();
    let documented = P::PARAMS.iter().find(|(known, _)| *known == name);
    match documented {
        Some((_, text)) if !simple => {
            let text: Vec<_> = text.split_whitespace().collect();
            let text = text.join(" ");
            Some(format!("{}; {default}", text.trim_end_matches('.')))
        }
        _ => Some(default),
    }
}
