//! `list [KIND]`: the plugins that are linked into the program.

use std::fmt::Write;

use serde::Serialize;

use super::{Refusal, to_json};
use crate::{
    failure::Failure,
    registry::{Kind, entries, for_each_kind, no_plugins},
    source::explain::suggest,
};

pub(super) fn list(kind: Option<&str>, verbose: bool, json: bool) -> Result<String, Refusal> {
    let mut kinds: Vec<Plugins> = for_each_kind!(collect()).into();
    if let Some(kind) = kind {
        let wanted = word(kind);
        let known: Vec<_> = kinds.iter().map(|plugins| word(plugins.label)).collect();
        let Some(position) = known.iter().position(|known| *known == wanted) else {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            let failure = Failure::mistake(format!("there is no kind of plugin named `{kind}`"));
            return Err(failure.help(suggest(&wanted, &known)).into());
        };
        kinds = vec![kinds.swap_remove(position)];
    }
    if json {
        let all: Vec<_> = kinds.into_iter().flat_map(|kind| kind.plugins).collect();
        return Ok(to_json(&all));
    }
    Ok(kinds
        .iter()
        .map(|kind| kind.text(verbose))
        .collect::<Vec<_>>()
        .join("\n"))
}

/// The letters of a kind's name, in the singular: `Data-Sets` is `dataset`.
fn word(kind: &str) -> String {
    let letters: String = kind
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric())
        .collect();
    letters.trim_end_matches('s').to_owned()
}

/// The plugins of one kind.
struct Plugins {
    label: &'static str,
    plugins: Vec<Plugin>,
}

#[derive(Serialize)]
struct Plugin {
    kind: &'static str,
    name: &'static str,
    about: &'static str,
    #[serde(rename = "crate")]
    origin: &'static str,
    version: &'static str,
    defaults: String,
}

fn collect<K: Kind + ?Sized>() -> Plugins {
    let plugins = entries::<K>().into_iter().map(|entry| Plugin {
        kind: K::LABEL,
        name: entry.name,
        about: entry.about,
        origin: entry.origin,
        version: entry.version,
        defaults: (entry.defaults)(),
    });
    Plugins {
        label: K::LABEL,
        plugins: plugins.collect(),
    }
}

impl Plugins {
    fn text(&self, verbose: bool) -> String {
        let mut text = format!("{}s:\n", self.label);
        if self.plugins.is_empty() {
            let _ = writeln!(text, "  ({})", no_plugins(self.label));
        }
        let longest = self.plugins.iter().map(|plugin| plugin.name.len()).max();
        let width = longest.unwrap_or(0).max(18);
        for plugin in &self.plugins {
            let Plugin {
                name,
                about,
                origin,
                version,
                defaults,
                ..
            } = plugin;
            let _ = writeln!(text, "  {name:<width$} {about} [{origin} {version}]");
            if verbose {
                for line in defaults.lines() {
                    let _ = writeln!(text, "      {line}");
                }
            }
        }
        text
    }
}
